"""The contract of Store for its own life, and for another one that writes in its name (PROTOCOL.md §5.6)."""

from collections.abc import Sequence

from echonode.clock import Timestamp
from echonode.limits import SEEN_INSTANCES_MAX
from echonode.model.identity import Instance, writer_of
from echonode.model.other_life import Fork
from echonode.model.record import MAIN, Record, sign
from echonode.store.port import Store
from tests.contracts.store import admit, check
from tests.store.people import NOW_MS, Owner, Person


def of_other_life(owner: Owner, name: str, counter: int, body: bytes = b"lost", over: Sequence[Record] = ()) -> Record:
    """Return a version that another store signed with the owner's key, under the instance of this one."""
    key, instance = owner.identity.device, owner.store.instance
    vector = {writer: seen for head in over for writer, seen in head.vector.items()}
    vector[writer_of(key.public, instance)] = counter
    timestamp = Timestamp((NOW_MS - 1000) << 16 | counter)
    return sign(owner.draft(name, body), key, instance=instance, vector=vector, timestamp=timestamp)


@check
async def the_latest_version_of_a_writer_is_known_while_it_is_kept(store: Store) -> None:
    person = Person(2)
    key = person.device.public
    assert store.latest(key) == []
    assert store.bytes_of_latest(key, person.instance) is None
    await admit(store, person)
    versions: list[Record] = []
    for body in (b"1", b"2", b"3"):
        versions.append(person.version("a", body, versions[-1:]))
    for version in (versions[1], versions[0]):
        await store.apply(MAIN, [version])
        assert store.latest(key) == [(person.instance, versions[1].counter, versions[1].id)]
        assert store.bytes_of_latest(key, person.instance) == versions[1].raw
    other = Person(3)
    await admit(store, other)
    await store.apply(MAIN, [other.version("a", b"over", [versions[1]])])
    assert store.bytes_of_latest(key, person.instance) == versions[1].raw, "it is in the history"
    await store.forget(MAIN, [versions[0].key], lambda _: False)
    assert store.latest(key) == [(person.instance, versions[1].counter, versions[1].id)]
    assert store.bytes_of_latest(key, person.instance) is None
    await store.apply(MAIN, [versions[2]])
    assert store.latest(key) == [(person.instance, versions[2].counter, versions[2].id)]
    assert store.bytes_of_latest(key, person.instance) == versions[2].raw


@check
async def a_counter_that_is_only_mentioned_has_no_version(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    await admit(store, other)
    await store.apply(MAIN, [await owner.put("a")])
    mention = other.version("b", b"x", [of_other_life(owner, "b", 9)])
    await store.apply(MAIN, [mention])
    assert store.seen(owner.identity.device.public) == {store.instance: 9}
    assert store.latest(owner.identity.device.public) == []
    written = await owner.put("c")
    assert store.latest(owner.identity.device.public) == [(store.instance, 10, written.id)]
    assert store.has_signed(of_other_life(owner, "b", 9)) is False, "this store never gave 9"


@check
async def a_store_knows_what_it_signed_and_what_another_one_did_in_its_name(store: Store) -> None:
    owner = Owner(store)
    assert store.has_signed(of_other_life(owner, "a", 1)) is False, "it gave no counter at all"
    await owner.begin()
    versions, _ = await owner.write(owner.draft("a"), owner.draft("b"), owner.draft("a", b"2"))
    third = await owner.put("c")
    for version in (*versions, third):
        assert version is not None and store.has_signed(version) is True
    for counter in (*range(2, 9), 2**63 - 1, 2**63, 2**64 - 1):
        assert store.has_signed(of_other_life(owner, "a", counter)) is False


@check
async def versions_of_another_life_are_reported_whatever_becomes_of_them(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    await admit(store, other)
    ours = [await owner.put("a", bytes([number])) for number in range(3)]
    below, beside, above = of_other_life(owner, "a", 2), of_other_life(owner, "b", 3), of_other_life(owner, "a", 7)
    for stranger, joined in ((below, False), (beside, True), (above, True)):
        applied = await store.apply(MAIN, [stranger, other.version(f"by another {stranger.counter}")])
        assert applied.strangers == (stranger,)
        assert (stranger in applied.records) == joined
    assert (await store.apply(MAIN, ours)).strangers == (), "these are its own"
    _, applied = await owner.write(owner.draft("c"))
    assert applied.strangers == ()


@check
async def the_latest_forks_are_kept_each_with_the_least_that_is_known(store: Store) -> None:
    assert store.forks == {}
    forks = [Fork(Instance(bytes([number]) * 8), 2**63 + number, Timestamp(2**63 - number)) for number in range(20)]
    for fork in forks:
        await store.save_fork(Fork(fork.instance, 2**64 - 1, fork.timestamp))
        await store.save_fork(fork)
        await store.save_fork(Fork(fork.instance, 2**64 - 1, Timestamp(2**64 - 1)))
    assert list(store.forks.values()) == forks[-SEEN_INSTANCES_MAX:]
    assert all(store.forks[fork.instance] == fork for fork in forks[-SEEN_INSTANCES_MAX:])


@check
async def an_instance_is_forgotten_with_its_renewal_unless_a_fork_names_it(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    stranger, written = of_other_life(owner, "a", 9), await owner.put("a")
    await store.save_fork(Fork.proven_by(stranger))
    await store.renew_instance(Instance(b"renewed!"))
    again = await owner.put("b")
    for _ in range(2):
        assert store.has_signed(written) is True and store.has_signed(stranger) is False
        assert (await store.apply(MAIN, [stranger])).strangers == (stranger,)
        await store.renew_instance(Instance(b"again..."))
    assert store.has_signed(again) is None
