"""Names for the completion of a shell: peers, contexts and records, as the running node knows them.

A shell waits for the answer, so the node is asked for a moment only. Where none answers, nothing is offered.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from echonode.cli.node_lookup import NodeLookup
from echonode.errors import EchonodeError

_TIMEOUT_S: Final = 2.0
_RECORDS_MAX: Final = 200
_OWN: Final = "me/"


def _peers(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the nodes whose name, or whose id, begins with `incomplete`."""
    items = []
    for peer in _ask(ctx, "/v1/peers", {"peers": []})["peers"]:
        names = [peer.get("label") or peer["name"], peer["id"] or "", peer["address"] if not peer["id"] else ""]
        name = next((name for name in names if name and name.startswith(incomplete)), None)
        if name and _is_typed_as_it_is(name):
            items.append(CompletionItem(name, help=peer["state"]))
    return items


def _contexts(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the contexts whose name begins with `incomplete`."""
    contexts = _ask(ctx, "/v1/contexts", {"contexts": []})["contexts"]
    return [
        CompletionItem(each["name"], help=f"{each['records']} records")
        for each in contexts
        if each["name"].startswith(incomplete) and _is_typed_as_it_is(each["name"])
    ]


def _records(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the addresses of records that begin with `incomplete`, in the context that the command line names."""
    from echonode.client.request import record_path

    context = ctx.params.get("context") or "main"
    items: list[CompletionItem] = []
    with suppress(EchonodeError, OSError):
        path = record_path(str(context), "/list")
        with _lookup(ctx).client().open("GET", path, timeout_s=_TIMEOUT_S) as response:
            for record in response.values():
                # An own record may be typed with or without me/ before it.
                address = record.get("address", "")
                shown = address if address.startswith(incomplete) else address.removeprefix(_OWN)
                if shown.startswith(incomplete) and _is_typed_as_it_is(shown):
                    items.append(CompletionItem(shown))
                if len(items) >= _RECORDS_MAX:
                    break
    return items


def _peers_and_records(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [*_peers(ctx, incomplete), *_records(ctx, incomplete)]


# What stands behind a parameter, by the word that its help shows for it.
_NAMES: Final[dict[str, Callable[[click.Context, str], list[CompletionItem]]]] = {
    "PEER": _peers,
    "NAME_OR_ID": _peers,
    "NODE": _peers,
    "[NODE]": _peers,
    "CONTEXT": _contexts,
    "RECORD": _records,
    "RECORD...": _records,
    "NAME [VALUE] | RECORD...": _records,
    "RECORD|PEER": _peers_and_records,
}


class _Name(StringParamType):
    """A text for which a shell is offered names."""

    def __init__(self, names: Callable[[click.Context, str], list[CompletionItem]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self._names(ctx, incomplete)


def complete_names(command: click.Command) -> None:
    """Let a shell complete names for the parameters of `command`, and of the commands in it."""
    for param in command.params:
        names = _NAMES.get(param.metavar or "") or (_contexts if param.name == "context" else None)
        if names is not None and isinstance(param.type, StringParamType):
            param.type = _Name(names)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            complete_names(inner)


def _ask(ctx: click.Context, path: str, otherwise: Any) -> Any:
    try:
        return _lookup(ctx).client().call("GET", path, timeout_s=_TIMEOUT_S)
    except (EchonodeError, OSError):
        return otherwise


def _lookup(ctx: click.Context) -> NodeLookup:
    """Return the lookup of the command line so far. The group has not run, so that its --home is read here."""
    lookup = ctx.find_object(NodeLookup)
    assert lookup is not None, "completion begins with one"
    home = ctx.find_root().params.get("home")
    return replace(lookup, home_flag=home) if home and not lookup.home_flag else lookup


def _is_typed_as_it_is(text: str) -> bool:
    """Return False for a name that a shell would take apart, or that could change what is typed."""
    return text.isprintable() and not any(char in " \t\"'`$\\&|;<>(){}[]*?!#~:\n" for char in text.replace("@", ""))
