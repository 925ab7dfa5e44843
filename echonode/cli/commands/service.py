"""service install|uninstall|status: the node as a service of systemd."""

from dataclasses import asdict
from typing import Final

import click

from echonode.cli.arguments import json_option
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import print_json, print_line, print_note, print_text, safe
from echonode.cli.program import PROGRAM
from echonode.cli.services import ServiceStateView

_FACT_INDENT: Final = 12
_USAGE_EXIT: Final = 2  # of a node that a person must help

user_option = click.option("--user", "is_user", is_flag=True, help="The service of this user, not the machine's.")


@examples("service install", "service install --user", "service status")
@click.group("service")
def service() -> None:
    """Run the node as a service of systemd: started with the machine, watched, and started again if it fails.

    The machine's service gets its control socket from systemd (echonode-api.socket): commands that come while it starts
    or restarts wait. A command never starts a service that was stopped: systemctl stop takes the socket away, too.
    """


@examples("service install", "service install --print")
@service.command("install", short_help="Install, enable and start the service.")
@user_option
@click.option("--print", "is_print", is_flag=True, help="Show the files that would be written, and write none.")
@pass_lookup
def install(lookup: NodeLookup, is_user: bool, is_print: bool) -> ExitCode:
    """Install the service with the paths of this program, enable it and start it. Says what it did.

    To install again is safe: it brings the files up to date and restarts the node. Changes of your own belong in
    `systemctl edit echonode`.
    """
    setup = lookup.services.service(is_user=is_user)
    if is_print:
        for file in setup.files():
            print_line(f"# {file.path}\n{file.text}")
        return ExitCode.DONE
    state = setup.install(lambda line: print_line(safe(line)))
    user = " --user" if is_user else ""
    if state.state != "active":
        raise Failure(
            f"the node did not start ({_why(state)}); the log: journalctl{user} -u echonode", _exit_of_failed(state)
        )
    print_line("the node runs, and starts with the machine")
    print_text(safe(state.status))
    print_note(f"to add another machine, type: {PROGRAM} invite; to see how the node is: {PROGRAM} status")
    return ExitCode.DONE


@examples("service uninstall", "service uninstall --user")
@service.command("uninstall", short_help="Stop the service and remove it.")
@user_option
@pass_lookup
def uninstall(lookup: NodeLookup, is_user: bool) -> None:
    """Stop the service and remove its files. Records, keys and settings stay, and it says where they are."""
    lookup.services.service(is_user=is_user).uninstall(lambda line: print_line(safe(line)))
    kept = str(lookup.home().root) if is_user else "/var/lib/private/echonode and /etc/echonode"
    print_note(f"records, keys and settings are kept, in {safe(kept)}")


@examples("service status", "service status --user --json")
@service.command("status", short_help="Show the state of the service.")
@user_option
@json_option
@pass_lookup
def status(lookup: NodeLookup, is_user: bool, as_json: bool) -> ExitCode:
    """Show the state of the service as systemd has it. Exits with 0 while it is active, else with 5."""
    state = lookup.services.service(is_user=is_user).state()
    code = ExitCode.DONE if state.state in ("active", "reloading") else ExitCode.NOT_RUNNING
    if as_json:
        print_json(asdict(state))  # type: ignore[call-overload]
        return code
    if not state.unit:
        print_line(f"not installed; to install it, type: {PROGRAM} service install{' --user' if is_user else ''}")
        return ExitCode.NOT_RUNNING
    facts = {
        "service": f"{safe(state.state)}{f', since {safe(state.since)}' if state.since else ''}",
        "says": safe(state.status),
        "ended": "" if code is ExitCode.DONE or state.result == "success" else _why(state),
        "starts": "with the machine" if state.is_enabled else "by hand",
        "restarts": f"{state.restarts}" if state.restarts else "",
        "unit": safe(state.unit),
    }
    for name, fact in facts.items():
        if fact:
            print_text(f"{name:<{_FACT_INDENT}}{fact}", indent=" " * _FACT_INDENT)
    return code


def _why(state: ServiceStateView) -> str:
    said = safe(state.status).removeprefix("stopped: ")
    return said or f"{safe(state.state)}, {safe(state.result)}, exit code {state.exit_code}"


def _exit_of_failed(state: ServiceStateView) -> ExitCode:
    return ExitCode.USAGE if state.exit_code == _USAGE_EXIT else ExitCode.FAILED
