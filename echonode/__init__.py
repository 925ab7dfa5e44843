"""echonode: sets of signed records, kept the same on every machine of a network, without a server.

The modules of this folder are the foundation (limits, errors, digest, text, clock, cbor) and `app`, which wires the
rooms into a process. The rooms are folders: model, wire, store, sync, node, host, api, cli and sim. README.md beside
this file follows a record and a frame through them. The protocol is not described here but in proto/.
"""

__version__ = "0.1.0"
