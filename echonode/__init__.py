"""echonode keeps sets of signed records the same on every machine of a network, without a server.

    errors limits digest text clock cbor    the foundation: no room below it
    model/                                  records, identities, filters, trees: pure functions of bytes
    wire/                                   frames and messages: from a stream of bytes to a message and back
    store/                                  the records on disk
    sync/                                   conversations by which two stores become equal
    node/                                   peers, sessions, scheduling
    host/ api/ cli/ sim/                    the machine, the HTTP API, the command line, the simulator
    app.py                                  puts all of it together

A room imports only rooms above it in this list; tests/test_tidy.py holds that.
"""

__version__ = "0.1.0"
