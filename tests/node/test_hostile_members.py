"""Members of a network that attack the records of others in its pools: a few hundred bytes once emptied `shared`."""

import asyncio
from collections.abc import Sequence

from echonode import cbor
from echonode.clock import Timestamp
from echonode.errors import Reason
from echonode.model.identity import Identity, Instance, Pool, SigningKey, identity_of, shared_pool, writer_of
from echonode.model.key_claims import member_proof
from echonode.model.keys import KeyState, listing_draft, statement_draft
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, sign
from echonode.node.events import RecordVoided
from echonode.node.handshake import LocalSide, Session, initiate
from echonode.sim.event_loop import SimEntropy
from echonode.sim.world import PORT, Member, World
from echonode.wire.channel import NetworkSecret
from echonode.wire.messages import Done, LevelWiseInit, Nodes, Put, Stored
from tests.contracts.traffic import OpenGate, Stranger
from tests.node.worlds import in_a_world, names, put, told
from tests.sync.pair import Author

LIFE = Instance(b"evilevil")


def signed(draft: Draft, root: SigningKey, counter: int = 1) -> Record:
    """Return a statement with a timestamp and a vector above those of every honest one."""
    vector = {writer_of(root.public, LIFE): counter}
    return sign(draft, root, instance=LIFE, vector=vector, timestamp=Timestamp(1_900_000_000_000 << 16))


async def meet(world: World, member: Member, thief: Author) -> Session:
    draft = statement_draft(thief.identity.id, thief.identity.device.public, KeyState.ACTIVE)
    own = await thief.store.heads(IDENTITIES, draft.author, draft.name)
    local = LocalSide(Stranger(thief, own, lambda hello: hello), OpenGate())
    stream = await world.network.dial("10.9.9.9")(f"{member.host}:{PORT}")
    return await initiate(stream, NetworkSecret.private(world.secret.key), local, SimEntropy("thief"))


async def tell(session: Session, statements: Sequence[Record]) -> Stored:
    await session.transport.send(LevelWiseInit((1, 0), IDENTITIES, 0, 16, (b"",)))  # type: ignore[arg-type]
    while not isinstance(await session.transport.recv(), Nodes):
        pass
    await session.transport.send(Put(tuple(statement.raw for statement in statements)))
    answer = await session.transport.recv()
    assert isinstance(answer, Stored)
    return answer


def attacks(pool: Pool, victim: Identity, thief: Author) -> dict[str, Record]:
    """Return statements by which a thief that holds the root of `pool` might void or replace the victim's key."""
    key, id_ = victim.device.public, victim.id
    proof = member_proof(pool.id, id_, victim.device)  # it is in the victim's own listing, which everybody has
    active = listing_draft(pool, id_, key, proof, KeyState.ACTIVE)
    forged = listing_draft(pool, id_, key, bytes(64), KeyState.ACTIVE)
    theirs = listing_draft(pool, thief.identity.id, key, proof, KeyState.ACTIVE)
    plain = statement_draft(pool.id, key, KeyState.COMPROMISED)
    return {
        "the listing compromised": signed(listing_draft(pool, id_, key, proof, KeyState.COMPROMISED), pool.root),
        "the listing retired": signed(listing_draft(pool, id_, key, proof, KeyState.RETIRED), pool.root),
        "a listing without consent in place of the good one": signed(forged, pool.root),
        "the victim's key listed for the thief": signed(theirs, pool.root),
        "a node's statement in the pool's name": signed(plain, pool.root),
        "a deleted listing": signed(
            Draft(context=IDENTITIES, author=pool.id, name=active.name, is_tombstone=True), pool.root
        ),
        "an empty listing": signed(
            Draft(context=IDENTITIES, author=pool.id, name=active.name, body=cbor.encode([])), pool.root
        ),
    }


def test_a_member_that_holds_the_root_of_shared_can_neither_void_nor_replace_a_key_of_another() -> None:
    async def work(world: World) -> None:
        victim, other = [await world.add_node(name) for name in ("victim", "other")]
        world.introduce()
        await put(victim, "plan", b"the only copy", shared=True)
        await put(other, "list", b"milk", shared=True)
        await world.settled(within_s=20)
        thief, pool = Author(666), shared_pool(world.secret.pool_seed)
        await thief.introduce()
        session = await meet(world, other, thief)
        hostile = attacks(pool, victim.identity, thief)
        stored = await tell(session, list(hostile.values()))
        assert {refused.version for refused in stored.refused} == {record.id for record in hostile.values()}
        assert {refused.reason for refused in stored.refused} <= {Reason.BAD_RECORD, Reason.PROTOCOL_ERROR}
        await session.transport.send(Done(bytes(32), 0, 0, True))
        # Its own identity may say what it likes of the key: that is no word of the owner's.
        session = await meet(world, victim, thief)
        root = thief.identity.root
        assert root is not None
        own = [
            signed(statement_draft(thief.identity.id, victim.identity.device.public, state), root, int(state))
            for state in KeyState
        ]
        assert (await tell(session, own)).stored == len(own)
        await asyncio.sleep(60)
        for member in (victim, other):
            assert await names(member) == {"plan", "list"}
            assert not told(member, RecordVoided)
        written = await put(victim, "plan", b"still writable", shared=True)
        await asyncio.sleep(60)
        assert [head.id for head in await other.store.heads(MAIN, pool.id, "plan")] == [written.id]
        assert identity_of(pool.root.public) != pool.id, "no root makes statements of another kind for the pool"

    in_a_world(work)
