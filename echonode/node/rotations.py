"""Rotations: the network secret is replaced, and those that stay are told (PROTOCOL.md §10.4).

A connection under a past secret tells of the rotation and does nothing else. Either end may have that secret as a past
one, or as its present one:

    has the past secret                              the other end
      Auth                                    <->      Auth
      Rotated, for each step to the present    ->      has the secret still: takes the new one, or stays
                                              <-       has it as a past one too: its own Rotated
      or Close(left_out), for an identity that one of the rotations does not name

What was told is judged when the connection is over, one rotation after the other.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from echonode.clock import Clock, Entropy
from echonode.errors import (
    ConfigError,
    EchonodeError,
    LocalError,
    PeerRefused,
    Reason,
    RemoteError,
    StoreError,
    TransportError,
)
from echonode.limits import CANDIDATES_MAX, PAST_NETWORKS_MAX, ROTATION_MEMBERS_MAX
from echonode.model.identity import IdentityId, shared_pool
from echonode.model.keys import KeyState
from echonode.model.member_secret import MEMBER_SECRET_BYTES, MemberSecret
from echonode.model.past_networks import PastNetwork, Step, chain_to, left_for, steps_from
from echonode.model.rotation import Rotation, Verdict, judge, read_rotation, sign_rotation
from echonode.node.event_bus import EventBus
from echonode.node.events import NetworkLeftOut, NetworkRotated, RotationRefused
from echonode.node.handshake import (
    HeardOfRotation,
    LeftOut,
    NotOurNetwork,
    Session,
    introductions,
    receive,
    shake_hands,
)
from echonode.node.happy_eyeballs import reach
from echonode.node.membership import Membership
from echonode.node.network_moves import NetworkMoves
from echonode.node.record_book import RecordBook
from echonode.node.views import RotationReport
from echonode.sync.streams import ByteStream, Dial
from echonode.sync.transport import StreamTransport, unexpected
from echonode.text import to_base32
from echonode.wire import auth
from echonode.wire.channel import Handshake, NetworkSecret
from echonode.wire.messages import Auth, Close, Hello, Rotated


class Rotations:
    """The rotations of this node's network. `spawn` runs a task."""

    def __init__(
        self,
        membership: Membership,
        records: RecordBook,
        bus: EventBus,
        clock: Clock,
        entropy: Entropy,
        moves: NetworkMoves,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._membership = membership
        self._records = records
        self._bus = bus
        self._clock = clock
        self._entropy = entropy
        self._moves = moves
        self._spawn = spawn
        self._lock = asyncio.Lock()  # one move at a time

    # -- a person ----------------------------------------------------------------------------------------------------

    def members(self) -> set[IdentityId]:
        """Return the identities that a rotation made now would name: those that list themselves in `shared`, and those
        that the last rotation named, who may have been off since."""
        present, chain = self._membership.member_secret, self._chain()
        listed = {self._records.id} if present is None else self._listed_in(present)
        return listed | (chain[-1].members if chain else set())

    def _listed_in(self, secret: MemberSecret) -> set[IdentityId]:
        """Return the identities that list themselves in the pool `shared` of `secret`, and our own."""
        listings = self._records.store.keyring.members_of(shared_pool(secret.pool_seed).id)
        return {self._records.id, *(member.owner for member in listings if member.is_counted)}

    def left_out(self) -> set[IdentityId]:
        """Return the identities that the rotations to our secret left out, and that are not members again."""
        found = {each for rotation in self._chain() for each in rotation.without}
        return found - self.members() if found else found

    def is_left_out_by(self, peer: IdentityId) -> bool:
        """Return True once `peer` said that the network was rotated without this node."""
        return peer in self._moves.left_out_by

    async def rotate(self, without: Collection[IdentityId] = ()) -> RotationReport:
        """Replace the network secret, and leave out `without`: then the pool `shared` is a new one too.

        Raises LocalError where that is impossible.
        """
        async with self._lock:
            return await self._rotate(frozenset(without))

    async def _rotate(self, without: frozenset[IdentityId]) -> RotationReport:
        present = self._membership.member_secret
        if present is None:
            raise LocalError("the open network has no secret to rotate")
        if self._records.id in without:
            raise LocalError("this node cannot leave itself out: to leave a network, take the secret of another one")
        step = self._draw(present, self.members() - without, without)
        source = self._records.shared
        await self._adopt([step], told_by=b"", is_copied=not without)
        try:
            copied = await self._copy_rest()
        except asyncio.CancelledError:  # who asked for it is gone
            self._spawn(self.resume())
            raise
        except (StoreError, ConfigError) as error:
            raise LocalError(
                f"the network was rotated, and not all of `shared` is copied yet ({error}): restart this node when "
                "that is mended, and it goes on"
            ) from None
        return RotationReport(
            network=self._membership.name,
            members=tuple(sorted(step.rotation.members)),
            copied=copied,
            past_pool=self._moves.label_of(source),
        )

    def _draw(
        self, present: MemberSecret, members: Collection[IdentityId], without: Collection[IdentityId]
    ) -> Step:
        """Return a rotation to a new secret. Raises LocalError for more nodes than it can name."""
        if max(len(members), len(without)) > ROTATION_MEMBERS_MAX:
            raise LocalError(f"a rotation names at most {ROTATION_MEMBERS_MAX} nodes, and {len(members)} are known")
        fresh = MemberSecret.from_bytes(self._entropy.random_bytes(MEMBER_SECRET_BYTES))
        new = fresh if without else MemberSecret(fresh.key, present.pool_seed)
        rotation = sign_rotation(
            present.netid,
            new,
            rotator=self._records.id,
            device=self._records.identity.device,
            statement=self._records.own_statements[0].raw,
            members=members,
            without=without,
        )
        return Step(rotation, new)

    async def resume(self) -> None:
        """Go on copying what was `shared`, where that broke off before this start."""
        async with self._lock:
            with suppress(StoreError, ConfigError):  # the next start goes on
                await self._copy_rest()

    async def _copy_rest(self) -> int:
        """Copy what was `shared` before rotations of ours without somebody. Return how many records were copied."""
        copied = 0
        for each in self._membership.past:
            if each.rotation is not None and not each.is_copied:
                source = shared_pool(each.secret.pool_seed).id
                copied += await self._moves.copies.copy_all(source, each.rotation.without)
                self._membership.note_copied(each.secret)
        return copied

    async def _adopt(self, steps: Sequence[Step], *, told_by: bytes, is_copied: bool = True) -> None:
        """Follow rotations, in one move: all of them, or none. `is_copied` is of the last one. Raises StoreError or
        ConfigError."""
        present, past = self._membership.member_secret, self._membership.past
        assert present is not None, "a node on the open network hears of no rotation"
        for step in steps:
            is_last = step is steps[-1]
            past = left_for(
                step.secret,
                step.rotation,
                present=present,
                past=past,
                now_ms=self._clock.now_ms(),
                is_copied=is_copied or not is_last,
            )
            present = step.secret
        await self._moves.move(present, past)
        for step in steps:
            self._bus.publish(
                NetworkRotated(
                    network=to_base32(step.secret.netid[:8]),
                    peer=told_by,
                    rotator=step.rotation.rotator,
                    members=len(step.rotation.members),
                    without=tuple(sorted(step.rotation.without)),
                )
            )

    # -- connections under a past secret -----------------------------------------------------------------------------

    def secrets(self) -> tuple[NetworkSecret, ...]:
        """Return the secrets with which a peer that has not heard of a rotation may connect."""
        return tuple(NetworkSecret.private(each.secret.key) for each in self.served())

    def served(self) -> list[PastNetwork]:
        """Return the past networks whose members are told of their rotation, the oldest first."""
        return self._membership.served()

    def checked(self, session: Session) -> Session:
        """Return a `session` that has just been opened. Raises TransportError where this node took another secret
        meanwhile: a peer that was left out must not come in by the one before."""
        if session.transport.channel.secret != self._membership.secret:
            raise TransportError("this node took another network secret meanwhile")
        return session

    async def serve(self, transport: StreamTransport) -> None:
        """Serve a peer that connected with a past secret. Raises RemoteError or PeerRefused."""
        async with introductions():
            peer = await self._identify(transport)
            await self._introduce(transport)
            await self._tell(transport, peer)
            try:
                first = await transport.recv()
            except (PeerRefused, TransportError) as end:
                self._note_end(peer, end)
                return  # it has what it came for
            if not isinstance(first, Rotated):
                raise unexpected(first)
            await self.hear(peer, transport, first)

    async def tell(self, stream: ByteStream, past: PastNetwork) -> None:
        """Tell the node at the other end of a fresh `stream`, if it knows that past secret, of the rotation.

        Raises RemoteError, PeerRefused or TransportError.
        """
        handshake = Handshake.initiator(
            NetworkSecret.private(past.secret.key),
            static=self._entropy.random_bytes(32),
            ephemeral=self._entropy.random_bytes(32),
        )
        try:
            transport = StreamTransport(stream, await shake_hands(stream, handshake))
            async with introductions():
                await self._introduce(transport)
                peer = await self._identify(transport)
                try:
                    message = await transport.recv()
                except PeerRefused as end:
                    self._note_end(peer, end)
                    raise
                match message:
                    case Rotated() as first:
                        await self.hear(peer, transport, first)
                    case Hello():
                        pass  # it knows of no rotation yet
                    case _:
                        raise unexpected(message)
                await self._tell(transport, peer)
                await transport.send(Close(Reason.FINISHED))
            await stream.close()
        finally:
            stream.abort()

    def may_tell(self, error: BaseException) -> bool:
        """Return True where a handshake failed with `error` and the peer may not have heard of a rotation yet."""
        return isinstance(error, NotOurNetwork) and bool(self.served())

    async def tell_at(self, dial: Dial, address: str, error: EchonodeError) -> EchonodeError:
        """Tell the node at `address`, where a handshake failed with `error`, of a rotation.

        Return how that ended, which is no session in any case; `error` if it knows none of our past secrets. It hears
        of all rotations since the oldest that it knows: it may have left our row at an early one, and judges all of it.
        """
        for past in self.served() if self.may_tell(error) else ():
            try:
                _, stream = await reach(dial, [address])
                await self.tell(stream, past)
            except NotOurNetwork:
                continue
            except EchonodeError as failure:
                return failure
            return HeardOfRotation()
        return error

    async def _introduce(self, transport: StreamTransport) -> None:
        ours = self._records
        await transport.send(auth.offer(transport.channel, ours.identity.device, ours.own_statements[:1]))

    async def _identify(self, transport: StreamTransport) -> auth.Peer:
        peer = auth.check(transport.channel, await receive(transport, Auth))
        if peer.id == self._records.id:
            raise PeerRefused(Reason.SELF, "that is this very node, or a copy of it")
        state = self._records.store.keyring.state_of(peer.id, peer.key)
        if state not in (None, KeyState.ACTIVE):
            await transport.send(Close(Reason.KEY_REVOKED))
            raise PeerRefused(Reason.KEY_REVOKED, "its key is not active any more")
        return peer

    async def _tell(self, transport: StreamTransport, peer: auth.Peer) -> None:
        """Tell `peer` of each step to our secret. Raises LeftOut where a rotation does not name it, and tells it so."""
        steps = self._steps(transport.channel.secret.netid)
        if not steps or not all(peer.id in step.rotation.members for step in steps):
            await transport.send(Close(Reason.LEFT_OUT))
            raise LeftOut
        for step in steps:
            told = step.rotation
            await transport.send(
                Rotated(told.signed, told.signature, told.statement, step.secret.to_bytes(), step is steps[-1])
            )

    def _steps(self, netid: bytes) -> list[Step]:
        present = self._membership.member_secret
        return [] if present is None else steps_from(netid, present, self._membership.past)

    def _chain(self) -> list[Rotation]:
        present = self._membership.member_secret
        return [] if present is None else chain_to(present, self._membership.past)

    # -- what others tell --------------------------------------------------------------------------------------------

    async def hear(self, peer: auth.Peer, transport: StreamTransport, first: Rotated) -> None:
        """Read the rotations that `peer` tells of, `first` among them, and judge them soon. Raises RemoteError."""
        told = [first]
        while not told[-1].is_last:
            if len(told) == PAST_NETWORKS_MAX:
                raise RemoteError(Reason.TOO_LARGE, "too many rotations at once")
            told.append(await receive(transport, Rotated))
        self._spawn(self._consider(peer, told))

    async def _consider(self, peer: auth.Peer, told: Sequence[Rotated]) -> None:
        async with self._lock:
            row: list[Step] = []
            refusal = ""
            for message in told:
                try:
                    row.append(self._read(peer, message, row))
                except RemoteError as error:
                    refusal = error.detail
                    break
            try:
                for at, step in enumerate(row):
                    await self._follow(peer.id, step, [each.rotation for each in row[at + 1 :]])
            except (StoreError, ConfigError) as error:  # we are as before: the peer tells of it again
                refusal = f"it cannot be followed now: {error}"
            if refusal:
                self._bus.publish(RotationRefused(peer=peer.id, detail=refusal))

    def _read(self, peer: auth.Peer, message: Rotated, before: Sequence[Step]) -> Step:
        """Return what a message says that came behind `before`. Raises RemoteError for one that is not to be believed.
        """
        rotation = read_rotation(message.signed, message.signature, message.statement)
        secret = MemberSecret.from_bytes(message.secret)
        if secret.commitment != rotation.commitment:
            raise _unbelieved("the secret is not the one that the rotation names")
        if peer.id not in rotation.members:
            raise _unbelieved("the peer that told of the rotation is not named by it")
        keyring = self._records.store.keyring
        if keyring.state_of(rotation.rotator, rotation.key) not in (None, KeyState.ACTIVE):
            raise _unbelieved("the key that signed the rotation is not active any more")
        believed = [*self._chain(), *(step.rotation for step in before)]
        named = {each for earlier in believed for each in earlier.members}  # a store that was rolled back knows less
        if not any(each in named or keyring.keys_of(each) for each in (rotation.rotator, peer.id)):
            raise _unbelieved("neither the node that rotated nor the one that told of it is known here")
        if before and rotation.parent != before[-1].secret.netid:
            raise _unbelieved("it does not replace the secret of the rotation before it")
        return Step(rotation, secret)

    async def _follow(self, told_by: IdentityId, step: Step, later: Sequence[Rotation]) -> None:
        """Do about a rotation what the rules say. `later`: those that were told of behind it."""
        present = self._membership.member_secret
        if present is None:
            return
        chain = self._chain()
        match judge(step.rotation, later=later, me=self._records.id, network=present.netid, chain=chain):
            case Verdict.TAKE:
                steps, back = [step], self._to_leave_out_again(step.rotation, chain)
                if back:
                    stays = (self._listed_in(step.secret) | step.rotation.members) - back
                    steps.append(self._draw(step.secret, stays, back))
                await self._adopt(steps, told_by=told_by, is_copied=not back)
                with suppress(StoreError, ConfigError):  # it is followed already; the next start goes on copying
                    await self._copy_rest()
            case Verdict.LEFT_OUT:
                self.note_left_out(told_by)
            case Verdict.KEEP | Verdict.FOREIGN:
                pass

    def _to_leave_out_again(self, winner: Rotation, chain: Sequence[Rotation]) -> frozenset[IdentityId]:
        """Return those whom rotations of ours left out that `winner` beats, and whom it names."""
        at = next((number for number, ours in enumerate(chain) if ours.parent == winner.parent), len(chain))
        beaten = [ours for ours in chain[at:] if ours.rotator == self._records.id]
        return frozenset(each for ours in beaten for each in ours.without) & winner.members

    def _note_end(self, peer: auth.Peer, end: EchonodeError) -> None:
        if isinstance(end, PeerRefused) and end.reason is Reason.LEFT_OUT:
            self.note_left_out(peer.id)

    def note_left_out(self, peer: IdentityId) -> None:
        """Note that `peer` said that the network was rotated without this node."""
        if peer not in self._moves.left_out_by and len(self._moves.left_out_by) < CANDIDATES_MAX:
            self._moves.left_out_by.add(peer)
            self._bus.publish(NetworkLeftOut(peer=peer, network=self._membership.name))


def _unbelieved(why: str) -> RemoteError:
    return RemoteError(Reason.NOT_ACCEPTED, why)
