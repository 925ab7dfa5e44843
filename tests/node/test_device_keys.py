"""Device keys: new ones, lost ones, and what becomes of the versions that a lost one signed."""

import asyncio

import pytest

from echonode.errors import LocalError
from echonode.model.keys import KeyState, read_statement
from echonode.model.record import IDENTITIES, MAIN
from echonode.node.events import KeyRevoked, RecordConflict, RecordConflictResolved, RecordsApplied, RecordVoided
from echonode.sim.world import Member, World
from echonode.text import to_base32
from tests.node.worlds import SlowStore, in_a_world, names, put, told

PASSPHRASE = "correct horse"


async def exported(member: Member) -> str:
    return await member.node.device_keys.export_root(PASSPHRASE)


async def bodies(member: Member, owner: Member, name: str) -> list[bytes]:
    return [head.body for head in await member.node.records.heads(MAIN, owner.node.id, name)]


def test_a_new_key_signs_from_now_on_and_the_old_records_stand() -> None:
    async def work(world: World) -> None:
        one, other = [await world.add_node(name) for name in ("one", "other")]
        await put(one, "before", shared=True)
        world.introduce()
        await world.settled(within_s=20)
        old = one.node.records.identity.device.public
        new = await one.node.device_keys.new_key()
        assert new == one.node.records.identity.device.public != old
        assert one.identity.device.public == new, "it is kept over a restart"
        await put(one, "after", b"1", shared=True)
        await world.settled(within_s=30)
        assert await names(other) == {"before", "after"}
        with pytest.raises(LocalError, match="this device signs with that key"):
            await one.node.device_keys.state(new, KeyState.RETIRED)
        await one.node.device_keys.state(old, KeyState.RETIRED)
        with pytest.raises(LocalError, match="retired already"):
            await one.node.device_keys.state(old, KeyState.RETIRED)
        await world.settled(within_s=20)
        assert await names(other) == {"before", "after"}
        assert [(each.key, each.state, each.is_here) for each in one.node.device_keys.listed()] == [
            (new, KeyState.ACTIVE, True),
            (old, KeyState.RETIRED, False),
        ]
        assert one.node.device_keys.resolve(to_base32(old)[:8]) == old
        for text in ("zzzz", to_base32(old)[:3]):
            with pytest.raises(LocalError):
                one.node.device_keys.resolve(text)

    in_a_world(work)


def test_what_an_auth_shows_is_about_the_key_that_signs_it_at_every_moment_of_a_change() -> None:
    """A peer that is met in between would report that somebody claims this id."""

    async def work(world: World) -> None:
        one = await world.add_node("one", make_store=SlowStore)
        old = one.node.records.identity.device.public
        change = asyncio.create_task(one.node.device_keys.new_key())
        while not change.done():
            records = one.node.records
            shown = {read_statement(statement).key for statement in records.own_statements}
            assert shown == {records.identity.device.public}
            await asyncio.sleep(0.1)
        assert await change != old

    in_a_world(work)


def test_a_stolen_machines_key_is_voided_from_another_machine_with_the_exported_root() -> None:
    async def work(world: World) -> None:
        laptop, desktop, third = [await world.add_node(name) for name in ("laptop", "desktop", "third")]
        world.introduce()
        await put(laptop, "diary", b"mine")
        await put(third, "list", b"by the third", shared=True)
        await world.settled(within_s=20)
        await put(laptop, "list", b"by the laptop", shared=True)
        await world.settled(within_s=20)
        sealed = await exported(laptop)
        key = laptop.node.records.identity.device.public
        await laptop.node.device_keys.remove_root(sealed, PASSPHRASE)
        assert not laptop.node.device_keys.has_root and laptop.identity.root is None
        with pytest.raises(LocalError, match="not on this machine"):
            await laptop.node.device_keys.new_key()
        await world.leave(laptop)
        with pytest.raises(LocalError, match="that is not the passphrase"):
            await desktop.node.device_keys.state(key, KeyState.COMPROMISED, sealed, "wrong")
        with pytest.raises(LocalError, match="no known key"):
            await desktop.node.device_keys.state(
                desktop.node.records.identity.device.public, KeyState.COMPROMISED, sealed, PASSPHRASE
            )
        identity = await desktop.node.device_keys.state(key, KeyState.COMPROMISED, sealed, PASSPHRASE)
        assert identity == laptop.node.id
        await world.settled(within_s=20)
        for member in (desktop, third):
            assert await names(member) == {"list"}
            assert {(each.record, each.key) for each in told(member, RecordVoided)} == {("diary", key), ("list", key)}
        assert await bodies(desktop, laptop, "diary") == []
        earlier = await desktop.store.earlier(MAIN, laptop.node.id, "diary", limit=5)
        assert [each.record.body for each in earlier] == [b"mine"], "it stays readable"
        # The thief's machine comes back: it is kept out, says so, and its owner's way back works.
        await world.start(laptop)
        await put(laptop, "late", b"2")
        world.introduce()
        await _until_kept_out(world, laptop)
        assert "echonode key new" in (await laptop.node.status()).key_problem
        await laptop.node.device_keys.put_root_back(sealed, PASSPHRASE)
        await laptop.node.device_keys.new_key()
        await world.settled(within_s=60)
        assert await names(laptop) == {"list"}
        assert {each.record for each in told(laptop, RecordVoided)} >= {"diary", "late"}
        outcome = await laptop.node.device_keys.sign_again(key, is_trial=True)
        assert {record.name for record in outcome.records} >= {"diary", "late"} and await names(laptop) == {"list"}
        await laptop.node.device_keys.sign_again(key)
        await world.settled(within_s=20)
        assert await bodies(third, laptop, "diary") == [b"mine"]
        assert await bodies(third, laptop, "late") == [b"2"]
        assert (await laptop.node.status()).key_problem == ""
        again = await laptop.node.device_keys.sign_again(key)
        assert again.records == [] and again.superseded >= 2

    in_a_world(work)


async def _until_kept_out(world: World, member: Member) -> None:
    for _ in range(100):
        if member.node.admission.revoked_at:
            return
        await asyncio.sleep(1.0)
    raise AssertionError("nobody keeps it out")


def test_a_device_whose_key_is_voided_at_its_side_says_what_to_do() -> None:
    async def work(world: World) -> None:
        (one,) = [await world.add_node("one")]
        await put(one, "a", b"1")
        old = one.node.records.identity.device.public
        sealed = await exported(one)
        other = await world.add_node("other")
        world.introduce()
        await world.settled(within_s=20)
        await other.node.device_keys.state(old, KeyState.COMPROMISED, sealed, PASSPHRASE)
        statement = [
            record
            for record in (await other.store.scan(IDENTITIES, 0, limit=100))[0]
            if record.author == one.node.id and record.name.endswith("compromised")
        ]
        applied = await one.store.apply(IDENTITIES, statement)
        one.node.bus.publish(RecordsApplied(context=IDENTITIES, source=other.node.id, records=applied.records))
        (told_of,) = told(one, KeyRevoked)
        assert (told_of.key, told_of.state) == (old, "compromised") and "echonode key new" in told_of.what_to_do
        assert "echonode key new" in one.node.device_keys.problem()
        with pytest.raises(LocalError, match="echonode key new"):
            await put(one, "b")

    in_a_world(work)


def test_what_is_signed_again_leaves_out_what_came_later_and_what_others_wrote_since() -> None:
    async def work(world: World) -> None:
        (one,) = [await world.add_node("one")]
        records, keys = one.node.records, one.node.device_keys
        await put(one, "kept", b"1")
        await put(one, "kept", b"2")
        gone = await put(one, "gone", b"x")
        await records.delete(MAIN, records.id, "gone")
        await put(one, "rewritten", b"old")
        until_ms = one.clock.now_ms()
        await asyncio.sleep(5.0)
        await put(one, "kept", b"by the thief")
        await put(one, "planted", b"by the thief")
        old = records.identity.device.public
        await keys.new_key()
        await put(one, "rewritten", b"new")
        await keys.state(old, KeyState.COMPROMISED)
        assert await names(one) == {"rewritten"}
        outcome = await keys.sign_again(old, until_ms=until_ms)
        assert {(record.name, record.body) for record in outcome.records} == {("kept", b"2"), ("gone", b"")}
        assert (outcome.too_late, outcome.superseded) == (2, 1)
        assert await bodies(one, one, "kept") == [b"2"]
        (tombstone,) = await records.heads(MAIN, records.id, "gone")
        assert tombstone.is_tombstone and tombstone.created_ms >= gone.created_ms
        assert await bodies(one, one, "planted") == []

    in_a_world(work)


def test_a_void_version_ends_a_conflict_and_may_begin_one() -> None:
    async def work(world: World) -> None:
        one, other = [await world.add_node(name) for name in ("one", "other")]
        await put(one, "contested", b"1", shared=True)
        await put(other, "contested", b"2", shared=True)
        world.introduce()
        await world.settled(within_s=20)
        assert one.node.conflicts.count() == 1
        old = other.node.records.identity.device.public
        await other.node.device_keys.new_key()
        await other.node.device_keys.state(old, KeyState.COMPROMISED)
        await world.settled(within_s=30)
        for member in (one, other):
            assert member.node.conflicts.count() == 0
            assert [event.record for event in told(member, RecordConflict)] == ["contested"]
            assert [event.record for event in told(member, RecordConflictResolved)] == ["contested"]

    in_a_world(work)
