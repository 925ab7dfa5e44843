"""The bus: the log has an event first, then listeners, then handlers in their order; signals reach handlers alone."""

from echonode.model.identity import IdentityId
from echonode.node.event_bus import EventBus, bytes_of
from echonode.node.events import InstanceRenewed, LinkEqual, NodeStopped, RecordsApplied
from tests.store.people import Person

RENEWED = InstanceRenewed(instance=bytes(8), why="a test")
EQUAL = LinkEqual(peer=IdentityId(bytes(32)))


def test_the_observer_is_told_before_listeners_and_handlers_in_their_order():
    told: list[str] = []
    bus = EventBus(lambda event: told.append(f"observer {event.name}"))
    bus.on(InstanceRenewed, lambda _: told.append("first"))
    bus.on(InstanceRenewed, lambda _: told.append("second"))
    bus.hear(lambda _: told.append("listener"))
    bus.publish(RENEWED)
    assert told == ["observer node.instance_renewed", "listener", "first", "second"]


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
    bus.publish(EQUAL)
    assert (heard, observed) == ([EQUAL], [])


def test_what_a_handler_publishes_reaches_all_before_the_next_handler_of_the_first_event():
    told: list[str] = []
    bus = EventBus(lambda event: told.append(event.name))
    bus.on(InstanceRenewed, lambda _: bus.publish(NodeStopped()))
    bus.on(InstanceRenewed, lambda _: told.append("second"))
    bus.publish(RENEWED)
    assert told == ["node.instance_renewed", "node.stopped", "second"]


def test_small_records_count_by_the_memory_that_they_take():
    version = Person(1).version("a")
    small = RecordsApplied(context="main", source=b"", records=(version,) * 1000)
    assert bytes_of(small) > 1000 * (3 * version.size + 500)
    assert bytes_of(RENEWED) == 0


def test_listeners_hear_of_every_event_but_of_signals():
    heard: list[object] = []
    bus = EventBus(lambda _: None)
    bus.hear(heard.append)
    for event in (RENEWED, EQUAL, NodeStopped()):
        bus.publish(event)
    assert heard == [RENEWED, NodeStopped()]


def test_a_bus_is_read_while_a_listener_has_readers():
    bus, readers = EventBus(lambda _: None), list[str]()
    bus.hear(lambda _: None)
    assert not bus.is_read
    bus.hear(lambda _: None, lambda: bool(readers))
    assert not bus.is_read
    readers.append("one")
    assert bus.is_read
    readers.clear()
    assert not bus.is_read
