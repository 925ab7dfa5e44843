"""The routes of syncs that run on their own: begin one, watch it, cancel it.

    POST   /v1/syncs              begins one, as POST /v1/sync does, and answers at once
    GET    /v1/syncs/{id}?wait=S  its state; with `wait` when it is over, or after so many seconds
    DELETE /v1/syncs/{id}         cancels it; what was moved stays

The latest are kept, in memory. A node that stops cancels them.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import rfc3339
from echonode.api.problems import Problem, RequestError, not_found, problem_of
from echonode.api.requests import Query, SyncRequest, json_body
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop, Stopping
from echonode.api.sync import begin_sync, sync_form
from echonode.limits import CHANGES_WAIT_S_MAX, SYNC_JOBS_MAX
from echonode.node.echo_sync import SyncOutcome
from echonode.node.node import Node
from echonode.text import escape

_RUNNING: Final = "running"
_DONE: Final = "done"
_CANCELLED: Final = "cancelled"
_FAILED: Final = "failed"


@dataclass(slots=True, eq=False)
class _Job:
    id: str
    started_ms: int
    state: str = _RUNNING
    result: dict[str, object] | None = None
    problem: Problem | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class SyncJobRoutes:
    """Serves syncs of `node` that outlive the request that began them."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop
        self._jobs: dict[str, _Job] = {}

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route("/v1/syncs", GET=self._list, POST=self._begin),
            route("/v1/syncs/{id}", GET=self._get, DELETE=self._cancel),
        ]

    async def _begin(self, request: Request) -> Response:
        body = await json_body(request, self._stop, SyncRequest)
        self._make_room()
        work = begin_sync(self._node, body)
        job = _Job(secrets.token_hex(8), int(time.time() * 1000))
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work))
        return reply(_form(job), 202, {"location": f"/v1/syncs/{job.id}"})

    def _make_room(self) -> None:
        """Drop the oldest sync that is over, where SYNC_JOBS_MAX are kept. Raises RequestError where all of them run.
        """
        if len(self._jobs) < SYNC_JOBS_MAX:
            return
        over = next((job.id for job in self._jobs.values() if job.state != _RUNNING), None)
        if over is None:
            busy = f"{SYNC_JOBS_MAX} syncs run already: wait for one, or cancel one"
            raise RequestError(busy, status=409, code="conflict")
        del self._jobs[over]

    async def _run(self, job: _Job, work: Awaitable[SyncOutcome]) -> None:
        try:
            with self._stop.ends_waiting():
                outcome = await work
            job.result, job.state = sync_form(self._node, outcome), _DONE
        except (asyncio.CancelledError, Stopping):
            job.state = _CANCELLED
        except Exception as error:
            job.problem, job.state = problem_of(error), _FAILED

    async def _list(self, request: Request) -> Response:
        Query(request, ())
        return reply({"syncs": [_form(job) for job in reversed(self._jobs.values())]})

    async def _get(self, request: Request) -> Response:
        wait_s = Query(request, ("wait",)).count("wait") or 0
        if wait_s > CHANGES_WAIT_S_MAX:
            raise RequestError(f"wait is at most {CHANGES_WAIT_S_MAX} seconds: ask again for more")
        job = self._job(request)
        if wait_s and job.task is not None:
            with self._stop.ends_waiting():
                await asyncio.wait((job.task,), timeout=wait_s)
        return reply(_form(job))

    async def _cancel(self, request: Request) -> Response:
        Query(request, ())
        job = self._job(request)
        if job.task is not None and job.state == _RUNNING:
            job.task.cancel()
            await asyncio.wait((job.task,))
        return reply(_form(job))

    def _job(self, request: Request) -> _Job:
        name = request.path_params["id"]
        job = self._jobs.get(name)
        if job is None:
            raise not_found(f"no sync {escape(name)} is known: the latest {SYNC_JOBS_MAX} of this run are")
        return job


def _form(job: _Job) -> dict[str, object]:
    return {
        "id": job.id,
        "state": job.state,
        "started": rfc3339(job.started_ms),
        "result": job.result,
        "error": None if job.problem is None else job.problem.as_json()["error"],
    }
