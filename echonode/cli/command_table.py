"""The commands of `echonode`: their names, the places where they are written, and a line about each.

`echonode --help` needs no more. A command's own module is imported when the command is called, or asked for its help:
two dozen modules cost twice as much as the rest of a start.
"""

from functools import cache
from importlib import import_module
from typing import Final, NamedTuple

import click


class Entry(NamedTuple):
    """A command. `place`: its module in cli/commands/, a dot, and its name there; `about`: its line in --help."""

    name: str
    place: str
    about: str


# As --help groups them, in the order in which people meet them.
SECTIONS: Final[tuple[tuple[str, tuple[Entry, ...]], ...]] = (
    (
        "Commands to begin",
        (
            Entry("run", "network.run", "Run a node in the foreground."),
            Entry("invite", "network.invite", "Make a code with which another machine can join."),
            Entry("join", "network.join", "Join a network by an invitation."),
        ),
    ),
    (
        "Records",
        (
            Entry("put", "records.put", "Write a record here, or put records to a peer."),
            Entry("get", "records.get", "Read a record, or fetch records from a peer."),
            Entry("delete", "records.delete", "Delete a record, on every node in time."),
            Entry("list", "records.list_records", "List records, oldest arrivals first."),
            Entry("history", "conflicts.history", "List the earlier versions of a record."),
            Entry("import", "import_export.import_records", "Take in the records of a file."),
            Entry("export", "import_export.export_records", "Write records to a file."),
            Entry("watch", "watch.watch", "Show changes, or run a program for each."),
            Entry("contexts", "status.contexts", "List the sets of records held here."),
            Entry("forget", "records.forget", "Remove records that no subscription wants."),
        ),
    ),
    (
        "Equality",
        (
            Entry("status", "status.status", "Who is this, who is there, and is all equal?"),
            Entry("sync", "echo_sync.sync", "Sync with every reachable peer, now."),
            Entry("conflicts", "conflicts.conflicts", "List, show and resolve records that were written apart."),
            Entry("why", "observation.why", "Say why a record is not here, or a peer not equal."),
            Entry("open", "page.open_page", "Open the status page in a browser."),
        ),
    ),
    (
        "Other nodes",
        (
            Entry("peers", "peers.peers", "List the other nodes, and decide who is let in."),
            Entry("pull", "peer_records.pull", "List the records that a peer has."),
            Entry("pause", "pause.pause", "Exchange nothing for a while."),
            Entry("resume", "pause.resume", "End a pause."),
        ),
    ),
    (
        "Who may do what",
        (
            Entry("network", "network.network", "Show, set or rotate the network secret."),
            Entry("pool", "pools.pool", "Records that several nodes write, beside shared."),
            Entry("key", "keys.key", "Device keys, lost machines, and the root key."),
            Entry("deny", "denials.deny", "Hide what a node writes from readers here."),
            Entry("allow", "denials.allow", "Show the records of a denied node again."),
            Entry("api", "api_access.api", "Show or replace the token for programs."),
        ),
    ),
    (
        "When something is wrong",
        (
            Entry("doctor", "doctor.doctor", "Find out what is wrong, and what to do about it."),
            Entry("verify", "sync.verify", "Re-hash all that is held, or repair it."),
            Entry("logs", "observation.logs", "Show what happened, and what happens."),
            Entry("log-level", "observation.log_level", "Log more or less, for a while."),
            Entry("trace", "observation.trace", "Show a conversation message by message."),
            Entry("support-bundle", "doctor.support_bundle", "Write an archive for those who help."),
        ),
    ),
    (
        "This machine",
        (
            Entry("service", "service.service", "Run the node as a service of this machine."),
            Entry("config", "configuration.config", "Show, check or begin the configuration."),
            Entry("rename", "status.rename", "Give this node another name."),
            Entry("backup", "backup.backup", "Write all of this node into one file."),
            Entry("restore", "backup.restore", "Make a node of a backup."),
            Entry("completion", "shell.completion", "Let the Tab key complete names."),
            Entry("version", "version.version", "Show the versions of program, protocol and disk."),
            Entry("help", "configuration.help_command", "Show a page of the manual, or the help of a command."),
        ),
    ),
    (
        "Without other machines",
        (
            Entry("demo", "demo.demo", "Watch several nodes on this machine become equal."),
            Entry("bench", "bench.bench", "Measure two nodes, and what this machine could do."),
            Entry("simulate", "simulate.simulate", "Run networks of nodes in virtual time."),
        ),
    ),
)


ENTRIES: Final = {entry.name: entry for _, section in SECTIONS for entry in section}
ECHO_SYNC: Final = Entry("echo-sync", "echo_sync.echo_sync", "Pull from every reachable peer, now.")


@cache
def load(entry: Entry) -> click.Command:
    """Return the command, ready to be called."""
    from echonode.cli.completion import complete_names
    from echonode.cli.help_text import take_home

    module, _, name = entry.place.partition(".")
    command: click.Command = getattr(import_module(f"echonode.cli.commands.{module}"), name)
    command.short_help = entry.about
    take_home(command)
    complete_names(command)
    return command


class CommandGroup(click.Group):
    """The program: a group of the commands in the table, each loaded when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = ENTRIES.get(cmd_name)
        return None if entry is None else load(entry)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their sections, all in the same columns."""
        width = max(map(len, ENTRIES))
        for title, section in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(f"{entry.name:<{width}}", entry.about) for entry in section])
