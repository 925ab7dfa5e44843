"""The API of the running node, as commands ask it: a method, a path, a query.

    ApiClient(location).call("GET", "/v1/status")                          the JSON value of the answer
    with ApiClient(location).open("POST", path, body=chunks) as answer:    a stream each way
        for value in answer.values(): ...

It carries requests over client/connection.py, as the Python client does, and tries nothing twice: a person is there to
do that. Every error is a ClientError, and exit_codes.py has the exit code that fits.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from echonode.client.connection import Answer, Connector
from echonode.client.location import Location
from echonode.client.request import JSON_TYPE, Query, Request, target

CALL_TIMEOUT_S: Final = 30.0


class ApiClient:
    """Sends requests to the first place of `location` at which a node listens."""

    def __init__(self, location: Location) -> None:
        self._connector = Connector(location)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> Any:
        """Send a request and return its JSON answer. A `body` of bytes is sent as it is, any other as JSON. Raises
        ClientError."""
        headers: dict[str, str] = {}
        if body is not None and not isinstance(body, bytes):
            headers["content-type"] = JSON_TYPE
            body = json.dumps(body).encode()
        with self.open(method, path, query=query, headers=headers, body=body, timeout_s=timeout_s) as answer:
            return answer.value()

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> Answer:
        """Send a request and return when its answer begins. The parts of an iterator are sent as they are taken.

        A `query` pair whose value is None is left out. Raises Refused when the node refuses, ClientError for every
        other error.
        """
        whole, parts = (body or b"", None) if body is None or isinstance(body, bytes) else (b"", body)
        fields = tuple((headers or {}).items())
        request = Request(method=method, target=target(path, query), body=whole, headers=fields)
        return self._connector.open(request, timeout_s, body=parts)

    def is_listening(self) -> bool:
        """Return True if a node listens at one of the places. Raises ClientError when one cannot be tried."""
        return self._connector.is_listening()

    def check(self) -> None:
        """Raise NotRunning unless a node listens."""
        self._connector.check()
