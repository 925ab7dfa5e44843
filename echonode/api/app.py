"""The local HTTP API as one ASGI application: the routes, and the answer to every error in them.

proto/openapi.yaml describes it. The application knows nothing of sockets; api/server.py serves it.
"""

import asyncio
import time
from collections.abc import Sequence

from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from echonode.api.access import TcpAccess
from echonode.api.activity import Activity, ActivityRoutes
from echonode.api.changes import ChangeRoutes
from echonode.api.echo_sync import EchoSyncRoutes
from echonode.api.keys_and_pools import KeyAndPoolRoutes
from echonode.api.metrics import MetricRoutes, Metrics
from echonode.api.node import NodeRoutes
from echonode.api.observation import ObservationRoutes
from echonode.api.page_routes import PageRoutes
from echonode.api.peer_records import PeerRecordRoutes
from echonode.api.problems import not_found, problem_of
from echonode.api.process_state import ProcessRoutes, ProcessState
from echonode.api.recent_events import EventRing
from echonode.api.record_file import RecordFileRoutes
from echonode.api.record_sets import RecordSetRoutes
from echonode.api.records import RecordRoutes
from echonode.api.responses import refusal
from echonode.api.shutdown import Stop
from echonode.api.sync import SyncRoutes
from echonode.api.sync_jobs import SyncJobRoutes
from echonode.api.token import TokenRoutes
from echonode.api.trust import TrustRoutes
from echonode.node.node import Node
from echonode.node.run_log import RunLog


class Api:
    """Serves `node` until `stop` is set. `version` is the program's; `api` lists the sockets and URLs that `status`
    shows, `access` has the token, `run_log` the lines of this run."""

    def __init__(
        self,
        node: Node,
        stop: Stop,
        *,
        version: str,
        api: Sequence[str],
        run_log: RunLog,
        access: TcpAccess | None = None,
        state: ProcessState | None = None,
    ) -> None:
        self.ring = EventRing(node)
        self.routes = [
            *NodeRoutes(node, stop, self.ring, version=version, api=api).routes(),
            *RecordRoutes(node, stop).routes(),
            *PeerRecordRoutes(node, stop).routes(),
            *KeyAndPoolRoutes(node, stop).routes(),
            *SyncRoutes(node, stop).routes(),
            *EchoSyncRoutes(node, stop).routes(),
            *TrustRoutes(node, stop).routes(),
            *TokenRoutes(access).routes(),
            *ObservationRoutes(node, stop, run_log).routes(),
            *ChangeRoutes(node, stop).routes(),
            *RecordSetRoutes(node, stop).routes(),
            *RecordFileRoutes(node, stop).routes(),
            *SyncJobRoutes(node, stop).routes(),
            *ProcessRoutes(state or ProcessState()).routes(),
            *PageRoutes(access, stop).routes(),
            *MetricRoutes(Metrics(node, version)).routes(),
            *ActivityRoutes(Activity(node, time.monotonic)).routes(),
        ]
        self._router = Router(self.routes, redirect_slashes=False, default=_no_such_path)
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        # Route by the path as it was sent. If it were decoded first, a slash in a context's name would split it.
        scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        try:
            await self._router(scope, receive, send_and_note)
        except Exception as error:
            problem = problem_of(error)
            if not has_started:
                await refusal(problem)(scope, receive, send)
        except asyncio.CancelledError:
            # The server dropped a client that does not read: no answer can reach it.
            if not self._stop.is_set:
                raise


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise not_found("there is no such path in this API")
