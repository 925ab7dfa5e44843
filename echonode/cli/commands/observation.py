"""logs, log-level, trace, why: a look into a node, for a person who wants to know what happens there."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import click

from echonode.cli.arguments import context_option, json_option, to_seconds, to_time
from echonode.cli.columns import table, terminal_width, wrap
from echonode.cli.exit_codes import Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import (
    is_coloured,
    print_json,
    print_line,
    print_note,
    print_text,
    safe,
    seconds,
)
from echonode.cli.program import PROGRAM

if TYPE_CHECKING:
    from echonode.manual.log_lines import LineForm

_LEVELS: Final = ("debug", "info", "warning", "error")
_CONFIGURED: Final = "default"
_WHY_TIMEOUT_S: Final = 60.0
_SESSION_CHARS: Final = 8
_ARROWS: Final = {"sent": "->", "received": "<-"}

Json = dict[str, Any]


@examples("logs -f", "logs --peer kitchen --level debug --since 10m", "logs --event 'peer.*' --json")
@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with lines as they come, until Ctrl-C.")
@click.option("--peer", metavar="PEER", help="Only lines about this node.")
@click.option("--session", metavar="ID", default="", help="Only lines of the session whose id begins so.")
@click.option("--event", metavar="GLOB", default="", help="Only events of such names: 'sync.*'.")
@click.option("--level", type=click.Choice(_LEVELS), default="info", show_default=True, help="From this level on.")
@click.option("--since", metavar="TIME", type=to_time, help="Only from then on: 10m, 2h, 2026-01-31, ..")
@click.option("--file", "path", metavar="FILE", help="Read a log file, - for stdin, instead of the running node.")
@click.option("--journal", is_flag=True, help="Read what the service wrote to the journal.")
@json_option
@pass_lookup
def logs(
    lookup: NodeLookup,
    follow: bool,
    peer: str | None,
    session: str,
    event: str,
    level: str,
    since: str | None,
    path: str | None,
    journal: bool,
    as_json: bool,
) -> None:
    """Show the lines of the log, one an event. `echonode help logs` says what each event means.

    A running node keeps its last lines in memory, also those of debug that are not stored. Without a running node the
    journal is read.
    """
    from echonode.cli import log_sources
    from echonode.manual.log_lines import LineForm
    from echonode.model.time_text import read_time_ms
    from echonode.node.log_filter import LogFilter

    since_ms = read_time_ms(since, now_ms=int(time.time() * 1000)) if since else 0
    form = LineForm(width=terminal_width(), is_coloured=is_coloured(sys.stdout))
    wanted = LogFilter(level=level, event=event, session=session, since_ms=since_ms)
    client = lookup.client()
    lines: Iterator[Json]
    if path is not None:
        lines = log_sources.from_file(path, is_followed=follow)
    elif journal or not client.is_listening():
        lines = log_sources.from_journal(since_ms / 1000 if since else None, is_followed=follow)
    else:
        form.labels = _labels(client.call("GET", "/v1/peers")["peers"])
        query = {"level": level, "event": event or None, "peer": peer, "session": session or None, "since": since}
        lines = log_sources.from_node(client, list(query.items()), is_followed=follow)
        peer = None  # the node knows whom that means
        _say_where_it_begins(client, since_ms)
    for line in lines:
        text = form.full(line, with_date=_is_old(line))
        if not wanted.takes(line) or not (peer is None or _is_about(line, peer, form)):
            continue
        if as_json:
            print_json(line)
        else:
            print_line(text)
        if follow:
            sys.stdout.flush()


def _say_where_it_begins(client: Any, since_ms: int) -> None:
    """Say when lines from `since_ms` on are no longer in memory."""
    from datetime import datetime

    first = client.call("GET", "/v1/log-level")["first"]
    if since_ms and first and datetime.fromisoformat(first).timestamp() * 1000 > since_ms + 1000:
        began = datetime.fromisoformat(first).astimezone()
        print_note(f"the node keeps lines since {began:%Y-%m-%d %H:%M}; for older ones try --journal or --file")


def _is_old(line: Mapping[str, Any]) -> bool:
    """Return True for a line of another day than today."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(str(line.get("time"))).astimezone()
    except ValueError:
        return False
    return moment.date() != datetime.now(UTC).astimezone().date()


def _is_about(line: Mapping[str, Any], peer: str, form: "LineForm") -> bool:
    """Return True for a line about the node with this name, or whose id begins so."""
    peer = peer.removeprefix("@")
    ids = [str(line.get(key) or "") for key in ("peer", "source", "about")]
    return any(each and (each.startswith(peer) or form.who(each) == peer) for each in ids)


def _labels(peers: Sequence[Json]) -> dict[str, str]:
    return {peer["id"]: safe(peer.get("label") or peer["name"]) for peer in peers if peer["id"] and peer["name"]}


@examples("log-level debug --for 10m", "log-level debug --peer kitchen --for 1h", "log-level default")
@click.command("log-level")
@click.argument("level", type=click.Choice((*_LEVELS, _CONFIGURED)), required=False)
@click.option("--for", "for_s", type=to_seconds, metavar="SPAN", help="For so long: 90s, 10m. Else until a restart.")
@click.option("--peer", metavar="PEER", help="Only lines about this node.")
@json_option
@pass_lookup
def log_level(lookup: NodeLookup, level: str | None, for_s: float | None, peer: str | None, as_json: bool) -> None:
    """Log from LEVEL on, for a while; `default` goes back to the configured level. Without LEVEL, show the levels.

    It needs no restart. `echonode logs --level debug` shows debug lines of a running node without this.
    """
    if level is None and (for_s or peer):
        raise click.UsageError("--for and --peer need a LEVEL.")
    if level is None:
        answer = lookup.client().call("GET", "/v1/log-level")
    else:
        body = {"level": None if level == _CONFIGURED else level, "for_s": for_s, "peer": peer}
        answer = lookup.client().call("PUT", "/v1/log-level", body=body)
    if as_json:
        print_json(answer)
        return
    print_line(f"{answer['level']}{_left(answer['left_s'])}")
    for each in answer["peers"]:
        print_line(f"{each['level']} of {safe(each['name'] or each['id'])}{_left(each['left_s'])}")


def _left(left_s: float | None) -> str:
    return f" for {seconds(left_s)} more" if left_s is not None else ""


# -- trace -------------------------------------------------------------------------------------------------------------


@examples("trace kitchen", "trace kitchen --other kitchen.json", "trace kitchen --all --json")
@click.command("trace")
@click.argument("peer", metavar="PEER")
@click.option("--session", metavar="ID", default="", help="The session whose id begins so, not the last one.")
@click.option("--all", "shows_all", is_flag=True, help="All sessions that are kept, not the last one alone.")
@click.option("--other", metavar="FILE", help="What `trace THIS_NODE --json` printed there: shows the other clock too.")
@json_option
@pass_lookup
def trace(lookup: NodeLookup, peer: str, session: str, shows_all: bool, other: str | None, as_json: bool) -> None:
    """Show the last session with PEER message by message: when, which way, type, size and reason. Never values.

    With --other each message has its time on both nodes' clocks, and the last line says how far the clocks differ.
    """
    answer = lookup.client().call("GET", "/v1/trace", query=[("peer", peer)])
    found = [each for each in answer["sessions"] if each["session"].startswith(session)]
    answer["sessions"] = found if shows_all else found[-1:]
    if as_json:
        print_json(answer)
        return
    if not found:
        print_note(f"no session with {safe(answer['peer_name'] or peer)} is kept{_of_those(answer, session)}")
        return
    theirs = _read_other(other, answer) if other else None
    offsets: list[float] = []
    for each in answer["sessions"]:
        there = None if theirs is None else theirs.get(each["session"])
        print_text(_heading(each), indent="    ")
        for line in table(*_trace_rows(each, there), right=(3,) if there is None else (4,)):
            print_line(line)
        print_line("")
        offsets += [] if there is None else _offsets(each, there)
    if len(found) > 1 and not shows_all:
        print_note(f"{len(found)} sessions are kept; --all shows them, --session ID one of them")
    if theirs is not None:
        print_text(_clock_verdict(offsets, safe(answer["peer_name"] or peer)))


def _of_those(answer: Json, session: str) -> str:
    return f" whose id begins with {safe(session)}" if session else ""


def _heading(session: Json) -> str:
    end = f"ended: {safe(session['why'])}" if session["why"] else "goes on"
    role = "opened here" if session["role"] == "initiator" else "opened there"
    return f"session {session['session'][:_SESSION_CHARS]} with {safe(session['address'])}, {role}, {end}"


def _trace_rows(session: Json, there: Json | None) -> tuple[Sequence[str], list[Sequence[str]]]:
    times = {} if there is None else {_pair(message): message for message in there["messages"]}
    rows: list[Sequence[str]] = []
    for message in session["messages"]:
        other = times.get((_OPPOSITE[message["way"]], message["number"]))
        here = _precise(message["time"])
        beside = () if there is None else (_precise(other["time"]) if other else "?",)
        what = (_ARROWS[message["way"]], safe(message["type"]), f"{message['bytes']:,}", safe(message["note"]))
        rows.append((here, *beside, *what))
    header = ("HERE", *(() if there is None else ("THERE",)), "", "MESSAGE", "BYTES", "ABOUT")
    return header, rows


_OPPOSITE: Final = {"sent": "received", "received": "sent"}


def _pair(message: Json) -> tuple[str, int]:
    return message["way"], message["number"]


def _precise(text: str) -> str:
    from datetime import datetime

    return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _read_other(path: str, answer: Json) -> dict[str, Json]:
    """Return the sessions of the other node's trace by their ids. Raises Failure for a file that is none of it."""
    try:
        with open(path, encoding="utf-8") as file:
            other = json.load(file)
        sessions = {each["session"]: each for each in other["sessions"]}
        is_of_pair = (other["node"], other["peer"]) == (answer["peer"], answer["node"])
    except (ValueError, KeyError, TypeError):
        raise Failure(f"{path} is no trace: `{PROGRAM} trace NODE --json`, typed on the other node, gives it") from None
    if not is_of_pair:
        raise Failure(f"{path} is a trace of other nodes than these two")
    return sessions


def _offsets(session: Json, there: Json) -> list[float]:
    """Return estimates of how far the other clock is ahead, in seconds: a way there and a way back cancel the delay."""
    from datetime import datetime
    from statistics import median

    def second(message: Json) -> float:
        return datetime.fromisoformat(message["time"]).timestamp()

    ours = {_pair(message): second(message) for message in session["messages"]}
    theirs = {_pair(message): second(message) for message in there["messages"]}
    ways = [
        [
            theirs[_OPPOSITE[way], number] - at
            for (each, number), at in ours.items()
            if each == way and (_OPPOSITE[way], number) in theirs
        ]
        for way in ("sent", "received")
    ]
    return [(median(ways[0]) + median(ways[1])) / 2] if all(ways) else []


def _clock_verdict(offsets: list[float], name: str) -> str:
    if not offsets:
        return "The file has none of these messages, so that the clocks cannot be compared."
    ahead_s = sorted(offsets)[len(offsets) // 2]
    if abs(ahead_s) < 1:
        return f"The clocks agree to {max(1, round(abs(ahead_s) * 1000))} ms."
    way = "ahead of" if ahead_s > 0 else "behind"
    return f"The clock of {name} is {seconds(abs(ahead_s))} {way} the clock here: set the wrong one."


# -- why ---------------------------------------------------------------------------------------------------------------


@examples("why kitchen", "why @kitchen/plan", "why shared/todo -c books")
@click.command("why")
@click.argument("what", metavar="RECORD|PEER")
@context_option
@click.option("--record", "is_record", is_flag=True, help="A record is meant, though a peer is called so.")
@json_option
@pass_lookup
def why(lookup: NodeLookup, what: str, context: str, is_record: bool, as_json: bool) -> None:
    """Say why a record is not here, or why a peer is not equal, and what to do about it.

    A peer is named by its name, the beginning of its id, or HOST:PORT; everything else is the address of a record.
    For a record that is not here the peers that answer are asked.
    """
    client = lookup.client()
    answer = None
    if not is_record and "/" not in what:
        answer = _of_peer(client, what)
    is_peer = answer is not None
    if answer is None:
        query = [("id", what), ("context", context)]
        answer = client.call("GET", "/v1/why", query=query, timeout_s=_WHY_TIMEOUT_S)
    if as_json:
        print_json(answer)
        return
    print_text(f"{safe(answer['about'])}{'' if is_peer else f' in {safe(context)}'}")
    in_context = "" if context == "main" else f" -c {quote(context)}"
    asked = ("PEER", quote(what)) if is_peer else ("RECORD", f"{quote(what)}{in_context}")
    for line in _finding_lines(answer["findings"], *asked):
        print_line(line)


def _of_peer(client: Any, text: str) -> Json | None:
    from echonode.client.errors import NotFound

    try:
        answer: Json = client.call("GET", "/v1/why", query=[("peer", text)])
    except NotFound as error:
        if "could be" in str(error):
            raise
        return None
    return answer


def _finding_lines(findings: Sequence[Json], word: str, asked: str) -> Iterator[str]:
    """Yield the lines of what was found: a word, a sentence, and what to do, with what was `asked` for in place of
    `word`."""
    width = terminal_width()
    columns = max((len(finding["reason"]) for finding in findings), default=0) + 2
    for finding in findings:
        first = f"  {finding['reason']:<{columns}}"
        yield from wrap(safe(finding["text"]), width, indent=" " * len(first), first=first)
        if finding["what_to_do"]:
            indent = " " * len(first)
            todo = finding["what_to_do"].replace(word, asked)
            yield from wrap(safe(todo), width, indent=f"{indent}   ", first=f"{indent}=> ")
