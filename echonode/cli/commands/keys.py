"""key: the keys that speak for this node's identity, lost machines, and the root key."""

import os
from pathlib import Path
from typing import Any, Final

import click

from echonode.cli.arguments import json_option, stdin_bytes, to_time
from echonode.cli.columns import table
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, moment, print_json, print_line, print_note, print_text, safe, short_id
from echonode.client.errors import NotRunning
from echonode.errors import LocalError

_ROOT_FILE_BYTES_MAX: Final = 4096
_SHOWN_MAX: Final = 20
_SEAL_TIMEOUT_S: Final = 60.0  # Argon2id takes a second on a machine with 256 MiB to spare

root_option = click.option(
    "--root",
    "root_file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="The exported root key, where it is not on this machine, or another identity's.",
)


@examples("key list", "key compromised mfzw --root laptop-root.txt")
@click.group("key")
def key() -> None:
    """Show and change the keys that speak for this node's identity.

    A device key signs records. The root key says which device keys count, and signs nothing else: export it, keep the
    file off this machine, and a stolen machine can be shut out from any other.
    """


@examples("key list", "key list --json")
@key.command("list", short_help="List the keys of this identity.")
@json_option
@pass_lookup
def key_list(lookup: NodeLookup, as_json: bool) -> None:
    """List the device keys of this identity, and say where the root key is."""
    with lookup.reader() as reader:
        answer = reader.client.call("GET", "/v1/keys")
    if as_json:
        print_json(answer)
        return
    rows = [
        (short_id(each["key"]), each["state"], "this device" if each["this_device"] else "") for each in answer["keys"]
    ]
    for line in table(("KEY", "STATE", ""), rows):
        print_line(line)
    here = answer["root"] == "here"
    print_text(
        "the root key is on this machine: `echonode key export-root FILE` makes a copy to keep elsewhere"
        if here
        else "the root key is not on this machine: new keys and lost ones need --root FILE"
    )
    if answer["problem"]:
        print_note(safe(answer["problem"]))


@examples("key new", "key new --root root.txt")
@key.command("new", short_help="Sign with another key from now on.")
@root_option
@pass_lookup
def key_new(lookup: NodeLookup, root_file: str | None) -> None:
    """Make a device key for this machine, and sign with it from now on.

    The key before stays valid: retire it, or if somebody else may have it, state it compromised.
    """
    answer = lookup.client().call("POST", "/v1/keys", body=_root(root_file), timeout_s=_SEAL_TIMEOUT_S)
    print_line(safe(answer["key"]))
    before = short_id(answer["before"])
    print_note(
        f"this device signs with {short_id(answer['key'])} from now on; {before} is still valid\n"
        f"to end that, type:  echonode key retire {before}"
    )


@examples("key retire mfzwizlt", "key retire mfzwizlt --root root.txt")
@key.command("retire", short_help="State that a key is not used any more.")
@click.argument("key_text", metavar="KEY")
@root_option
@pass_lookup
def key_retire(lookup: NodeLookup, key_text: str, root_file: str | None) -> None:
    """State for ever that KEY is not used any more. What it signed stands."""
    answer = _state(lookup, key_text, "retired", root_file)
    print_note(f"{short_id(answer['key'])} is retired: what it signed stands, and no node lets it in any more")


@examples("key compromised mfzwizlt", "key compromised mfzwizlt --root laptop-root.txt")
@key.command("compromised", short_help="Void all that a lost key signed.")
@click.argument("key_text", metavar="KEY")
@root_option
@pass_lookup
def key_compromised(lookup: NodeLookup, key_text: str, root_file: str | None) -> None:
    """State for ever that somebody else may have KEY. All that it signed is void, on every node.

    KEY is the beginning of one of this identity's keys, or of those of the identity whose root key is in FILE.
    """
    answer = _state(lookup, key_text, "compromised", root_file)
    shown = short_id(answer["key"])
    print_note(
        f"{shown} is compromised: all that it signed is void on every node that hears of it, and kept in the history\n"
        f"to keep what it wrote before a certain time, type:  echonode key resign {shown} --until TIME"
    )


def _state(lookup: NodeLookup, key_text: str, state: str, root_file: str | None) -> dict[str, Any]:
    body = {"key": key_text, "state": state, **_root(root_file)}
    answer: dict[str, Any] = lookup.client().call("POST", "/v1/keys/state", body=body, timeout_s=_SEAL_TIMEOUT_S)
    return answer


@examples("key resign mfzwizlt --dry-run", "key resign mfzwizlt --until 2026-11-20T18:00:00Z")
@key.command("resign", short_help="Write again what a void key wrote.")
@click.argument("key_text", metavar="KEY")
@click.option("--until", type=to_time, metavar="TIME", help="Leave out what was written later: 2h ago, or RFC 3339.")
@click.option("--dry-run", is_flag=True, help="Show what would be kept, and write nothing.")
@json_option
@pass_lookup
def key_resign(lookup: NodeLookup, key_text: str, until: str | None, dry_run: bool, as_json: bool) -> None:
    """Write again, with this device's key, what the void KEY wrote.

    Of each record of this identity, of `shared` and of your pools, the newest void version that no other supersedes.
    """
    body = {"key": key_text, "until": until, "trial": dry_run}
    answer = lookup.client().call("POST", "/v1/keys/sign_again", body=body, timeout_s=None)
    if as_json:
        print_json(answer)
        return
    records = answer["records"]
    rows = [
        (safe(each["id"]), safe(each["context"]), moment(each["timestamp"]), "(deleted)" if each["deleted"] else "")
        for each in records[:_SHOWN_MAX]
    ]
    for line in table(("RECORD", "CONTEXT", "WRITTEN", ""), rows) if rows else ():
        print_line(line)
    if len(records) > _SHOWN_MAX:
        print_note(f"and {len(records) - _SHOWN_MAX} more; --json lists all")
    print_note(f"{count(len(records), 'record')} {'would be' if dry_run else 'are'} signed again")
    for number, why in (
        (answer["superseded"], "stand already, or were written again since"),
        (answer["too_late"], "void versions are later than --until"),
        (answer["not_ours"], "void versions are of authors that this node may not write for"),
    ):
        if number:
            print_note(f"left out: {number} {why}")


@examples("key export-root root.txt", "key export-root /media/usb/root.txt --remove")
@key.command("export-root", short_help="Write the root key to a file.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--remove", is_flag=True, help="Take the root key off this machine, once the file has been read back.")
@pass_lookup
def export_root(lookup: NodeLookup, file: str, remove: bool) -> None:
    """Write the root key to FILE, sealed with a passphrase that is asked for or read from stdin."""
    client = lookup.client()
    if Path(file).exists():
        raise Failure(f"{file} exists already: choose another name", ExitCode.USAGE)
    passphrase = _passphrase(is_new=True)
    answer = client.call("POST", "/v1/keys/root/export", body={"passphrase": passphrase}, timeout_s=_SEAL_TIMEOUT_S)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as target:
        target.write(answer["root"])
        target.flush()
        os.fsync(target.fileno())
    print_note(f"the root key is in {file}; without the passphrase it is of no use to anybody, you included")
    if remove:
        body = {"root": _read(file), "passphrase": passphrase}
        client.call("POST", "/v1/keys/root/remove", body=body, timeout_s=_SEAL_TIMEOUT_S)
        print_note("it is not on this machine any more: keep the file elsewhere")


@examples("key import-root root.txt", "--home /srv/echo key import-root root.txt")
@key.command("import-root", short_help="Put the root key on this machine.")
@click.argument("file", type=click.Path(dir_okay=False))
@pass_lookup
def import_root(lookup: NodeLookup, file: str) -> None:
    """Put the root key in FILE on this machine, by the passphrase that is asked for or read from stdin.

    In a home that was never run it makes this machine the identity's next one, with a device key of its own.
    """
    sealed, passphrase = _read(file), None
    try:
        client = lookup.client()
        client.call("GET", "/v1/keys")
        passphrase = _passphrase()
        body = {"root": sealed, "passphrase": passphrase}
        answer = client.call("POST", "/v1/keys/root/import", body=body, timeout_s=_SEAL_TIMEOUT_S)
        print_note(f"the root key of {short_id(answer['id'])} is on this machine")
    except NotRunning:
        _import_into_home(lookup, sealed, passphrase or _passphrase())


def _import_into_home(lookup: NodeLookup, sealed: str, passphrase: str) -> None:
    from echonode.model.identity import SigningKey, identity_of
    from echonode.model.root_export import import_root as open_root
    from echonode.text import to_base32

    home = lookup.home()
    try:
        root = SigningKey(open_root(sealed, passphrase))
    except LocalError as error:
        raise Failure(str(error)) from None
    identity, known = identity_of(root.public), home.root_identity()
    if known not in (None, identity):
        raise Failure(
            f"that is the root key of {to_base32(identity)}, and {home.root} is another node's home: "
            "give the file to `echonode key compromised KEY --root FILE`, or import it into an empty home"
        )
    home.write_root_seed(root.seed, root.public)
    print_note(f"the root key of {short_id(to_base32(identity))} is in {home.root}")
    if known is None:
        print_note("the first `echonode run --join CODE` makes a device key of its own for this machine")


def _root(root_file: str | None) -> dict[str, str | None]:
    """Return the part of a request that brings the root key, asking for its passphrase."""
    if root_file is None:
        return {}
    return {"root": _read(root_file), "passphrase": _passphrase()}


def _read(file: str) -> str:
    try:
        data = Path(file).read_bytes()[: _ROOT_FILE_BYTES_MAX + 1]
    except OSError as error:
        raise Failure(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > _ROOT_FILE_BYTES_MAX or not data.isascii():
        raise Failure(f"{file} is no exported root key")
    return data.decode()


def _passphrase(*, is_new: bool = False) -> str:
    """Return the passphrase, from stdin or a person; a new one is asked for twice. Raises Failure for an empty one."""
    stdin = stdin_bytes()
    if stdin.isatty():
        text = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new, err=True))
    else:
        text = stdin.readline(1026).decode("utf-8", "replace").rstrip("\r\n")
    if not text:
        raise Failure("a passphrase is needed: type it, or give it as a line on stdin", ExitCode.USAGE)
    return text
