"""proto/openapi.yaml describes all that the API does: every path, every answer, every event."""

import base64
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path
from typing import get_args

from jsonschema import Draft202012Validator

from echonode.errors import StoreError
from echonode.limits import BODY_BYTES_MAX
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import MAIN, Record
from echonode.node.events import Event
from echonode.node.explanation import Because
from echonode.store.memory import MemoryStore
from echonode.store.port import Audit, ContextInfo
from echonode.sync.select import Mode
from echonode.text import to_base32
from tests.api import openapi
from tests.api.serving import SECRET, Served, run, serving
from tests.sync.pair import Author

RECORDS = "/v1/records/main"
BIG = b"x" * (BODY_BYTES_MAX + 1)
BIG_JSON = b'{"peer": "' + b"x" * 65_536 + b'"}'
NOWHERE = "127.0.0.1:1"
ECHO = "/api/v1/echo-sync/nodes"
ONCE = {"retry": 1}

# (node, status, method, target, body): at least one for each documented answer. `open` is on the open network, `one`
# on a private one.
TOUR = [
    ("one", 200, "GET", "/v1/status", b""),
    ("one", 400, "GET", "/v1/status?verbose=1", b""),
    ("one", 200, "GET", "/v1/peers", b""),
    ("one", 400, "GET", "/v1/peers?x=1", b""),
    ("one", 400, "POST", "/v1/peers/forget", b"{}"),
    ("one", 404, "POST", "/v1/peers/forget", {"peer": "stranger"}),
    ("one", 413, "POST", "/v1/peers/forget", BIG_JSON),
    ("one", 200, "GET", "/v1/trust", b""),
    ("one", 400, "GET", "/v1/trust?x=1", b""),
    *(
        ("one", status, "POST", f"/v1/{verb}", body)
        for verb in ("peers/approve", "peers/reject", "deny", "allow")
        for status, body in ((400, b"{}"), (404, {"peer": "stranger"}), (413, BIG_JSON), (200, {"peer": "OPEN"}))
    ),
    ("one", 409, "POST", "/v1/allow", {"peer": "OPEN"}),
    ("one", 400, "POST", "/v1/pause", {"for_s": 0}),
    ("one", 404, "POST", "/v1/pause", {"peer": "stranger"}),
    ("one", 413, "POST", "/v1/pause", BIG_JSON),
    ("one", 400, "POST", "/v1/resume", {"who": "x"}),
    ("one", 404, "POST", "/v1/resume", {"peer": "stranger"}),
    ("one", 409, "POST", "/v1/resume", {}),
    ("one", 413, "POST", "/v1/resume", BIG_JSON),
    ("one", 200, "POST", "/v1/pause", {"for_s": 3600}),
    ("one", 200, "POST", "/v1/resume", {}),
    ("one", 200, "PUT", "/v1/name", {"name": "one"}),
    ("one", 400, "PUT", "/v1/name", {"name": " "}),
    ("one", 413, "PUT", "/v1/name", BIG_JSON),
    ("one", 200, "GET", "/v1/logs?level=info&event=node.*&since=1h", b""),
    ("one", 400, "GET", "/v1/logs?level=loud", b""),
    ("one", 404, "GET", "/v1/logs?peer=stranger", b""),
    ("one", 200, "GET", "/v1/activity", b""),
    ("one", 400, "GET", "/v1/activity?x=1", b""),
    ("one", 200, "GET", "/v1/log-level", b""),
    ("one", 400, "GET", "/v1/log-level?x=1", b""),
    ("one", 200, "PUT", "/v1/log-level", {"level": "debug", "for_s": 60}),
    ("one", 400, "PUT", "/v1/log-level", {"level": "loud"}),
    ("one", 404, "PUT", "/v1/log-level", {"level": "debug", "peer": "stranger"}),
    ("one", 413, "PUT", "/v1/log-level", BIG_JSON),
    ("one", 200, "GET", "/v1/trace?peer=unreachable", b""),
    ("one", 400, "GET", "/v1/trace", b""),
    ("one", 404, "GET", "/v1/trace?peer=stranger", b""),
    ("one", 200, "GET", "/v1/why?id=a", b""),
    ("one", 200, "GET", "/v1/why?peer=unreachable", b""),
    ("one", 400, "GET", "/v1/why", b""),
    ("one", 404, "GET", "/v1/why?peer=stranger", b""),
    ("open", 409, "GET", "/v1/why?id=shared/a", b""),
    ("one", 200, "GET", "/v1/contexts", b""),
    ("one", 400, "GET", "/v1/contexts?x=1", b""),
    ("one", 200, "PUT", f"{RECORDS}?id=a&tag=t&model=m@2.1&type=text/plain&timestamp=2020-01-01", b"text"),
    ("one", 400, "PUT", f"{RECORDS}?id=a&timestamp=yesterday", b"text"),
    ("open", 409, "PUT", f"{RECORDS}?id=shared/a", b"text"),
    ("one", 413, "PUT", f"{RECORDS}?id=a", BIG),
    ("one", 422, "PUT", f"{RECORDS}?id={'n' * 201}", b"text"),
    ("one", 200, "GET", f"{RECORDS}?id=a", b""),
    ("one", 200, "GET", f"{RECORDS}?id=a&whole=1", b""),
    ("one", 400, "GET", RECORDS, b""),
    ("one", 404, "GET", f"{RECORDS}?id=unheard-of", b""),
    ("open", 409, "GET", f"{RECORDS}?id=shared/a", b""),
    ("one", 200, "GET", "/v1/conflicts/main?id=a", b""),
    ("one", 404, "GET", "/v1/conflicts/main?id=nothing", b""),
    ("one", 400, "GET", "/v1/conflicts/main", b""),
    ("one", 400, "POST", "/v1/conflicts/main/resolve?id=a", {}),
    ("one", 400, "POST", "/v1/conflicts/main/resolve?id=a", {"strategy": "coin"}),
    ("one", 422, "POST", "/v1/conflicts/main/resolve?id=a", {"strategy": "merge"}),
    ("one", 404, "POST", "/v1/conflicts/main/resolve?id=a", {"keep": "aaaaaaaa"}),
    ("one", 200, "GET", f"{RECORDS}/history?id=a&limit=5", b""),
    ("one", 404, "GET", f"{RECORDS}/history?id=nothing", b""),
    ("one", 404, "GET", f"{RECORDS}?id=a&version=aaaaaaaa", b""),
    ("open", 409, "GET", "/v1/conflicts/main?id=shared/a", b""),
    ("open", 409, "POST", "/v1/conflicts/main/resolve?id=shared/a", {"strategy": "merge"}),
    ("one", 413, "POST", "/v1/conflicts/main/resolve?id=a", BIG_JSON),
    ("one", 200, "POST", "/v1/conflicts/main/resolve?id=shared/split", {"strategy": "merge"}),
    ("one", 400, "GET", f"{RECORDS}/history", b""),
    ("open", 409, "GET", f"{RECORDS}/history?id=shared/a", b""),
    ("one", 200, "DELETE", f"{RECORDS}?id=a", b""),
    ("one", 400, "DELETE", f"{RECORDS}?name=a", b""),
    ("one", 404, "DELETE", f"{RECORDS}?id=a", b""),
    ("open", 409, "DELETE", f"{RECORDS}?id=shared/a", b""),
    ("one", 422, "DELETE", f"{RECORDS}?id=FOREIGN/theirs", b""),
    ("one", 200, "GET", f"{RECORDS}/list?body=1&limit=3&since=2000-01-01T00:00:00Z&filter=tag%3Dx", b""),
    ("one", 400, "GET", f"{RECORDS}/list?filter=colour%3Dred", b""),
    ("one", 400, "GET", f"{RECORDS}/list?limit=many", b""),
    ("one", 404, "GET", f"{RECORDS}/list?author=stranger", b""),
    ("one", 200, "POST", f"{RECORDS}/import", b'{"name": "b", "body": {"k": [1, 2]}}\n{"nom": "c"}'),
    ("one", 200, "POST", f"{RECORDS}/import", b'{"name": "b", "body": {"k": [1, 2]}}'),
    ("one", 400, "POST", f"{RECORDS}/import?tag=x", b""),
    ("one", 200, "GET", "/v1/record-file?context=main", b""),
    ("one", 400, "GET", "/v1/record-file?name=main", b""),
    ("one", 404, "GET", "/v1/record-file?context=nowhere", b""),
    ("one", 200, "POST", "/v1/record-file", b"{}"),
    ("one", 400, "POST", "/v1/record-file?name=main", b""),
    ("one", 200, "GET", f"{RECORDS}/export", b""),
    ("one", 400, "GET", f"{RECORDS}/export?tag=x", b""),
    ("one", 404, "GET", f"{RECORDS}/export?author=stranger", b""),
    ("open", 200, "POST", f"{RECORDS}/forget", b""),
    ("one", 422, "POST", f"{RECORDS}/forget", b""),
    ("one", 400, "POST", f"{RECORDS}/forget?all=1", b""),
    ("one", 200, "GET", "/v1/conflicts?context=main", b""),
    ("one", 400, "GET", "/v1/conflicts?context=", b""),
    ("one", 404, "GET", "/v1/conflicts?context=elsewhere", b""),
    ("one", 404, "GET", "/v1/records/elsewhere/list", b""),
    ("one", 404, "GET", "/v1/records/elsewhere/export", b""),
    ("one", 200, "GET", f"{RECORDS}/page?body=1&limit=1", b""),
    ("one", 400, "GET", f"{RECORDS}/page?since=yesterday", b""),
    ("one", 200, "POST", f"{RECORDS}/put", {"records": [{"name": "s1", "body": [1]}, {"name": "shared/s2"}]}),
    ("one", 400, "POST", f"{RECORDS}/put", {"records": []}),
    ("one", 413, "POST", f"{RECORDS}/put", b" " * (8 * 1024 * 1024 + 1)),
    ("one", 422, "POST", "/v1/records/identities/put", {"records": [{"name": "s1"}]}),
    ("one", 200, "GET", "/v1/changes?body=1&tag=t&limit=2", b""),
    ("one", 400, "GET", "/v1/changes?since=yesterday", b""),
    ("one", 200, "GET", "/v1/syncs", b""),
    ("one", 400, "GET", "/v1/syncs?x=1", b""),
    ("one", 202, "POST", "/v1/syncs", {"timeout": 1}),
    ("one", 400, "POST", "/v1/syncs", {"action": "sideways"}),
    ("one", 404, "POST", "/v1/syncs", {"peers": ["stranger"]}),
    ("one", 413, "POST", "/v1/syncs", BIG_JSON),
    ("one", 400, "GET", "/v1/syncs/x?wait=301", b""),
    ("one", 404, "GET", "/v1/syncs/x", b""),
    ("one", 400, "DELETE", "/v1/syncs/x?now=1", b""),
    ("one", 404, "DELETE", "/v1/syncs/x", b""),
    ("one", 200, "GET", "/v1/config", b""),
    ("one", 400, "GET", "/v1/config?key=name", b""),
    ("one", 200, "GET", "/healthz", b""),
    ("one", 400, "GET", "/healthz?x=1", b""),
    ("one", 200, "GET", "/readyz", b""),
    ("one", 400, "GET", "/readyz?x=1", b""),
    ("one", 200, "POST", "/v1/sync", b""),
    ("one", 400, "POST", "/v1/sync", {"action": "sideways"}),
    ("one", 404, "POST", "/v1/sync", {"peers": ["stranger"]}),
    ("one", 413, "POST", "/v1/sync", BIG_JSON),
    ("one", 200, "POST", "/v1/pull", {"peer": "unreachable", "filter": ["tag=a"], "timeout": 1}),
    ("one", 400, "POST", "/v1/pull", {"peer": "unreachable", "filter": ["colour=red"]}),
    ("one", 404, "POST", "/v1/pull", {"peer": "stranger"}),
    ("one", 413, "POST", "/v1/pull", BIG_JSON),
    ("one", 200, "POST", "/v1/get", {"peer": "unreachable", "records": [{"id": "me/a"}], "timeout": 1}),
    ("one", 400, "POST", "/v1/get", {"peer": "unreachable", "records": [{"id": "me/a", "version": "x"}]}),
    ("one", 404, "POST", "/v1/get", {"peer": "stranger", "records": [{"id": "me/a"}]}),
    ("one", 413, "POST", "/v1/get", BIG_JSON),
    ("one", 200, "POST", "/v1/put", {"peer": "unreachable", "records": ["me/b"], "timeout": 1}),
    ("one", 400, "POST", "/v1/put", {"peer": "unreachable", "records": []}),
    ("one", 404, "POST", "/v1/put", {"peer": "unreachable", "records": ["me/unheard-of"]}),
    ("one", 413, "POST", "/v1/put", BIG_JSON),
    ("one", 400, "GET", "/v1/events?types=no.such", b""),
    ("one", 404, "GET", "/v1/events?peer=stranger", b""),
    ("one", 200, "POST", "/v1/verify", b""),
    ("one", 400, "POST", "/v1/verify?fast=1", b""),
    ("one", 200, "POST", "/v1/invitations", {"uses": 2, "expires_s": 30}),
    ("one", 400, "POST", "/v1/invitations", {"uses": 0}),
    ("one", 413, "POST", "/v1/invitations", BIG_JSON),
    ("open", 422, "POST", "/v1/invitations", b""),
    ("open", 400, "POST", "/v1/join", b"not JSON"),
    ("open", 413, "POST", "/v1/join", BIG_JSON),
    ("open", 400, "POST", "/v1/join", {"code": "no code at all"}),
    ("open", 502, "POST", "/v1/join", {"code": "7-crossover-clockwork", "at": NOWHERE}),
    ("open", 200, "GET", "/v1/network", b""),
    ("one", 200, "GET", "/v1/network", b""),
    ("one", 400, "GET", "/v1/network?x=1", b""),
    ("one", 200, "PUT", "/v1/network", {"secret": SECRET.to_text()}),
    ("one", 400, "PUT", "/v1/network", {"secret": "short"}),
    ("one", 413, "PUT", "/v1/network", BIG_JSON),
    ("one", 200, "GET", f"{ECHO}?pattern=un*", b""),
    ("one", 400, "GET", f"{ECHO}?name=x", b""),
    ("one", 502, "POST", f"{ECHO}/unreachable/push", {"state": {"data": {"k": {"n": 1}}}, "options": ONCE}),
    ("one", 400, "POST", f"{ECHO}/unreachable/push", {"state": {"node_id": "one", "dat": 1}}),
    ("one", 404, "POST", f"{ECHO}/stranger/push", {"state": {"data": {}}}),
    ("one", 413, "POST", f"{ECHO}/unreachable/push", b" " * (8 * 2**20 + 1)),
    ("one", 422, "POST", f"{ECHO}/unreachable/push", {"state": {"data": {"n" * 201: 1}}}),
    ("one", 502, "POST", f"{ECHO}/unreachable/pull", {"last_sync": None, "options": ONCE}),
    ("one", 400, "POST", f"{ECHO}/unreachable/pull", {"last_sync": "yesterday"}),
    ("one", 404, "POST", f"{ECHO}/stranger/pull", b""),
    ("one", 413, "POST", f"{ECHO}/unreachable/pull", BIG_JSON),
    ("one", 200, "GET", f"{ECHO}/unreachable/status", b""),
    ("one", 400, "GET", f"{ECHO}/unreachable/status?x=1", b""),
    ("one", 404, "GET", f"{ECHO}/stranger/status", b""),
    ("one", 200, "POST", f"{ECHO}/unreachable/conflicts/resolve", {"strategy": "prefer_local", "resolution_data": {}}),
    ("one", 400, "POST", f"{ECHO}/unreachable/conflicts/resolve", {"strategy": "coin"}),
    ("one", 404, "POST", f"{ECHO}/stranger/conflicts/resolve", b""),
    ("one", 413, "POST", f"{ECHO}/unreachable/conflicts/resolve", b" " * (8 * 2**20 + 1)),
    ("one", 422, "POST", f"{ECHO}/unreachable/conflicts/resolve", {"resolution_data": {"n" * 201: 1}}),
    ("one", 200, "GET", f"{ECHO}/unreachable/history?limit=2", b""),
    ("one", 400, "GET", f"{ECHO}/unreachable/history?limit=all", b""),
    ("one", 404, "GET", f"{ECHO}/stranger/history", b""),
    ("one", 200, "GET", f"{ECHO}/unreachable/replay", b""),
    ("one", 400, "GET", f"{ECHO}/unreachable/replay?x=1", b""),
    ("one", 404, "GET", f"{ECHO}/stranger/replay", b""),
    ("one", 200, "GET", "/metrics", b""),
    ("one", 400, "GET", "/metrics?x=1", b""),
    ("one", 200, "GET", "/v1/token", b""),
    ("one", 400, "GET", "/v1/token?x=1", b""),
    ("open", 409, "GET", "/v1/token", b""),
    ("one", 200, "POST", "/v1/token", b""),
    ("one", 400, "POST", "/v1/token?new=1", b""),
    ("open", 409, "POST", "/v1/token", b""),
    ("one", 200, "GET", "/v1/keys", b""),
    ("one", 400, "GET", "/v1/keys?x=1", b""),
    ("one", 400, "POST", "/v1/keys", {"seed": "x"}),
    ("one", 413, "POST", "/v1/keys", BIG_JSON),
    ("one", 422, "POST", "/v1/keys", {"root": "no root", "passphrase": "x"}),
    ("one", 200, "POST", "/v1/keys", {}),
    ("one", 200, "POST", "/v1/keys/state", {"key": "FIRST", "state": "compromised"}),
    ("one", 400, "POST", "/v1/keys/state", {"key": "FIRST", "state": "active"}),
    ("one", 413, "POST", "/v1/keys/state", BIG_JSON),
    ("one", 422, "POST", "/v1/keys/state", {"key": "FIRST", "state": "retired"}),
    ("one", 200, "GET", f"{RECORDS}/history?id=me/a", b""),
    ("one", 200, "POST", "/v1/keys/sign_again", {"key": "FIRST", "until": "1h"}),
    ("one", 200, "POST", "/v1/keys/sign_again", {"key": "FIRST", "trial": True}),
    ("one", 400, "POST", "/v1/keys/sign_again", {}),
    ("one", 413, "POST", "/v1/keys/sign_again", BIG_JSON),
    ("one", 422, "POST", "/v1/keys/sign_again", {"key": "nothing"}),
    ("one", 200, "POST", "/v1/keys/root/export", {"passphrase": "p"}),
    ("one", 400, "POST", "/v1/keys/root/export", {"passphrase": ""}),
    ("one", 413, "POST", "/v1/keys/root/export", BIG_JSON),
    ("one", 400, "POST", "/v1/keys/root/remove", {}),
    ("one", 413, "POST", "/v1/keys/root/remove", BIG_JSON),
    ("one", 422, "POST", "/v1/keys/root/remove", {"root": "no root", "passphrase": "p"}),
    ("one", 400, "POST", "/v1/keys/root/import", {}),
    ("one", 413, "POST", "/v1/keys/root/import", BIG_JSON),
    ("one", 422, "POST", "/v1/keys/root/import", {"root": "no root", "passphrase": "p"}),
    ("one", 200, "POST", "/v1/pools", {"label": "team"}),
    ("one", 400, "POST", "/v1/pools", {"label": "team", "kind": "secret"}),
    ("one", 413, "POST", "/v1/pools", BIG_JSON),
    ("one", 422, "POST", "/v1/pools", {"label": "shared"}),
    ("one", 200, "GET", "/v1/pools", b""),
    ("one", 400, "GET", "/v1/pools?x=1", b""),
    ("open", 200, "POST", "/v1/pools/ask", {"pool": "TEAM", "label": "crew"}),
    ("open", 400, "POST", "/v1/pools/ask", {}),
    ("open", 413, "POST", "/v1/pools/ask", BIG_JSON),
    ("open", 422, "POST", "/v1/pools/ask", {"pool": "team", "label": "crew"}),
    ("one", 200, "POST", "/v1/pools/add", {"pool": "team", "request": "REQUEST"}),
    ("one", 400, "POST", "/v1/pools/add", {}),
    ("one", 413, "POST", "/v1/pools/add", BIG_JSON),
    ("one", 422, "POST", "/v1/pools/add", {"pool": "team", "request": "let me in"}),
    ("one", 200, "POST", "/v1/pools/remove", {"pool": "team", "node": "OPEN"}),
    ("one", 400, "POST", "/v1/pools/remove", {}),
    ("one", 413, "POST", "/v1/pools/remove", BIG_JSON),
    ("one", 422, "POST", "/v1/pools/remove", {"pool": "team", "node": "stranger"}),
    ("one", 422, "POST", "/v1/pools/leave", {"pool": "team"}),
    ("one", 200, "POST", "/v1/pools/leave", {"pool": "team", "for_good": True}),
    ("one", 400, "POST", "/v1/pools/leave", {}),
    ("one", 413, "POST", "/v1/pools/leave", BIG_JSON),
    ("one", 200, "POST", "/v1/network/rotate", {"without": []}),
    ("one", 400, "POST", "/v1/network/rotate", {"with": []}),
    ("one", 404, "POST", "/v1/network/rotate", {"without": ["nobody"]}),
    ("one", 413, "POST", "/v1/network/rotate", BIG_JSON),
    ("one", 422, "POST", "/v1/network/rotate", {"without": ["me"]}),
    ("one", 404, "GET", "/v2/status", b""),
    ("one", 404, "GET", "/index.html", b""),
    ("one", 200, "GET", "/", b""),
    ("one", 200, "GET", "/page.css", b""),
    ("one", 200, "GET", "/page.js", b""),
    ("open", 400, "POST", "/v1/page?x=1", b""),
    ("open", 409, "POST", "/v1/page", b""),
    ("one", 400, "POST", "/v1/page/session", {"ticket": 1}),
    ("one", 413, "POST", "/v1/page/session", BIG_JSON),
    ("one", 404, "GET", "/v1/status/", b""),
    ("one", 405, "POST", "/v1/status", b""),
    ("one", 405, "HEAD", "/v1/status", b""),
    ("one", 405, "PROPFIND", RECORDS, b""),
    ("one", 200, "PUT", "/v1/records/passing?id=a", b"1"),
    ("one", 409, "POST", "/v1/contexts/passing/forget", {}),
    ("one", 200, "POST", "/v1/contexts/passing/forget", {"own": True}),
    ("one", 400, "POST", "/v1/contexts/passing/forget", {"own": 1}),
    ("one", 413, "POST", "/v1/contexts/passing/forget", BIG_JSON),
]

# Answers that need more than one request; the tests named beside them give these.
ELSEWHERE = {
    ("POST", f"{ECHO}/{{id}}/push", "200"),  # test_echo_sync
    ("POST", f"{ECHO}/{{id}}/push", "504"),  # test_echo_sync
    ("POST", f"{ECHO}/{{id}}/pull", "504"),  # test_echo_sync
    ("POST", f"{ECHO}/{{id}}/pull", "200"),  # test_echo_sync
    ("GET", f"{ECHO}/{{id}}/replay", "413"),  # test_echo_sync
    ("POST", "/v1/peers/forget", "200"),  # test_node
    ("POST", "/v1/peers/forget", "409"),  # test_node
    ("POST", "/v1/peers/approve", "409"),  # test_trust
    ("POST", "/v1/peers/reject", "409"),  # test_trust
    ("POST", "/v1/join", "200"),  # test_node
    ("POST", "/v1/join", "422"),  # test_node
    ("GET", "/v1/events", "200"),  # test_events
    ("GET", "/v1/network", "422"),  # test_observation
    ("GET", "/v1/record-file", "422"),  # test_record_file
    ("POST", "/v1/record-file", "422"),  # test_record_file
    ("POST", "/v1/syncs", "409"),  # test_sync_jobs
    ("GET", "/v1/syncs/{id}", "200"),  # test_sync_jobs
    ("DELETE", "/v1/syncs/{id}", "200"),  # test_sync_jobs
    ("GET", "/readyz", "503"),  # test_process_state
    ("POST", "/v1/page", "200"),  # test_page
    ("POST", "/v1/page/session", "200"),  # test_page
    ("PUT", "/v1/log-level", "409"),  # test_observation
    ("PUT", "/v1/records/{context}", "412"),  # test_changes
    ("DELETE", "/v1/records/{context}", "412"),  # test_changes
    ("POST", "/v1/keys/root/export", "422"),  # test_keys_and_pools
    ("POST", "/v1/keys/root/remove", "200"),  # test_keys_and_pools
    ("POST", "/v1/keys/root/import", "200"),  # test_keys_and_pools
}


class BreakableStore(MemoryStore):
    """A store whose disk can fail, and one of whose methods then has a bug."""

    is_broken = False

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        if self.is_broken:
            raise StoreError("the disk gave up")
        return await super().heads(context, author, name)

    async def scan(self, context: str, after: int, *, limit: int) -> tuple[list[Record], int]:
        if self.is_broken and after:
            raise StoreError("the disk gave up")
        return await super().scan(context, after, limit=min(limit, 2))

    async def audit(self) -> AsyncIterator[Audit]:
        yield Audit(1)
        yield Audit(2, ("one",))
        yield Audit(4, ("one", "two", "three"))

    async def info(self, context: str) -> ContextInfo:
        if self.is_broken:
            raise ZeroDivisionError("secret detail")
        return await super().info(context)


async def give_foreign_record(served: Served) -> str:
    """Put a foreign author's record into `served`'s store, and return the author's id."""
    author = Author(77)
    await author.introduce()
    record = await author.put("theirs", b"not yours")
    statements, _ = await author.store.scan("identities", 0, limit=10)
    await served.node.store.apply("identities", statements)
    await served.node.store.apply(MAIN, [record])
    return to_base32(author.identity.id)


async def give_conflict(served: Served, tmp_path: Path) -> None:
    """Put two heads of shared/split into `served`'s store, one of them by another member of the network."""
    async with serving(tmp_path, name="two") as other:
        await served.put("shared/split", b"ours")
        await other.put("shared/split", b"theirs")
        for context in ("identities", MAIN):
            records, _ = await other.node.store.scan(context, 0, limit=10)
            await served.node.store.apply(context, records)


def test_every_documented_answer_is_given_and_is_as_documented(tmp_path: Path) -> None:
    given = set(ELSEWHERE)

    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="open", secret=None, has_token=False) as open_:
            foreign = await give_foreign_record(one)
            await give_conflict(one, tmp_path)
            open_.node.subscriptions.subscribe({"main": ["tag=news"]}, open_.node.addresses.resolve_in_filter)
            one.node.peer_table.opened(IdentityId(bytes(32)), "unreachable", NOWHERE, target=None, is_initiator=False)
            one.node.peer_table.closed(0, 0, IdentityId(bytes(32)), in_sync=None, reason="")
            said = {"OPEN": to_base32(open_.node.id), "FIRST": to_base32(one.node.records.identity.device.public)}
            for node, status, method, target, body in TOUR:
                served = one if node == "one" else open_
                if isinstance(body, dict):
                    body = {key: said.get(str(value), value) for key, value in body.items()}
                answer = await served.ask(method, target.replace("FOREIGN", foreign), body)
                assert answer.status == status, (method, target, answer)
                if (method, target, status) == ("POST", "/v1/pools", 200):
                    said["TEAM"] = answer.json()["id"]
                if (target, status) == ("/v1/pools/ask", 200):
                    said["REQUEST"] = answer.json()["request"]
                if status == 405:
                    assert answer.headers["allow"]
                elif path := openapi.template_of(target):
                    given.add((method, path, str(status)))

    run(test)
    assert {answer for answer in openapi.documented() if answer[2] != "default"} == given


def test_a_failing_disk_is_said_and_a_bug_is_logged_but_not_told(tmp_path: Path, caplog) -> None:
    async def test() -> None:
        store = BreakableStore(Instance(b"instance"))
        async with serving(tmp_path, store=store) as served:
            store.is_broken = True
            disk = await served.ask("GET", f"{RECORDS}?id=a")
            assert (disk.status, disk.code, disk.message) == (503, "store_failed", "the disk gave up")
            bug = await served.ask("GET", "/v1/status")
            assert (bug.status, bug.code) == (500, "internal")
            assert b"secret" not in bug.body

    run(test)
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_what_goes_wrong_in_a_stream_is_its_last_line(tmp_path: Path) -> None:
    async def test() -> None:
        store = BreakableStore(Instance(b"instance"))
        async with serving(tmp_path, store=store) as served:
            for number in range(3):
                await served.put(f"n{number}")
            store.is_broken = True
            for what in ("list", "export"):
                *lines, last = (await served.ask("GET", f"{RECORDS}/{what}")).lines()
                assert [line["name"].removeprefix("me/") for line in lines] == ["n0", "n1"]
                assert last == {"error": {"code": "store_failed", "message": "the disk gave up"}}

    run(test)


def test_verify_tells_each_problem_when_it_is_found_and_all_of_them_at_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, store=BreakableStore(Instance(b"instance"))) as served:
            assert (await served.ask("POST", "/v1/verify")).lines() == [
                {"checked": 1, "problems": []},
                {"checked": 2, "problems": ["one"]},
                {"checked": 4, "problems": ["two", "three"]},
                {"ok": False, "checked": 4, "problems": ["one", "two", "three"], "done": True},
            ]

    run(test)


def test_the_document_has_exactly_the_routes_that_are_served(tmp_path: Path) -> None:
    served = set()

    async def test() -> None:
        async with serving(tmp_path) as one:
            served.update((method, each.path) for each in one.server.app.routes for method in each.app._handlers)

    run(test)
    assert served == set(openapi.operations())


def test_the_document_has_exactly_the_events_that_there_are() -> None:
    documented = {
        schema["properties"]["event"]["const"]: tuple(schema["properties"])[1:]
        for schema in openapi.resolve("#/components/schemas/Event")["oneOf"]
        if "event" in schema["properties"]
    }
    assert documented == {kind.name: tuple(field.name for field in fields(kind)) for kind in get_args(Event)}


def test_the_document_has_exactly_the_reasons_that_there_are() -> None:
    finding = openapi.document()["components"]["schemas"]["Why"]["properties"]["findings"]["items"]
    assert finding["properties"]["reason"]["enum"] == [each.value for each in Because]


def test_the_document_has_exactly_the_modes_that_there_are() -> None:
    assert sorted(openapi.document()["components"]["schemas"]["Mode"]["enum"]) == sorted(mode.value for mode in Mode)


def test_the_documents_schemas_are_schemas_and_all_are_used() -> None:
    components = openapi.document()["components"]
    text = openapi.DOCUMENT.read_text()
    for kind, members in components.items():
        for name, member in members.items():
            assert f"#/components/{kind}/{name}" in text, f"nothing refers to {kind}/{name}"
            if kind == "schemas":
                Draft202012Validator.check_schema(member)


def test_every_body_of_a_request_in_the_tour_that_was_taken_is_one_that_the_document_allows() -> None:
    taken = [(method, target, body) for _, status, method, target, body in TOUR if status == 200 and type(body) is dict]
    assert taken
    for method, target, body in taken:
        path = openapi.template_of(target)
        pointer = f"#/paths/{path.replace('/', '~1')}/{method.lower()}/requestBody/content/application~1json/schema"
        openapi.validator(pointer).validate(body)


def test_a_line_to_import_is_described_by_the_document() -> None:
    line = openapi.validator("#/components/schemas/Line")
    body64 = base64.b64encode(b"\0").decode()
    assert line.is_valid({"name": "a", "body": None, "tags": ["t"], "model": "m@1.2", "type": "", "timestamp": 1.5})
    assert line.is_valid({"name": "a", "body_base64": body64})
    assert not line.is_valid({"name": "a", "body": 1, "body_base64": body64})
    assert not line.is_valid({"body": 1})
    assert not line.is_valid({"name": "a", "tag": "t"})
