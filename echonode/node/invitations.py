"""Invitations into a private network: the code that one node gives out, and the code that another one joins by.

SPAKE2 turns the code into a key inside a channel of the public network; the network secret follows (SECURITY.md H8):

    joiner                                    inviter, while an invitation is open
      PairStart(share)               ->
                                     <-         PairAnswer(share)
      PairConfirm(confirmation)      ->         checks it first: one use, an expiry, three tries
                                     <-         PairFinish(confirmation, sealed secret and pool)
      PairMember(owner, key, proof)  ->         only for a closed pool: lists the joiner
      Close                          ->
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from echonode.clock import Clock, Entropy
from echonode.errors import LocalError, PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import AUTH_BYTES_MAX, INVITATION_TRIES, INVITATION_USES_MAX
from echonode.model.identity import IdentityId, PoolKind, PublicKey
from echonode.model.known_pool import KnownPool
from echonode.model.member_secret import MemberSecret
from echonode.node.event_bus import EventBus
from echonode.node.events import InvitationOpened, InvitationRefused, InvitationUsed
from echonode.node.handshake import introductions, receive, shake_hands
from echonode.node.happy_eyeballs import reach
from echonode.node.membership import Membership
from echonode.node.pools import Pools
from echonode.sync.streams import ByteStream, Dial
from echonode.sync.transport import StreamTransport
from echonode.text import escape, to_base32
from echonode.wire.channel import Handshake, NetworkSecret
from echonode.wire.messages import Close, PairAnswer, PairConfirm, PairFinish, PairMember, PairStart
from echonode.wire.pairing import (
    CODE_ENTROPY_BYTES,
    Code,
    Invitation,
    PairingInitiator,
    PairingResponder,
    new_code,
    normalise_code,
    slot_of,
)

_LOOK_AGAIN_S: Final = 0.25


class Invitations:
    """The invitation that is open into our network, and joining another by a code.

    At most one invitation is open; opening another closes it.
    """

    def __init__(
        self, membership: Membership, pools: Pools, clock: Clock, entropy: Entropy, bus: EventBus
    ) -> None:
        self._membership = membership
        self._pools = pools
        self._clock = clock
        self._entropy = entropy
        self._bus = bus
        self._invitation: Invitation | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self.is_joining = False  # then nothing is handed out: it would lead into a network that this node leaves

    # -- the inviter -------------------------------------------------------------------------------------------------

    @property
    def slot(self) -> str | None:
        """The number of the open invitation, None when there is none."""
        invitation = self._invitation
        if invitation is None or self.is_joining or not invitation.is_open(self._clock.monotonic_s()):
            return None
        return slot_of(invitation.code)

    def secrets(self) -> tuple[NetworkSecret, ...]:
        """Return the secrets that a connection may be made under, ours first; a joiner's is the public one."""
        ours = self._membership.secret
        return (ours, NetworkSecret.public()) if self.slot is not None else (ours,)

    def open(self, *, uses: int, expires_s: float, pool: KnownPool | None = None) -> Code:
        """Open an invitation for `uses` joiners, and return the code to type there. Raises LocalError.

        With `pool` they become members of that too."""
        if self.is_joining:
            raise LocalError("this node is joining a network: invite others when it is a member")
        if self._membership.member_secret is None:
            raise LocalError("the open network needs no invitation: anyone may take part")
        if not 1 <= uses <= INVITATION_USES_MAX:
            raise LocalError(f"an invitation is for 1 to {INVITATION_USES_MAX} nodes")
        if not expires_s > 0:
            raise LocalError("an invitation must be open for some time")
        if pool is not None and pool.seed is None:
            raise LocalError(f"this node cannot invite into {escape(pool.label)}: the node that made it can")
        if pool is not None and pool.kind is PoolKind.CLOSED:
            pool = replace(pool, seed=None)
        code = new_code(self._entropy.random_bytes(CODE_ENTROPY_BYTES))
        self._close()
        self._invitation = Invitation(code, self._clock.monotonic_s() + expires_s, uses, pool=pool)
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(expires_s, self.announce)
        self._bus.publish(InvitationOpened(slot=slot_of(code), uses=uses, expires_s=expires_s))
        self.announce()
        return code

    def announce(self) -> None:
        """Make known by discovery whether an invitation is open."""
        self._membership.announce(self.slot)

    def void(self) -> None:
        """Close the invitation, if one is open: this node is a member of another network now."""
        self._close()
        self._invitation = None
        self.announce()

    def _close(self) -> None:
        """Close the invitation, if one is open, to joiners that are pairing too: they would get a secret of before."""
        if self._invitation is not None:
            self._invitation.close()

    async def serve(self, transport: StreamTransport) -> None:
        """Serve a joiner that connected. Raises RemoteError (PAIRING_FAILED) for one that does not know the code."""
        invitation, secret = self._invitation, self._membership.member_secret
        if invitation is None or secret is None:
            raise RemoteError(Reason.PAIRING_FAILED, "no invitation is open")
        address = transport.stream.address
        try:
            await self._pair(transport, invitation, secret)
        except RemoteError as error:
            self._bus.publish(InvitationRefused(address=address, detail=error.detail))
            raise
        finally:
            self.announce()
        self._bus.publish(InvitationUsed(slot=slot_of(invitation.code), address=address))

    async def _pair(self, transport: StreamTransport, invitation: Invitation, secret: MemberSecret) -> None:
        transport.channel.receive_bytes_max = AUTH_BYTES_MAX
        pairing = PairingResponder(
            invitation,
            secret=secret,
            handshake_hash=transport.channel.handshake_hash,
            entropy_f=self._entropy.random_bytes,
        )
        async with introductions():
            share = (await receive(transport, PairStart)).share
            await transport.send(PairAnswer(await _compute(lambda: pairing.answer(share))))
            confirmation = (await receive(transport, PairConfirm)).confirmation
            try:
                finish = pairing.finish(confirmation, now_s=self._clock.monotonic_s())
            except RemoteError as error:
                await transport.part(error.reason)
                raise
            await transport.send(PairFinish(*finish))
            with suppress(PeerRefused, TransportError):  # the joiner has the secret; how it leaves does not matter
                message = await transport.recv()
                if isinstance(message, PairMember) and invitation.pool is not None:
                    await self._enlist(invitation.pool, message)
                    await transport.recv()

    async def _enlist(self, offered: KnownPool, member: PairMember) -> None:
        """List the joiner in the closed pool of its invitation. Raises RemoteError (PAIRING_FAILED)."""
        try:
            known = self._pools.resolve(to_base32(offered.id))
            await self._pools.enlist(known, IdentityId(member.owner), PublicKey(member.key), member.proof)
        except LocalError as error:
            raise RemoteError(Reason.PAIRING_FAILED, str(error)) from None

    # -- the joiner --------------------------------------------------------------------------------------------------

    async def join(
        self,
        text: str,
        at: str | None,
        timeout_s: float,
        dial: Dial,
        inviters: Callable[[str], Sequence[Sequence[str]]],
    ) -> tuple[MemberSecret, KnownPool | None]:
        """Return the network secret behind the code `text`, and the pool of the invitation, None for none.

        `at`: HOST:PORT of the inviter. Without it, `inviters` gives the addresses where an invitation with the code's
        number may be open, and they are tried as they appear. Raises ConfigError for a text that is no code, LocalError
        for a wrong code and while it is joining already, TransportError when no such invitation is found within
        `timeout_s`. Until it returns, no invitation of this node is open.
        """
        code = normalise_code(text)
        if self.is_joining:
            raise LocalError("this node is joining a network already")
        self.is_joining = True
        self.announce()
        try:
            return await self._find_and_join(code, at, timeout_s, dial, inviters)
        finally:
            self.is_joining = False
            self.announce()

    async def _find_and_join(
        self,
        code: Code,
        at: str | None,
        timeout_s: float,
        dial: Dial,
        inviters: Callable[[str], Sequence[Sequence[str]]],
    ) -> tuple[MemberSecret, KnownPool | None]:
        """Try the nodes that may have the invitation until one has it, as `join` says."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        error: Exception = TransportError(
            f"no node with invitation {slot_of(code)} open was found: the code may be spent or expired, "
            "or the other machine is not on this network (try --at HOST:PORT)"
        )
        tried: set[tuple[str, ...]] = set()
        guesses = _Guesses()
        while True:
            found = [(at,)] if at else [tuple(addresses) for addresses in inviters(slot_of(code))]
            for addresses in found:
                if addresses in tried:
                    continue
                tried.add(addresses)
                try:
                    return await self._join_at_any(dial, addresses, code, guesses)
                except (PeerRefused, RemoteError) as refused:
                    error = _explain(refused.reason)
                except TransportError as failure:
                    error = TransportError(
                        f"{addresses[0]} has no invitation open: the code may be spent or expired ({failure})"
                    )
            if at or self._clock.monotonic_s() >= deadline_s:
                raise error
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _join_at_any(
        self, dial: Dial, addresses: Sequence[str], code: Code, guesses: "_Guesses"
    ) -> tuple[MemberSecret, KnownPool | None]:
        """Return secret and pool of the inviter at one of `addresses`: another may lead to another node, or to us.

        Raises as `_join_at`.
        """
        waiting = list(addresses)
        failure: TransportError | None = None
        while True:
            try:
                address, stream = await reach(dial, waiting)
            except TransportError as error:
                raise failure or error from None
            waiting.remove(address)
            try:
                return await self._join_at(stream, code, guesses)
            except TransportError as error:
                failure = error

    async def _join_at(
        self, stream: ByteStream, code: Code, guesses: "_Guesses"
    ) -> tuple[MemberSecret, KnownPool | None]:
        """Return secret and pool of the inviter at the other end of `stream`, and close that.

        Raises RemoteError (PAIRING_FAILED) or PeerRefused for a wrong code, TransportError when no node invites there.
        """
        random_bytes = self._entropy.random_bytes
        try:
            handshake = Handshake.initiator(
                NetworkSecret.public(), static=random_bytes(32), ephemeral=random_bytes(32)
            )
            transport = StreamTransport(stream, await shake_hands(stream, handshake))
            transport.channel.receive_bytes_max = AUTH_BYTES_MAX
            pairing = PairingInitiator(
                code, handshake_hash=transport.channel.handshake_hash, entropy_f=random_bytes
            )
            async with introductions():
                await transport.send(PairStart(await _compute(pairing.start)))
                share = (await receive(transport, PairAnswer)).share
                guesses.add()
                await transport.send(PairConfirm(await _compute(lambda: pairing.confirm(share))))
                finish = await receive(transport, PairFinish)
                secret, pool = pairing.accept(finish.confirmation, finish.sealed)
                if pool is not None and pool.kind is PoolKind.CLOSED:
                    await transport.send(PairMember(*self._pools.proof(pool.id)))
                await transport.send(Close(Reason.FINISHED))
            await stream.close()
            return secret, pool
        finally:
            stream.abort()


class _Guesses:
    """Counts the ends that learn whether they guessed our code: any node may announce that invitation's number."""

    def __init__(self) -> None:
        self._count = 0

    def add(self) -> None:
        """Count one more. Raises LocalError past INVITATION_TRIES."""
        if self._count == INVITATION_TRIES:
            raise LocalError("others answer to this invitation too: make a new one, and join with --at HOST:PORT")
        self._count += 1


async def _compute(work: Callable[[], bytes]) -> bytes:
    """Run SPAKE2 off the loop: in Python it takes milliseconds."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _explain(reason: Reason) -> Exception:
    if reason is Reason.PAIRING_FAILED:
        return LocalError("that is not the code of the invitation that is open there; three wrong tries close it")
    return TransportError(f"the other node broke off: {reason.text}")
