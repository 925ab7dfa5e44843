"""The service of this machine or of one user: installed, removed, looked at. It speaks to systemd by systemctl.

    install      write the files -> make the group -> daemon-reload -> enable -> restart -> what came of it
                 (where the socket unit is another than before: stop both -> restart)
    uninstall    disable and stop -> remove the files -> daemon-reload; records, keys and settings stay

Every step that was taken is told to the caller in a sentence.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from echonode.errors import ConfigError, LocalError
from echonode.host.unit_files import API_GROUP, SOCKET_UNIT, UNIT, Program, ServiceFile, system_files, user_files

_COMMAND_TIMEOUT_S: Final = 150.0  # a start may take TimeoutStartSec, and a stop before it TimeoutStopSec
_MANAGER_START_S: Final = 15.0
_POLL_S: Final = 0.1
_PROPERTIES: Final = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "NRestarts"),
    *("ExecMainStatus", "Result", "ActiveEnterTimestamp", "FragmentPath"),
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """The state of the service as systemd has it."""

    unit: str  # the path of the unit, "" when it is not installed
    is_enabled: bool
    state: str  # active, activating, reloading, inactive, failed, ..
    since: str
    status: str  # what the node last said of itself
    restarts: int
    result: str  # success, exit-code, watchdog, signal, ..
    exit_code: int


class ServiceSetup:
    """The service of the system, or with `is_user` that of this user."""

    def __init__(self, program: Program, environ: Mapping[str, str], *, is_user: bool) -> None:
        self._program = program
        self._environ = environ
        self._is_user = is_user

    def files(self) -> Sequence[ServiceFile]:
        """Return the files that an installation writes here."""
        return tuple(user_files(self._program, self._configuration()) if self._is_user else system_files(self._program))

    def install(self, say: Say) -> ServiceState:
        """Write the files, enable and start the service. Return its state; raises ConfigError and LocalError."""
        self._check_manager()
        self._program.check()
        if self._is_user:
            self._linger(say)
        is_socket_new = False
        for file in self.files():
            is_written, what = _write(file)
            say(what)
            is_socket_new |= is_written and file.path.name == SOCKET_UNIT
            if file.path.parent.name == "applications.d":
                say("to let peers through the firewall, type: ufw allow echonode")
            if file.path.parts[-3:-1] == ("firewalld", "services"):
                say(
                    "to let peers through the firewall, type: firewall-cmd --reload; firewall-cmd --permanent "
                    "--add-service=echonode; firewall-cmd --reload"
                )
        if not self._is_user:
            _run(["systemd-sysusers", "echonode.conf"])
            say(f"members of the group {API_GROUP} may give the node commands")
        self._systemctl("daemon-reload")
        self._systemctl("enable", "--quiet", UNIT)
        self._systemctl("reset-failed", UNIT, must_succeed=False)
        if is_socket_new:  # a restart leaves the socket as it is, so that commands wait in it
            self._systemctl("stop", UNIT, SOCKET_UNIT, must_succeed=False)
        self._systemctl("restart", UNIT, must_succeed=False)  # the state says whether it did
        return self.state()

    def uninstall(self, say: Say) -> None:
        """Stop and disable the service, and remove its files. Raises ConfigError and LocalError."""
        self._check_manager()
        if not self.state().unit:
            raise LocalError("the service is not installed")
        self._systemctl("disable", "--quiet", "--now", UNIT)
        if not self._is_user:
            self._systemctl("stop", SOCKET_UNIT, must_succeed=False)  # it would go by itself, a moment later
        say("the node is stopped, and starts no more by itself")
        for file in self.files():
            try:
                file.path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LocalError(f"{file.path} cannot be removed: {error.strerror}") from None
            say(f"removed {file.path}")
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", UNIT, must_succeed=False)

    def state(self) -> ServiceState:
        """Return the state of the service. Raises ConfigError where there is no systemd."""
        self._check_manager(is_change=False)
        lines = self._systemctl("show", UNIT, f"--property={','.join(_PROPERTIES)}").splitlines()
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        return ServiceState(
            unit=values["FragmentPath"] if values["LoadState"] == "loaded" else "",
            is_enabled=values["UnitFileState"] == "enabled",
            state=values["ActiveState"],
            since=values["ActiveEnterTimestamp"] if values["ActiveState"] == "active" else "",
            status=values["StatusText"],
            restarts=int(values["NRestarts"] or 0),
            result=values["Result"],
            exit_code=int(values["ExecMainStatus"] or 0),
        )

    def _check_manager(self, *, is_change: bool = True) -> None:
        if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
            raise ConfigError("systemd does not run here, and echonode knows no other service manager: run it by hand")
        if self._is_user and not is_change and not self._user_manager.exists():
            raise LocalError("the service manager of this user does not run: it does once the user has logged in")
        if is_change and not self._is_user and os.geteuid() != 0:
            raise ConfigError(
                "only root may change the services of this machine: type sudo before it, or install one for this user "
                "alone with --user"
            )

    def _linger(self, say: Say) -> None:
        """Let the user's services run while the user is not logged in. Raises LocalError where they cannot run now."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        try:
            _run(["loginctl", "enable-linger", user])
        except LocalError:
            say(f"the node runs only while you are logged in; to change that: sudo loginctl enable-linger {user}")
        else:
            say("the node runs while you are not logged in, too (loginctl enable-linger)")
        began_s = time.monotonic()
        while not self._user_manager.exists():
            if time.monotonic() - began_s > _MANAGER_START_S:
                raise LocalError("the service manager of this user does not run: log in as the user, not by su or sudo")
            time.sleep(_POLL_S)

    @property
    def _user_manager(self) -> Path:
        return Path(self._runtime) / "systemd" / "private"

    @property
    def _runtime(self) -> str:
        return self._environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"

    def _systemctl(self, *arguments: str, must_succeed: bool = True) -> str:
        # Behind su there is a manager too, and nothing that says where it is.
        user = ["env", f"XDG_RUNTIME_DIR={self._runtime}", "systemctl", "--user"] if self._is_user else ["systemctl"]
        return _run([*user, *arguments], must_succeed=must_succeed)

    def _configuration(self) -> Path:
        named = self._environ.get("XDG_CONFIG_HOME", "")
        return Path(named) if named.startswith("/") else Path.home() / ".config"


def _write(file: ServiceFile) -> tuple[bool, str]:
    """Write a file, whole or not at all. Return True if it is another one now, and a sentence. Raises LocalError."""
    try:
        if file.path.is_file() and file.path.read_text(encoding="utf-8") == file.text:
            return False, f"{file.path} is as it should be"
        was_there = file.path.exists()
        file.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.path.parent, prefix=f".{file.path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(file.text)
            os.fchmod(descriptor, 0o644)
        os.replace(temporary, file.path)
    except OSError as error:
        raise LocalError(f"{file.path} cannot be written: {error.strerror}") from None
    return True, f"{'replaced' if was_there else 'wrote'} {file.path}"


def _run(command: Sequence[str], *, must_succeed: bool = True) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"{command[0]}: {error}") from None
    if must_succeed and done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise LocalError(f"{' '.join(command)} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout
