"""The files of the service: units, the group, profiles of firewalls, each with the place where it belongs.

The folder systemd/ has them as they stand in the repository; a wheel has it inside the package. What is installed has
the path of the program in place of /opt/echonode/bin/echonode. A program under /home or /root is not seen from inside
the sandbox: then the folders that it needs are shown there, read-only, and nothing else of these.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import echonode
from echonode.errors import ConfigError

UNIT: Final = "echonode.service"
SOCKET_UNIT: Final = "echonode-api.socket"
API_GROUP: Final = "echonode-api"

_PROGRAM_IN_FILES: Final = "/opt/echonode/bin/echonode"
_HIDDEN: Final = ("/home", "/root", "/run/user")  # by ProtectHome=
_EMPTIED: Final = ("/tmp", "/var/tmp")  # by PrivateTmp=, and by the system when it starts
_PLAIN: Final = re.compile(r"[\w./@:+,-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Program:
    """The program that runs here: its command line without arguments, and the folders that it is made of."""

    command: tuple[str, ...]
    folders: tuple[Path, ...]

    @classmethod
    def current(cls) -> "Program":
        """Return the program of this process."""
        script = Path(sys.prefix) / "bin" / "echonode"
        command = (str(script),) if script.exists() else (sys.executable, "-m", "echonode")
        package = Path(echonode.__file__).resolve().parent.parent
        named = (Path(sys.prefix), Path(sys.base_prefix))
        folders = dict.fromkeys((*named, *(folder.resolve() for folder in named), package))
        inside = [folder for folder in folders if not any(other in folder.parents for other in folders)]
        return cls(command, tuple(inside))

    def check(self) -> None:
        """Raise ConfigError where a service could not run this program, or not for long."""
        for folder in self.folders:
            if _is_below(folder, _EMPTIED):
                raise ConfigError(
                    f"this program is in {folder}, which is emptied when the machine starts: install it elsewhere, "
                    "such as /opt/echonode, and call it from there"
                )
            if not folder.stat().st_mode & 0o005:
                raise ConfigError(f"other users may not read {folder}, so no service could run it: chmod -R go+rX it")

    @property
    def hidden_folders(self) -> Sequence[Path]:
        """The folders that the sandbox hides unless they are shown in it."""
        return [folder for folder in self.folders if _is_below(folder, _HIDDEN)]


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A file to be written: its place and its text."""

    path: Path
    text: str


def system_files(program: Program, root: Path = Path("/")) -> Iterator[ServiceFile]:
    """Yield the files of the system's service. Those of a firewall come only where that firewall is installed."""
    unit = _with_program(read_template("echonode.service"), program)
    if program.hidden_folders:
        shown = "".join(f"BindReadOnlyPaths={_quoted(str(folder))}\n" for folder in program.hidden_folders)
        unit = unit.replace(
            "ProtectHome=yes\n", f"# Of the homes only the program itself is seen.\nProtectHome=tmpfs\n{shown}"
        )
    yield ServiceFile(root / "etc/systemd/system" / UNIT, unit)
    yield ServiceFile(root / "etc/systemd/system" / SOCKET_UNIT, read_template(SOCKET_UNIT))
    yield ServiceFile(root / "etc/sysusers.d/echonode.conf", read_template("echonode.sysusers"))
    if (root / "etc/ufw/applications.d").is_dir():
        yield ServiceFile(root / "etc/ufw/applications.d/echonode", read_template("echonode.ufw"))
    if (root / "etc/firewalld").is_dir():
        yield ServiceFile(root / "etc/firewalld/services/echonode.xml", read_template("echonode.firewalld.xml"))


def user_files(program: Program, configuration: Path) -> Iterator[ServiceFile]:
    """Yield the unit of a user's own service. `configuration` is the user's $XDG_CONFIG_HOME.

    It has no socket unit: the socket belongs to its user with mode 0600 anyway, and stands in the home, whose place the
    node alone finds (ECHO_HOME)."""
    yield ServiceFile(
        configuration / "systemd/user" / UNIT, _with_program(read_template("echonode-user.service"), program)
    )


def read_template(name: str) -> str:
    """Return a file of the folder systemd/, as the wheel or the repository has it. Raises ConfigError."""
    package = Path(echonode.__file__).parent
    for folder in (package / "systemd", package.parent / "systemd"):
        try:
            return (folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            pass
    raise ConfigError(f"this installation lacks its file systemd/{name}: install echonode again")


def _with_program(text: str, program: Program) -> str:
    return text.replace(f"={_PROGRAM_IN_FILES} ", f"={' '.join(map(_quoted, program.command))} ")


def _quoted(text: str) -> str:
    """Return a word as systemd.syntax(7) wants it."""
    word = text.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return word if _PLAIN.fullmatch(text) else f'"{word}"'


def _is_below(path: Path, folders: Sequence[str]) -> bool:
    return any(Path(folder) in (path, *path.parents) for folder in folders)
