"""The frozen bytes of proto/vectors/record.json and merkle.json."""

import json

import pytest

from echonode.errors import RemoteError
from echonode.model.keys import read_statement
from echonode.model.record import IDENTITIES, parse, verify
from tests.model import make_merkle_vectors, make_record_vectors


def test_the_frozen_versions_come_out_byte_for_byte() -> None:
    frozen = json.loads(make_record_vectors.PATH.read_text())
    assert make_record_vectors.build() == frozen, "the format changed: see tests/model/make_record_vectors.py"


def test_the_frozen_trees_come_out_byte_for_byte() -> None:
    frozen = json.loads(make_merkle_vectors.PATH.read_text())
    assert make_merkle_vectors.build() == frozen, "the tree changed: see tests/model/make_merkle_vectors.py"


def test_the_frozen_versions_are_accepted_as_what_they_say() -> None:
    for vector in json.loads(make_record_vectors.PATH.read_text())["versions"]:
        record = verify(parse(bytes.fromhex(vector["bytes"])))
        assert (record.id.hex(), record.key.hex(), record.name) == (vector["id"], vector["key"], vector["name"])
        assert record.vector == {bytes.fromhex(writer): int(counter) for writer, counter in vector["vector"].items()}
        assert (record.timestamp, record.created_ms) == (int(vector["timestamp"]), int(vector["created_ms"]))
        assert record.body == bytes.fromhex(vector["body"]) * vector["body_times"]
        if record.context == IDENTITIES:
            assert vector["what"].endswith(read_statement(record).state.name.lower()) or "pool" in vector["what"]


def test_the_frozen_bad_versions_are_refused() -> None:
    for vector in json.loads(make_record_vectors.PATH.read_text())["refused"].values():
        with pytest.raises(RemoteError) as refused:
            verify(parse(bytes.fromhex(vector["bytes"])))
        assert refused.value.reason.text == vector["reason"]
