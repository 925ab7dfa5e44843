"""The folder of one node, and the secrets in it.

    config.toml    keys/root  keys/device   the two secret keys      network    the network secret, 64 bytes
    store.db       api.sock                                         lock       held by the running node, has its pid
    keys/root.public   the public root key, where the root key was taken off this machine
    api-token      the token of the API over TCP, 52 characters
    history.jsonl  the syncs that were asked for (host/history_file.py)
    past-networks  secrets that this node had before, and their rotations
    pools  name  paused    pools with labels; the name that a person gave; pauses
    trust          what a person decided about other nodes
    open  restored         two marks: of the open network; of a backup that was put back and has not caught up
    life  wrote    two links that a restored or copied store.db does not go with (store/sqlite/life.py)

The folder is `--home`, else $ECHO_HOME, else the service's $STATE_DIRECTORY, else $XDG_STATE_HOME/echonode, else
~/.local/state/echonode. A service has its configuration in $CONFIGURATION_DIRECTORY (/etc/echonode) and its socket in
$RUNTIME_DIRECTORY (/run/echonode), where an administrator looks for them.

The path of a socket must fit sun_path (108 bytes, unix(7)). Where the folder's name is too long for that, the socket is
in a folder of this user under $XDG_RUNTIME_DIR or /tmp, under a name that is a hash of the home's.
"""

import fcntl
import os
import pwd
import shlex
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

from echonode.errors import ConfigError
from echonode.text import escape

SERVICE_SOCKET: Final = Path("/run/echonode/api.sock")
_SOCKET_PATH_BYTES_MAX: Final = 100
_READER: Final = b"reader "  # what a reader writes before its pid into the lock file
_READER_TIMEOUT_S: Final = 60.0  # verifying a large store takes so long
_LOCK_GRACE_S: Final = 0.3
_LOCK_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one node."""

    folder: Path
    config: Path
    api_socket: Path

    @classmethod
    def find(cls, flag: str | None, environ: Mapping[str, str]) -> Self:
        """Return the home that `flag` and the environment name. Touches no file. Raises ConfigError where they name
        none."""
        named_home = flag or environ.get("ECHO_HOME")
        state, configuration, runtime = (
            environ.get(f"{kind}_DIRECTORY", "").partition(":")[0] for kind in ("STATE", "CONFIGURATION", "RUNTIME")
        )
        if named_home:
            folder = _expand(named_home)
        elif state:
            folder = Path(state)
            socket = Path(runtime) / "api.sock" if runtime else _socket_path(folder, environ)
            return cls(folder, Path(configuration or state) / "config.toml", socket)
        else:
            base = environ.get("XDG_STATE_HOME", "")  # to be ignored unless absolute
            folder = (Path(base) if base.startswith("/") else _user_folder(environ) / ".local" / "state") / "echonode"
        return cls(folder, folder / "config.toml", _socket_path(folder, environ))

    @property
    def root_key(self) -> Path:
        """The seed of the root key, which signs key statements and nothing else."""
        return self.folder / "keys" / "root"

    @property
    def root_public(self) -> Path:
        """The public root key, of a home whose root key may be kept elsewhere."""
        return self.folder / "keys" / "root.public"

    @property
    def pools(self) -> Path:
        """The pools that the node has labels for, with the seeds of root keys that it holds."""
        return self.folder / "pools"

    @property
    def device_key(self) -> Path:
        """The seed of the device key, which signs records and sessions."""
        return self.folder / "keys" / "device"

    @property
    def network(self) -> Path:
        """The network secret."""
        return self.folder / "network"

    @property
    def api_token(self) -> Path:
        """The token of the API over TCP."""
        return self.folder / "api-token"

    @property
    def history(self) -> Path:
        """The history of syncs."""
        return self.folder / "history.jsonl"

    @property
    def store(self) -> Path:
        """The database."""
        return self.folder / "store.db"

    def prepare(self) -> None:
        """Make the missing folders, for this user alone. Raises ConfigError where that is impossible."""
        try:
            for folder in (self.folder, self.root_key.parent, self.api_socket.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass  # making a file is the only sure test that the folder can be written
            self.check_owner()
        except OSError as error:
            raise ConfigError(f"the home {self.folder} cannot be used: {_reason(error)}") from error
        self.check_socket_folder()

    def check_owner(self) -> None:
        """Raise ConfigError where another user owns the home or may write into it: keys and records would be theirs."""
        for folder in (self.folder, self.root_key.parent):
            status = folder.stat()
            if status.st_uid != os.geteuid():
                owner, user = _user_name(status.st_uid), _user_name(os.geteuid())
                raise ConfigError(f"the home {folder} belongs to {owner}: run as {owner}, or give {user} another home")
            if stat.S_IMODE(status.st_mode) & 0o022:
                raise ConfigError(
                    f"other users may write into the home {folder}: run chmod go-w {shlex.quote(str(folder))}"
                )

    def check_socket_folder(self) -> None:
        """Raise ConfigError where another user could have made the socket. Call it before listening and before trusting
        it."""
        folder = self.api_socket.parent
        if folder == self.folder or self.api_socket == SERVICE_SOCKET or not os.path.lexists(folder):
            return
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
            raise ConfigError(f"the folder {folder} is not this user's alone; remove it, or choose a shorter home")

    @contextmanager
    def locked(self, *, is_reader: bool = False) -> Iterator[None]:
        """Hold the home, so that one node at a time has it. Raises ConfigError that names the process that has it.

        A command that reads the store of a stopped node holds the home for a moment, as a reader. Others wait for it.
        """
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"the home {self.folder} cannot be used: {_reason(error)}") from error
        try:
            if not _lock(descriptor):
                raise ConfigError(_holder_sentence(self.folder, _lock_text(descriptor)))
            with suppress(OSError):  # the pid helps a person; a full disk may have no room for it
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%s%d\n" % (_READER if is_reader else b"", os.getpid()), 0)
            yield
        finally:
            # Closing releases the lock. The file stays: if it were deleted, two nodes could lock two files of one name.
            os.close(descriptor)

    def lock_holder(self) -> str | None:
        """Return the process id of the node that holds the home; None when none does, or that cannot be found out."""
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = _lock_text(descriptor)
            return None if text.startswith(_READER.decode()) else text or "?"
        finally:
            os.close(descriptor)
        return None


def _lock(descriptor: int) -> bool:
    """Lock the file and return True; False when a node has it. Wait for readers, and for a new holder's first word."""
    began_s = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_read = _lock_text(descriptor).startswith(_READER.decode())
            if time.monotonic() - began_s > (_READER_TIMEOUT_S if is_read else _LOCK_GRACE_S):
                return False
            time.sleep(_LOCK_POLL_S)
        else:
            return True


def _holder_sentence(folder: Path, holder: str) -> str:
    reader = holder.removeprefix(_READER.decode())
    if reader != holder:
        return f"a command still reads the store in the home {folder} (process {reader})"
    return f"a node already runs on the home {folder} (process {holder or '?'})"


def _lock_text(descriptor: int) -> str:
    return os.pread(descriptor, 30, 0).decode("ascii", "replace").strip()


def read_secret(path: Path, size: int) -> bytes | None:
    """Return the `size` bytes of a secret file, None when there is none. Raises ConfigError for one that cannot be
    used."""
    data = read_private(path, size)
    if data is not None and len(data) != size:
        raise ConfigError(f"{path} is damaged: {size} bytes are expected; restore it from a copy")
    return data


def read_private(path: Path, bytes_max: int) -> bytes | None:
    """Return the first bytes of a secret file, one more than `bytes_max` at most; None when there is none.

    Raises ConfigError for one that cannot be used."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(bytes_max + 1) if stat.S_ISREG(status.st_mode) else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {_reason(error)}") from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(f"{path} is secret, and other users may read it: run chmod 600 {path}")
    return data


def write_secret(path: Path, data: bytes) -> None:
    """Write `data` to `path`, for this user alone. Whenever the power goes, the old or the new bytes are there.

    Raises ConfigError."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {_reason(error)}") from error


def _socket_path(folder: Path, environ: Mapping[str, str]) -> Path:
    usual = folder / "api.sock"
    if len(os.fsencode(usual)) <= _SOCKET_PATH_BYTES_MAX:
        return usual
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) / "echonode" if runtime.startswith("/") else Path("/tmp") / f"echonode-{os.geteuid()}"
    digest = blake2b(os.fsencode(folder), digest_size=12, person=b"echonode socket").hexdigest()
    return base / f"{digest}.sock"


def _user_folder(environ: Mapping[str, str]) -> Path:
    if environ.get("HOME", "").startswith("/"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:  # a container's user may have neither HOME nor an entry in /etc/passwd
        raise ConfigError(
            "this user has no home folder: say where the node's is with --home DIR or ECHO_HOME"
        ) from None


def _expand(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(
            f"the home '{escape(text)}' begins with a user who is unknown here: write the path out"
        ) from None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
