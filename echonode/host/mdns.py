"""mDNS: announces this node on the LAN and reports other nodes (RFC 6762, RFC 6763). The only door to zeroconf.

    start -> announced, and heard by this node itself -> on_sighting(Sighting) / on_gone(name) ... -> close (goodbye)

A sighting is a hint where to dial. It is no sign of life: a killed node stays listed until its records expire.

One watcher task makes every change of the announcement. It compares the machine's addresses every few seconds, and it
wakes at once for an invitation or another network. `announcement.py` checks the answers.

Floods are bounded: at most CANDIDATES_MAX sightings are live, strangers never push out nodes of this network
(`is_ours`, which cannot be forged without the network key), and two tasks in all ask for missing records.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from echonode.errors import TransportError
from echonode.host.announcement import (
    SERVICE,
    Announcement,
    Sighting,
    addresses_to_announce,
    instance_name,
    own_endpoints,
    read_sighting,
    tag_of,
    to_txt,
)
from echonode.host.system import LocalAddress, local_addresses, reach_of
from echonode.host.tcp import parse_address, with_interface_name
from echonode.limits import CANDIDATES_MAX

__all__ = ["Discovery", "Sighting"]

_WATCH_INTERVAL_S: Final = 3.0  # zeroconf does not say that an address came or went
_HEAR_SELF_TIMEOUT_S: Final = 3.0
_RESOLVE_TIMEOUT_MS: Final = 3000
_RESOLVERS: Final = 2
_LATE_S: Final = 12.0  # 1.1 s for an answer that is held back, 10 s for which zeroconf keeps what has expired
_FAULT_INTERVAL_S: Final = 30.0  # an interface that flaps is told once in so long
_ZEROCONF_LOG: Final = logging.getLogger("zeroconf")


class _OneLineFilter(logging.Filter):
    """Makes one plain line of the lines and tracebacks that zeroconf logs when an interface goes away."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record`; return False for a further line about interfaces within _FAULT_INTERVAL_S."""
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OSError) or "interface" in text:
            now_s = time.monotonic()
            if now_s - self._logged_s < _FAULT_INTERVAL_S:
                return False
            self._logged_s = now_s
            reason = error or text.rpartition(": ")[2]
            text = f"an interface failed or went away ({reason}); discovery goes on with the others"
        elif error is not None:
            text = f"{text}: {type(error).__name__}: {error}"
        record.msg, record.args, record.exc_info, record.exc_text = text, (), None, None
        return True


class Discovery:
    """The presence of this process on the LAN. One per process; use it once."""

    def __init__(
        self,
        announcement: Announcement,
        *,
        listen: Sequence[str],
        is_ours: Callable[[bytes, bytes], bool],
        on_sighting: Callable[[Sighting], None],
        on_gone: Callable[[str], None],
        interfaces: Sequence[str] | None = None,
    ) -> None:
        """Take `listen`, the addresses that the Listener bound, and `is_ours(tag, group)`, which recognises this
        network's groups.

        `interfaces` are addresses of this machine to use; None stands for all usable ones."""
        self._announcement = announcement
        self._listen = tuple(listen)
        self._name = instance_name(announcement.tag)
        self._is_ours = is_ours
        self._on_sighting = on_sighting
        self._on_gone = on_gone
        self._interfaces = interfaces
        self._own: tuple[LocalAddress, ...] = ()
        self._endpoints: frozenset[str] = frozenset()
        self._is_to_repeat = False
        self._live: dict[str, Sighting] = {}
        self._taken_s: dict[str, float] = {}  # when each of them was taken
        self._unresolved: dict[str, None] = {}
        self._unresolved_added = asyncio.Event()
        self._announcement_changed = asyncio.Event()
        self._heard_self = asyncio.Event()
        self._tasks: list[asyncio.Future[None]] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._one_line = _OneLineFilter()
        self.dropped = 0  # malformed answers, and sightings for which there was no room

    async def start(self) -> None:
        """Announce and browse; return once this node has heard its own announcement. Raises TransportError where it
        cannot.

        Call `close` in either case."""
        self._own = self._scan()
        if not self._own:
            wanted = f"is one of {', '.join(self._interfaces)}" if self._interfaces else "belongs to a usable interface"
            raise TransportError(f"nothing to announce: no address that is listened on {wanted}")
        ips = [str(each.ip) for each in self._own]
        _ZEROCONF_LOG.addFilter(self._one_line)
        try:
            zeroconf = self._zeroconf = AsyncZeroconf(interfaces=ips)
            # Ask for answers to the group (QM), not to this node alone (QU): the kernel gives a unicast answer to any
            # one of the processes that share port 5353.
            self._browser = AsyncServiceBrowser(
                zeroconf.zeroconf, SERVICE, handlers=[self._on_service_change], question_type=DNSQuestionType.QM
            )
            # "Cooperating" skips the probe for the name, 1.1 s: no other node has drawn the same eight random bytes.
            announcing = await zeroconf.async_register_service(self._service(), cooperating_responders=True)
            self._tasks.append(asyncio.ensure_future(announcing))
            async with asyncio.timeout(_HEAR_SELF_TIMEOUT_S):
                await self._heard_self.wait()
        except TimeoutError:
            raise TransportError(f"multicast does not work on {', '.join(ips)}: we do not hear ourselves") from None
        except (OSError, RuntimeError, ZeroconfError) as error:
            raise TransportError(f"multicast does not work on {', '.join(ips)}: {error}") from error
        self._tasks.append(asyncio.create_task(self._watch()))
        self._tasks.extend(asyncio.create_task(self._resolve()) for _ in range(_RESOLVERS))

    async def close(self) -> None:
        """Say goodbye, so that other nodes drop this one at once, and stop. Safe to call twice."""
        for task in self._tasks:  # before the goodbye, or a repeated announcement could follow it
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf is not None:
            closing, self._zeroconf = self._zeroconf, None
            await closing.async_close()  # sends three goodbyes
        _ZEROCONF_LOG.removeFilter(self._one_line)

    def set_invitation(self, slot: str | None) -> None:
        """Announce that an invitation with this slot is open, or with None that none is."""
        self._set_announcement(replace(self._announcement, slot=slot))

    def update(self, *, group: bytes) -> None:
        """Announce the group of another network, which this node has joined."""
        self._set_announcement(replace(self._announcement, group=group))

    @property
    def sightings(self) -> tuple[Sighting, ...]:
        """The live sightings."""
        return tuple(self._live.values())

    def _set_announcement(self, announcement: Announcement) -> None:
        self._announcement = announcement
        self._announcement_changed.set()

    # -- the announcement of this node -------------------------------------------------------------------------------

    def _service(self) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE,
            self._name,
            port=parse_address(self._listen[0])[1],
            properties=to_txt(self._announcement),
            server=f"{self._announcement.tag.hex()}.local.",
            parsed_addresses=[str(each.ip) for each in self._own],
        )

    def _scan(self) -> tuple[LocalAddress, ...]:
        """Read the machine's addresses; return those to announce."""
        present = local_addresses()
        self._endpoints = own_endpoints(present, self._listen)
        reach = reach_of(each.interface for each in present)
        return addresses_to_announce(present, self._interfaces, self._listen, reach)

    async def _watch(self) -> None:
        """Follow the machine's addresses and the changes of the announcement."""
        previous_scan = self._own
        while True:
            try:
                async with asyncio.timeout(_WATCH_INTERVAL_S):
                    await self._announcement_changed.wait()
            except TimeoutError:
                found = self._scan()
                if found != self._own and found == previous_scan:  # seen twice: interfaces come up in several steps
                    self._own = found
                    self._announcement_changed.set()
                previous_scan = found
            if self._announcement_changed.is_set():
                self._announcement_changed.clear()
                self._announcement = replace(self._announcement, serial=self._announcement.serial + 1)
                await self._announce_again()
                self._is_to_repeat = True
            elif self._is_to_repeat:
                # zeroconf answers up to 1.1 s late with what it held when it was asked: that may have come last.
                await self._announce_again()
                self._is_to_repeat = False

    async def _announce_again(self) -> None:
        """Bring sockets and announcement up to date."""
        if self._zeroconf is None:
            return
        try:
            announcing = await self._zeroconf.async_update_service(self._service())
            await self._zeroconf.async_update_interfaces([str(each.ip) for each in self._own])
            await announcing
        except (OSError, RuntimeError, ZeroconfError):
            # An interface went away after the scan. The next scan finds a change, and tries again.
            self._own = ()

    # -- the announcements of other nodes ----------------------------------------------------------------------------

    def _on_service_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if name == self._name:
            self._heard_self.set()
        elif state_change is ServiceStateChange.Removed:
            self._unresolved.pop(name, None)
            if self._live.pop(name, None):
                del self._taken_s[name]
                self._on_gone(name)
        elif tag_of(name) is None:
            self.dropped += 1
        else:
            info = AsyncServiceInfo(SERVICE, name)
            if info.load_from_cache(zeroconf):
                self._take_sighting(info)
            else:
                self._queue_resolution(name)

    def _take_sighting(self, info: AsyncServiceInfo) -> None:
        ips = [with_interface_name(text) for text in info.parsed_scoped_addresses()]
        sighting = read_sighting(info.name, info.text, ips, info.port, self._own, self._endpoints)
        if sighting is None:
            self.dropped += 1
        elif self._is_news(sighting) and self._make_room(sighting):
            self._live[sighting.name], self._taken_s[sighting.name] = sighting, time.monotonic()
            self._on_sighting(sighting)

    def _is_news(self, sighting: Sighting) -> bool:
        """Return True unless `sighting` is what is known, or older than that: a late answer is no change.

        A forged one may have the highest serial, and must not hide the node for good."""
        live = self._live.get(sighting.name)
        if live is None or sighting.serial >= live.serial:
            return sighting != live
        return time.monotonic() - self._taken_s[sighting.name] > _LATE_S

    def _make_room(self, sighting: Sighting) -> bool:
        """Return True when there is room for `sighting`. Drop the stranger seen first if need be."""
        if sighting.name in self._live or len(self._live) < CANDIDATES_MAX:
            return True
        self.dropped += 1
        stranger = next((each for each in self._live.values() if not self._is_ours(each.tag, each.group)), None)
        if stranger is None:
            return False
        del self._live[stranger.name], self._taken_s[stranger.name]
        self._on_gone(stranger.name)
        return True

    def _queue_resolution(self, name: str) -> None:
        """Queue a question for the missing records of `name`. They mostly come unasked, and then the question is not
        sent."""
        if name not in self._unresolved and len(self._unresolved) >= CANDIDATES_MAX:
            del self._unresolved[next(iter(self._unresolved))]
            self.dropped += 1
        self._unresolved[name] = None
        self._unresolved_added.set()

    async def _resolve(self) -> None:
        while True:
            while not self._unresolved:
                self._unresolved_added.clear()
                await self._unresolved_added.wait()
            name, _ = self._unresolved.popitem()
            info = AsyncServiceInfo(SERVICE, name)
            if self._zeroconf is not None and await info.async_request(self._zeroconf.zeroconf, _RESOLVE_TIMEOUT_MS):
                self._take_sighting(info)
