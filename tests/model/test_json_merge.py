"""The merge of JSON bodies: the table of its docstring, and properties of every pair of objects."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.model.json_merge import merge_bodies

X, Y, Z = '"x"', '"y"', '"z"'


def merged(ours: str, theirs: str, base: str | None = None) -> object:
    body = merge_bodies(ours.encode(), theirs.encode(), None if base is None else base.encode())
    return None if body is None else body.decode()


TABLE: dict[str, tuple[str | None, str, str, str]] = {
    "both say the same": (None, '{"a":"x"}', '{"a":"x"}', '{"a":"x"}'),
    "theirs changed it": ('{"a":"x"}', '{"a":"x"}', '{"a":"y"}', '{"a":"y"}'),
    "ours changed it": ('{"a":"x"}', '{"a":"y"}', '{"a":"x"}', '{"a":"y"}'),
    "both changed it alike": ('{"a":"x"}', '{"a":"y"}', '{"a":"y"}', '{"a":"y"}'),
    "ours took it away": ('{"a":"x"}', "{}", '{"a":"x"}', "{}"),
    "theirs took it away": ('{"a":"x"}', '{"a":"x"}', "{}", "{}"),
    "both took it away": ('{"a":"x"}', "{}", "{}", "{}"),
    "an edit beside our removal": ('{"a":"x"}', "{}", '{"a":"y"}', '{"a":"y"}'),
    "an edit beside their removal": ('{"a":"x"}', '{"a":"y"}', "{}", '{"a":"y"}'),
    "one field of each": ("{}", '{"a":"x"}', '{"b":"y"}', '{"a":"x","b":"y"}'),
    "without a base nothing is taken away": (None, "{}", '{"a":"x"}', '{"a":"x"}'),
    "both changed it": ('{"a":"x"}', '{"a":"y"}', '{"a":"z"}', '{"a":{"$conflict":["y","z"]}}'),
    "without a base both are kept": (None, '{"a":"y"}', '{"a":"z"}', '{"a":{"$conflict":["y","z"]}}'),
    "inside": ('{"o":{"a":1,"b":1}}', '{"o":{"a":2,"b":1}}', '{"o":{"a":1,"b":2}}', '{"o":{"a":2,"b":2}}'),
    "an object against a text": (None, '{"a":{}}', '{"a":"z"}', '{"a":{"$conflict":[{},"z"]}}'),
    "a merge is merged": (
        None,
        '{"a":{"$conflict":["y","z"]}}',
        '{"a":{"$conflict":["z","w"]}}',
        '{"a":{"$conflict":["y","z","w"]}}',
    ),
    "numbers stay as written": (
        None,
        '{"a":1.0}',
        '{"b":123456789012345678.10}',
        '{"a":1.0,"b":123456789012345678.10}',
    ),
    "1 is not true": (None, '{"a":[1,1]}', '{"a":[1,true]}', '{"a":{"$conflict":[[1,1],[1,true]]}}'),
    "a base that is no object is unknown": ("[]", '{"a":"y"}', '{"a":"z"}', '{"a":{"$conflict":["y","z"]}}'),
    "text outside ASCII": (None, '{"ü":"€"}', '{"b":"\\ud800"}', '{"ü":"€","b":"\\ud800"}'),
    "null and false": (None, '{"a":null}', '{"b":false}', '{"a":null,"b":false}'),
}


@pytest.mark.parametrize(("base", "ours", "theirs", "expected"), TABLE.values(), ids=TABLE)
def test_a_field_follows_the_table(base: str | None, ours: str, theirs: str, expected: str) -> None:
    assert merged(ours, theirs, base) == expected


@pytest.mark.parametrize("body", ["", "milk", "[]", "1", '{"a":1,"a":2}', '{"a":NaN}', "{" * 50_000, '{"a":' * 50_000])
def test_a_body_that_is_no_json_object_is_not_merged(body: str) -> None:
    assert merged(body, "{}") is None
    assert merged("{}", body) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4).map(json.dumps)


@given(ours=OBJECTS, theirs=OBJECTS, base=OBJECTS | st.none())
def test_a_merge_is_json_and_merging_it_with_either_side_again_adds_nothing(
    ours: str, theirs: str, base: str | None
) -> None:
    result = merged(ours, theirs, base)
    assert isinstance(result, str)
    json.loads(result)
    assert merged(result, result, base) == result


@given(ours=OBJECTS, theirs=OBJECTS)
def test_without_a_base_every_field_of_both_sides_is_there(ours: str, theirs: str) -> None:
    result = json.loads(str(merged(ours, theirs)))
    assert result.keys() == json.loads(ours).keys() | json.loads(theirs).keys()


@given(ours=OBJECTS, base=OBJECTS)
def test_a_side_that_changed_nothing_leaves_the_other_as_it_is(ours: str, base: str) -> None:
    assert json.loads(str(merged(ours, base, base))) == json.loads(ours)
    assert json.loads(str(merged(base, ours, base))) == json.loads(ours)
