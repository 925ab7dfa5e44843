"""Every key of the configuration, as the manual describes it. tests/manual holds the table to host/config.py."""

from dataclasses import dataclass
from typing import Final

from echonode.limits import (
    CONTEXT_BYTES_MAX,
    CONTEXTS_MAX,
    MODELS_MAX,
    NODE_NAME_BYTES_MAX,
    TEXT_FIELD_BYTES_MAX,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key. `example` is a TOML value; `flag` is the option of `echonode run`, "" for none."""

    key: str
    meaning: str
    form: str
    default: str
    example: str
    flag: str = ""
    has_variable: bool = True

    @property
    def variable(self) -> str:
        """The environment variable; "" for none."""
        return f"ECHO_{self.key.upper().replace('.', '_')}" if self.has_variable else ""


SETTINGS: Final = (
    Setting(
        key="name",
        meaning="The label that other nodes show for this one. It need not be unique.",
        form=f"text of 1 to {NODE_NAME_BYTES_MAX} bytes",
        default="this machine's host name, or node- and the beginning of the id if that is no fit name",
        example='"kitchen"',
        flag="--name",
    ),
    Setting(
        key="listen",
        meaning="The address and the port on which other nodes reach this one. Port 0 takes a free one.",
        form="HOST:PORT",
        default="every address, port 22087, or a free port where that one is taken",
        example='"0.0.0.0:22087"',
        flag="--listen",
    ),
    Setting(
        key="peers",
        meaning="Nodes to dial besides those that mDNS finds.",
        form="list of HOST:PORT",
        default="none",
        example='["192.168.1.20:22087"]',
        flag="--peer",
    ),
    Setting(
        key="interfaces",
        meaning="Addresses of this machine to use for mDNS.",
        form="list of IP addresses",
        default="all usable ones",
        example='["192.168.1.10"]',
        flag="--interface",
    ),
    Setting(
        key="mdns",
        meaning="Announce this node on the LAN and look for others there.",
        form="true or false",
        default="true",
        example="false",
        flag="--no-mdns",
    ),
    Setting(
        key="open",
        meaning="Take part in the public network, in which anyone on the LAN may be.",
        form="true or false",
        default="false",
        example="true",
        flag="--open",
    ),
    Setting(
        key="contexts",
        meaning="The contexts to hold, and no others.",
        form=f"list of up to {CONTEXTS_MAX} names of 1 to {CONTEXT_BYTES_MAX} bytes",
        default="main, and all that peers offer",
        example='["main", "books"]',
    ),
    Setting(
        key="models",
        meaning="The record models that programs here read. Peers are told; other majors of them are not read here.",
        form=f"list of up to {MODELS_MAX} NAME@MAJOR.MINOR, the name up to {TEXT_FIELD_BYTES_MAX} bytes",
        default="none: records of every model are read",
        example='["task@1.2"]',
    ),
    Setting(
        key="echo_author",
        meaning="Whose records are the state of the Echo Sync Protocol: what all nodes write, or this node's own.",
        form="shared or me",
        default="shared; me on the open network, which has no shared records",
        example='"me"',
    ),
    Setting(
        key="subscriptions",
        meaning="The part of a context to keep, by context: terms of a filter, of which a record must fit every key.",
        form="table of lists of terms: author, sender, pool, model, tag, tags, since, until, name",
        default="all of every context",
        example='{ main = ["tag=news", "since=2026-01-01"] }',
        has_variable=False,
    ),
    Setting(
        key="api.group",
        meaning="A group of this machine whose members may give this node commands. The node's user is a member of it. "
        "The service has SocketGroup= in echonode-api.socket instead.",
        form="the name of a group",
        default="none: the node's own user and root alone",
        example='"echonode"',
    ),
    Setting(
        key="api.listen",
        meaning="The loopback address at which programs reach the API with the token (echonode api token).",
        form="127.0.0.1:PORT, [::1]:PORT, or off",
        default="127.0.0.1, port 22088, or a free port where that one is taken",
        example='"off"',
    ),
    Setting(
        key="backup.every",
        meaning="Write a backup of this node so often, into one file each. `echonode restore` makes a node of one.",
        form="a length of time of 10 minutes or more: 90m, 12h, 1d, 1w",
        default="none: no backups are written by themselves",
        example='"1d"',
    ),
    Setting(
        key="backup.keep",
        meaning="How many backups are kept. The oldest are deleted after each new one.",
        form="a number from 1 to 1000",
        default="7",
        example="30",
    ),
    Setting(
        key="backup.folder",
        meaning="The folder for the backups. Another disk is the better place; the node's user must be able to write "
        "there (for the service: ReadWritePaths= in `systemctl edit echonode`).",
        form="a path that begins with /",
        default="the folder `backups` in the home",
        example='"/mnt/backups"',
    ),
    Setting(
        key="audit.at",
        meaning="The time of day, of this machine's clock, at which the node reads and verifies its whole store. "
        "Damaged records are dropped and fetched from peers again; `echonode status` shows the verdict. A machine that "
        "is off then does it when it is back. It takes a quarter of one core at most.",
        form="a time from 00:00 to 23:59, or off",
        default="03:00",
        example='"13:30"',
    ),
    *(
        Setting(
            key=f"quota.{key}",
            meaning=f"{what} What is beyond it is refused, but for edits and deletions of records held here.",
            form="a whole number, 0 for no bound",
            default="0",
            example=example,
        )
        for key, what, example in (
            ("author_records", "How many records of one author are taken (in a pool: of one device).", "100000"),
            ("author_bytes", "How many bytes the records of one author may take.", "1000000000"),
            ("author_tombstones", "How many deletions of one author are taken.", "50000"),
            ("records", "How many records of all authors are held.", "1000000"),
            ("bytes", "How many bytes the records of all authors may take.", "10000000000"),
            ("tombstones", "How many deletions of all authors are held.", "500000"),
        )
    ),
    Setting(
        key="quota.peer_rate",
        meaning="How many records a second one peer may bring, ten seconds' worth at once. More of them wait.",
        form="a whole number, 0 for no bound",
        default="0",
        example="2000",
    ),
    Setting(
        key="trust.policy",
        meaning="Who is let in: every node of the network, or only nodes that were met before or approved. Others wait "
        "then (echonode peers --pending) until a person decides, and share the quota of one author.",
        form="open or approve",
        default="open",
        example='"approve"',
    ),
    *(
        Setting(
            key=f"trust.{key}",
            meaning=f"{what} So does `echonode {command}`; what stands here is changed here alone.",
            form="list of whole ids, 52 letters and digits each",
            default="none",
            example='["aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"]',
        )
        for key, command, what in (
            ("approve", "peers approve", "Lets these nodes in without a question."),
            ("reject", "peers reject", "Keeps these nodes out: they are neither dialled nor let in."),
            ("deny", "deny", "Hides what these nodes write from readers here. It is kept and passed on all the same."),
        )
    ),
    Setting(
        key="log.level",
        meaning="The least level that is logged.",
        form="debug, info, warning or error",
        default="info",
        example='"warning"',
        flag="--log-level",
    ),
    Setting(
        key="log.format",
        meaning="The form of the log's lines.",
        form="auto, json or console",
        default="auto: console on a terminal, else json",
        example='"json"',
        flag="--log-format",
    ),
)
