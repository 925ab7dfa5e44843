"""Errors carry their reason and detail, and reasons keep their numbers, which are on the wire."""

import pytest

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

ON_THE_WIRE = [
    "finished",
    "protocol_error",
    "too_large",
    "unsupported_protocol",
    "unsupported_mode",
    "unknown_context",
    "bad_record",
    "foreign_context",
    "unknown_key",
    "key_revoked",
    "identity_changed",
    "busy",
    "duplicate_session",
    "timed_out",
    "shutting_down",
    "store_failed",
    "pairing_failed",
    "not_accepted",
    "self",
    "stale_cursor",
    "quota",
    "paused",
    "left_out",
    "unapproved",
]


def test_reasons_keep_the_numbers_they_have_on_the_wire() -> None:
    assert {reason.text: reason.value for reason in Reason} == {text: at for at, text in enumerate(ON_THE_WIRE)}


@pytest.mark.parametrize("kind", [LocalError, TransportError, StoreError, ConfigError])
def test_every_error_raised_on_purpose_is_an_echonode_error(kind: type[EchonodeError]) -> None:
    with pytest.raises(EchonodeError, match="why"):
        raise kind("why")


def test_a_remote_error_carries_the_reason_we_answer_with_and_a_detail_for_our_log() -> None:
    error = RemoteError(Reason.TOO_LARGE, "a frame of 2 MiB")
    assert (error.reason, error.detail, str(error)) == (
        Reason.TOO_LARGE,
        "a frame of 2 MiB",
        "too_large: a frame of 2 MiB",
    )


def test_a_refusal_by_the_peer_says_what_would_do() -> None:
    error = PeerRefused(Reason.UNSUPPORTED_MODE, "sketch", supported=("level_wise", "snapshot"))
    assert str(error) == "peer refused: unsupported_mode (sketch)"
    assert error.supported == ("level_wise", "snapshot")
    assert str(PeerRefused(Reason.BUSY)) == "peer refused: busy"
