"""doctor, support-bundle: is all well with this node and the machine around it, and what a helper needs to see."""

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from echonode.cli.arguments import json_option
from echonode.cli.columns import terminal_width, wrap
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, is_coloured, print_json, print_line, print_note, print_text, safe, short_id, size
from echonode.cli.program import PROGRAM
from echonode.cli.services import CheckView
from echonode.client.errors import ClientError, NotRunning
from echonode.errors import EchonodeError

if TYPE_CHECKING:
    import tarfile

    from echonode.cli.client import ApiClient

_FINE: Final = "fine"
_WARNING: Final = "warning"
_ERROR: Final = "error"
_COLOURS: Final = {_WARNING: "yellow", _ERROR: "red"}
_AREA_COLUMNS: Final = 14
_VERDICT_COLUMNS: Final = 8
_QUIET_STATES: Final = ("other network", "gone", "left out")
_BUNDLE_VERSION: Final = 1

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding (cli/services.py:CheckView)."""

    area: str
    verdict: str
    text: str
    what_to_do: str = ""


@examples("doctor", "doctor --json")
@click.command("doctor")
@json_option
@pass_lookup
def doctor(lookup: NodeLookup, as_json: bool) -> ExitCode:
    """Look at this node and the machine around it; each finding says what to do.

    It works whether the node runs or not, and changes nothing. Exits with 1 when something is an error.
    """
    verdicts = []
    for check in _checks(lookup):
        verdicts.append(check.verdict)
        if as_json:
            print_json(_form(check))
        else:
            _show(check)
        sys.stdout.flush()
    bad = len(verdicts) - verdicts.count(_FINE)
    if not as_json:
        print_text("\nAll is well." if not bad else f"\n{count(bad, 'finding')} to look at, marked above.")
    return ExitCode.FAILED if _ERROR in verdicts else ExitCode.DONE


def _form(check: CheckView) -> Json:
    return {"area": check.area, "verdict": check.verdict, "text": check.text, "what_to_do": check.what_to_do}


def _show(check: CheckView) -> None:
    verdict = f"{check.verdict:<{_VERDICT_COLUMNS}}"
    first = f"{verdict}  {check.area:<{_AREA_COLUMNS}}"
    indent = " " * len(first)
    lines = list(wrap(safe(check.text), terminal_width(), indent=indent, first=first))
    if check.what_to_do:
        lines += wrap(safe(check.what_to_do), terminal_width(), indent=f"{indent}   ", first=f"{indent}=> ")
    if check.verdict in _COLOURS and is_coloured(sys.stdout):
        lines[0] = click.style(verdict, fg=_COLOURS[check.verdict]) + lines[0].removeprefix(verdict)
    for line in lines:
        print_line(line)


def _checks(lookup: NodeLookup) -> Iterator[CheckView]:
    """Yield the findings about the node, then those about the machine."""
    client = lookup.client()
    status: Json | None = None
    try:
        status = client.call("GET", "/v1/status")
    except NotRunning as error:
        start = f"start it: {PROGRAM} run, or {PROGRAM} service install"
        yield Check("node", _WARNING, str(error).partition(";")[0], start)
    except ClientError as error:
        yield Check("node", _ERROR, str(error))
    else:
        yield Check("node", _FINE, f"{status['name']} runs, {PROGRAM} {status.get('version', '?')}")
        yield from _node_checks(client, status)
    if status is None:
        yield from _store_of_stopped(lookup)
    yield from lookup.services.diagnose(lookup.home(), None if status is None else status["listen"])
    yield from _service(lookup)


def _node_checks(client: "ApiClient", status: Json) -> Iterator[CheckView]:
    records = sum(context["records"] for context in status["contexts"])
    held = sum(context["bytes"] for context in status["contexts"])
    yield Check("store", _FINE, f"{count(records, 'record')}, {size(held)}; `{PROGRAM} verify` re-hashes all of it")
    contested = sum(context.get("conflicts", 0) for context in status["contexts"])
    if contested:
        yield Check(
            "store", _WARNING, f"{count(contested, 'record')} in conflict", f"look at both sides: {PROGRAM} conflicts"
        )
    peers = status["peers"]
    if not [peer for peer in peers if peer["state"] not in _QUIET_STATES]:
        yield Check("peers", _WARNING, "no other node of this network was seen", f"add one: {PROGRAM} invite")
    for peer in peers:
        yield from _peer(client, peer)
    lines = list(_warnings(client))
    if lines:
        last = lines[-1]
        yield Check(
            "log",
            _WARNING,
            f"{count(len(lines), 'warning')} within the last hour, the last {safe(last['event'])}",
            f"read them: {PROGRAM} logs --level warning --since 1h",
        )
    else:
        yield Check("log", _FINE, "no warning within the last hour")


def _warnings(client: "ApiClient") -> Iterator[Json]:
    query = [("level", "warning"), ("since", "1h")]
    with client.open("GET", "/v1/logs", query=query) as response:
        yield from (line for line in response.values() if line["event"] != "log.level_set")


def _peer(client: "ApiClient", peer: Json) -> Iterator[CheckView]:
    """Yield whether a peer is visible and equal, and if not, why."""
    name = safe(peer.get("label") or peer["name"] or short_id(peer["id"]) or peer["address"])
    if peer["state"] == "copy":
        yield Check("copy", _ERROR, f"at {safe(peer['address'])} {safe(peer['reason'])}")
        return
    if peer["state"] in _QUIET_STATES:
        yield Check("peers", _FINE, f"{name} at {safe(peer['address'])}: {peer['state']}")
        return
    try:
        findings = client.call("GET", "/v1/why", query=[("peer", peer["id"] or peer["address"])])["findings"]
    except ClientError as error:
        yield Check("peers", _WARNING, f"{name}: {error}")
        return
    first = findings[0]
    if first["reason"] in ("equal", "in step"):
        yield Check("peers", _FINE, f"{name} is {peer['state']}: {first['text']}")
    else:
        yield Check("peers", _WARNING, f"{name}: {first['text']}", first["what_to_do"])
    for finding in findings[1:]:
        if finding["reason"] != "next try":
            verdict = _FINE if finding["reason"] == "partial" else _WARNING
            yield Check(finding["reason"], verdict, f"{name}: {finding['text']}", finding["what_to_do"])


def _store_of_stopped(lookup: NodeLookup) -> Iterator[CheckView]:
    """Yield whether the store of a node that does not run can be opened."""
    from echonode.cli.client import ApiClient  # it imports h11, which --help does not need
    from echonode.client.location import Location, UnixPlace

    try:
        with lookup.services.serve_stopped(lookup.home()) as path:
            if path is not None:
                answer = ApiClient(Location((UnixPlace(path),))).call("GET", "/v1/status")
                records = sum(context["records"] for context in answer["contexts"])
                yield Check("store", _FINE, f"{count(records, 'record')}; `{PROGRAM} verify` re-hashes all of it")
    except EchonodeError as error:
        yield Check("store", _ERROR, str(error), f"if it is damaged: {PROGRAM} verify --repair")


def _service(lookup: NodeLookup) -> Iterator[CheckView]:
    """Yield whether a service of systemd is installed, runs, and is the one that this program would install."""
    for is_user in (False, True):
        kind, user = ("of this user", " --user") if is_user else ("of this machine", "")
        try:
            setup = lookup.services.service(is_user=is_user)
            state = setup.state()
            stale = [file for file in setup.files() if _differs(file.path, file.text)] if state.unit else []
        except EchonodeError:
            continue  # no systemd, or none that this user may speak to
        if not state.unit:
            continue
        log = f"journalctl{user} -u echonode"
        if state.state != "active":
            yield Check("service", _ERROR, f"the service {kind} is {state.state}", f"its log says why: {log}")
        elif stale:
            yield Check(
                "service",
                _WARNING,
                f"the service {kind} runs, and {stale[0].path} is not the file of this version",
                f"bring it up to date: {PROGRAM} service install{user}",
            )
        else:
            yield Check("service", _FINE, f"the service {kind} runs, and is that of this version")


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") != text
    except FileNotFoundError:
        return True
    except OSError:
        return False  # only its owner may read it


# -- support-bundle ----------------------------------------------------------------------------------------------------


@examples("support-bundle", "support-bundle --output bundle.tar.gz")
@click.command("support-bundle")
@click.option("-o", "--output", metavar="FILE", help="The archive; else a new file with the time in its name.")
@pass_lookup
def support_bundle(lookup: NodeLookup, output: str | None) -> None:
    """Write what a helper needs to see into one archive: doctor, status, settings, log, and the last sessions.

    Names of people, machines, records and contexts, and public addresses, are replaced. Bodies of records, keys and
    codes are not in it. Look at it before you send it: tar -xzOf FILE
    """
    import tarfile
    from secrets import token_bytes

    from echonode.cli.redaction import Redaction

    path = Path(output or time.strftime("echonode-support-%Y%m%d-%H%M%S.tar.gz"))
    contents = _contents(lookup)
    home = lookup.home()
    redaction = Redaction(token_bytes(32), {str(home.root): "HOME", str(Path.home()): "~", os.uname().nodename: "HOST"})
    for value in contents.values():
        redaction.learn(value)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, value in contents.items():
            _add(tar, name, redaction.redacted(value))
    _write_whole(path, archive.getvalue())
    print_line(str(path))
    print_note(f"{size(len(archive.getvalue()))}, names replaced; look at it before you send it: tar -xzOf {path}")


def _contents(lookup: NodeLookup) -> dict[str, Any]:
    """Return the files of the bundle by name: JSON values, lists as one line an item."""
    settings = [
        {"setting": key, "value": _plain(value), "origin": str(origin)} for key, value, origin in _settings(lookup)
    ]
    contents: dict[str, Any] = {
        "about.json": {"bundle": _BUNDLE_VERSION, "version": lookup.services.version, "python": sys.version}
        | {"platform": " ".join(os.uname()[0::2]), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
        "doctor.jsonl": [_form(check) for check in _checks(lookup)],
        "settings.jsonl": settings,
    }
    client = lookup.client()
    if not client.is_listening():
        return contents
    contents["status.json"] = status = client.call("GET", "/v1/status")
    contents["log-level.json"] = client.call("GET", "/v1/log-level")
    with client.open("GET", "/v1/logs") as response:
        contents["log.jsonl"] = list(response.values())
    for peer in status["peers"]:
        if peer["id"] is not None and peer["state"] not in _QUIET_STATES:
            query = [("peer", peer["id"])]
            contents[f"trace-{short_id(peer['id'])}.json"] = client.call("GET", "/v1/trace", query=query)
    return contents


def _settings(lookup: NodeLookup) -> Iterator[tuple[str, object, str]]:
    try:
        yield from lookup.services.settings(lookup.home())
    except EchonodeError as error:
        yield "config.toml", str(error), "error"


def _plain(value: object) -> Any:
    """Return the value of a setting as JSON has it; names in it are learnt like others."""
    plain = json.loads(json.dumps(value, default=str))
    if isinstance(plain, dict):  # subscriptions: contexts with their terms
        return [{"context": context, "terms": terms} for context, terms in plain.items()]
    return plain


def _add(tar: "tarfile.TarFile", name: str, value: Any) -> None:
    from tarfile import TarInfo

    lines = value if name.endswith(".jsonl") else [value]
    data = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    entry = TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    tar.addfile(entry, io.BytesIO(data))


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that this user alone may read, whole or not at all. Raises Failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
