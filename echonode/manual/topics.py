"""The pages of the manual, and the commented configuration, made of the tables of settings and of log events."""

import textwrap
from collections.abc import Iterator
from typing import Final

from echonode.manual.log_events import LOG_EVENTS
from echonode.manual.python import python
from echonode.manual.settings import SETTINGS, Setting

_WIDTH: Final = 80
_FACT: Final = 9

_CONFIGURATION: Final = """\
A node reads config.toml in its home (--home, ECHO_HOME; the service reads
/etc/echonode/config.toml). A flag of `echonode run` goes before an environment
variable, that before the file, and that before the default. A key that does not
exist is an error. Variables that hold lists separate the items by commas.

A running node reads the file again on SIGHUP (systemctl reload echonode). It
takes peers, models, subscriptions, trust.policy, trust.approve, trust.reject,
trust.deny and log.level, and logs which other keys need another start. A file
with a mistake changes nothing, and the log says so.

    echonode config show --origin     every key, its value, and where it is from
    echonode config check             is the file right?
    echonode config init              write a commented file to begin with
"""


def configuration() -> str:
    """Return the page about the configuration: every key with its form, default, unit and example."""
    return "\n".join([_CONFIGURATION, *("\n".join(_entry(setting)) + "\n" for setting in SETTINGS)])


def _entry(setting: Setting) -> Iterator[str]:
    yield setting.key
    yield from textwrap.wrap(setting.meaning, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    flag = f"echonode run {setting.flag}" if setting.flag else ""
    facts = {
        "value": setting.form,
        "default": setting.default,
        "example": assignment(setting),
        "also": ", ".join(part for part in (setting.variable, flag) if part),
    }
    for name, fact in facts.items():
        if len(fact) > _WIDTH - 4 - _FACT and name == "example":  # it stays whole: people copy it
            yield from (f"    {name}", f"      {fact}")
        elif fact:
            first = f"    {name:<{_FACT}}"
            yield from textwrap.wrap(fact, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))


def assignment(setting: Setting) -> str:
    """Return the line of TOML that gives a setting its example, outside every table."""
    return f"{setting.key} = {setting.example}"


def commented_file() -> str:
    """Return a configuration in which every line is a comment: each key with its meaning, default and example."""
    lines = ["# The configuration of an echonode. Take the # from a line to set it.", "# echonode help configuration"]
    for setting in SETTINGS:
        text = f"{setting.meaning} Default: {setting.default}."
        lines += ["", *textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")]
        lines.append(f"#{assignment(setting)}")
    return "\n".join(lines) + "\n"


_LOGS: Final = """\
A node writes one line an event to stderr: JSON, or on a terminal what a person
wants of it. Under systemd that is the journal. Every line has `time`, `level`
and `event`; the other fields depend on the event. Bodies of records, keys and
codes of invitations never stand in a line.

    echonode logs                     what happened lately
    echonode logs -f --peer kitchen   what happens, about one node
    echonode logs --level debug       more than what is stored
    echonode logs --event 'sync.*' --since 2h --json
    echonode log-level debug --for 10m
    echonode trace kitchen            a conversation message by message
    echonode why kitchen              why it is not equal
    journalctl -u echonode EVENT=sync.completed     PEER, SESSION, CONTEXT too

Both nodes of a conversation write sync.completed with the same `session`. More
than ten lines a second of one event about one peer become one line, log.folded.
`echonode help lnav` prints a format for lnav.

The events, each with its level:
"""


def logs() -> str:
    """Return the page about the log: the commands that read it, and every event with its level and meaning."""
    lines = [_LOGS]
    for event in LOG_EVENTS:
        lines.append(f"{event.name}  ({event.level})")
        lines += textwrap.wrap(event.meaning, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


TOPICS: Final = {"configuration": configuration, "logs": logs, "python": python}
