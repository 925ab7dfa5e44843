"""Relations between bounds that depend on each other."""

from echonode import limits

NUMBERS = {
    name: value if isinstance(value, tuple) else (value,)
    for name, value in vars(limits).items()
    if name.isupper() and not name.startswith("_")
}


def test_every_bound_is_positive_and_every_range_ascends() -> None:
    assert len(NUMBERS) > 40
    for name, values in NUMBERS.items():
        assert all(value > 0 for value in values), name
        assert list(values) == sorted(values), name


def test_a_record_with_every_field_at_its_limit_fits_a_record() -> None:
    vector = limits.VECTOR_ENTRIES_MAX * (16 + 9 + 2)
    tags = limits.TAGS_MAX * (limits.TAG_BYTES_MAX + 2)
    texts = limits.NAME_BYTES_MAX + limits.CONTEXT_BYTES_MAX + 2 * limits.TEXT_FIELD_BYTES_MAX
    assert limits.BODY_BYTES_MAX + vector + tags + texts + 1024 <= limits.RECORD_BYTES_MAX


def test_the_largest_messages_fit_a_frame() -> None:
    assert limits.BATCH_BYTES_MAX + limits.RECORD_BYTES_MAX < limits.FRAME_BYTES_MAX
    assert limits.PREFIXES_PER_MESSAGE_MAX * 16 * (32 + 2) < limits.FRAME_BYTES_MAX
    assert limits.DIGESTS_PER_MESSAGE_MAX * (32 + 2) < limits.FRAME_BYTES_MAX
    assert limits.AUTH_BYTES_MAX < limits.FRAME_BYTES_MAX
    assert limits.BATCH_RECORDS_MAX < limits.CBOR_ITEMS_MAX


def test_a_hello_of_as_many_contexts_as_allowed_fits() -> None:
    digests = 16 * (16 + 1)
    context = limits.CONTEXT_BYTES_MAX + 32 + digests + 100
    assert limits.CONTEXTS_TOLD_MAX * context < 64 * limits.KIB


def test_the_longer_a_peer_is_known_the_longer_it_may_take() -> None:
    assert limits.HANDSHAKE_TIMEOUT_S <= limits.AUTH_TIMEOUT_S <= limits.FRAME_TIMEOUT_S < limits.IDLE_TIMEOUT_S


def test_a_change_reaches_the_wire_within_a_tenth_of_a_second() -> None:
    assert limits.CHANGE_DELAY_S < 0.1


def test_one_address_cannot_take_every_handshake_nor_handshakes_every_connection() -> None:
    assert limits.HANDSHAKES_PER_ADDRESS_MAX < limits.HANDSHAKES_MAX < limits.CONNECTIONS_MAX
