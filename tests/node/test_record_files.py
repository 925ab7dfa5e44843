"""Record files: nodes that never meet become equal through them, and no file does what a peer could not."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import LocalError, Reason
from echonode.limits import BATCH_RECORDS_MAX, CONTEXTS_OWN_MAX, CONTEXTS_PER_IDENTITY_MAX
from echonode.model.member_secret import MemberSecret
from echonode.model.record import IDENTITIES, MAIN, Draft
from echonode.node.events import FileTaken, InstanceRenewed
from echonode.node.record_files import FileDamagedError, TakenContext, TakenFile
from echonode.node.settings import Quota, Quotas
from echonode.sim.world import Member, World
from echonode.wire.record_file import ContextEnd, FileHeader, FileReader
from tests.node.worlds import in_a_world, names, put, saved, told

PIECE = 700  # bytes: shorter and longer than an item
PLACES = 16  # tampered and cut files in each world


async def file_of(member: Member, contexts: list[str] | None = None) -> bytes:
    return b"".join([part async for part in member.node.files.write(contexts)])


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]


async def take(member: Member, data: bytes, only: list[str] | None = None) -> TakenFile:
    (*_, last) = [taken async for taken in member.node.files.take(pieces(data), only)]
    return last


async def fails(member: Member, data: bytes) -> LocalError:
    with pytest.raises(LocalError) as caught:
        await take(member, data)
    assert told(member, FileTaken)[-1].why == str(caught.value)
    return caught.value


def figures(taken: TakenFile) -> tuple[int, int, int]:
    """Return how many versions were new, had and refused."""
    contexts = taken.contexts
    return sum(c.new for c in contexts), sum(c.had for c in contexts), sum(c.refused.total() for c in contexts)


def one(taken: TakenFile, name: str = MAIN) -> TakenContext:
    (found,) = [context for context in taken.contexts if context.name == name]
    return found


def roots(member: Member) -> dict[str, bytes]:
    store = member.node.store
    return {context: store.tree(context).root for context in store.contexts()}


async def exchange(*members: Member) -> None:
    for member in members:
        for other in members:
            if other is not member:
                await take(member, await file_of(other))


async def put_many(member: Member, count: int, context: str = MAIN, start: int = 0) -> None:
    wanted = [f"{number:05}" for number in range(start, start + count)]
    await member.node.records.put_all(
        [Draft(context=context, author=member.node.id, name=name, body=b"x") for name in wanted]
    )


# -- becoming equal ----------------------------------------------------------------------------------------------------


def test_nodes_that_never_meet_become_equal_and_authors_stay_authors() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put(a, "note", b"of a", context="books")
        await put(b, "note", b"of b", context="books")
        await put(a, "plan", b"a's", shared=True)
        await put(b, "plan", b"b's", shared=True)
        await put_many(a, 2 * BATCH_RECORDS_MAX + 3)
        await b.node.records.delete("books", b.node.id, "note")
        await exchange(a, b, a)
        assert roots(a) == roots(b) and set(roots(a)) == {IDENTITIES, MAIN, "books"}
        shared = a.node.records.shared
        assert shared is not None
        for member in (a, b):
            assert {head.body for head in await member.node.records.heads(MAIN, shared, "plan")} == {b"a's", b"b's"}
            (note,) = await member.node.records.heads("books", a.node.id, "note")
            assert (note.author, note.body) == (a.node.id, b"of a")
            assert (await member.node.records.heads("books", b.node.id, "note"))[0].is_tombstone

        await put(b, "plan", b"agreed", shared=True)  # it covers both
        await exchange(a, b)
        (agreed,) = await a.node.records.heads(MAIN, shared, "plan")
        assert agreed.body == b"agreed" and roots(a) == roots(b)

    in_a_world(work, hushed=True)


def test_a_file_is_as_long_as_its_state_and_the_same_state_gives_the_same_bytes() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put_many(a, 20)
        await exchange(a, b, a)
        data = await file_of(a)
        assert data == await file_of(a)
        of_b = await file_of(b)
        header = FileReader()
        header.receive_data(of_b)
        assert header.next_item() == FileHeader(a.node.membership.secret.netid[:8], b.node.id, "b", (IDENTITIES, MAIN))
        assert len(of_b) == len(data) and of_b[-500:] == data[-500:]

    in_a_world(work, hushed=True)


def test_taking_a_file_again_changes_nothing_and_counts_what_was_there() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put_many(a, 30)
        first = await file_of(a)
        assert figures(await take(b, first)) == (32, 0, 0)
        before = roots(b)
        again = await take(b, first)
        assert figures(again)[0::2] == (0, 0) and roots(b) == before
        assert one(again).is_equal and one(again).root == before[MAIN]
        await put(a, "00000", b"edited")
        await take(b, await file_of(a))
        stale = one(await take(b, first))
        assert (stale.new, stale.had, stale.is_equal) == (0, 30, False)
        assert told(b, FileTaken)[-1].by_name == "a"

    in_a_world(work, hushed=True)


def test_only_the_contexts_that_are_asked_for_are_written_and_taken() -> None:
    async def work(world: World) -> None:
        a, b, c = [await world.add_node(name) for name in "abc"]
        for context in (MAIN, "books", "recipes"):
            await put(a, "x", context=context)
        part = await file_of(a, ["books", IDENTITIES, "books"])
        await take(b, part)
        assert set(b.node.store.contexts()) == {IDENTITIES, "books"}
        taken = await take(c, await file_of(a), ["recipes"])
        assert set(c.node.store.contexts()) == {IDENTITIES, "recipes"}
        assert [(each.name, each.is_kept, each.versions > 0) for each in taken.contexts] == [
            (IDENTITIES, True, True),
            ("books", False, True),
            (MAIN, False, True),
            ("recipes", True, True),
        ]

    in_a_world(work, hushed=True)


def test_what_is_written_meanwhile_leaves_a_file_whole_and_without_a_root() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put_many(a, 3 * BATCH_RECORDS_MAX)
        parts = []
        async for part in a.node.files.write():
            parts.append(part)
            if len(parts) == 5:
                await put_many(a, 10, start=90_000)
                await a.node.records.delete(MAIN, a.node.id, "00001")
        main = one(await take(b, b"".join(parts)))
        assert main.root is None and not main.is_equal and main.new >= 3 * BATCH_RECORDS_MAX - 1
        await exchange(a, b)
        assert roots(a) == roots(b)

    in_a_world(work, hushed=True)


def test_what_a_file_brings_travels_on_to_peers_at_once() -> None:
    async def work(world: World) -> None:
        away = await world.add_node("away")
        await put(away, "news", shared=True)
        data = await file_of(away)
        await world.leave(away)
        a, b = await world.add_node("a"), await world.add_node("b")
        world.introduce()
        await world.settled(within_s=60)
        await take(a, data)
        await asyncio.sleep(2)
        assert await names(b) == {"news"}

    in_a_world(work)


def test_who_stopped_reading_keeps_what_was_stored() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put_many(a, 4 * BATCH_RECORDS_MAX)
        data = await file_of(a)
        steps = b.node.files.take(pieces(data))
        for _ in range(4):
            await anext(steps)
        await steps.aclose()
        held = len(b.node.store.tree(MAIN))
        assert 0 < held < 4 * BATCH_RECORDS_MAX and held % BATCH_RECORDS_MAX == 0
        assert told(b, FileTaken)[-1].why == "it was not read to its end"
        await take(b, data)
        assert b.node.store.tree(MAIN).root == a.node.store.tree(MAIN).root

    in_a_world(work, hushed=True)


# -- damage ------------------------------------------------------------------------------------------------------------


def test_all_before_a_tampered_version_is_kept_and_it_is_named() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put_many(a, 2 * BATCH_RECORDS_MAX)
        data = await file_of(a)
        reader, spans, at = FileReader(), [], 0
        reader.receive_data(data)
        while (item := reader.next_item()) is not None:
            size = len(item if isinstance(item, bytes) else item.encode())
            if reader.context == MAIN and isinstance(item, bytes):
                spans.append((at, size))
            at += size
        start, size = spans[1234]
        error = await fails(b, data[: start + size - 1] + b"\0" + data[start + size :])
        assert isinstance(error, FileDamagedError)
        assert str(error) == "version 1,235 of the context main is damaged: the signature is not that of its key"
        assert len(b.node.store.tree(MAIN)) == 1234
        await take(b, data)
        assert roots(b)[MAIN] == roots(a)[MAIN]

    in_a_world(work, hushed=True)


@cache
def small_file() -> tuple[bytes, dict[str, bytes], frozenset[bytes]]:
    """Return a file of a node with two contexts, its roots, and all its versions."""
    found: list[tuple[bytes, dict[str, bytes]]] = []

    async def work(world: World) -> None:
        a = await world.add_node("a")
        await put_many(a, 5)
        await put(a, "x", b"body", context="books", shared=True)
        found.append((await file_of(a), roots(a)))

    in_a_world(work, hushed=True)
    data, its_roots = found[0]
    reader = FileReader()
    reader.receive_data(data)
    items = iter(reader.next_item, None)
    return data, its_roots, frozenset(item for item in items if isinstance(item, bytes))


async def held(member: Member) -> set[bytes]:
    raws: set[bytes] = set()
    for context in member.node.store.contexts():
        keys = [key for key, _ in member.node.store.tree(context).leaves_at(b"")]
        while keys:
            found, read = await member.node.store.read(context, keys, bytes_max=10**6)
            raws |= set(found)
            keys = keys[read:]
    return raws


def check_hostile(files: Iterable[bytes]) -> None:
    """Take hostile files on one node: it holds only what was signed, says what is wrong, then takes the good one."""
    data, its_roots, versions = small_file()

    async def work(world: World) -> None:
        await world.add_node("a")  # the identity of who wrote the file
        b = await world.add_node("b")
        own = await held(b)
        for each in files:
            before = await held(b)
            try:
                taken = await take(b, each)
            except LocalError as error:
                assert "\n" not in str(error) and str(error)
            else:
                assert taken.header is not None and len(taken.contexts) == len(taken.header.contexts)
            now = await held(b)
            assert before <= now <= own | versions
        await take(b, data)
        assert {context: root for context, root in roots(b).items() if context != IDENTITIES} == {
            context: root for context, root in its_roots.items() if context != IDENTITIES
        }

    in_a_world(work, hushed=True)


@given(st.data())
def test_no_cut_and_no_changed_byte_brings_what_nobody_signed(draw: st.DataObject) -> None:
    data = small_file()[0]
    files = []
    for _ in range(PLACES):
        at = draw.draw(st.integers(0, len(data) - 1))
        changed = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + draw.draw(st.integers(0, 3)) :]
        files += [data[:at], changed]
    check_hostile(files)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=8))
def test_no_order_of_items_brings_what_nobody_signed(swaps: list[tuple[int, int]]) -> None:
    data = small_file()[0]
    reader = FileReader()
    reader.receive_data(data)
    items = [item if isinstance(item, bytes) else item.encode() for item in iter(reader.next_item, None)]
    files = []
    for one_place, other in swaps:
        one_place, other = one_place % len(items), other % len(items)
        items[one_place], items[other] = items[other], items[one_place]
        files += [b"".join(items), b"".join(items[:one_place] + items[one_place + 1 :])]
    check_hostile(files)


def test_versions_of_another_context_and_wrong_counts_are_damage() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        record = await put(a, "x", context="books")
        header = FileHeader(a.node.membership.secret.netid[:8], a.node.id, "a", (IDENTITIES, MAIN))
        end, one_more = ContextEnd(0, None, False).encode(), ContextEnd(1, None, False).encode()
        assert "another context" in str(await fails(b, header.encode() + end + record.raw + one_more))
        assert "after 0 versions" in str(await fails(b, header.encode() + end + one_more))
        assert str(await fails(b, header.encode() + end + end + end)).startswith("the file is cut or damaged after its")
        assert str(await fails(b, b"{}")) == "it is no file of signed records"
        assert str(await fails(b, b"")) == "it is empty"
        assert isinstance(await fails(b, header.encode()[:20]), FileDamagedError)

    in_a_world(work, hushed=True)


# -- what is not taken -------------------------------------------------------------------------------------------------


def test_a_file_of_another_network_is_refused_by_its_name() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put(a, "x")
        data, left = await file_of(a), a.node.network
        await b.node.set_network(MemberSecret.of_lone_key(bytes(32)))
        assert str(await fails(b, data)).startswith(f"it is a file of the network {left}, which this node has left or")
        await a.node.set_network(MemberSecret.of_lone_key(b"k" * 32))
        sentence = str(await fails(b, await file_of(a)))
        assert sentence == f"it is a file of the network {a.node.network}, and this node is in {b.node.network}"
        assert await names(b) == set()

    in_a_world(work, hushed=True)


def test_a_version_whose_key_nobody_stated_is_refused_alone() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        record = await put(a, "x")
        header = FileHeader(a.node.membership.secret.netid[:8], a.node.id, "a", (IDENTITIES, MAIN))
        ends = ContextEnd(0, None, False).encode(), ContextEnd(1, a.node.store.tree(MAIN).root, False).encode()
        taken = one(await take(b, header.encode() + ends[0] + record.raw + ends[1]))
        assert (taken.versions, taken.new, taken.refused) == (1, 0, {Reason.UNKNOWN_KEY: 1})
        assert taken.why and not taken.is_equal
        assert b.node.live_links.refusals.of(MAIN, record.key) is not None, "`why` can say it"
        await take(b, await file_of(a))
        assert await names(b) == {"x"}

    in_a_world(work, hushed=True)


def test_quotas_hold_for_files_and_what_one_has_too_much_does_not_keep_others_out() -> None:
    async def work(world: World) -> None:
        ours = world.make_member("ours")
        ours.settings = replace(ours.settings, quotas=Quotas(author=Quota(records=10)))
        await world.start(ours)
        flood, honest = await world.add_node("flood"), await world.add_node("honest")
        await put_many(flood, 30)
        await put(honest, "a")
        await exchange(flood, honest)
        taken = one(await take(ours, await file_of(honest)))
        assert (taken.new, taken.refused) == (11, {Reason.QUOTA: 20})
        assert "a" in await names(ours)

    in_a_world(work, hushed=True)


def test_no_file_takes_more_places_for_contexts_than_there_are() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        for number in range(CONTEXTS_PER_IDENTITY_MAX + 4):
            await put(a, "x", context=f"own{number:02}")
        for number in range(30):
            await put(a, "x", context=f"pool{number:02}", shared=True)
        await take(b, await file_of(a))
        held = b.node.store.contexts()
        assert sum(each.startswith("own") for each in held) == CONTEXTS_PER_IDENTITY_MAX
        assert sum(each.startswith("pool") for each in held) == 30, "a person brought them"
        await put(b, "x", context="mine")
        other = await world.add_node("other")
        for number in range(40):
            await put(other, "x", context=f"more{number:02}", shared=True)
        await take(b, await file_of(other))
        assert sum(b.node.records.kept.is_own(each) for each in b.node.store.contexts()) == CONTEXTS_OWN_MAX

    in_a_world(work, hushed=True)


def test_a_partial_node_takes_its_part_and_says_in_its_file_that_it_is_one() -> None:
    async def work(world: World) -> None:
        a = await world.add_node("a")
        part = world.make_member("part")
        part.settings = replace(part.settings, subscriptions={MAIN: ["tag=news"]})
        await world.start(part)
        for name, tags in (("new", ("news",)), ("old", ())):
            await a.node.records.put(Draft(context=MAIN, author=a.node.id, name=name, tags=tags, body=b"x"))
        taken = one(await take(part, await file_of(a)))
        assert (taken.new, taken.refused, taken.why) == (1, {Reason.NOT_ACCEPTED: 1}, "")
        assert await names(part) == {"new"}
        back = one(await take(a, await file_of(part)))
        assert back.is_partial and (back.new, back.had) == (0, 1)
        assert not one(await take(part, await file_of(a)), IDENTITIES).is_partial

    in_a_world(work, hushed=True)


def test_a_store_that_was_put_back_gets_its_own_versions_and_lives_a_second_life() -> None:
    async def work(world: World) -> None:
        a, b = await world.add_node("a"), await world.add_node("b")
        await put(a, "before")
        await take(b, await file_of(a))
        restore = saved(b)
        ours = await put(b, "lost")
        data = await file_of(b)
        await b.node.store.forget(MAIN, [ours.key], lambda _: False)
        await take(b, data)
        await asyncio.sleep(1)
        assert not told(b, InstanceRenewed), "it knows what it signed, though it forgot the record"
        restore()
        await take(b, data)
        await asyncio.sleep(1)
        assert await names(b) == {"before", "lost"}
        assert len(told(b, InstanceRenewed)) == 1

    in_a_world(work, hushed=True)
