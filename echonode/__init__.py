"""echonode: sets of signed records, kept the same on every machine of a network, without a server.

The modules of this folder are the foundation (limits, errors, digest, text, clock, cbor) and `app`, which wires the
rooms into a process. The rooms are folders: model, wire, store, sync, node, host, api, client, cli and sim. README.md
beside this file follows a record and a frame through them. The protocol is not described here but in proto/.

For programs: `from echonode import Client, AsyncClient, Node`. __init__.pyi tells type checkers where these are.
"""

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Node"]

_PLACES = {"AsyncClient": "client.asynchronous", "Client": "client.synchronous", "Node": "embed"}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the command line imports this package too, and should start fast."""
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module 'echonode' has no attribute {name!r}")
    return getattr(import_module(f"echonode.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
