"""The bus: the log has an event first, then streams, then handlers in their order; signals reach handlers alone."""

import asyncio

from echonode.limits import EVENTS_WAITING_BYTES_MAX, EVENTS_WAITING_MAX
from echonode.model.identity import IdentityId
from echonode.node.event_bus import EventBus, EventStream
from echonode.node.events import InstanceRenewed, LinkEqual, NodeStopped, RecordsApplied
from tests.store.people import Person

RENEWED = InstanceRenewed(instance=bytes(8), why="a test")
EQUAL = LinkEqual(peer=IdentityId(bytes(32)))


def test_the_observer_is_told_before_streams_and_handlers_in_their_order():
    told: list[str] = []
    bus = EventBus(lambda event: told.append(f"observer {event.name}"))
    bus.on(InstanceRenewed, lambda _: told.append(f"first, {queue.qsize()} in the stream"))
    bus.on(InstanceRenewed, lambda _: told.append("second"))
    with bus.stream() as queue:
        bus.publish(RENEWED)
    assert told == ["observer node.instance_renewed", "first, 1 in the stream", "second"]


def test_a_handler_hears_of_its_kind_alone():
    heard: list[object] = []
    bus = EventBus(lambda _: None)
    bus.on(NodeStopped, heard.append)
    bus.publish(RENEWED)
    assert heard == []


def test_a_signal_is_for_handlers_and_neither_logged_nor_shown():
    heard: list[object] = []
    observed: list[object] = []
    bus = EventBus(observed.append)
    bus.on(LinkEqual, heard.append)
    with bus.stream() as queue:
        bus.publish(EQUAL)
    assert (heard, observed, queue.qsize()) == ([EQUAL], [], 0)


def test_what_a_handler_publishes_reaches_all_before_the_next_handler_of_the_first_event():
    told: list[str] = []
    bus = EventBus(lambda event: told.append(event.name))
    bus.on(InstanceRenewed, lambda _: bus.publish(NodeStopped()))
    bus.on(InstanceRenewed, lambda _: told.append("second"))
    bus.publish(RENEWED)
    assert told == ["node.instance_renewed", "node.stopped", "second"]


def test_a_stream_ends_with_its_block_with_the_bus_or_when_its_reader_lags():
    bus = EventBus(lambda _: None)
    with bus.stream() as slow, bus.stream() as quick:
        for _ in range(EVENTS_WAITING_MAX + 1):
            bus.publish(RENEWED)
            quick.get_nowait()
        assert bus.streams == 1
        assert [slow.get_nowait() for _ in range(EVENTS_WAITING_MAX + 1)][-1] is None
        bus.end()
        assert quick.get_nowait() is None
    assert bus.streams == 0
    with bus.stream():
        assert bus.streams == 1
    assert bus.streams == 0


def applied(count: int) -> RecordsApplied:
    """Return an event with `count` records of 100,000 bytes."""
    person = Person(1)
    return RecordsApplied(
        context="main", source=b"", records=tuple(person.version(f"n{n}", bytes(100_000)) for n in range(count))
    )


def test_a_stream_holds_the_bytes_of_records_up_to_its_bound_and_then_ends():
    bus = EventBus(lambda _: None)
    large = applied(EVENTS_WAITING_BYTES_MAX // 700_000)  # nearly half of it
    with bus.stream() as stopped, bus.stream() as quick:
        for _ in range(3):
            bus.publish(large)
            assert quick.get_nowait() == large
        assert bus.streams == 1
        assert 0 < stopped.waiting_bytes <= EVENTS_WAITING_BYTES_MAX
        assert [stopped.get_nowait() for _ in range(3)] == [large, large, None]
        assert quick.waiting_bytes == 0


def test_small_records_count_by_the_memory_that_they_take():
    stream, person = EventStream(), Person(1)
    version = person.version("a")
    small = RecordsApplied(context="main", source=b"", records=(version,) * 1000)
    while stream.add(small):
        assert stream.qsize() * 1000 * (3 * version.size + 500) < EVENTS_WAITING_BYTES_MAX


def test_one_event_may_wait_whatever_its_size():
    stream = EventStream()
    assert stream.add(applied(EVENTS_WAITING_BYTES_MAX // 100_000 + 1))
    assert not stream.add(applied(1))


def test_listeners_hear_of_every_event_but_of_signals():
    heard: list[object] = []
    bus = EventBus(lambda _: None)
    bus.hear(heard.append)
    for event in (RENEWED, EQUAL, NodeStopped()):
        bus.publish(event)
    assert heard == [RENEWED, NodeStopped()]


def test_a_bus_is_read_while_a_stream_is_open_or_a_listener_has_readers():
    bus, readers = EventBus(lambda _: None), list[str]()
    bus.hear(lambda _: None)
    assert not bus.is_read
    bus.hear(lambda _: None, lambda: bool(readers))
    assert not bus.is_read
    readers.append("one")
    assert bus.is_read
    readers.clear()
    with bus.stream():
        assert bus.is_read
    assert not bus.is_read


def test_a_queue_of_a_stream_may_be_waited_for():
    async def main() -> None:
        bus = EventBus(lambda _: None)
        with bus.stream() as queue:
            asyncio.get_running_loop().call_later(0.001, bus.publish, RENEWED)
            assert await queue.get() == RENEWED

    asyncio.run(main())
