"""Settings: flag > environment > file > default. The file is TOML, in the node's home or where `home.py` says.

Every key there is, with its default or an example:

```toml
name = "kitchen"                  # the label that other nodes show; default: this machine's host name
listen = "0.0.0.0:22087"          # default: every address, port 22087, or a free port where that is taken
peers = ["192.168.1.20:22087"]    # dialled besides the nodes that mDNS finds; default: none
interfaces = ["192.168.1.10"]     # addresses of this machine to use for mDNS; default: all usable ones
mdns = true                       # false: announce nothing, look for no node
open = false                      # true: take part in the public network, where anyone on the LAN may
contexts = ["main"]               # hold these and no others; default: main, and all that peers offer
models = ["task@1.2"]             # models that your programs read: peers are told, other majors of them are refused
echo_author = "me"                # whose records `echo-sync` states are; default: shared, me on the open network

[subscriptions]                   # the part of a context to keep; default: all of it
main = ["tag=news", "since=2026-01-01"]  # terms of a filter (model/filter_text.py); authors by whole ids, me or shared

[api]
group = "echonode"                # a group of this machine that may use the API socket; default: the owner alone
listen = "127.0.0.1:22088"        # where the API takes the token; default: there, or a free port; "off": nowhere

[backup]
every = "1d"                      # write a backup so often; default: never
keep = 7                          # the newest are kept, older ones deleted
folder = "/mnt/backups"           # default: the folder `backups` in the home

[audit]
at = "03:00"                      # read and verify the whole store daily at this time; default: 03:00; "off": never

[quota]                           # what is taken of others at most; default, and 0: no bound
author_records = 100000           # records of one author (of one key in shared)
author_bytes = 1000000000         # their bytes
author_tombstones = 50000         # deletions among them
records = 1000000                 # records of all authors
bytes = 10000000000               # their bytes
tombstones = 500000               # deletions among them
peer_rate = 2000                  # records a second that one peer may bring; more of them wait

[trust]
policy = "approve"                # nodes that were never met wait for `peers approve`; open: the whole network gets in
approve = ["aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"]  # let in without a question
reject = ["eaqseizeeutcokbjfivsyljof4ydcmrtgq2tmnzyhe5dwpb5hy7q"]   # kept out
deny = ["ibaueq2eivdeoscjjjfuytkoj5ifcustkrkvmv2ylfnfwxc5lzpq"]      # its records are hidden from readers here

[log]
level = "info"                    # debug, info, warning or error
format = "auto"                   # json or console; auto: console on a terminal, else json
```

In the environment: ECHO_NAME, ECHO_LISTEN, ECHO_PEERS (separated by commas, as are the other lists), ECHO_INTERFACES,
ECHO_MDNS, ECHO_OPEN (true or false), ECHO_CONTEXTS, ECHO_MODELS, ECHO_ECHO_AUTHOR, ECHO_API_GROUP, ECHO_API_LISTEN,
ECHO_BACKUP_EVERY, ECHO_BACKUP_KEEP, ECHO_BACKUP_FOLDER, ECHO_AUDIT_AT, ECHO_QUOTA_RECORDS and the other quotas,
ECHO_TRUST_POLICY, ECHO_TRUST_APPROVE, ECHO_TRUST_REJECT, ECHO_TRUST_DENY, ECHO_LOG_LEVEL, ECHO_LOG_FORMAT. The table of
subscriptions stands in the file alone. Unknown keys in the file are errors: a misspelt setting has no effect.

SIGHUP lets a running node read the file again. It takes peers, models, subscriptions, the table trust and log.level;
the other keys need another start.
"""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from echonode.errors import ConfigError, LocalError
from echonode.host.loopback import check_listen
from echonode.host.tcp import parse_address
from echonode.limits import (
    CONTEXT_BYTES_MAX,
    CONTEXTS_MAX,
    KIB,
    MODELS_MAX,
    NODE_NAME_BYTES_MAX,
    TEXT_FIELD_BYTES_MAX,
    VERSION_NUMBER_MAX,
)
from echonode.model.address import ME, SHARED, maybe_id
from echonode.model.filter_text import full_id, read_filter
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES
from echonode.model.time_text import maybe_span_s
from echonode.node.trust import Decisions
from echonode.text import escape, is_nfc_text, is_node_name

OFF: Final = "off"  # as a time of audits
_FILE_BYTES_MAX: Final = 256 * KIB
_TRUST_LISTS: Final = ("approve", "reject", "deny")
_TRUST_KEYS: Final = tuple(f"trust.{name}" for name in _TRUST_LISTS)
_LIST_KEYS: Final = ("peers", "interfaces", "contexts", "models", *_TRUST_KEYS)
_BACKUP_EVERY_S_MIN: Final = 600.0
_TIME_OF_DAY: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_QUOTA_KEYS: Final = (
    *("author_records", "author_bytes", "author_tombstones"),
    *("records", "bytes", "tombstones", "peer_rate"),
)
_EXPECTED: Final = {
    "name": "a text",
    "listen": "an address like '0.0.0.0:22087'",
    "peers": "a list of addresses like '192.168.1.20:22087'",
    "interfaces": "a list of IP addresses",
    "mdns": "true or false",
    "open": "true or false",
    "contexts": "a list of names",
    "models": "a list of models like 'task@1.2'",
    "echo_author": "shared or me",
    "subscriptions": "a table of contexts, each with a list of terms like 'tag=news'",
    "api": "a table",
    "api.group": "the name of a group",
    "api.listen": "an address like '127.0.0.1:22088', or 'off',",
    "backup": "a table",
    "backup.every": "a length of time like '1d' or '12h'",
    "backup.keep": "a number from 1 to 1000",
    "backup.folder": "the path of a folder",
    "audit": "a table",
    "audit.at": "a time of day like '03:00', or 'off',",
    "quota": "a table",
    **{f"quota.{name}": "a whole number, 0 for no bound" for name in _QUOTA_KEYS},
    "trust": "a table",
    "trust.policy": "open or approve",
    **dict.fromkeys(_TRUST_KEYS, "a list of ids, 52 letters and digits each"),
    "log": "a table",
    "log.level": "one of debug, info, warning and error",
    "log.format": "one of auto, json and console",
}
_NUMBER_KEYS: Final = ("backup.keep", *(f"quota.{name}" for name in _QUOTA_KEYS))
_TABLES: Final = ("api", "backup", "audit", "quota", "trust", "log")  # tables of keys of their own
# What SIGHUP changes in a running node.
RELOADED: Final = ("peers", "models", "subscriptions", "trust.policy", *_TRUST_KEYS, "log.level")
# A variable holds no table.
_ELSEWHERE: Final = "command line, or the file before it was changed"
_VARIABLE_KEYS: Final = [key for key in _EXPECTED if key not in ("subscriptions", *_TABLES)]
_KEY_IN_ERROR: Final = re.compile(r" - at `\$\.?([a-z_.]*).*`$")
_MODEL_PATTERN: Final = re.compile(r"(.+)@(\d{1,9})\.(\d{1,9})", re.ASCII)
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `(.*?)`", re.DOTALL)


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The level and the format of the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The users who may give this node commands, besides its own, and the address at which the token is taken."""

    group: str | None = None
    listen: str | None = None


class BackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The times and the place of backups, and how many are kept."""

    every: str | None = None
    keep: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 7
    folder: str | None = None


class AuditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time of day at which the whole store is verified."""

    at: str = "03:00"


_Bound: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class QuotaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that is taken of others; 0 stands for no bound."""

    author_records: _Bound = 0
    author_bytes: _Bound = 0
    author_tombstones: _Bound = 0
    records: _Bound = 0
    bytes: _Bound = 0
    tombstones: _Bound = 0
    peer_rate: _Bound = 0


class TrustConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The nodes that are let in, kept out and hidden from readers, by their ids."""

    policy: Literal["open", "approve"] = "open"
    approve: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one node, checked."""

    name: str | None = None
    listen: str | None = None
    peers: tuple[str, ...] = ()
    interfaces: tuple[str, ...] | None = None
    mdns: bool = True
    open: bool = False
    contexts: tuple[str, ...] | None = None
    models: tuple[str, ...] = ()
    echo_author: Literal["shared", "me"] | None = None
    subscriptions: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    api: ApiConfig = ApiConfig()
    backup: BackupConfig = BackupConfig()
    audit: AuditConfig = AuditConfig()
    quota: QuotaConfig = QuotaConfig()
    trust: TrustConfig = TrustConfig()
    log: LogConfig = LogConfig()


_LIST_FLAGS: Final = {"peers": "--peer", "interfaces": "--interface"}  # given several times, one value each


def load_config(path: Path, environ: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """Return the settings that apply. `flags` are by key ("peers", "log.level"), None or () where not given.

    Each source is checked by itself, so that an error names the key in the file, the variable or the flag. Raises
    ConfigError."""
    from_file = _read_file(path)
    from_environ = _nest({key: value for key in _VARIABLE_KEYS if (value := _variable(key, environ)) is not None})
    from_flags = _nest({key: value for key, value in flags.items() if value not in (None, ())})
    _validate(from_file, lambda key: f"{path}: {key}" if key else str(path))
    _validate(from_environ, lambda key: f"ECHO_{key.upper().replace('.', '_')}")
    _validate(from_flags, lambda key: _LIST_FLAGS.get(key) or f"--{key.replace('.', '-')}")
    merged = {**from_file, **from_environ, **from_flags}
    for table in _TABLES:
        merged[table] = {**from_file.get(table, {}), **from_environ.get(table, {}), **from_flags.get(table, {})}
    return _validate(merged, lambda key: key)


def explain(path: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    """Yield key, value and origin of every setting: the file's path, the variable, or "default". Raises ConfigError."""
    config = load_config(path, environ, {})
    in_file = _read_file(path)
    for key in (key for key in _EXPECTED if key not in _TABLES):
        table, _, name = key.rpartition(".")
        value = _value(config, key)
        if key in _VARIABLE_KEYS and _variable(key, environ) is not None:
            origin = f"ECHO_{key.upper().replace('.', '_')}"
        else:
            origin = str(path) if name in (in_file.get(table, {}) if table else in_file) else "default"
        yield key, value, origin


def effective(running: Config, path: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    """Yield key, value and origin of every setting of a process that runs with `running`. A value that neither file nor
    environment gives now came from the command line, or from the file before it was changed."""
    try:
        written = {key: (value, origin) for key, value, origin in explain(path, environ)}
    except ConfigError:
        written = {}  # the file has a mistake since
    for key in (key for key in _EXPECTED if key not in _TABLES):
        value = _value(running, key)
        given, origin = written.get(key, (None, ""))
        yield key, value, origin if origin and given == value else _ELSEWHERE


def changed_keys(running: Config, fresh: Config) -> tuple[list[str], list[str]]:
    """Return the keys whose value differs: those that a running node takes, and those that need another start."""
    keys = [key for key in _EXPECTED if key not in _TABLES and _value(running, key) != _value(fresh, key)]
    return [key for key in keys if key in RELOADED], [key for key in keys if key not in RELOADED]


def reloaded(running: Config, fresh: Config) -> Config:
    """Return the settings of a running node after it has taken what it can of `fresh`."""
    return msgspec.structs.replace(
        running,
        peers=fresh.peers,
        models=fresh.models,
        subscriptions=fresh.subscriptions,
        trust=fresh.trust,
        log=msgspec.structs.replace(running.log, level=fresh.log.level),
    )


def _value(config: Config, key: str) -> object:
    table, _, name = key.rpartition(".")
    return getattr(getattr(config, table) if table else config, name)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(data) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path} is no configuration: it is larger than {_FILE_BYTES_MAX // KIB} KiB")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} is not UTF-8 text (line {line}): save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {escape(str(error))}") from error


def _variable(key: str, environ: Mapping[str, str]) -> object:
    name = f"ECHO_{key.upper().replace('.', '_')}"
    text = environ.get(name)
    if not text:
        return None
    if key in _LIST_KEYS:
        return [each.strip() for each in text.split(",") if each.strip()]
    if key in ("mdns", "open"):
        if text.lower() not in _BOOLEANS:
            raise ConfigError(f"{name}: true or false is expected, not '{escape(text)}'")
        return _BOOLEANS[text.lower()]
    if key in _NUMBER_KEYS and text.isdecimal() and text.isascii():
        return int(text)
    return text


def _nest(flat: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        table, _, name = key.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[name] = value
    return nested


def _validate(raw: Mapping[str, object], label: Callable[[str], str]) -> Config:
    """Return `raw` as a Config. Raises ConfigError, with `label(key)` in front of what is wrong with a key."""
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        at = _KEY_IN_ERROR.search(str(error))
        unknown = _UNKNOWN_FIELD.search(str(error))
        key = at[1] if at else ""
        if unknown:
            table = f" in the table {key}" if key else ""
            raise ConfigError(f"{label('')}: there is no setting '{escape(unknown[1])}'{table}") from None
        if key.startswith("subscriptions"):
            key = "subscriptions"
        raise ConfigError(f"{label(key)}: {_EXPECTED[key]} is expected") from None
    contexts = None if config.contexts is None else tuple(_nfc(name) for name in config.contexts)
    subscriptions = {_nfc(name): terms for name, terms in config.subscriptions.items()}
    config = msgspec.structs.replace(
        config,
        name=config.name and _nfc(config.name),
        contexts=contexts,
        models=tuple(_nfc(text) for text in config.models),
        subscriptions=subscriptions,
    )
    for key, problem in _problems(config):
        raise ConfigError(f"{label(key)}: {problem}")
    return config


def _problems(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for what the types do not check."""
    if config.name is not None and not is_node_name(config.name):
        yield "name", f"1 to {NODE_NAME_BYTES_MAX} bytes without control characters are expected"
    if config.listen is not None:
        yield from (("listen", problem) for problem in _address_problems(config.listen, port_min=0))
    for address in config.peers:
        yield from (("peers", problem) for problem in _address_problems(address, port_min=1))
    for text in config.interfaces or ():
        if not _is_ip(text):
            yield "interfaces", f"an IP address of this machine is expected, not '{escape(text)}'"
    if config.api.group is not None and not is_nfc_text(config.api.group, TEXT_FIELD_BYTES_MAX):
        yield "api.group", "the name of a group is expected"
    if config.api.listen is not None:
        try:
            check_listen(config.api.listen)
        except ConfigError as error:
            yield "api.listen", str(error)
    if config.backup.every is not None and (maybe_span_s(config.backup.every) or 0.0) < _BACKUP_EVERY_S_MIN:
        yield "backup.every", "a length of time of 10 minutes or more is expected, like '1d' or '12h'"
    if config.backup.folder is not None and not config.backup.folder.startswith("/"):
        yield "backup.folder", "a path that begins with / is expected"
    if config.audit.at != OFF and _TIME_OF_DAY.fullmatch(config.audit.at) is None:
        yield "audit.at", "a time of day like '03:00' is expected, or 'off'"
    if config.contexts is not None:
        if not 0 < len(config.contexts) <= CONTEXTS_MAX or len(set(config.contexts)) < len(config.contexts):
            yield "contexts", f"1 to {CONTEXTS_MAX} different names are expected"
        for name in config.contexts:
            if not is_nfc_text(name, CONTEXT_BYTES_MAX):
                yield "contexts", f"'{escape(name)}' is no context: 1 to {CONTEXT_BYTES_MAX} bytes are expected"
            elif name == IDENTITIES:
                yield "contexts", f"'{IDENTITIES}' is reserved, and always held"
    if config.open and config.echo_author == SHARED:
        yield "echo_author", "the open network has no `shared` records"
    for name in _TRUST_LISTS:
        for text in getattr(config.trust, name):
            if maybe_id(text) is None:
                yield f"trust.{name}", f"'{escape(text)}' is no id: `echonode peers --json` shows whole ones"
    if both := set(config.trust.approve) & set(config.trust.reject):
        yield "trust.reject", f"{min(both)} stands under trust.approve too"
    yield from (("models", problem) for problem in _model_problems(config.models))
    for name, terms in config.subscriptions.items():
        yield from (("subscriptions", problem) for problem in _subscription_problems(config, name, terms))


def trust_decisions(config: TrustConfig) -> Decisions:
    """Return what the configuration decides about nodes."""
    approved, rejected, denied = (
        {identity: "" for text in texts if (identity := maybe_id(text)) is not None}
        for texts in (config.approve, config.reject, config.deny)
    )
    return Decisions(approved, rejected, denied)


def read_model(text: str) -> tuple[str, tuple[int, int]]:
    """Return name and version of NAME@MAJOR.MINOR. Raises ConfigError."""
    match = _MODEL_PATTERN.fullmatch(text)
    if match is None or not is_nfc_text(match[1], TEXT_FIELD_BYTES_MAX):
        raise ConfigError(f"'{escape(text)}' is no model like 'task@1.2'")
    return match[1], (int(match[2]), int(match[3]))


def _model_problems(models: tuple[str, ...]) -> Iterator[str]:
    try:
        read = [read_model(text) for text in models]
    except ConfigError as error:
        yield str(error)
        return
    if len(read) > MODELS_MAX or len(dict(read)) < len(read):
        yield f"up to {MODELS_MAX} models are expected, each once: of one model one version is read"
    if any(max(version) > VERSION_NUMBER_MAX for _, version in read):
        yield f"major and minor are at most {VERSION_NUMBER_MAX}"


def _subscription_problems(config: Config, name: str, terms: tuple[str, ...]) -> Iterator[str]:
    if not is_nfc_text(name, CONTEXT_BYTES_MAX):
        yield f"'{escape(name)}' is no context: 1 to {CONTEXT_BYTES_MAX} bytes are expected"
    elif name == IDENTITIES:
        yield f"'{IDENTITIES}' is always kept whole"
    elif config.contexts is not None and name not in config.contexts:
        yield f"'{escape(name)}' is not among the contexts that are kept"
    try:
        read_filter(terms, lambda text: IdentityId(bytes(32)) if text in (ME, SHARED) else full_id(text))
    except LocalError as error:
        yield f"{escape(name)}: {error}"
    if config.open and any(term.endswith("=shared") for term in terms):
        yield "the open network has no `shared` records"


def _address_problems(text: str, *, port_min: int) -> Iterator[str]:
    try:
        _, port = parse_address(text)
    except ConfigError as error:
        yield str(error)
    else:
        if port < port_min:
            yield f"'{text}' has no port to dial"


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
