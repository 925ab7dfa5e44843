"""Clients of a running node: programs use it from Python, blocking or async, and so do the commands.

* `synchronous` and `asynchronous` are the two clients; `calls` has every operation once, as a request and a way to read
  its answer, and `values` the answers' types.
* `exchange` is HTTP without I/O, `connection` carries it over blocking sockets, `retry` says what is tried again;
  `location` finds the node of this machine.
* `answers` is the one door for what a node sends: it lets through what has the shape that `answer_shapes` gives.

`from echonode import Client, AsyncClient` is how programs get them. embed.py hands the async client a node instead of a
socket.
"""
