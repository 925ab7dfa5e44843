"""Flipped bits on the disk: `verify` finds them, no peer gets them, repair keeps the rest, and a peer brings the lost
versions back. First stores in files and real conversations, then two real nodes.
"""

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from echonode.errors import StoreError
from echonode.model.identity import Instance
from echonode.model.keys import KeyState
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, MAIN, parse
from echonode.store.port import Store
from echonode.store.sqlite.repair import repair
from echonode.sync.conversation import Result
from echonode.sync.modes import level_wise
from echonode.text import to_base32
from tests.contracts.store import admit, verdict_of
from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.rooted import needs_root
from tests.faults.test_kill import NETWORK_SECRET, free_port
from tests.store.files import change, flip, look, opened, places, run
from tests.store.people import NOW_MS, Owner, Person, known
from tests.sync.pair import conversation, paired
from tests.sync.talk import serve

IS_SLOW = bool(os.environ.get("ECHO_TEST_SLOW"))
FLIPS, FLIPS_ANYWHERE = (4000, 1000) if IS_SLOW else (50, 25)
SEED = int(os.environ.get("ECHO_TEST_SEED", "1"))
CONTEXTS = (IDENTITIES, MAIN, "other")
NEW_INSTANCE = Instance(b"new life")

Roots = dict[str, Digest]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Roots]:
    """Make two equal stores, ours and a peer's, with conflicts, tombstones, history and bodies over many pages."""
    folder = tmp_path_factory.mktemp("flips")

    async def go() -> Roots:
        async with opened(folder / "ours.db") as ours, opened(folder / "theirs.db") as theirs:
            owner, one, two = Owner(ours), Person(2), Person(3)
            await owner.begin()
            await admit(ours, one, two)
            await ours.apply(IDENTITIES, [one.statement(key=two.device.public), one.statement(KeyState.RETIRED)])
            for context in (MAIN, "other"):
                await owner.write(*(owner.draft(f"n{number}", b"body" * number, context) for number in range(40)))
                await owner.write(*(owner.draft(f"n{number}", b"edit", context) for number in range(10)))
            await owner.put("large", random.Random(1).randbytes(30_000))
            await owner.write(owner.draft("n5", is_tombstone=True))
            left = [one.version(f"c{number}", b"left") for number in range(5)]
            right = [two.version(f"c{number}", b"right", author=one.id) for number in range(5)]
            await ours.apply(MAIN, [*left, *right])
            await ours.save_peer(known("anna", one.id))
            await agree(ours, theirs)
            return {context: ours.tree(context).root for context in CONTEXTS}

    roots = run(go())
    return folder / "ours.db", folder / "theirs.db", roots


async def agree(ours: Store, theirs: Store) -> None:
    for context in CONTEXTS:
        one, two = paired()
        results = await asyncio.gather(
            level_wise.run_initiator(conversation(one, ours, context)), serve(conversation(two, theirs, context))
        )
        assert results == [Result.EQUAL, Result.EQUAL], context


def proofs_named_by(path: Path) -> list[tuple[object, ...]]:
    """Return which version the store would show of each writer."""
    return look(path, "SELECT context, leaf, version FROM writers ORDER BY key, instance")


def problems_of(path: Path) -> tuple[str, ...]:
    """Return the problems that opening and verifying a store shows."""

    async def go() -> tuple[str, ...]:
        async with opened(path) as store:
            return (await verdict_of(store)).problems

    try:
        return run(go())
    except StoreError as error:
        return (str(error),)


async def introduce(store: Store) -> None:
    if not store.keyring.state_of(Owner(store).id, Owner(store).identity.device.public):
        await Owner(store).begin()


async def repaired(path: Path) -> int:
    """Repair the store and return the number of rows that were left behind."""
    done = await repair(path, new_instance=lambda: NEW_INSTANCE, now_ms=lambda: NOW_MS, introduce=introduce)
    assert done.put_aside.exists()
    done.put_aside.unlink()
    left = {each.name for each in path.parent.iterdir() if "ballast" not in each.name}
    assert left == {"ours.db", "theirs.db"}
    return done.left


async def restored(ours_path: Path, theirs_path: Path, roots: Roots) -> None:
    """Check that after a repair and a conversation the store is as before, in a new life."""
    async with opened(ours_path) as ours, opened(theirs_path) as theirs:
        await agree(ours, theirs)
        for context in CONTEXTS:
            # If our own statement was lost, a new one was made: then both sides hold two.
            assert ours.tree(context).root in (roots[context], theirs.tree(IDENTITIES).root), context
        assert (await verdict_of(ours)).problems == ()
        assert ours.instance == NEW_INSTANCE
        version = await Owner(ours).put("written afterwards")
        assert version.instance == NEW_INSTANCE, "a counter may have gone back, so it counts anew"


def test_a_version_that_a_flipped_bit_made_text_of_is_kept_by_a_repair(tmp_path: Path) -> None:
    path = tmp_path / "ours.db"

    async def fill() -> bytes:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            await owner.put("whole", b"\xff" * 50)
            return (await owner.put("rots", b"\xff" * 50)).key

    key = run(fill())
    (tmp_path / "theirs.db").touch()  # which `repaired` expects beside it
    # The header of a row ends with the type of its bytes; behind it come the context, 2 in a byte, and the key.
    flip(path, 8 * (path.read_bytes().index(b"\x02" + key) - 1))
    ((kind, _),) = look(path, "SELECT typeof(bytes), seq FROM log ORDER BY seq DESC LIMIT 1")
    assert kind == "text"
    assert any("log" in problem for problem in problems_of(path))
    assert run(repaired(path)) == 0
    assert problems_of(path) == ()


def test_every_flipped_bit_in_live_data_is_found_and_repaired_from_a_peer(
    whole: tuple[Path, Path, Roots], tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    known = "SELECT seq FROM log WHERE context = (SELECT id FROM contexts WHERE name = 'identities')"
    statements = {seq for (seq,) in look(whole[0], known)}
    for what, at, length in rng.choices(list(places(whole[0])), k=FLIPS):
        shutil.copy(whole[0], ours)
        shutil.copy(whole[1], theirs)
        bit = 8 * at + rng.randrange(8 * length)
        flip(ours, bit)
        if proofs_named_by(ours) != proofs_named_by(whole[0]):
            continue  # harmless: a Hello goes without the proof of another life, as it does where that was pruned
        assert problems_of(ours), f"bit {bit}, of {what}"
        left = run(repaired(ours))
        # A version without the statement of its key is left behind. It comes back with the statement.
        assert left <= 1 or int(what.split()[-1]) in statements, f"bit {bit}, of {what}: {left} left behind"
        run(restored(ours, theirs, whole[2]))


def test_a_bit_flipped_anywhere_is_harmless_or_repaired_or_refused_in_words(
    whole: tuple[Path, Path, Roots], tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    size = whole[0].stat().st_size
    refusals = 0
    for _ in range(FLIPS_ANYWHERE):
        shutil.copy(whole[0], ours)
        shutil.copy(whole[1], theirs)
        bit = rng.randrange(8 * size)
        flip(ours, bit)
        before = ours.read_bytes()
        try:
            run(repaired(ours))
        except StoreError as refused:
            assert str(ours) in str(refused), f"bit {bit}"
            assert ours.read_bytes() == before, f"bit {bit}"
            refusals += 1
            continue
        run(restored(ours, theirs, whole[2]))
    assert refusals < FLIPS_ANYWHERE / 5


def test_a_page_of_the_log_that_is_gone_takes_only_what_stood_on_it(
    whole: tuple[Path, Path, Roots], tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    shutil.copy(whole[0], ours)
    shutil.copy(whole[1], theirs)
    ((raw,),) = look(ours, "SELECT bytes FROM log WHERE seq = 40")
    data = bytearray(ours.read_bytes())
    page = data.find(raw) // 4096 * 4096
    data[page : page + 4096] = bytes(4096)
    ours.write_bytes(data)
    assert problems_of(ours)
    run(repaired(ours))

    async def kept() -> int:
        async with opened(ours) as store:
            return len(store.tree(MAIN)) + len(store.tree("other"))

    assert run(kept()) > 50
    run(restored(ours, theirs, whole[2]))


def test_a_damaged_head_gives_way_to_the_version_before_it(whole: tuple[Path, Path, Roots], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    shutil.copy(whole[0], ours)
    shutil.copy(whole[1], theirs)
    other = "context = (SELECT id FROM contexts WHERE name = 'other')"
    change(ours, f"UPDATE log SET bytes = x'00' WHERE seq = (SELECT max(seq) FROM log WHERE {other})")
    assert run(repaired(ours)) == 1

    async def standing() -> list[bytes]:
        async with opened(ours) as store:
            heads = [await store.heads("other", Owner(store).id, f"n{number}") for number in range(10)]
            return [head.body for (head,) in heads]

    bodies = run(standing())
    assert [body for body in bodies if body != b"edit"] == [b"body" * 9]
    run(restored(ours, theirs, whole[2]))


def test_a_repair_names_the_records_of_which_a_head_is_left(whole: tuple[Path, Path, Roots], tmp_path: Path) -> None:
    ours = tmp_path / "ours.db"
    shutil.copy(whole[0], ours)
    read = [parse(raw) for (raw,) in look(ours, "SELECT bytes FROM log")]
    heads = {record.name: record for record in read if record.context == MAIN}
    damage = {
        "n30": heads["n30"].raw.replace(b"body" * 30, b"bodY" + b"body" * 29),  # still names its record
        "n31": heads["n31"].raw.replace(b"n31", b"n39"),  # names another record
        "n32": b"",
    }
    in_main = "context = (SELECT id FROM contexts WHERE name = 'main')"
    for name, raw in damage.items():
        change(ours, f"UPDATE log SET bytes = x'{raw.hex()}' WHERE key = x'{heads[name].key.hex()}' AND {in_main}")
    done = run(repair(ours, new_instance=lambda: NEW_INSTANCE, now_ms=lambda: NOW_MS, introduce=introduce))
    assert done.left == 3
    assert done.lost == ((MAIN, f"{to_base32(heads['n30'].author)}/n30"),)


def test_a_repair_names_the_versions_without_a_statement(whole: tuple[Path, Path, Roots], tmp_path: Path) -> None:
    ours = tmp_path / "ours.db"
    shutil.copy(whole[0], ours)
    change(ours, "DELETE FROM log WHERE context = (SELECT id FROM contexts WHERE name = 'identities')")
    done = run(repair(ours, new_instance=lambda: NEW_INSTANCE, now_ms=lambda: NOW_MS, introduce=introduce))
    author = to_base32(Person(2).id)
    assert done.left == 10 and set(done.lost) == {(MAIN, f"{author}/c{number}") for number in range(5)}


@pytest.mark.root
def test_a_store_that_root_repairs_stays_its_owners(whole: tuple[Path, Path, Roots], tmp_path: Path) -> None:
    needs_root()
    ours = tmp_path / "ours.db"
    shutil.copy(whole[0], ours)
    shutil.copy(whole[1], tmp_path / "theirs.db")
    os.chown(ours, 65534, 65533)
    run(repaired(ours))
    assert (ours.stat().st_uid, ours.stat().st_gid, ours.stat().st_mode & 0o777) == (65534, 65533, 0o600)


def test_a_repair_for_which_there_is_no_room_leaves_the_store_as_it_was(
    whole: tuple[Path, Path, Roots], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours.db"
    shutil.copy(whole[0], ours)
    before = ours.read_bytes()
    monkeypatch.setattr("echonode.store.sqlite.disk_space.FREE_SPACE_BYTES_MIN", 1 << 62)
    with pytest.raises(StoreError, match="disk nearly full"):
        run(repaired(ours))
    assert [each.name for each in tmp_path.iterdir()] == ["ours.db"]
    assert ours.read_bytes() == before


def test_damaged_bytes_are_given_to_no_reader(whole: tuple[Path, Path, Roots], tmp_path: Path) -> None:
    ours = tmp_path / "ours.db"
    shutil.copy(whole[0], ours)
    data = bytearray(ours.read_bytes())
    at = data.find(b"body" * 20)
    while at >= 0:
        data[at] ^= 1
        at = data.find(b"body" * 20, at + 1)
    ours.write_bytes(data)

    async def go() -> None:
        async with opened(ours) as store:
            keys = [
                key
                for (key,) in look(
                    ours, "SELECT key FROM log WHERE context = (SELECT id FROM contexts WHERE name = 'main')"
                )
            ]
            with pytest.raises(StoreError, match="not what was written"):
                await store.heads(MAIN, Owner(store).id, "n25")
            with pytest.raises(StoreError, match="not what was written"):
                await store.read(MAIN, keys, bytes_max=1 << 30)
            with pytest.raises(StoreError, match="not what was written"):
                await store.scan(MAIN, 0, limit=1000)
            with pytest.raises(StoreError, match="not what was written"):
                await store.changes(MAIN, 0, records_max=1000, bytes_max=1 << 30)
            async with store.snapshot(MAIN) as snapshot:
                with pytest.raises(StoreError, match="not what was written"):
                    await snapshot.page(None, records_max=1000, bytes_max=1 << 30)
            assert (await store.heads(MAIN, Owner(store).id, "n1"))[0].body == b"edit", "the rest is served"

    run(go())


def test_two_nodes_are_equal_again_after_verify_repair(tmp_path: Path) -> None:
    a, b = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("anna", "bert")]
    at = f"127.0.0.1:{free_port()}"
    for _ in running(nodes):
        for node in nodes:
            node.cli("network", "set", NETWORK_SECRET)
        a.start(listen=at)
        b.start("--peer", at)
        for number in range(5):
            a.cli("put", f"n{number}", f"text {number}" * 20)
        wait_for(lambda: equal(nodes, "main", "identities"))
        refused = b.cli("verify", "--repair", check=False)
        assert (refused.returncode, b"the node is running" in refused.stderr) == (1, True)
        assert b.stop() == 0
        data = bytearray((b.home / "store.db").read_bytes())
        for number in range(2):
            data[data.find(f"text {number}text".encode())] ^= 4
        (b.home / "store.db").write_bytes(data)
        before = b.json("verify", "--repair")
        assert (before["left"], Path(before["put_aside"]).name) == (2, "store.db.damaged-1")
        b.start("--peer", at)
        wait_for(lambda: equal(nodes, "main", "identities"))
        assert b.json("verify")["ok"]
        assert b.cli("get", f"{a.json('status')['id']}/n1").stdout == b"text 1" * 20
