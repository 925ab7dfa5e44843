"""echonode: sets of signed records, kept the same on every machine of a network, without a server."""

__version__ = "0.1.0"
