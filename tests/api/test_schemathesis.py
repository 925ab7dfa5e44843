"""Requests drawn from proto/openapi.yaml, right and wrong ones, get answers that it documents."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
import yaml
from schemathesis.generation import GenerationMode

from tests.api import openapi
from tests.api.serving import serving
from tests.cli.harness import in_thread

EXAMPLES = 3  # of right requests to an operation, and as many of wrong ones
LEFT_OUT = {
    ("GET", "/v1/events"),  # its answer has no end
    ("POST", "/v1/token"),  # the token of the other requests would be wrong after it
    ("POST", "/v1/keys/root/export"),  # it derives a key from a passphrase, for a second each time
    ("POST", "/v1/records/{context}/import"),  # no serializer for lines; tests/api/test_bulk_import.py draws them
    ("POST", "/v1/record-file"),  # no serializer for it; tests/node/test_record_files.py draws them
}
WAITS = ("wait", "follow")  # parameters that put an answer off
TIMEOUT_S = 30


def serve(folder: Path) -> Callable[[Future[Any], asyncio.Event], Coroutine[Any, Any, None]]:
    async def body(ready: Future[Any], end: asyncio.Event) -> None:
        async with serving(folder, api_listen="127.0.0.1:0") as served:
            await served.put("a", b"{}")
            ready.set_result(served)
            await end.wait()

    return body


def try_some(operation: Any, mode: GenerationMode, url: str, headers: dict[str, str]) -> None:
    """Send a few requests of one kind to an operation, and hold each answer to the document."""

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        case.query = {key: value for key, value in (case.query or {}).items() if key not in WAITS}
        answer = case.call(base_url=url, headers=headers, timeout=TIMEOUT_S)
        (content_type,) = answer.headers["content-type"]
        asked = answer.request
        openapi.check(asked.method, asked.path_url, answer.status_code, content_type, answer.content)

    try:
        send()
    except hypothesis.errors.Unsatisfiable:
        pass  # an operation without parameters has no wrong request


def test_drawn_requests_get_documented_answers(tmp_path: Path) -> None:
    schema = schemathesis.openapi.from_dict(yaml.safe_load(openapi.DOCUMENT.read_text()))
    operations = {(each.method.upper(), each.path): each for each in map(_operation, schema.get_all_operations())}
    assert set(operations) == set(openapi.operations())
    with in_thread(serve(tmp_path)) as served:
        headers = {"Authorization": f"Bearer {served.access.token.text}"}
        for name, operation in operations.items():
            if name not in LEFT_OUT:
                for mode in GenerationMode:
                    try_some(operation, mode, served.access.url, headers)


def _operation(result: Any) -> Any:
    return result.ok()
