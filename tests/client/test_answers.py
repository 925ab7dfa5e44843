"""The one door for answers: what fits comes through, everything else is one sentence that names the place."""

import json
from typing import Any

import pytest

from echonode.client.answer_shapes import EVENTS, ROUTES, shape_of
from echonode.client.answers import EventStream, Lines, refused, value_of
from echonode.client.errors import BadAnswer, NotFound, Refused
from echonode.client.request import Request, record_path, target
from echonode.client.shape import ANY, checker, mismatch
from tests.api.openapi import document
from tests.client.samples import misfits, sample

LIST = Request(method="GET", target=target(record_path("a/b", "/list"), [("limit", "1")]))
STATUS = Request(method="GET", target="/v1/status")
SHAPES = [*((f"{method} {path}", shape) for method, path, shape in ROUTES), *EVENTS.items()]


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=[name for name, _ in SHAPES])
def test_a_shape_takes_its_samples_and_names_the_place_of_every_misfit(name: str, shape: Any) -> None:
    fits = checker(shape)
    for value in (sample(shape), sample(shape, is_least=True)):
        assert (mismatch(value, shape), fits(value)) == ("", True)
    found = list(misfits(shape))
    assert found
    for place, value in found:
        said = mismatch(value, shape)
        assert place in said and said and not fits(value), (value, said)


def test_every_route_is_one_of_the_document_and_is_found_by_its_request() -> None:
    for method, path, shape in ROUTES:
        assert shape_of(Request(method=method, target=f"{path.replace('*', 'x%2Fy')}?a=b/c")) is shape
        wanted = path.split("/")
        documented = [
            each
            for each, item in document()["paths"].items()
            if method.lower() in item and [part if "{" not in part else "*" for part in each.split("/")] == wanted
        ]
        assert documented, (method, path)
    assert shape_of(Request(method="GET", target="/v1/none")) is ANY


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b"[" * 100_000, b"9" * 5000, b"<html>"], ids=len)
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer, match="not JSON"):
        value_of(STATUS, body)
    with pytest.raises(BadAnswer, match="not JSON"):
        [*(lines := Lines(LIST, 200)).feed(body + b"x\n"), *lines.finish()]


def test_what_is_no_answer_of_the_api_is_one_sentence() -> None:
    with pytest.raises(BadAnswer, match=r"^the answer does not fit: id is missing; another program answers there, or"):
        value_of(STATUS, b"{}")
    with pytest.raises(BadAnswer, match="it is not an object"):
        value_of(STATUS, b"[]")
    with pytest.raises(BadAnswer, match="created is missing"):
        list(Lines(LIST, 200).feed(json.dumps(_without_created()).encode() + b"\n"))
    with pytest.raises(BadAnswer, match="cursor is missing"):
        list(EventStream().feed(b"event: change\ndata: {}\n\n"))


def _without_created() -> dict[str, Any]:
    return {key: value for key, value in sample(shape_of(LIST)).items() if key != "created"}


def test_lines_come_with_their_values_however_the_bytes_are_cut() -> None:
    records = [sample(shape_of(LIST)), sample(shape_of(LIST), is_least=True)]
    text = b"\n\n".join(json.dumps(record).encode() for record in records)
    for size in (1, 7, len(text)):
        lines = Lines(LIST, 200)
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        found = [pair for part in parts for pair in lines.feed(part)] + list(lines.finish())
        assert [value for _, value in found] == records
        assert b"\n\n".join(line for line, _ in found) == text


def test_the_last_line_may_be_an_error_and_a_field_of_that_name_is_none() -> None:
    refusal = b'{"error": {"code": "not_found", "message": "gone"}}\n'
    with pytest.raises(NotFound, match="gone"):
        list(Lines(LIST, 200).feed(refusal))
    log = Lines(Request(method="GET", target="/v1/logs"), 200)
    assert [value["error"] for _, value in log.feed(b'{"event": "x", "error": "y"}\n')] == ["y"]


def test_a_refusal_in_any_form_is_a_refusal() -> None:
    for body in (b"<html>", b"{}", b"[]", b'{"error": "no"}', b'{"error": {}}', b"null"):
        error = refused(502, body)
        assert (type(error), error.status) == (Refused, 502) and "502" in str(error)
