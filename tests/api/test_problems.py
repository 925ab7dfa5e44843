"""Every error of this package has a status and a code, and both are documented."""

import pytest

from echonode import errors
from echonode.api.problems import RequestError, not_found, problem_of, too_large
from echonode.api.shutdown import Stopping
from echonode.api.sync import overall as overall_of
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
from echonode.model.identity import IdentityId
from echonode.node.views import SyncReport, SyncStatus
from echonode.store.port import HeadsMovedError
from tests.api import openapi

EXPECTED = [
    (RequestError("no"), 400, "bad_request"),
    (not_found("no"), 404, "not_found"),
    (too_large("no"), 413, "too_large"),
    (HeadsMovedError(0, "no"), 412, "precondition_failed"),
    (LocalError("no"), 422, "unusable"),
    (ConfigError("no"), 422, "unusable"),
    (PeerRefused(Reason.BUSY), 502, "peer_refused"),
    (RemoteError(Reason.PROTOCOL_ERROR, "no"), 502, "peer_failed"),
    (TransportError("no"), 502, "unreachable"),
    (StoreError("no"), 503, "store_failed"),
    (Stopping(), 503, "stopping"),
]


@pytest.mark.parametrize(("error", "status", "code"), EXPECTED, ids=lambda value: type(value).__name__)
def test_an_error_is_told_by_its_code_and_its_own_words(error: EchonodeError, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code, problem.message) == (status, code, str(error))
    openapi.validator("#/components/schemas/Error").validate(problem.as_json())
    openapi.validator("#/components/schemas/Problem").validate(problem.as_details())


def test_no_error_was_forgotten() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EchonodeError)}
    assert kinds - {EchonodeError} <= {type(error) for error, _, _ in EXPECTED}
    documented = set(openapi.resolve("#/components/schemas/Error")["properties"]["error"]["properties"]["code"]["enum"])
    # These codes are given by responses, by requests, by the route that checks models, for unforeseen exceptions, over
    # TCP, and by the route that reads record files.
    elsewhere = {"method_not_allowed", "conflict", "unsupported_model", "internal", "unauthorised", "forbidden"}
    elsewhere |= {"damaged"}
    assert documented == {code for _, _, code in EXPECTED} | elsewhere


@pytest.mark.parametrize(
    ("statuses", "overall"),
    [
        ("", "no peers"),
        ("VERIFIED", "verified"),
        ("VERIFIED VERIFIED", "verified"),
        ("VERIFIED PARTIAL", "partial"),
        ("VERIFIED FAILED", "partial"),
        ("PARTIAL UNREACHABLE", "partial"),
        ("VERIFIED TIMED_OUT", "timed out"),
        ("FAILED TIMED_OUT", "timed out"),
        ("FAILED UNREACHABLE", "failed"),
    ],
)
def test_a_sync_with_several_peers_has_one_status(statuses: str, overall: str) -> None:
    reports = [
        SyncReport(peer=IdentityId(bytes(32)), name="", status=SyncStatus[each], conversations=(), error="")
        for each in statuses.split()
    ]
    assert overall_of(reports) == overall
