"""The page about Python: the clients, and a node inside a program. A test runs every example of it."""

from typing import Final

PYTHON: Final = '''\
A program uses the node of this machine through Client. It finds the node by
itself; Client(url, token=..) takes another, Client(home=..) that of a folder.

    from echonode import Client

    node = Client()
    node.put("shared/todo", {"milk": 2}, tags=["home"])
    todo = node.get("shared/todo")
    print(todo.json()["milk"], todo.tags)

To update safely, write over what was read. If somebody wrote meanwhile, Moved
says so: read again, then write.

    from echonode.client.errors import Moved

    try:
        node.put("shared/todo", {"milk": 3}, over=todo)
    except Moved:
        print("written meanwhile")

Two nodes that write a record at the same time make a conflict: every node keeps
both versions and reads the newer one, and `in_conflict` is True. A put covers
both; before an update, join them.

    if todo.in_conflict:
        node.resolve("shared/todo", strategy="merge")
        todo = node.get("shared/todo")

Every write, list and change has a cursor. Keep that of the last change that you
dealt with, and nothing is missed over restarts of the program or the node. A
`gap` says that the node's store was restored: all records are told anew then.

    cursor = node.put("diary", "sunny").cursor
    node.put("diary", "sunny, then rain")
    for change in node.changes(since=cursor):
        print(change.record.name, change.record.text, change.gap)
        cursor = change.cursor
        break

Also: put_all, list, delete, history, conflicts, resolve, sync, status. Errors
are in echonode.client.errors; NotRunning is what you get without a node.

AsyncClient has the same calls for an event loop, each awaited. Node is one that
runs inside the program, with its own home, peers and API:

    import asyncio
    from echonode import Node

    async def main():
        async with Node.open("/tmp/.../node") as node:
            written = await node.put("shared/x", "seen from here")
            async for change in node.changes("main"):
                print(change.record.text)
                break

    asyncio.run(main())

help(Client), help(AsyncClient) and help(Node) say all parameters.
'''


def python() -> str:
    """Return the page."""
    return PYTHON
