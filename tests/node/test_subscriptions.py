"""Nodes that want only a part: what they keep, follow and refuse, and no node calls them unequal for it."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import LocalError, PeerRefused, Reason, TransportError
from echonode.limits import COMPARE_INTERVAL_S, FRAME_TIMEOUT_S, RECONCILES_MAX
from echonode.model.filter import Filter
from echonode.model.identity import Identity, IdentityId
from echonode.model.member_secret import MemberSecret
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, leaf_key
from echonode.node.events import SessionFailed, SyncCompleted
from echonode.node.kept_contexts import KeptContexts
from echonode.node.subscriptions import Subscriptions
from echonode.node.views import SyncStatus
from echonode.sim.world import Member, World
from echonode.store.memory import MemoryStore
from echonode.sync.modes.put import Outcome
from echonode.text import to_base32
from echonode.wire.messages import Direction, RecordRequest
from tests.node.worlds import in_a_world, loud, told, view_of
from tests.sync.talk import heads_in
from tests.sync.universe import universe

ELSEWHERE = MemberSecret.of_lone_key(bytes(32))
NEWS = {MAIN: ("tag=news",)}


async def write(member: Member, name: str, *tags: str, body: bytes = b"x", context: str = MAIN) -> Record:
    """Write a shared record; without a body, its tombstone."""
    author = member.node.records.shared
    assert author is not None
    draft = Draft(context=context, author=author, name=name, tags=tags, body=body, is_tombstone=not body)
    return await member.node.records.put(draft)


async def bodies(member: Member, context: str = MAIN) -> dict[str, bytes]:
    """Return the bodies that are held, by name; an empty one for a tombstone."""
    pages = [page async for page in member.node.records.scan(context, deleted=True)]
    return {record.name: record.body for page in pages for record in page}


async def quiet(world: World, *, within_s: float = 30) -> None:
    """Wait until no session is up: longer than changes need to spread, shorter than idle nodes wait to compare."""
    await asyncio.sleep(within_s)
    assert not any(entry.sessions for m in world.members.values() for entry in m.node.peer_table.peers.values())


async def two(world: World, subscriptions: Mapping[str, Sequence[str]] = NEWS) -> tuple[Member, Member]:
    whole, part = await world.add_node("whole"), await world.add_node("part", subscriptions=subscriptions)
    return whole, part


def test_a_partial_node_keeps_what_it_wants_and_is_in_sync():
    async def work(world: World) -> None:
        whole, part = await two(world)
        await write(whole, "a", "news")
        await write(whole, "b", "other")
        world.introduce()
        await quiet(world)
        assert await bodies(part) == {"a": b"x"}
        assert set(await bodies(whole)) == {"a", "b"}
        assert view_of(part, whole).in_sync is view_of(whole, part).in_sync is True
        await write(whole, "c", "news")
        await write(whole, "d", "other")
        await quiet(world)
        assert set(await bodies(part)) == {"a", "c"}
        assert view_of(part, whole).in_sync is view_of(whole, part).in_sync is True
        assert not told(part, SessionFailed) + told(whole, SessionFailed)

    in_a_world(work)


@pytest.mark.parametrize("who_dials", ["whole", "part"])
def test_it_follows_every_later_version_of_what_it_holds(who_dials: str):
    async def work(world: World) -> None:
        whole, part = await two(world)
        for name in ("edited", "deleted", "kept"):
            await write(whole, name, "news")
        world.introduce()
        await quiet(world)
        await write(whole, "edited", "other", body=b"edited")
        await write(whole, "deleted", body=b"")
        await quiet(world)
        assert await bodies(part) == {"edited": b"edited", "deleted": b"", "kept": b"x"}
        await write(whole, "edited", body=b"again")  # the filter never took it
        await quiet(world)
        assert (await bodies(part))["edited"] == b"again"

    in_a_world(work, seed=2 if who_dials == "part" else 3)


def test_what_it_writes_spreads_whatever_it_is():
    async def work(world: World) -> None:
        whole, part = await two(world)
        world.introduce()
        await quiet(world)
        await write(part, "mine", "other")
        await write(part, "news of mine", "news")
        await quiet(world)
        assert set(await bodies(whole)) == {"mine", "news of mine"}

    in_a_world(work)


def test_two_partial_nodes_each_take_their_own_part_of_the_other():
    async def work(world: World) -> None:
        news = await world.add_node("news", subscriptions=NEWS)
        sport = await world.add_node("sport", subscriptions={MAIN: ("tag=sport",)})
        for member in (news, sport):
            await write(member, f"{member.name}: news", "news")
            await write(member, f"{member.name}: sport", "sport")
            await write(member, f"{member.name}: both", "news", "sport")
            await write(member, f"{member.name}: else")
        world.introduce()
        await quiet(world, within_s=60)
        own = {f"news: {kind}" for kind in ("news", "sport", "both", "else")}
        assert set(await bodies(news)) == own | {"sport: news", "sport: both"}
        own = {f"sport: {kind}" for kind in ("news", "sport", "both", "else")}
        assert set(await bodies(sport)) == own | {"news: sport", "news: both"}
        assert view_of(news, sport).in_sync is view_of(sport, news).in_sync is True

    in_a_world(work)


def test_a_node_that_nobody_asked_anything_is_not_reconciled_with_again():
    async def work(world: World) -> None:
        whole, part = await two(world)
        await write(whole, "a", "news")
        await write(whole, "b", "other")
        world.introduce()
        await asyncio.sleep(300)  # until each side has seen the present roots of the other
        before = len(part.conversations)
        await asyncio.sleep(600)  # time for ten comparisons
        assert len(part.conversations) == before
        assert view_of(part, whole).in_sync is True

    in_a_world(work)


@pytest.mark.parametrize("writer", ["whole", "part"])
def test_a_part_that_was_asked_for_in_vain_is_not_called_equal_by_either(writer):
    async def work(world: World) -> None:
        whole, part = await two(world)
        world.introduce()
        await write(whole, "a", "news")
        await quiet(world)
        filling = whole.node.conversations.bulk_gate
        with filling.by(IdentityId(bytes(32)), MAIN, 10**6, lambda: 0, is_snapshot=False):
            filling.moved_on(MAIN)
            await write(whole if writer == "whole" else part, "b", "news")
            await asyncio.sleep(FRAME_TIMEOUT_S / 2)
            assert await bodies(part) != await bodies(whole)
            assert view_of(part, whole).in_sync is view_of(whole, part).in_sync is False
        await asyncio.sleep(2 * COMPARE_INTERVAL_S[1])
        assert await bodies(part) == await bodies(whole) == {"a": b"x", "b": b"x"}
        assert view_of(part, whole).in_sync is view_of(whole, part).in_sync is True

    in_a_world(work)


def test_more_than_enough_who_want_a_part_at_once_wait_for_their_turn():
    async def work(world: World) -> None:
        whole, part = await two(world)
        await write(whole, "a", "news")
        partial = whole.node.subscriptions
        with ExitStack() as others:
            for _ in range(RECONCILES_MAX):
                others.enter_context(partial.reconciling())
            world.introduce()
            await asyncio.sleep(10)
            assert not await bodies(part)
            assert view_of(part, whole).in_sync is view_of(whole, part).in_sync is False
        await asyncio.sleep(2 * COMPARE_INTERVAL_S[1])
        assert await bodies(part) == {"a": b"x"}
        assert view_of(part, whole).in_sync is view_of(whole, part).in_sync is True
        assert not told(part, SessionFailed) + told(whole, SessionFailed)

    in_a_world(work)


def test_a_third_node_gets_all_from_the_whole_one_and_a_part_from_nobody():
    async def work(world: World) -> None:
        whole, part = await two(world)
        await write(whole, "a", "news")
        await write(whole, "b", "other")
        world.introduce()
        await quiet(world)
        late = await world.add_node("late")
        world.introduce()
        await quiet(world, within_s=60)
        assert set(await bodies(late)) == {"a", "b"}
        modes = {(done.peer, done.mode) for done in told(late, SyncCompleted) if done.context == MAIN}
        assert (part.node.id, "snapshot") not in modes and (part.node.id, "level_wise") not in modes

    in_a_world(work)


def test_identities_are_wanted_whole_whatever_is_subscribed_to():
    async def work(world: World) -> None:
        whole, part = await two(world, {MAIN: ("tag=news",), IDENTITIES: ("tag=news",)})
        world.introduce()
        await quiet(world)
        assert part.roots()[IDENTITIES] == whole.roots()[IDENTITIES]

    in_a_world(work)


def test_nothing_is_taken_from_a_sender_one_does_not_want_to_hear_of():
    async def work(world: World) -> None:
        whole = await world.add_node("whole")
        part = await world.add_node("part", subscriptions={MAIN: (f"sender!={to_base32(whole.node.id)}",)})
        await write(whole, "theirs")
        await write(part, "ours")
        world.introduce()
        await quiet(world)
        assert set(await bodies(part)) == {"ours"}
        assert set(await bodies(whole)) == {"theirs", "ours"}
        other = await world.add_node("other")  # the senders that are accepted
        world.introduce()
        await quiet(world, within_s=60)
        assert set(await bodies(part)) == set(await bodies(other)) == {"theirs", "ours"}

    in_a_world(work)


def test_who_is_only_listened_to_is_the_only_one():
    async def work(world: World) -> None:
        whole = await world.add_node("whole")
        part = await world.add_node("part", subscriptions={MAIN: ("sender=me",)})
        await write(whole, "theirs")
        world.introduce()
        await quiet(world)
        assert await bodies(part) == {}
        (report,) = await part.node.sync([whole.node.id], Direction.RECEIVE, 30)
        assert report.status is SyncStatus.VERIFIED and not report.conversations

    in_a_world(work)


def test_authors_that_are_denied_are_refused_and_the_rest_is_whole():
    async def work(world: World) -> None:
        whole = await world.add_node("whole")
        part = await world.add_node("part", subscriptions={MAIN: (f"author!={to_base32(whole.node.id)}",)})
        await whole.node.records.put(Draft(context=MAIN, author=whole.node.id, name="private", body=b"x"))
        await write(whole, "shared")
        world.introduce()
        await quiet(world)
        assert set(await bodies(part)) == {"shared"}

    in_a_world(work)


# -- a change of mind --------------------------------------------------------------------------------------------------


def test_a_filter_that_widens_brings_what_is_now_wanted():
    async def work(world: World) -> None:
        whole, part = await two(world)
        for name in ("news", "sport", "else"):
            await write(whole, name, name)
        world.introduce()
        await quiet(world)
        part.node.subscriptions.subscribe({MAIN: ("tag=news", "tag=sport")}, part.node.addresses.resolve_in_filter)
        await asyncio.sleep(120)
        assert set(await bodies(part)) == {"news", "sport"}
        part.node.subscriptions.subscribe({}, part.node.addresses.resolve_in_filter)
        await asyncio.sleep(120)
        assert set(await bodies(part)) == {"news", "sport", "else"}
        assert part.roots() == whole.roots()

    in_a_world(work)


def test_a_filter_that_narrows_keeps_what_is_held_and_follows_it():
    async def work(world: World) -> None:
        whole, part = await two(world, {MAIN: ("tag=news", "tag=sport")})
        for name in ("news", "sport"):
            await write(whole, name, name)
        world.introduce()
        await quiet(world)
        part.node.subscriptions.subscribe(NEWS, part.node.addresses.resolve_in_filter)
        await write(whole, "sport", "sport", body=b"edited")
        await write(whole, "more sport", "sport")
        await asyncio.sleep(120)
        assert await bodies(part) == {"news": b"x", "sport": b"edited"}

    in_a_world(work)


def test_what_is_not_wanted_any_more_is_forgotten_when_a_person_says_so_and_comes_back_when_it_is_wanted():
    async def work(world: World) -> None:
        whole, part = await two(world, {})
        for name in ("news", "sport"):
            await write(whole, name, name)
        await write(part, "written here", "sport")
        await part.node.records.put(Draft(context=MAIN, author=part.node.id, name="own", body=b"x"))
        world.introduce()
        await quiet(world)
        with pytest.raises(LocalError, match="all of main"):
            await part.node.subscriptions.forget(MAIN, part.node.records.is_own)
        part.node.subscriptions.subscribe(NEWS, part.node.addresses.resolve_in_filter)
        assert await part.node.subscriptions.forget(MAIN, part.node.records.is_own) == 1
        assert await part.node.subscriptions.forget(MAIN, part.node.records.is_own) == 0
        assert set(await bodies(part)) == {"news", "written here", "own"}
        await write(whole, "sport", "sport", body=b"edited")
        await asyncio.sleep(120)
        assert set(await bodies(part)) == {"news", "written here", "own"}
        part.node.subscriptions.subscribe({}, part.node.addresses.resolve_in_filter)
        await asyncio.sleep(120)
        assert (await bodies(part))["sport"] == b"edited"
        assert part.roots() == whole.roots()

    in_a_world(work)


def test_shared_in_a_subscription_is_the_pool_of_the_network_that_is_joined():
    async def work(world: World) -> None:
        whole = await world.add_node("whole")
        part = await world.add_node("part", secret=ELSEWHERE, subscriptions={MAIN: ("pool=shared",)})
        code = await whole.node.invite(uses=1, expires_s=600)
        await part.node.join(code, at=f"{whole.host}:22087")
        assert part.node.subscriptions.of(MAIN) == Filter(pools=frozenset({whole.node.records.shared}))
        await write(whole, "shared")
        await whole.node.records.put(Draft(context=MAIN, author=whole.node.id, name="own", body=b"x"))
        await asyncio.sleep(60)
        assert set(await bodies(part)) == {"shared"}

    in_a_world(work)


def test_a_subscription_nobody_can_read_is_said_to_be_one():
    store = MemoryStore(universe().store(()).instance)
    partial = Subscriptions(store, KeptContexts(store, Identity.from_seeds(bytes(32), bytes(range(32))), None))
    with pytest.raises(LocalError, match="no term"):
        partial.subscribe({MAIN: ("news",)}, pytest.fail)


# -- asking ------------------------------------------------------------------------------------------------------------


def test_one_peer_is_asked_what_it_has_and_gives_what_it_is_asked_for():
    async def work(world: World) -> None:
        whole, part = await two(world)
        await write(whole, "a", "news")
        await write(whole, "b", "other")
        world.introduce()
        await quiet(world)
        asking = part.node.on_demand
        pulled = await asking.pull(
            whole.node.id, MAIN, Filter(tags_any=frozenset({"other"})), after=0, limit=10, timeout_s=30
        )
        assert [(one.author, one.name) for one in pulled.ids] == [(whole.node.records.shared, "b")]
        key = leaf_key(whole.node.records.shared, "b")
        got = await asking.get(whole.node.id, MAIN, [RecordRequest(key, pulled.ids[0].version)], 30)
        assert got.versions == {pulled.ids[0].version: key}
        assert set(await bodies(part)) == {"a", "b"}  # records that a person asked for are kept
        await write(whole, "b", body=b"later")
        await quiet(world)
        assert (await bodies(part))["b"] == b"later"

    in_a_world(work)


def test_an_offer_is_answered_record_by_record():
    async def work(world: World) -> None:
        whole, part = await two(world)
        await write(whole, "a", "news")
        await write(whole, "b", "other")
        world.introduce()
        await quiet(world)
        keys = [leaf_key(whole.node.records.shared, name) for name in ("a", "b")]
        answers = await whole.node.on_demand.put(part.node.id, MAIN, keys, 30)
        assert {answer.key: (answer.outcome, answer.reason) for answer in answers} == {
            keys[0]: (Outcome.HAD, None),
            keys[1]: (Outcome.REFUSED, Reason.NOT_ACCEPTED),
        }

    in_a_world(work)


def test_what_a_peer_does_not_serve_it_refuses_by_name_and_nobody_has_failed():
    async def work(world: World) -> None:
        whole = await world.add_node("whole")
        other = await world.add_node("other", contexts=frozenset({"books"}))
        world.introduce()
        await quiet(world)
        before = [len(member.events) for member in (whole, other)]
        with pytest.raises(PeerRefused) as caught:
            await whole.node.on_demand.pull(other.node.id, MAIN, Filter(), after=0, limit=1, timeout_s=30)
        assert caught.value.reason is Reason.UNKNOWN_CONTEXT
        for member, since in zip((whole, other), before, strict=True):
            assert not [event for event in loud(member, since) if isinstance(event, SessionFailed)]

    in_a_world(work)


def test_a_peer_that_is_not_there_is_not_reached_in_time():
    async def work(world: World) -> None:
        whole, part = await two(world)
        world.introduce()
        await quiet(world)
        world.network.partition([whole.host], [part.host])
        with pytest.raises(TransportError):
            await whole.node.on_demand.pull(part.node.id, MAIN, Filter(), after=0, limit=1, timeout_s=3)

    in_a_world(work)


# -- whatever happens --------------------------------------------------------------------------------------------------

TAGS = ("news", "sport", "else")
SUBSCRIPTIONS = st.lists(
    st.sampled_from(
        [None, ("tag=news",), ("tag=sport", "tag=news"), ("name=a*",), ("tags=news,sport",), ("until=1971-01-01",)]
    ),
    min_size=2,
    max_size=3,
)
# A node writes a record with some tags, or deletes it; or a node is cut off from all others for a while.
DEEDS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["a1", "a2", "b1", "b2"]),
        st.lists(st.sampled_from(TAGS), max_size=2, unique=True) | st.just(None) | st.just("cut"),
    ),
    max_size=10,
)


@given(subscriptions=SUBSCRIPTIONS, deeds=DEEDS, seed=st.integers(0, 2**16))
@settings(max_examples=8, deadline=None)
def test_a_partial_node_ends_with_all_it_wants_and_the_latest_of_all_it_holds(subscriptions, deeds, seed: int):
    async def work(world: World) -> None:
        whole = await world.add_node("whole")
        parts = [
            await world.add_node(f"part {number}", subscriptions={MAIN: terms} if terms else None)
            for number, terms in enumerate(subscriptions)
        ]
        members = [whole, *parts]
        world.introduce()
        ever: list[tuple[Member, Record]] = []
        for number, (who, name, tags) in enumerate(deeds):
            member = members[who % len(members)]
            if tags == "cut":
                others = [other.host for other in members if other is not member]
                world.network.partition([member.host], others)
            else:
                body = b"" if tags is None else b"%d" % number
                ever.append((member, await write(member, name, *(tags or ()), body=body)))
            await asyncio.sleep(number * seed % 7 / 3)
        world.network.heal()
        await asyncio.sleep(600)
        everything = heads_in(whole.store)
        for part in parts:
            wanted = part.node.subscriptions.of(MAIN) or Filter()
            held = {head.id for head in heads_in(part.store)}
            keys = {head.key for head in heads_in(part.store)}
            assert held == {head.id for head in everything if head.key in keys}
            assert held >= {head.id for head in everything if wanted.matches(head)}
            # It holds no record that it neither wrote nor ever wanted.
            assert keys <= {record.key for member, record in ever if member is part or wanted.matches(record)}
            assert view_of(part, whole).in_sync is not False

    in_a_world(work, seed=seed)
