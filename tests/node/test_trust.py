"""Trust: nodes that wait, are let in or kept out by a person, and records that are hidden and still replicated."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from echonode.errors import LocalError, Reason
from echonode.model.identity import IdentityId
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import MAIN
from echonode.node.admission import PeerAdmission
from echonode.node.denials import Denials
from echonode.node.events import PeerPending, RecordRefused, SessionFailed, TrustChanged
from echonode.node.explanation import Because
from echonode.node.settings import Quota, Quotas
from echonode.node.trust import Decisions, Pending, Policy, Standing, Trust, TrustSettings
from echonode.node.views import PeerState
from echonode.sim.world import Member, World
from echonode.sync.transport import StreamTransport
from echonode.text import to_base32
from echonode.wire.auth import Peer
from echonode.wire.messages import Hello
from tests.node.worlds import in_a_world, names, put, sight, told, view_of

ONE, TWO = IdentityId(b"1" * 32), IdentityId(b"2" * 32)


async def careful(world: World, name: str, **lists: Decisions) -> Member:
    """Add a node with the policy `approve`."""
    member = world.make_member(name)
    member.settings = replace(member.settings, trust=TrustSettings(Policy.APPROVE, **lists))
    await world.start(member)
    return member


def decide(member: Member, verb: str, other: Member) -> None:
    getattr(member.node.trust_control, verb)(other.node.id)


# -- who is let in -----------------------------------------------------------------------------------------------------


def test_who_is_let_in_is_said_by_the_policy_and_by_decisions_and_the_configuration_goes_first() -> None:
    trust = Trust()
    assert trust.standing(ONE, is_met=False) is Standing.LET_IN
    trust.load(TrustSettings(Policy.APPROVE))
    assert trust.standing(ONE, is_met=False) is Standing.PENDING
    assert trust.standing(ONE, is_met=True) is Standing.LET_IN
    trust.load(TrustSettings(Policy.APPROVE, decided=Decisions().approve(ONE, "one").reject(TWO, "two")))
    assert trust.standing(ONE, is_met=False) is Standing.LET_IN
    assert trust.standing(TWO, is_met=True) is Standing.REJECTED
    trust.load(TrustSettings(Policy.OPEN, Decisions(rejected={ONE: ""}), Decisions(approved={ONE: "one"})))
    assert trust.standing(ONE, is_met=True) is Standing.REJECTED
    trust.load(TrustSettings(Policy.OPEN, Decisions(approved={ONE: ""}), Decisions(rejected={ONE: "one"})))
    assert trust.standing(ONE, is_met=False) is Standing.LET_IN
    assert not trust.rejected


def test_a_decision_takes_back_the_one_before() -> None:
    decided = Decisions().approve(ONE, "one").deny(ONE, "one").reject(ONE, "one")
    assert (dict(decided.approved), dict(decided.rejected), dict(decided.denied)) == ({}, {ONE: "one"}, {ONE: "one"})
    assert decided.allow(ONE).forget(ONE) == Decisions()


def test_no_more_nodes_wait_than_fit_and_the_longest_unseen_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echonode.node.trust.CANDIDATES_MAX", 2)
    trust = Trust()
    three = IdentityId(b"3" * 32)
    assert trust.note_pending(Pending(ONE, "", "a:1", False, 1, 1))
    assert trust.note_pending(Pending(TWO, "two", "b:1", True, 2, 2))
    assert not trust.note_pending(Pending(ONE, "one", "c:1", True, 3, 3))
    assert not trust.note_pending(Pending(ONE, "", "d:9", False, 4, 4))
    assert trust.note_pending(Pending(three, "", "e:1", False, 5, 5))
    assert list(trust.pending) == [
        Pending(ONE, "one", "c:1", True, 1, 4),
        Pending(three, "", "e:1", False, 5, 5),
    ]


def test_identities_without_end_are_listed_and_only_some_an_hour_are_told() -> None:
    trust, hour_ms = Trust(), 3_600_000

    def begins_to_wait(number: int, at_ms: int) -> bool:
        return trust.note_pending(Pending(IdentityId(bytes([number]) * 32), "", "a:1", False, at_ms, at_ms))

    told = [number for number in range(40) if begins_to_wait(number, hour_ms + number)]
    assert told == list(range(16))
    assert len(tuple(trust.pending)) == 40
    assert not begins_to_wait(50, 2 * hour_ms)
    assert begins_to_wait(51, 3 * hour_ms + 1)


@pytest.mark.parametrize("who_dials", ["ours", "theirs"])
def test_a_node_that_was_never_met_waits_until_it_is_approved(who_dials: str) -> None:
    async def work(world: World) -> None:
        ours, theirs = await careful(world, "ours"), await world.add_node("theirs")
        sight(*((ours, theirs) if who_dials == "ours" else (theirs, ours)))
        await put(ours, "a")
        await put(theirs, "b")
        await asyncio.sleep(900)
        assert (await names(ours), await names(theirs)) == ({"a"}, {"b"})
        assert not theirs.node.store.tree(MAIN).get((await put(ours, "c")).key)
        view = view_of(ours, theirs)
        assert (view.state, view.name) == (PeerState.PENDING, "theirs" if who_dials == "ours" else "")
        assert "echonode peers approve" in view.reason
        assert [event.peer for event in told(ours, PeerPending)] == [theirs.node.id]
        assert not told(ours, SessionFailed)
        if who_dials == "theirs":
            (shown,) = theirs.node.peers()
            assert (shown.state, shown.address) == (PeerState.REFUSED, ours.address)
            assert "a person there has to let this node in" in shown.reason
        assert [event.reason for event in told(theirs, SessionFailed)] == [Reason.UNAPPROVED.text], "told once an hour"
        assert not theirs.node.store.keyring.has_author(ours.node.id), "it learnt nothing of us"
        ours.node.trust_control.approve(ours.node.trust_control.resolve(to_base32(theirs.node.id)[:8]))
        await asyncio.sleep(5 if who_dials == "ours" else 300)
        assert view_of(ours, theirs).state is PeerState.CONNECTED
        await world.settled(within_s=60)
        assert await names(ours) == await names(theirs) == {"a", "b", "c"}
        assert [event.decision for event in told(ours, TrustChanged)] == ["approved"]
        world.crash(ours)
        await world.start(ours)
        await ours.node.store.forget_peer(theirs.node.id)
        assert ours.node.peer_table.trust.standing(theirs.node.id, is_met=False) is Standing.LET_IN

    in_a_world(work, hushed=True)


class _HastyPerson:
    """The admission of a node whose person decides as soon as a peer has proved its identity, before its hello."""

    def __init__(self, admission: PeerAdmission, decide: Callable[[], None]) -> None:
        self._admission = admission
        self._decide = decide

    def __getattr__(self, name: str) -> Any:
        return getattr(self._admission, name)

    def admit(self, peer: Peer, hello: Hello | None, transport: StreamTransport) -> None:
        self._admission.admit(peer, hello, transport)
        if hello is None:
            self._decide()


def test_a_node_that_is_approved_in_the_midst_of_its_handshake_has_a_session_like_any_other() -> None:
    async def work(world: World) -> None:
        ours, theirs = await careful(world, "ours"), await world.add_node("theirs")
        connections = ours.node.connections
        hasty = _HastyPerson(ours.node.admission, lambda: decide(ours, "approve", theirs))
        connections.local = replace(connections.local, gate=hasty)
        await put(theirs, "b")
        sight(ours, theirs)
        await asyncio.sleep(30)
        assert not told(ours, PeerPending)
        assert ours.node.live_links.is_in_step(theirs.node.id)
        assert await names(ours) == {"b"}

    in_a_world(work, hushed=True)


def test_peers_that_were_met_before_the_policy_was_chosen_are_let_in_until_they_are_forgotten() -> None:
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        await put(theirs, "a")
        await world.settled(within_s=10)
        world.crash(ours)
        ours.settings = replace(ours.settings, trust=TrustSettings(Policy.APPROVE))
        await world.start(ours)
        await put(theirs, "b")
        await asyncio.sleep(30)
        assert await names(ours) == {"a", "b"}
        decide(ours, "reject", theirs)
        await asyncio.sleep(5)
        assert view_of(ours, theirs).state is PeerState.REJECTED
        await ours.node.forget_peer("theirs")
        await asyncio.sleep(600)
        assert view_of(ours, theirs).state is PeerState.PENDING

    in_a_world(work)


def test_a_rejected_node_is_neither_dialled_nor_let_in_over_a_restart_and_others_still_speak_with_it() -> None:
    async def work(world: World) -> None:
        ours, theirs, third = [await world.add_node(name) for name in ("ours", "theirs", "third")]
        await put(theirs, "a")
        await world.settled(within_s=10)
        decide(ours, "reject", theirs)
        await put(theirs, "b")
        await asyncio.sleep(60)
        assert await names(ours) == {"a", "b"}, "by the third node"
        shown = view_of(ours, theirs)
        assert (shown.state, shown.in_sync) == (PeerState.REJECTED, None)
        assert "echonode peers approve theirs" in shown.reason
        assert view_of(theirs, ours).state is PeerState.REFUSED
        world.crash(ours)
        await world.start(ours)
        await asyncio.sleep(120)
        assert view_of(ours, theirs).state is PeerState.REJECTED
        assert Because.KEPT_OUT in [each.because for each in ours.node.explanations.of_peer("theirs")[1]]
        assert not [each for each in told(ours, SessionFailed) if each.reason == Reason.UNAPPROVED.text]
        decide(ours, "approve", theirs)
        await asyncio.sleep(5)
        assert view_of(ours, theirs).state is PeerState.CONNECTED
        assert view_of(third, theirs).state is PeerState.CONNECTED

    in_a_world(work)


def test_what_the_configuration_decides_is_changed_there() -> None:
    async def work(world: World) -> None:
        theirs, third = await world.add_node("theirs"), await world.add_node("third")
        lists = Decisions({theirs.node.id: ""}, {third.node.id: ""}, {third.node.id: ""})
        ours = await careful(world, "ours", configured=lists)
        await asyncio.sleep(10)
        assert view_of(ours, theirs).state is PeerState.CONNECTED
        assert view_of(ours, third).state is PeerState.REJECTED
        for verb, other, key in (
            ("reject", theirs, r"trust\.approve"),
            ("approve", third, r"trust\.reject"),
            ("allow", third, r"trust\.deny"),
        ):
            with pytest.raises(LocalError, match=f"stands under {key} in the configuration"):
                decide(ours, verb, other)
        assert {(each.id, each.decision) for each in ours.node.trust_control.decisions() if each.is_configured} == {
            (theirs.node.id, "approved"),
            (third.node.id, "rejected"),
            (third.node.id, "denied"),
        }

    in_a_world(work)


def test_a_configuration_that_is_read_again_is_obeyed_at_once() -> None:
    async def work(world: World) -> None:
        ours, theirs = await careful(world, "ours"), await world.add_node("theirs")
        await put(theirs, "a")
        await asyncio.sleep(60)
        assert view_of(ours, theirs).state is PeerState.PENDING
        control, peer = ours.node.trust_control, theirs.node.id
        control.reconfigure(Policy.APPROVE, Decisions(approved={peer: ""}, denied={peer: "", ours.node.id: ""}))
        await put(ours, "own")
        await asyncio.sleep(10)
        assert view_of(ours, theirs).state is PeerState.CONNECTED
        assert ours.roots() == theirs.roots()
        assert await names(ours) == {"own"}, "nobody denies oneself"
        control.reconfigure(Policy.APPROVE, Decisions(rejected={peer: ""}))
        await asyncio.sleep(10)
        assert view_of(ours, theirs).state is PeerState.REJECTED
        assert await names(ours) == {"own", "a"}
        decisions = [event.decision for event in told(ours, TrustChanged) if event.peer == peer]
        assert decisions == ["approved", "denied", "rejected", "allowed"]
        decide(ours, "deny", theirs)
        control.reconfigure(Policy.APPROVE, Decisions(denied={peer: ""}))
        control.reconfigure(Policy.APPROVE, Decisions())
        assert await names(ours) == {"own"}
        assert told(ours, TrustChanged)[-1].decision == "denied", "a person still denies it"

    in_a_world(work)


def test_decisions_are_about_other_nodes_that_are_named_clearly() -> None:
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        control = ours.node.trust_control
        for text, why in (
            ("nobody", "no node is known as nobody"),
            ("ours", "is this node itself"),
            ("me", "is this node itself"),
            ("shared", "is a pool: name a node"),
            (to_base32(ours.node.records.shared), "is a pool: name a node"),
        ):
            with pytest.raises(LocalError, match=why):
                control.resolve(text)
        assert control.resolve(to_base32(ONE)) == ONE, "a whole id need not be known"
        assert control.label(ONE) == to_base32(ONE)[:8]
        with pytest.raises(LocalError, match="is not denied"):
            control.allow(ONE)
        with pytest.raises(LocalError, match="no peer"):
            await ours.node.forget_peer(to_base32(ONE))
        for number in (b"1", b"2"):
            same = IdentityId(number * 32)
            ours.node.peer_table.trust.note_pending(Pending(same, "same", "a:1", True, 1, 1))
        with pytest.raises(LocalError, match="same could be 2 nodes: same @"):
            control.resolve("same")

    in_a_world(work)


def test_strangers_share_one_quota_and_who_is_approved_has_one_alone() -> None:
    async def work(world: World) -> None:
        ours, hub, *others = [world.make_member(name) for name in ("ours", "hub", "one", "two", "three")]
        trust = TrustSettings(Policy.APPROVE)
        ours.settings = replace(ours.settings, trust=trust, quotas=Quotas(author=Quota(records=10)))
        for member in (ours, hub, *others):
            await world.start(member)
        decide(ours, "approve", hub)
        world.introduce()
        for member in (hub, *others):
            for number in range(8):
                await put(member, f"{member.name}-{number}")
        await asyncio.sleep(120)
        held = await names(ours)
        assert len([name for name in held if name.startswith("hub")]) == 8
        assert len(held) == 18, "strangers have the room of one author"
        assert {each.detail for each in told(ours, RecordRefused)} == {
            "the records of all nodes that were not let in here take as much as one author may"
        }
        decide(ours, "approve", others[0])
        await asyncio.sleep(700)
        of_one = [name for name in await names(ours) if name.startswith("one")]
        assert len(of_one) == 8

    in_a_world(work)


# -- what readers see --------------------------------------------------------------------------------------------------


def test_a_denied_nodes_versions_are_hidden_from_readers_kept_passed_on_and_shown_again() -> None:
    async def work(world: World) -> None:
        ours, theirs, third = [await world.add_node(name) for name in ("ours", "theirs", "third")]
        await put(ours, "a")
        await put(theirs, "b")
        await put(theirs, "pooled", shared=True)
        await put(third, "pooled too", shared=True)
        await world.settled(within_s=10)
        everything = {"a", "b", "pooled", "pooled too"}
        assert await names(ours) == everything
        decide(ours, "deny", theirs)
        assert await names(ours) == {"a", "pooled too"}
        assert await names(third) == everything
        await put(theirs, "later")
        await world.settled(within_s=10)
        assert ours.roots() == theirs.roots() == third.roots()
        await asyncio.sleep(30)
        assert view_of(ours, theirs).in_sync
        assert "echonode allow theirs" in view_of(ours, theirs).reason
        assert await names(ours) == {"a", "pooled too"}
        assert await ours.node.records.heads(MAIN, theirs.node.id, "b") == []
        (finding,) = await ours.node.explanations.of_record(MAIN, theirs.node.id, "b")
        assert (finding.because, finding.what_to_do) == (
            Because.DENIED,
            "show what it writes: echonode allow @theirs",
        )
        assert Because.DENIED in [each.because for each in ours.node.explanations.of_peer("theirs")[1]]
        world.crash(ours)
        await world.start(ours)
        assert await names(ours) == {"a", "pooled too"}, "over a restart"
        decide(ours, "allow", theirs)
        assert await names(ours) == {*everything, "later"}

    in_a_world(work)


def test_of_a_conflict_readers_get_the_sides_that_are_not_denied() -> None:
    async def work(world: World) -> None:
        ours, theirs, third = [await world.add_node(name) for name in ("ours", "theirs", "third")]
        await world.settled(within_s=10)
        for member in (ours, theirs, third):
            member.node.pause_control.pause(None, 60)
        await asyncio.sleep(1)
        for member in (third, ours, theirs):
            await put(member, "x", member.name.encode(), shared=True)
            await asyncio.sleep(1)
        await asyncio.sleep(60)
        await world.settled(within_s=30)
        book = ours.node.records
        assert book.shared is not None
        assert [page[0].body async for page in book.scan(MAIN)] == [b"theirs"]
        decide(ours, "deny", theirs)
        assert [page[0].body async for page in book.scan(MAIN)] == [b"ours"]
        assert {head.body for head in await book.heads(MAIN, book.shared, "x")} == {b"ours", b"third"}
        assert await ours.node.conflicts.count_shown(MAIN) == 1
        decide(ours, "deny", third)
        assert await ours.node.conflicts.count_shown(MAIN) == 0
        assert await book.conflicts(MAIN) == []
        with pytest.raises(LocalError, match="is in no conflict"):
            await ours.node.conflicts.resolve(MAIN, book.shared, "x", (await book.heads(MAIN, book.shared, "x"))[0].id)
        await put(ours, "x", b"all", shared=True)
        await world.settled(within_s=30)
        assert [head.body for head in await theirs.node.records.heads(MAIN, book.shared, "x")] == [b"all"]

    in_a_world(work)


def test_a_key_that_somebody_only_claims_hides_nothing_of_its_owner() -> None:
    async def work(world: World) -> None:
        ours, theirs, liar = [await world.add_node(name) for name in ("ours", "theirs", "liar")]
        await put(theirs, "own")
        await put(theirs, "pooled", shared=True)
        await world.settled(within_s=10)
        identity = liar.node.records.identity
        assert identity.root is not None
        draft = statement_draft(identity.id, theirs.node.records.identity.device.public, KeyState.ACTIVE)
        await liar.node.records.state_key(draft, identity.root)
        await world.settled(within_s=30)
        decide(ours, "deny", liar)
        assert await names(ours) == {"own", "pooled"}

    in_a_world(work)


def test_who_is_denied_is_told_apart_by_a_mark() -> None:
    marks = []
    denials = Denials(lambda: pytest.fail("no version is looked at"))
    for denied in ((), (ONE,), (TWO,), (ONE, TWO), (TWO, ONE)):
        denials.set(denied)
        marks.append(denials.mark)
    assert marks[0] == b""
    assert marks[3] == marks[4]
    assert len(set(marks)) == 4
