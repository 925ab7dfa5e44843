"""pull, `get --from` and `put --to`: list the records of one peer, fetch some of them, put some of this node's there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from echonode.cli.arguments import context_option, json_option, to_seconds
from echonode.cli.columns import table
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, print_json, print_line, print_note, safe, short_id, shown_address

_MARGIN_S: Final = 10.0  # the node answers by itself when its own time is up
_PAGE: Final = 1000
_CURSOR: Final = re.compile(r"(\d{1,18})(?::([a-z2-7]{8,52}))?", re.ASCII)
_CURSOR_VERSION_CHARS: Final = 12

timeout_option = click.option(
    "--timeout", "timeout_s", type=to_seconds, metavar="SPAN", default="30s", help="For each question.  [30s]"
)
filter_option = click.option(
    "--filter",
    "terms",
    metavar="TERM",
    multiple=True,
    help="author=ID, author!=ID, pool=ID, model=NAME, tag=TAG, tags=TAG,TAG, since=TIME, until=TIME or name=GLOB; "
    "can be given several times.",
)


@dataclass(frozen=True, slots=True)
class PullCursor:
    """The place where a pull ended: SEQ, behind that seq of the peer's log, or SEQ:VERSION, behind that version there.

    The peer says at which seq a page ends, but not where in it an id stands. If the version is no longer there, because
    a newer one superseded it, the whole page is listed again: an id may come twice, and none is missed.
    """

    seq: int
    version: str = ""

    @classmethod
    def read(cls, text: str) -> "PullCursor":
        """Return the cursor that `str` wrote as `text`. Raises click.BadParameter."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise click.BadParameter(f"{text!r} is no cursor: an earlier pull says which one to give")
        return cls(int(match[1]), match[2] or "")

    def __str__(self) -> str:
        return f"{self.seq}:{self.version[:_CURSOR_VERSION_CHARS]}" if self.version else str(self.seq)

    def behind(self, ids: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the ids of this cursor's page that stand behind it."""
        places = [number for number, each in enumerate(ids, start=1) if each["version"].startswith(self.version)]
        return ids[places[0] :] if self.version and places else ids


@examples("pull --from kitchen", "pull --from kitchen --filter tag=news --limit 100")
@click.command("pull")
@click.option("--from", "peer", metavar="PEER", required=True, help="The peer to ask: its name, or its id.")
@filter_option
@click.option("--after", type=PullCursor.read, metavar="CURSOR", help="Go on where an earlier pull ended, as it said.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="No more than this many.")
@timeout_option
@context_option
@json_option
@pass_lookup
def pull(
    lookup: NodeLookup,
    peer: str,
    terms: Sequence[str],
    after: PullCursor | None,
    limit: int | None,
    timeout_s: float,
    context: str,
    as_json: bool,
) -> None:
    """List the records that a peer has, without fetching any. The last line says where a later pull goes on."""
    list_peer_records(
        lookup, peer, terms, after=after, limit=limit, timeout_s=timeout_s, context=context, as_json=as_json
    )


def list_peer_records(
    lookup: NodeLookup,
    peer: str,
    terms: Sequence[str],
    *,
    after: PullCursor | None = None,
    limit: int | None = None,
    timeout_s: float = 30.0,
    context: str,
    as_json: bool,
) -> None:
    """List a peer's records page by page, for `pull` and `list --from`; each page is shown as it comes."""
    cursor = after or PullCursor(0)
    remaining = limit
    while True:
        # A page that begins in the middle of an earlier one has to be as long as that one may have been.
        is_short = remaining is not None and not cursor.version
        request: dict[str, Any] = {"peer": peer, "context": context, "filter": list(terms), "after": cursor.seq}
        request |= {"timeout": timeout_s, "limit": min(remaining or _PAGE, _PAGE) if is_short else _PAGE}
        answer = _ask(lookup, "/v1/pull", request, timeout_s)
        unseen = cursor.behind(answer["ids"])
        shown = unseen if remaining is None else unseen[:remaining]
        for each in shown:
            if as_json:
                print_json(each)
            else:
                print_line(f"{shown_address(each)}  {safe(each['version'])}")
        remaining = None if remaining is None else remaining - len(shown)
        if len(shown) < len(unseen):
            print_note(f"there is more: --after {PullCursor(cursor.seq, shown[-1]['version'])}")
            return
        cursor = PullCursor(answer["after"])
        if answer["done"]:
            print_note(f"all of it; what is new later: --after {cursor}")
            return
        if remaining == 0:
            print_note(f"there may be more: --after {cursor}")
            return


def put_to_peer(
    lookup: NodeLookup, records: Sequence[str], peer: str, *, timeout_s: float, context: str, as_json: bool
) -> ExitCode:
    """Put records to a peer and show the outcome of each: had, stored, stale, or refused with a reason."""
    request = {"peer": peer, "context": context, "records": list(records), "timeout": timeout_s}
    answer = _ask(lookup, "/v1/put", request, timeout_s)
    _show(answer, as_json)
    return _exit_code(answer)


def get_from_peer(
    lookup: NodeLookup,
    records: Sequence[str],
    peer: str,
    *,
    version: str | None,
    timeout_s: float,
    context: str,
    as_json: bool,
) -> ExitCode:
    """Fetch records from a peer and keep them; with `version`, that version of the one record."""
    items = [{"id": text} if version is None else {"id": text, "version": version} for text in records]
    request = {"peer": peer, "context": context, "records": items, "timeout": timeout_s}
    answer = _ask(lookup, "/v1/get", request, timeout_s)
    _show(answer, as_json)
    if answer["missing"] and not as_json:
        print_note(f"not there: {', '.join(map(safe, answer['missing']))}")
    return _exit_code(answer)


def _ask(lookup: NodeLookup, path: str, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Send a request to one peer and return its answer if it is a success. Raises Failure for any other answer."""
    answer: dict[str, Any] = lookup.client().call("POST", path, body=request, timeout_s=timeout_s + _MARGIN_S)
    if answer["status"] != "success":
        instead = f"; it supports {', '.join(map(safe, answer['supported']))}" if answer["supported"] else ""
        prefix = "" if answer["status"] == "error" else f"{safe(answer['status'])}: "
        raise Failure(f"{prefix}{safe(answer['error'])}{instead}")
    return answer


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    rows = [
        (short_id(each["id"]), short_id(each["version"]), each["outcome"], safe(each["reason"]))
        for each in answer["records"]
    ]
    for line in table(("ID", "VERSION", "OUTCOME", "WHY"), rows):
        print_line(line)
    print_note(count(len(rows), "version"))


def _exit_code(answer: dict[str, Any]) -> ExitCode:
    """Return PARTIAL if a record was refused or is missing."""
    is_partial = answer.get("missing") or any(each["outcome"] == "refused" for each in answer["records"])
    return ExitCode.PARTIAL if is_partial else ExitCode.DONE
