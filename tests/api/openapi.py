"""proto/openapi.yaml as a judge of answers: is each one documented, to the letter?

The judge is stricter than the document's readers need to be: an answer may hold no field that the document does not
name. Each answer must be one that our own clients take, too.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from echonode.client.answer_shapes import shape_of
from echonode.client.request import Request
from echonode.client.shape import ANY, mismatch

DOCUMENT = Path(__file__).parents[2] / "proto" / "openapi.yaml"
METHODS = ("get", "put", "post", "delete")
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
FILES = ("text/html", "text/css", "text/javascript", "application/cbor-seq")  # the status page, record files
PLAIN_TEXT = "text/plain"
_URI = "urn:openapi"


@cache
def document() -> dict:
    return _strict(yaml.safe_load(DOCUMENT.read_text()))


def operations() -> Iterator[tuple[str, str]]:
    """Yield (METHOD, path template) of every operation."""
    for path, item in document()["paths"].items():
        yield from ((method.upper(), path) for method in METHODS if method in item)


def documented() -> Iterator[tuple[str, str, str]]:
    """Yield (METHOD, path template, status) of every documented answer."""
    for method, path in operations():
        yield from ((method, path, status) for status in _operation(method, path)["responses"])


def check(method: str, target: str, status: int, content_type: str, body: bytes) -> None:
    """Raise AssertionError or ValidationError unless this is a documented answer to the request."""
    path = template_of(target)
    if path is None or method.lower() not in document()["paths"][path]:
        assert status == (404 if path is None else 405), f"{method} {target} is not in the document"
        if method != "HEAD":  # an answer to HEAD has no body
            validator("#/components/schemas/Problem").validate(json.loads(body))
        return
    responses = _operation(method, path)["responses"]
    chosen = str(status) if str(status) in responses else "default"
    assert chosen != "default" or status in (401, 403, 500, 503), f"{method} {path}: {status} is not documented"
    pointer = _pointer("#", "paths", path, method.lower(), "responses", chosen)
    response = responses[chosen]
    if "$ref" in response:
        pointer, response = response["$ref"], resolve(response["$ref"])
    essence = content_type.partition(";")[0]
    if "whole=1" not in target and "*/*" in response["content"]:
        return  # a record's body, with its own media type
    assert essence in response["content"], f"{method} {path}: {status} comes as {content_type}"
    if essence in FILES:
        return
    schema = validator(_pointer(pointer, "content", essence, "schema"))
    shape = shape_of(Request(method=method, target=target)) if status < 300 and essence != EVENT_STREAM else ANY
    for value in values(essence, body):
        schema.validate(value)
        problem = "" if isinstance(value, dict) and value.keys() == {"error"} else mismatch(value, shape)
        assert not problem, f"{method} {target}: a client would not take this: {problem}"


def values(essence: str, body: bytes) -> list:
    """Return the JSON values in a body: one for JSON, one for each line or event of a stream."""
    if essence == NDJSON:
        return [json.loads(line) for line in body.splitlines()]
    if essence == EVENT_STREAM:
        return [json.loads(line.removeprefix(b"data: ")) for line in body.splitlines() if line.startswith(b"data: ")]
    if essence in ("text/html", "text/css", "text/javascript"):
        return [body.decode("utf-8")]
    if essence == PLAIN_TEXT:
        return [body.decode()]
    return [json.loads(body)]


def template_of(target: str) -> str | None:
    """Return the documented path that fits `target`, the most literal one; None if there is none."""
    path = target.partition("?")[0]
    fitting = [each for each in document()["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), path)]
    return max(fitting, key=len, default=None)


@cache
def validator(pointer: str) -> Draft202012Validator:
    registry = Registry().with_resource(_URI, Resource(contents=document(), specification=DRAFT202012))
    return Draft202012Validator({"$ref": _URI + pointer}, registry=registry)


def resolve(pointer: str) -> dict:
    found = document()
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def _operation(method: str, path: str) -> dict:
    return document()["paths"][path][method.lower()]


def _pointer(start: str, *parts: str) -> str:
    return "/".join([start, *(part.replace("~", "~0").replace("/", "~1") for part in parts)])


def _strict(value: object) -> object:
    """Return the schema with every object closed whose fields are listed."""
    match value:
        case dict():
            closed = {key: _strict(part) for key, part in value.items()}
            if closed.get("type") == "object" and "properties" in closed:
                closed.setdefault("additionalProperties", False)
            return closed
        case list():
            return [_strict(part) for part in value]
        case _:
            return value
