"""Joining a network by a code: SPAKE2 inside a channel of the public network, then the key (SECURITY.md H8).

    joiner                                    inviter, while an invitation is open
      PairStart(share)               ->
                                     <-         PairAnswer(share)
      PairConfirm(confirmation)      ->         checks it first: one use, an expiry, three tries
                                     <-         PairFinish(confirmation, sealed key)
      Close                          ->
"""

import asyncio
from collections.abc import Callable

from echonode.clock import Entropy
from echonode.errors import PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import AUTH_BYTES_MAX
from echonode.node.handshake import introductions, receive, shake_hands
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.wire.channel import Handshake, NetworkSecret
from echonode.wire.messages import Close, PairAnswer, PairConfirm, PairFinish, PairStart
from echonode.wire.pairing import Code, Invitation, PairingInitiator, PairingResponder


async def join(stream: ByteStream, code: Code, entropy: Entropy, on_guess: Callable[[], None]) -> bytes:
    """The network key of the inviter at the other end of `stream`, which is closed then. `on_guess` is called when the
    other end is about to learn whether it guessed our code: whoever announces an invitation may be somebody else.

    Raises RemoteError (PAIRING_FAILED) or PeerRefused for a wrong code, TransportError when nobody invites there.
    """
    try:
        return await _join(stream, code, entropy, on_guess)
    finally:
        stream.abort()


async def _join(stream: ByteStream, code: Code, entropy: Entropy, on_guess: Callable[[], None]) -> bytes:
    handshake = Handshake.initiator(
        NetworkSecret.public(), static=entropy.random_bytes(32), ephemeral=entropy.random_bytes(32)
    )
    transport = StreamTransport(stream, await shake_hands(stream, handshake))
    transport.channel.receive_bytes_max = AUTH_BYTES_MAX
    pairing = PairingInitiator(
        code, handshake_hash=transport.channel.handshake_hash, entropy_f=entropy.random_bytes
    )
    async with introductions():
        await transport.send(PairStart(await _compute(pairing.start)))
        share = (await receive(transport, PairAnswer)).share
        on_guess()
        await transport.send(PairConfirm(await _compute(lambda: pairing.confirm(share))))
        finish = await receive(transport, PairFinish)
        key = pairing.accept(finish.confirmation, finish.sealed)
        await transport.send(Close(Reason.FINISHED))
    await stream.close()
    return key


async def invite(
    transport: StreamTransport,
    invitation: Invitation,
    network_key: bytes,
    *,
    entropy: Entropy,
    now_s: Callable[[], float],
) -> None:
    """Serve one joiner. Raises RemoteError (PAIRING_FAILED) for one who does not know the code."""
    transport.channel.receive_bytes_max = AUTH_BYTES_MAX
    pairing = PairingResponder(
        invitation,
        network_key=network_key,
        handshake_hash=transport.channel.handshake_hash,
        entropy_f=entropy.random_bytes,
    )
    async with introductions():
        share = (await receive(transport, PairStart)).share
        await transport.send(PairAnswer(await _compute(lambda: pairing.answer(share))))
        confirmation = (await receive(transport, PairConfirm)).confirmation
        try:
            finish = pairing.finish(confirmation, now_s=now_s())
        except RemoteError as error:
            await transport.part(error.reason)
            raise
        await transport.send(PairFinish(*finish))
        try:
            await transport.recv()
        except (PeerRefused, TransportError):
            pass  # the joiner has its key; how it leaves does not matter


async def _compute(work: Callable[[], bytes]) -> bytes:
    """SPAKE2 in Python takes milliseconds: off the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)
