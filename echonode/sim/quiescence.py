"""The work that a node still has to do. A node at rest has none, whatever happened to it before. Five parts:

    in flight   bytes that were not sent, not delivered or not read; connections that are no links
    idle        sessions, handshakes, fills; tasks beyond those of links and of dials that no peer answers
    buffers     what links have to say, to store, to ask for or to answer
    timers      announcements and roots that a link waits to tell; comparisons that a change called for
    digests     equal, and known to be: sim/invariants/ checks these (E1, E4)

A heartbeat or a comparison from time to time is part of rest. So ask a node again until it has nothing to do. A node
that was stopped leaves nothing behind.
"""

from collections.abc import Iterator
from typing import Final

from echonode.node.backlog import Backlog
from echonode.sim.world import Member, World

# The task of Connections.run; of each link the task that serves or dialled it, and the six of Link.run.
_TASKS_OF_A_NODE: Final = 1
_TASKS_OF_A_LINK: Final = 7


def unfinished(world: World, member: Member) -> list[str]:
    """Return what is left to do at `member`, in words; nothing when it is at rest at this moment."""
    pending = member.node.pending()
    counts = {**_in_flight(world, member, pending), **_begun(world, member, pending)}
    return [*[f"{number} {words}" for words, number in counts.items() if number], *_of_links(world, pending)]


def left_behind(world: World, member: Member) -> list[str]:
    """Return what is still there of a process that has ended, in words."""
    tasks = [f"the task {task.get_name()}" for task in world.loop.tasks_of(member.owner)]
    connections = world.network.connections_of(member.host)
    return [*tasks, f"{connections} connections"] if connections else tasks


def _in_flight(world: World, member: Member, pending: Backlog) -> dict[str, int]:
    # Bytes from a socket that is gone may be under way to nowhere; no node has to do anything about them.
    live = world.network.live_of[member.host]
    ours = [each for each in live if any(s.host == member.host and not s.gone for s in each.streams)]
    return {
        "directions with bytes on their way": sum(pipe.is_busy for connection in ours for pipe in connection.pipes),
        "connections that are no links": world.network.connections_of(member.host) - len(pending.links),
    }


def _begun(world: World, member: Member, pending: Backlog) -> dict[str, int]:
    # A node goes on dialling an address where no peer is, ever more seldom: one task for the dial, one for each
    # address. A dial that is answered is a connection.
    of_dials = sum(1 + addresses for addresses in pending.dials)
    allowed = _TASKS_OF_A_NODE + _TASKS_OF_A_LINK * len(pending.links) + of_dials
    return {
        "sessions": pending.sessions,
        "handshakes": pending.handshakes,
        "live streams that are no links": pending.streams,
        "partings": pending.partings,
        "contexts being filled": pending.fills,
        "tasks too many": max(0, len(world.loop.tasks_of(member.owner)) - allowed),
        "versions asked for": pending.versions_asked,
        "comparisons after a change": pending.comparisons,
    }


def _of_links(world: World, pending: Backlog) -> Iterator[str]:
    for peer, left in pending.links.items():
        yield from (f"{words} with {world.identified(peer).name}" for words in left)
