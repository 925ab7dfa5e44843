"""The time of the nightly audit: once a day, at a time of day of this machine's clock.

An audit is due at the first such time after the last one ended. A machine that slept or was off at that time audits
when it is back, some minutes later: a start should not be slowed down.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from echonode.errors import ConfigError, StoreError
from echonode.host.config import OFF, AuditConfig
from echonode.host.files import NodeFiles
from echonode.host.logs import Logs
from echonode.node.node import Node

_AFTER_START_S: Final = 600.0
_LOOK_S: Final = 600.0  # between two looks at the clock of the wall, which a sleep of the machine moves on
_RETRY_S: Final = 3600.0  # after an audit that did not come to its end


async def keep_audits(settings: AuditConfig, files: NodeFiles, node: Node, logs: Logs) -> None:
    """Make the audits that the configuration asks for, for ever, and keep each verdict over a restart."""
    if settings.at == OFF:
        await asyncio.Event().wait()
        return

    async def audit() -> None:
        report = await node.audits.run()
        try:
            files.write_audit(report)
        except ConfigError as error:
            logs.log("audit.not_kept", "warning", reason=str(error))

    await AuditSchedule(settings.at, files.audited_s, audit).keep(logs)


@dataclass(slots=True)
class AuditSchedule:
    """The audits of one node: at `at`, HH:MM; the last one ended at `last_s`, in seconds since 1970.

    `run` makes one audit. A `last_s` in the future is one of a clock that was wrong: it counts as now."""

    at: str
    last_s: float
    run: Callable[[], Awaitable[object]]

    def due_s(self) -> float:
        """Return the time at which the next audit is due, in seconds since 1970."""
        hour, minute = map(int, self.at.split(":"))
        self.last_s = min(max(self.last_s, 0.0), time.time())
        # Without a zone, so that a day is from one time of day to the next, also where summer time begins or ends.
        due = datetime.fromtimestamp(self.last_s).replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
        if due.timestamp() <= self.last_s:
            due += timedelta(days=1)
        return due.timestamp()

    async def keep(self, logs: Logs) -> None:
        """Make audits for ever. One that fails is logged, and made again later."""
        if self.due_s() <= time.time():
            await asyncio.sleep(_AFTER_START_S)
        while True:
            wait_s = self.due_s() - time.time()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, _LOOK_S))
                continue
            try:
                await self.run()
            except StoreError as error:
                logs.log("audit.failed", "warning", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                self.last_s = time.time()
