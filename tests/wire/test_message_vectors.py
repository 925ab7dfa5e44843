"""The frozen bytes of proto/vectors/message.json and conversation.json."""

import json

import pytest

from echonode.errors import RemoteError
from echonode.wire.codec import _TABLE, decode
from tests.wire import make_conversation_vector, make_message_vectors
from tests.wire.make_message_vectors import SAMPLES


def test_every_message_comes_out_byte_for_byte() -> None:
    frozen = json.loads(make_message_vectors.PATH.read_text())
    assert make_message_vectors.build() == frozen, "the wire changed: see tests/wire/make_message_vectors.py"


def test_every_frozen_payload_is_read_as_the_message_it_is() -> None:
    frozen = json.loads(make_message_vectors.PATH.read_text())["messages"]
    assert [decode(bytes.fromhex(entry["bytes"])) for entry in frozen] == list(SAMPLES)


def test_the_frozen_payloads_that_are_no_message_are_refused_with_their_reason() -> None:
    for what, entry in json.loads(make_message_vectors.PATH.read_text())["refused"].items():
        with pytest.raises(RemoteError) as raised:
            decode(bytes.fromhex(entry["bytes"]))
        assert raised.value.reason.text == entry["reason"], what


def test_no_message_type_is_without_a_frozen_payload() -> None:
    assert {message.code for message in SAMPLES} == _TABLE.keys()


def test_a_whole_conversation_comes_out_byte_for_byte() -> None:
    frozen = json.loads(make_conversation_vector.PATH.read_text())
    assert make_conversation_vector.build() == frozen, "the wire changed: see tests/wire/make_conversation_vector.py"
