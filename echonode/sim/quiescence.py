"""What a node still has to do. At rest there is nothing, whatever befell it before: TESTING.md's five parts.

    in flight   bytes that were not sent, not delivered or not read; connections that are no links
    idle        sessions, handshakes, fills, tasks beyond those of its links and of dials that nobody answers
    buffers     what links have to say, to store, to ask for or to answer
    timers      announcements and roots that a link waits to tell; comparisons that a change called for
    digests     equal, and known to be: the judge's (E1, E4)

A heartbeat or a comparison from time to time is rest too, so a node is asked again until it is still. One that was
stopped leaves nothing behind.
"""

from typing import Final

from echonode.sim.world import Member, World

# Of Connections.run; of a link: who serves or dialled it, Link.run's five.
_TASKS_OF_A_NODE: Final = 1
_TASKS_OF_A_LINK: Final = 6


def unfinished(world: World, member: Member) -> list[str]:
    """What is left to do at `member`, in words; nothing when it is at rest at this moment."""
    links = member.node._links._links
    left = {**_in_flight(world, member, len(links)), **_begun(world, member, len(links)), **_half_done(member)}
    of_links = [f"{what} with {world.identified(peer).name}" for peer, link in links.items() for what in link.pending()]
    return [*[f"{number} {what}" for what, number in left.items() if number], *of_links]


def left_behind(world: World, member: Member) -> list[str]:
    """What is still there of a process that has ended, in words."""
    tasks = [f"the task {task.get_name()}" for task in world.loop.tasks_of(member.owner)]
    connections = world.network.connections_of(member.host)
    return [*tasks, f"{connections} connections"] if connections else tasks


def _in_flight(world: World, member: Member, links: int) -> dict[str, int]:
    # What is under way from a socket that is gone, into nowhere perhaps, is nobody's to do.
    live = world.network.live_of[member.host]
    ours = [each for each in live if any(s.host == member.host and not s.gone for s in each.streams)]
    return {
        "directions with bytes on their way": sum(pipe.is_busy for connection in ours for pipe in connection.pipes),
        "connections that are no links": world.network.connections_of(member.host) - links,
    }


def _begun(world: World, member: Member, links: int) -> dict[str, int]:
    node = member.node
    connections, scheduler = node.connections, node.scheduler
    # Who was told of what is not there, or not any more, goes on trying, ever more seldom: a task, and one an address.
    # Dials that are answered are connections.
    dials = [target for target in scheduler.targets.values() if target.is_dialling]
    allowed = _TASKS_OF_A_NODE + _TASKS_OF_A_LINK * links + sum(1 + len(target.addresses) for target in dials)
    return {
        "sessions": sum(entry.sessions for entry in scheduler.peers.values()),
        "handshakes": connections._shaking.total(),
        "live streams that are no links": len(connections.live._by_stream) - links,
        "partings": len(connections.live._partings),
        "contexts being filled": len(connections.manager.filling._fills),
        "tasks too many": max(0, len(world.loop.tasks_of(member.owner)) - allowed),
    }


def _half_done(member: Member) -> dict[str, int]:
    node = member.node
    return {
        "versions asked for": node._links.spread.asked_count,
        "comparisons after a change": sum(entry.changed_meanwhile for entry in node.scheduler.peers.values()),
    }
