"""Avahi, as a desktop has it, on one host of a LAN: with a message bus and a /run of its own, without systemd."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.hosts import Host
from tests.e2e.processes import wait_for

_BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"""
_PRIVATE_RUN = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh")


class Avahi:
    """A running avahi-daemon."""

    def __init__(self, host: Host, socket: Path) -> None:
        self._host = host
        self.environ = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={socket}"}

    def resolved(self) -> list[list[str]]:
        """Return what avahi-browse resolves of our services: interface, protocol, name, .., address, port, TXT."""
        browse = [*self._host.prefix, "timeout", "10", "avahi-browse", "-rtp", "_echonode._tcp"]
        done = subprocess.run(browse, env=self.environ, capture_output=True, text=True, check=False)
        return [line.split(";")[1:] for line in done.stdout.splitlines() if line.startswith("=;")]


@contextmanager
def avahi_on(host: Host, folder: Path) -> Iterator[Avahi]:
    """Run avahi-daemon on a host until the block ends."""
    if shutil.which("avahi-browse") is None:
        pytest.skip("no avahi-browse here (Debian: avahi-utils)")
    socket, bus = folder / "bus", folder / "bus.conf"
    bus.write_text(_BUS.format(socket=socket))
    avahi = Avahi(host, socket)
    daemon = ("avahi-daemon", "--no-drop-root", "--no-chroot", "--no-rlimits")
    running = []
    try:
        for command, is_up in (
            (("dbus-daemon", f"--config-file={bus}", "--nofork", "--nopidfile"), socket.exists),
            ((*host.prefix, *_PRIVATE_RUN, *daemon), avahi.resolved),
        ):
            process = subprocess.Popen(command, env=avahi.environ, stderr=subprocess.DEVNULL)
            running.append(process)
            wait_for(is_up)
        yield avahi
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()
