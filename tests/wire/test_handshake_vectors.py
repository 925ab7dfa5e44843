"""The frozen bytes of proto/vectors/handshake.json."""

import json

from tests.wire.make_handshake_vectors import PATH, build


def test_the_frozen_handshake_and_its_frames_come_out_byte_for_byte() -> None:
    assert build() == json.loads(PATH.read_text()), "the wire changed: see tests/wire/make_handshake_vectors.py"
