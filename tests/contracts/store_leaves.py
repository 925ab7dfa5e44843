"""The contract of Store for records with as many heads as they may have, at the bounds of the protocol."""

from collections.abc import Sequence

from echonode.clock import Timestamp
from echonode.limits import HEADS_BYTES_MAX, HEADS_ENTRIES_MAX, HEADS_MAX, HEADS_PER_KEY_MAX, VECTOR_ENTRIES_MAX
from echonode.model.identity import Instance, SigningKey, Writer, writer_of
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, VersionId, from_store, sign
from echonode.store.port import Store
from tests.contracts.store import admit, check, ids, root_of, scanned
from tests.store.people import Owner, Person

KEYS = [SigningKey(bytes([number]) * 32) for number in range(40, 60)]


async def let_in(store: Store, author: Person, *keys: SigningKey) -> None:
    await admit(store, author)
    await store.apply(IDENTITIES, [author.statement(key=key.public) for key in keys])


def beside(
    author: Person, number: int, key: SigningKey, *, entries: int = 1, body: bytes = b"", counter: int = 1
) -> Record:
    """Return a version of the record "a" in a life of its own, which has seen nothing of the others.

    Its vector has `entries` entries, which no other version has."""
    life = Instance(number.to_bytes(8, "big"))
    vector = {Writer(number.to_bytes(8, "big") + bytes(4) + n.to_bytes(4, "big")): 1 for n in range(entries - 1)}
    vector[writer_of(key.public, life)] = counter
    draft = Draft(context=MAIN, author=author.id, name="a", body=body)
    return sign(draft, key, instance=life, vector=vector, timestamp=Timestamp(0))


def of(records: Sequence[Record]) -> set[VersionId]:
    return {record.id for record in records}


@check
async def one_key_has_so_many_heads_of_a_record_and_no_more(store: Store) -> None:
    author, key = Person(2), KEYS[0]
    await let_in(store, author, key)
    versions = [beside(author, number, key, counter=number) for number in range(1, HEADS_PER_KEY_MAX + 2)]
    least, rest = versions[0], versions[1:]
    assert (await store.apply(MAIN, versions[:-1])).outranked == ()
    applied = await store.apply(MAIN, [versions[-1]])
    assert applied.records == (versions[-1],)
    assert [(each.name, each.versions) for each in applied.outranked] == [("a", [least.id])]
    assert set(await ids(store)) == of(rest)
    assert store.tree(MAIN).root == root_of(rest)
    history = store.history()
    assert (history.versions, history.bytes, history.spare) == (1, least.size, 1)
    assert (await store.info(MAIN)).bytes == sum(version.size for version in rest)


@check
async def a_version_outranked_on_arrival_counts_as_had_and_is_kept(store: Store) -> None:
    author, key = Person(2), KEYS[0]
    await let_in(store, author, key)
    versions = [beside(author, number, key, counter=number) for number in range(2, HEADS_PER_KEY_MAX + 2)]
    least = beside(author, 1, key)
    await store.apply(MAIN, versions)
    root, seq = store.tree(MAIN).root, store.seq(MAIN)
    for had in (1, 2):
        applied = await store.apply(MAIN, [least] * had)
        assert (applied.records, applied.had, applied.refused) == ((), had, ())
        assert [each.versions for each in applied.outranked] == ([[least.id]] if had == 1 else []), "it is told once"
    assert (store.tree(MAIN).root, store.seq(MAIN), store.history().spare) == (root, seq, 1)


@check
async def a_spare_becomes_a_head_when_there_is_room_and_is_news_to_those_who_follow(store: Store) -> None:
    author, key = Person(2), KEYS[0]
    await let_in(store, author, key)
    versions = [beside(author, number, key, counter=number) for number in range(1, HEADS_PER_KEY_MAX + 3)]
    await store.apply(MAIN, versions)
    first, second, *heads = versions
    assert set(await ids(store)) == of(heads)
    seq = store.seq(MAIN)
    over = author.version("a", b"over two", heads[-2:])
    applied = await store.apply(MAIN, [over])
    assert of(applied.records) == of([over, second, first]) and applied.had == 0
    assert set(await ids(store)) == of([first, second, over, *heads[:-2]])
    assert of(await scanned(store, after=seq)) == of([first, second, over])
    assert store.history().spare == 0 and store.history().versions == 2


@check
async def all_keys_together_have_so_many_heads_and_no_more(store: Store) -> None:
    author = Person(2)
    await let_in(store, author, *KEYS)
    versions = [beside(author, number, KEYS[number % len(KEYS)], counter=number) for number in range(1, HEADS_MAX + 31)]
    for at in range(0, len(versions), 40):
        await store.apply(MAIN, versions[at : at + 40])
    assert set(await ids(store)) == of(versions[30:])
    assert store.history().spare == 30
    raws, taken = await store.read(MAIN, [versions[0].key], bytes_max=1)
    assert (len(raws), taken) == (HEADS_MAX, 1)


@check
async def the_vectors_of_all_heads_together_have_so_many_entries_and_no_more(store: Store) -> None:
    author = Person(2)
    await let_in(store, author, *KEYS)
    full = [beside(author, n, KEYS[n % 3], entries=VECTOR_ENTRIES_MAX) for n in range(1, 18)]
    small = beside(author, 99, KEYS[4])
    for version in (*full, small):
        await store.apply(MAIN, [version])
    heads = await store.heads(MAIN, author.id, "a")
    assert len(heads) == HEADS_ENTRIES_MAX // VECTOR_ENTRIES_MAX == 16
    assert of(heads) < of(full) and store.history().spare == 2


@check
async def all_heads_together_have_so_many_bytes_and_no_more(store: Store) -> None:
    author = Person(2)
    await let_in(store, author, *KEYS)
    large = [beside(author, n, KEYS[n % 5], body=bytes(190_000), counter=n) for n in range(1, 26)]
    small = beside(author, 99, KEYS[6])
    for version in (*large, small):
        await store.apply(MAIN, [version])
    heads = await store.heads(MAIN, author.id, "a")
    assert HEADS_BYTES_MAX - large[0].size < sum(head.size for head in heads) <= HEADS_BYTES_MAX
    assert small.id in of(heads), "it fits where the next large one does not"


@check
async def a_void_key_makes_room_for_what_it_kept_out(store: Store) -> None:
    author, thief = Person(2), KEYS[0]
    await let_in(store, author, thief, KEYS[1])
    base = author.version("a", b"base")
    honest = beside(author, 1, KEYS[1])
    await store.apply(MAIN, [base, honest])
    crowd = [
        beside(author, n, KEYS[n % len(KEYS)] if n % 2 else thief, entries=VECTOR_ENTRIES_MAX) for n in range(10, 26)
    ]
    await store.apply(IDENTITIES, [author.statement(key=key.public) for key in KEYS])
    await store.apply(MAIN, crowd)
    assert not of([base, honest]) & set(await ids(store)), "sixteen full vectors leave no room"
    assert store.history().spare == 2
    voided = [version for version in crowd if version.kid == thief.public]
    applied = await store.apply(IDENTITIES, [author.statement(KeyState.COMPROMISED, thief.public)])
    assert len(applied.voided) == len(voided) == 8
    left = [base, honest, *(version for version in crowd if version.kid != thief.public)]
    assert set(await ids(store)) == of(left)
    assert store.tree(MAIN).root == root_of(sorted(left, key=lambda version: version.id))
    assert store.history().spare == 0


@check
async def what_a_version_left_out_superseded_is_looked_at_again(store: Store) -> None:
    author = Person(2)
    await let_in(store, author, *KEYS)
    base = author.version("a", b"base")
    edit = beside(author, 1, KEYS[0])
    vector = {**edit.vector, base.writer: base.counter}
    draft = Draft(context=MAIN, author=author.id, name="a", body=b"edit")
    edit = sign(draft, KEYS[0], instance=edit.instance, vector=vector, timestamp=Timestamp(0))
    await store.apply(MAIN, [base])
    await store.apply(MAIN, [edit])
    crowd = [beside(author, n, KEYS[0], counter=100) for n in range(10, 10 + HEADS_PER_KEY_MAX)]
    applied = await store.apply(MAIN, crowd)
    assert base.id in of(applied.records)
    assert set(await ids(store)) == of([base, *crowd])
    assert (store.history().versions, store.history().spare) == (1, 1)


@check
async def a_write_covers_a_full_leaf_and_empties_it(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    author = Person(1)
    await store.apply(IDENTITIES, [author.statement(key=key.public) for key in KEYS])
    crowd = [beside(author, number, KEYS[number % len(KEYS)]) for number in range(1, HEADS_MAX + 11)]
    await store.apply(MAIN, crowd)
    assert len(await ids(store)) == HEADS_MAX
    (written,), applied = await owner.write(owner.draft("a", b"all of you"))
    assert written is not None
    spares = len(crowd) - HEADS_MAX
    assert applied.beside == ((written.id, spares),), "nothing was known of those that did not fit"
    assert len(await ids(store)) == 1 + spares and store.history().spare == 0
    (written,), applied = await owner.write(owner.draft("a", is_tombstone=True))
    assert written is not None and applied.beside == ()
    assert await ids(store) == [written.id]
    assert store.conflicts(MAIN) == set()


@check
async def a_write_that_can_cover_nothing_of_a_full_leaf_waits_and_says_so(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    author = Person(1)
    await store.apply(IDENTITIES, [author.statement(key=key.public) for key in KEYS])
    await store.apply(MAIN, [beside(author, n, KEYS[0], entries=VECTOR_ENTRIES_MAX) for n in range(1, 17)])
    (written,), applied = await owner.write(owner.draft("a", b"later"))
    assert written is not None
    assert (applied.records, applied.beside) == ((), ((written.id, 16),))
    assert [each.versions for each in applied.outranked] == [[written.id]]
    await store.apply(IDENTITIES, [author.statement(KeyState.COMPROMISED, KEYS[0].public)])
    assert await ids(store) == [written.id]


@check
async def a_full_leaf_is_forgotten_with_its_spare(store: Store) -> None:
    author, key = Person(2), KEYS[0]
    await let_in(store, author, key)
    versions = [beside(author, number, key) for number in range(1, 20)]
    await store.apply(MAIN, versions)
    assert store.history().spare == 3
    assert await store.forget(MAIN, [versions[0].key], lambda _: False) == 1
    assert (await ids(store), store.history().versions) == ([], 0)
    applied = await store.apply(MAIN, versions[:1])
    assert applied.records == (versions[0],)


@check
async def a_snapshot_of_a_full_leaf_gives_the_same_leaf(store: Store) -> None:
    author = Person(2)
    await let_in(store, author, *KEYS)
    versions = [beside(author, n, KEYS[n % 3], body=bytes(9000), counter=n) for n in range(1, 60)]
    await store.apply(MAIN, versions)
    root, held = store.tree(MAIN).root, set(await ids(store))
    async with store.snapshot(MAIN) as snapshot:
        raws, is_last = await snapshot.page(None, records_max=1, bytes_max=1)
    assert is_last and len(raws) == len(held) == 48
    heads = [from_store(raw) for raw in raws]
    assert await store.forget(MAIN, [versions[0].key], lambda _: False) == 1
    await store.stage(MAIN, root, heads[:20])
    await store.stage(MAIN, root, heads[20:])
    assert await store.promote(MAIN, expected=root) is not None
    assert (store.tree(MAIN).root, set(await ids(store))) == (root, held)


@check
async def a_staged_leaf_keeps_its_bounds(store: Store) -> None:
    author, key = Person(2), KEYS[0]
    await let_in(store, author, key)
    versions = sorted((beside(author, n, key) for n in range(1, 20)), key=lambda version: version.id)
    lie = root_of(versions)
    await store.stage(MAIN, lie, versions)
    staged = store.staged(MAIN)
    assert staged is not None and staged.count == HEADS_PER_KEY_MAX
    assert await store.promote(MAIN, expected=lie) is None
