"""Invitations, both sides: the code we gave out, and the code somebody gave us."""

import asyncio
from collections.abc import Callable, Sequence

from echonode.clock import Clock, Entropy
from echonode.errors import LocalError, PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import INVITATION_TRIES, INVITATION_USES_MAX
from echonode.node import pairing
from echonode.node.events import (
    InvitationOpened,
    InvitationRefused,
    InvitationUsed,
    NetworkJoined,
    Observer,
)
from echonode.node.happy_eyeballs import reach
from echonode.sync.streams import Dial
from echonode.sync.transport import StreamTransport
from echonode.wire.pairing import CODE_ENTROPY_BYTES, Code, Invitation, new_code, normalise_code, slot_of

_LOOK_AGAIN_S = 0.25


class Invitations:
    """At most one invitation is open; opening another closes it."""

    def __init__(self, clock: Clock, entropy: Entropy, observe: Observer, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._entropy = entropy
        self._observe = observe
        self._changed = changed
        self._invitation: Invitation | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def slot(self) -> str | None:
        """The number of the open invitation."""
        invitation = self._invitation
        if invitation is None or not invitation.is_open(self._clock.monotonic_s()):
            return None
        return slot_of(invitation.code)

    def open(self, *, uses: int, expires_s: float) -> Code:
        """Open an invitation for `uses` joiners; the code."""
        if not 1 <= uses <= INVITATION_USES_MAX:
            raise LocalError(f"an invitation is for 1 to {INVITATION_USES_MAX} nodes")
        if not expires_s > 0:
            raise LocalError("an invitation must be open for some time")
        code = new_code(self._entropy.random_bytes(CODE_ENTROPY_BYTES))
        self._invitation = Invitation(code, self._clock.monotonic_s() + expires_s, uses)
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(expires_s, self._changed)
        self._observe(InvitationOpened(slot=slot_of(code), uses=uses, expires_s=expires_s))
        self._changed()
        return code

    async def serve(self, transport: StreamTransport, network_key: bytes) -> None:
        """A joiner connected."""
        invitation = self._invitation
        if invitation is None:
            raise RemoteError(Reason.PAIRING_FAILED, "no invitation is open")
        address = transport.stream.address
        try:
            await pairing.invite(
                transport, invitation, network_key, entropy=self._entropy, now_s=self._clock.monotonic_s
            )
        except RemoteError as error:
            self._observe(InvitationRefused(address=address, detail=error.detail))
            raise
        finally:
            self._changed()
        self._observe(InvitationUsed(slot=slot_of(invitation.code), address=address))

    async def join(
        self,
        text: str,
        at: str | None,
        timeout_s: float,
        dial: Dial,
        inviters: Callable[[str], Sequence[Sequence[str]]],
    ) -> bytes:
        """The network key behind the code `text`; `inviters` gives addresses where that slot may be open."""
        code = normalise_code(text)
        deadline_s = self._clock.monotonic_s() + timeout_s
        error: Exception = TransportError(
            f"no node with invitation {slot_of(code)} open was found: the code may be spent or expired, "
            "or the other machine is not on this network (try --at HOST:PORT)"
        )
        tried: set[tuple[str, ...]] = set()
        guesses = 0

        def guessed() -> None:
            nonlocal guesses
            if guesses == INVITATION_TRIES:
                raise LocalError("others answer to this invitation too: make a new one, and join with --at HOST:PORT")
            guesses += 1

        while True:
            found = [(at,)] if at else [tuple(addresses) for addresses in inviters(slot_of(code))]
            for addresses in found:
                if addresses in tried:
                    continue
                tried.add(addresses)
                try:
                    return await pairing.join(await reach(dial, addresses), code, self._entropy, guessed)
                except PeerRefused as refused:
                    error = _explain(refused.reason)
                except RemoteError as refused:
                    error = _explain(refused.reason)
                except TransportError as failure:
                    error = TransportError(
                        f"{addresses[0]} has no invitation open: the code may be spent or expired ({failure})"
                    )
            if at or self._clock.monotonic_s() >= deadline_s:
                raise error
            await asyncio.sleep(_LOOK_AGAIN_S)

    def joined(self, network: str) -> None:
        """We are a member of `network` now; an invitation to the old one is void."""
        self._invitation = None
        self._changed()
        self._observe(NetworkJoined(network=network))


def _explain(reason: Reason) -> Exception:
    if reason is Reason.PAIRING_FAILED:
        return LocalError("that is not the code of the invitation that is open there; three wrong tries close it")
    return TransportError(f"the other node broke off: {reason.text}")
