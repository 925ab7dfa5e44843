"""The keys and the network of one node, in the files of its home. They are made on the first run, and a key that a
store belongs to is never replaced by a new one.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from echonode.errors import ConfigError, LocalError
from echonode.host.home import Home, read_private, read_secret, write_secret
from echonode.limits import PAST_NETWORKS_BYTES_MAX, POOL_OFFER_BYTES_MAX, POOLS_MAX
from echonode.model.identity import (
    IDENTITY_BYTES,
    KEY_BYTES,
    Identity,
    IdentityId,
    PublicKey,
    SigningKey,
    identity_of,
)
from echonode.model.known_pool import KnownPool, pools_from_bytes, pools_to_bytes
from echonode.model.member_secret import MEMBER_SECRET_BYTES, MemberSecret
from echonode.model.past_networks import PastNetwork, left_for, read_past, write_past
from echonode.node.audits import AuditReport
from echonode.node.trust import Decisions
from echonode.text import from_base32, is_node_name, to_base32

SECRET_BYTES: Final = 32
_TOKEN_CHARS: Final = 52  # of so many bytes in base32
_CONFIG: Final = "config.toml"
_KEPT: Final = (
    *("keys/root", "keys/root.public", "keys/device", "network", "past-networks"),
    *("open", "name", "pools", "trust", _CONFIG),
)
_DECISIONS: Final = ("approved", "rejected", "denied")
_POOLS_BYTES_MAX: Final = POOLS_MAX * POOL_OFFER_BYTES_MAX


class NodeFiles:
    """The files that one node keeps in its home beside the database. `home` has the paths."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def root(self) -> Path:
        """The folder of the home."""
        return self.home.folder

    @property
    def config(self) -> Path:
        """The path of the configuration."""
        return self.home.config

    @property
    def api_socket(self) -> Path:
        """The path of the API's socket."""
        return self.home.api_socket

    def running_process(self) -> str | None:
        """Return the process id of the node that holds this home; None when none does."""
        return self.home.lock_holder()

    def api_token(self, *, is_new: bool = False) -> str:
        """Return the token of the API, made when there is none or with `is_new`. Raises ConfigError."""
        self.home.prepare()
        path = self.home.api_token
        text = None if is_new else read_secret(path, _TOKEN_CHARS)
        if text is None:
            text = to_base32(secrets.token_bytes(SECRET_BYTES)).encode()
            write_secret(path, text)
        try:
            from_base32(token := text.decode("latin-1"), SECRET_BYTES)
        except ValueError:
            raise ConfigError(f"{path} is damaged; for another token, type: echonode api token --new") from None
        return token

    def take_credentials(self, environ: Mapping[str, str]) -> None:
        """Take what the service manager passes in $CREDENTIALS_DIRECTORY (systemd.exec(5)). Raises ConfigError.

            echonode.network    the network secret, as `network show` prints it: for a home without a network
            echonode.api-token  the token of the API
        """
        folder = environ.get("CREDENTIALS_DIRECTORY", "")
        secret, token = _credential(folder, "echonode.network"), _credential(folder, "echonode.api-token")
        if secret is not None and not self.has_network():
            try:
                self.write_member_secret(MemberSecret.from_text(secret))
            except ConfigError as error:
                raise ConfigError(f"the credential echonode.network: {error}") from None
        if token is not None:
            try:
                from_base32(token, SECRET_BYTES)
            except ValueError:
                raise ConfigError(
                    "the credential echonode.api-token is no token: 52 letters and digits are expected, as "
                    "`echonode api token` prints"
                ) from None
            self.home.prepare()
            kept = self.home.api_token
            if not kept.exists() or kept.read_bytes() != token.encode():
                write_secret(kept, token.encode())

    def has_network(self) -> bool:
        """Return True when the home belongs to a network, private or public."""
        return self.home.network.exists() or self._open_mark.exists()

    def read_member_secret(self) -> MemberSecret | None:
        """Return the network secret, None in a home of the public network or of none. Raises ConfigError.

        A home of an earlier version holds the network key alone, from which its pool seed was derived."""
        with suppress(OSError):  # read_secret says what is the matter
            if self.home.network.stat().st_size == SECRET_BYTES:
                key = read_secret(self.home.network, SECRET_BYTES)
                return None if key is None else MemberSecret.of_lone_key(key)
        data = read_secret(self.home.network, MEMBER_SECRET_BYTES)
        return None if data is None else MemberSecret.from_bytes(data)

    def keep_pool_seed(self) -> None:
        """Write the pool seed beside the lone key of an earlier version, where it was derived. Raises ConfigError."""
        secret = self.read_member_secret()
        if secret is not None and self.home.network.stat().st_size == SECRET_BYTES:
            write_secret(self.home.network, secret.to_bytes())

    def write_member_secret(self, secret: MemberSecret) -> None:
        """Save the secret of a private network; the home no longer belongs to the public one. Raises ConfigError."""
        self.home.prepare()
        write_secret(self.home.network, secret.to_bytes())
        self._open_mark.unlink(missing_ok=True)

    def move_to(self, secret: MemberSecret, past: Sequence[PastNetwork]) -> None:
        """Save the secret of the network that this node moved to, and those of the past first. Raises ConfigError."""
        if past:
            self.home.prepare()
            write_secret(self._past, write_past(past))
        self.write_member_secret(secret)

    def choose_network(self, secret: MemberSecret) -> None:
        """Save the secret of another network, and keep the one before. Raises ConfigError."""
        present, past = self.read_member_secret(), self.read_past_networks()
        if present is not None and present != secret:
            past = left_for(secret, None, present=present, past=past, now_ms=time.time_ns() // 1_000_000)
        self.move_to(secret, past)

    def read_past_networks(self) -> tuple[PastNetwork, ...]:
        """Return the secrets that this home had before. Raises ConfigError.

        The present one is not among them: it is where the power went in the midst of `move_to`."""
        data, present = read_private(self._past, PAST_NETWORKS_BYTES_MAX), self.read_member_secret()
        try:
            return () if data is None else tuple(each for each in read_past(data) if each.secret != present)
        except ValueError as error:
            raise ConfigError(f"{self._past} is damaged ({error}): restore it from a copy, or remove it") from None

    def choose_open_network(self) -> None:
        """Remember that this home takes part in the public network. Raises ConfigError when it has a private one."""
        if self.home.network.exists():
            raise ConfigError(f"{self.root} belongs to a private network; the open one needs a home of its own")
        self._open_mark.touch(mode=0o600)

    def chosen_name(self, configured: str | None) -> str | None:
        """Return the name of this node, None where nobody chose one: the later of `configured` and a renaming.

        A renaming counts until another name is configured than at that time. Raises ConfigError."""
        try:
            name, _, configured_then = self._name.read_text(encoding="utf-8").partition("\n")
        except FileNotFoundError:
            return configured
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"{self._name} cannot be read: {error}") from None
        return name if is_node_name(name) and configured_then.strip("\n") == (configured or "") else configured

    def write_name(self, name: str, *, configured: str | None) -> None:
        """Save the name that a person gave to the running node, and the one configured at that time."""
        new = self._name.with_suffix(".new")
        try:
            new.write_text(f"{name}\n{configured or ''}\n", encoding="utf-8")
            os.replace(new, self._name)
        except OSError as error:
            raise LocalError(f"{self._name} cannot be written: {error.strerror}") from None

    def identity(self, random_bytes: Callable[[int], bytes]) -> Identity:
        """Return the keys of this node, made on the first run. The root key may have been taken off this machine.

        Raises ConfigError when a key is missing although there is a store: a new one could not go on with it."""
        public = read_secret(self.home.root_public, KEY_BYTES)
        if public is not None and not self.home.root_key.exists():
            return Identity.without_root(PublicKey(public), self._seed(self.home.device_key, random_bytes))
        root_seed = self._seed(self.home.root_key, random_bytes)
        return Identity.from_seeds(root_seed, self._seed(self.home.device_key, random_bytes))

    def _seed(self, path: Path, random_bytes: Callable[[int], bytes]) -> bytes:
        seed = read_secret(path, SECRET_BYTES)
        if seed is None and self.home.store.exists():
            raise ConfigError(f"{path} is missing, and the store beside it belongs to it: restore it from a copy")
        if seed is None:
            seed = random_bytes(SECRET_BYTES)
            write_secret(path, seed)
        return seed

    def root_identity(self) -> IdentityId | None:
        """Return the identity of this home, None before its first run. Raises ConfigError."""
        seed = read_secret(self.home.root_key, SECRET_BYTES)
        if seed is not None:
            return identity_of(SigningKey(seed).public)
        public = read_secret(self.home.root_public, KEY_BYTES)
        return None if public is None else identity_of(PublicKey(public))

    def write_device_seed(self, seed: bytes) -> None:
        """Keep the seed of a new device key, in place of the one before. Raises ConfigError."""
        write_secret(self.home.device_key, seed)

    def write_root_seed(self, seed: bytes | None, public: bytes) -> None:
        """Keep the seed of the root key, or with None its public key alone. Raises ConfigError."""
        self.home.prepare()
        write_secret(self.home.root_public, public)
        if seed is not None:
            write_secret(self.home.root_key, seed)
        else:
            self.home.root_key.unlink(missing_ok=True)

    def read_pools(self) -> tuple[KnownPool, ...]:
        """Return the pools that this node has labels for. Raises ConfigError."""
        data = read_private(self.home.pools, _POOLS_BYTES_MAX)
        try:
            return () if data is None else pools_from_bytes(data)
        except ValueError as error:
            raise ConfigError(f"{self.home.pools} is damaged ({error}): restore it from a copy, or delete it") from None

    def write_pools(self, pools: Sequence[KnownPool]) -> None:
        """Keep these pools, in place of those before. Raises ConfigError."""
        write_secret(self.home.pools, pools_to_bytes(pools))

    def pauses(self) -> list[tuple[str, int | None]]:
        """Return the pauses that were kept: an id or "" for all, and the end in ms since 1970. A damaged file has none.
        """
        try:
            kept = msgspec.json.decode(self._paused.read_bytes(), type=list[tuple[str, int | None]])
        except (OSError, msgspec.DecodeError):
            return []
        return kept

    def write_pauses(self, pauses: Sequence[tuple[str, int | None]]) -> None:
        """Keep these pauses and no others. Raises ConfigError."""
        write_secret(self._paused, msgspec.json.encode(pauses))

    def read_trust(self) -> Decisions:
        """Return what a person decided about nodes. Raises ConfigError: a damaged file must let nobody in."""
        try:
            kept = msgspec.json.decode(self._trust.read_bytes(), type=dict[str, dict[str, str]])
            approved, rejected, denied = (
                {IdentityId(from_base32(text, IDENTITY_BYTES)): name for text, name in kept.pop(kind).items()}
                for kind in _DECISIONS
            )
        except FileNotFoundError:
            return Decisions()
        except OSError as error:
            raise ConfigError(f"{self._trust} cannot be read: {(error.strerror or str(error)).lower()}") from None
        except (KeyError, ValueError):
            raise ConfigError(f"{self._trust} is damaged: restore it from a copy, or delete it") from None
        return Decisions(approved, rejected, denied)

    def write_trust(self, decisions: Decisions) -> None:
        """Keep what a person decided about nodes, in place of what was kept before. Raises ConfigError."""
        kinds = (decisions.approved, decisions.rejected, decisions.denied)
        kept = {
            kind: {to_base32(identity): name for identity, name in names.items()}
            for kind, names in zip(_DECISIONS, kinds, strict=True)
        }
        write_secret(self._trust, msgspec.json.encode(kept))

    @property
    def _trust(self) -> Path:
        return self.home.folder / "trust"

    @property
    def _paused(self) -> Path:
        return self.home.folder / "paused"

    # -- audits ------------------------------------------------------------------------------------------------------

    def read_audit(self) -> AuditReport | None:
        """Return the verdict of the last audit, None when there was none. A damaged file holds none."""
        try:
            return msgspec.json.decode(self._audited.read_bytes(), type=AuditReport)
        except (OSError, msgspec.DecodeError):
            return None

    def write_audit(self, report: AuditReport) -> None:
        """Keep the verdict of the last audit. Raises ConfigError."""
        write_secret(self._audited, msgspec.json.encode(report))

    @property
    def audited_s(self) -> float:
        """The time of the last audit, or else that at which this node came to be, in seconds since 1970."""
        if (report := self.read_audit()) is not None:
            return report.ended_ms / 1000
        return self.home.device_key.stat().st_mtime

    @property
    def _audited(self) -> Path:
        return self.home.folder / "audited"

    # -- backups -----------------------------------------------------------------------------------------------------

    def kept_files(self) -> dict[str, bytes]:
        """Return what a backup holds beside the store: keys, network, name and configuration. Raises ConfigError."""
        found: dict[str, bytes] = {}
        for name in _KEPT:
            path = self.home.config if name == _CONFIG else self.home.folder / name
            try:
                found[name] = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
        return found

    def put_back(self, files: Mapping[str, bytes]) -> list[Path]:
        """Write the files of a backup into a home without a node, and note that it was restored. Raises ConfigError.

        A configuration that is there stays. Return what was written: `take_back` deletes it again."""
        if self.home.store.exists():
            raise ConfigError(
                f"there is a node in {self.root} already: move that folder away, or give another one with --home"
            )
        self.home.prepare()
        written: list[Path] = []
        for name in _KEPT:
            path = self.home.config if name == _CONFIG else self.home.folder / name
            if name in files and not (name == _CONFIG and path.exists()):
                write_secret(path, files[name])
                written.append(path)
        write_secret(self._restored, b"")
        return [*written, self._restored]

    def take_back(self, written: Sequence[Path]) -> None:
        """Delete what `put_back` wrote, as the store of that backup cannot be put back."""
        for path in written:
            with suppress(OSError):
                path.unlink()

    @property
    def is_restored(self) -> bool:
        """True after a backup was put back, until `note_caught_up`."""
        return self._restored.exists()

    def note_caught_up(self) -> None:
        """Note that this node has what its peers have: what it wrote after the backup was made, too."""
        with suppress(OSError):
            self._restored.unlink(missing_ok=True)

    def give_to_owner(self) -> None:
        """Give every file to the owner of the folder: root may have put back the node of another user."""
        owner = self.root.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    @property
    def _restored(self) -> Path:
        return self.home.folder / "restored"

    @property
    def _name(self) -> Path:
        return self.home.folder / "name"

    @property
    def _past(self) -> Path:
        return self.home.folder / "past-networks"

    @property
    def _open_mark(self) -> Path:
        return self.home.folder / "open"


def _credential(folder: str, name: str) -> str | None:
    """Return the text of a credential, None where none is passed. Raises ConfigError."""
    if not folder:
        return None
    try:
        return (Path(folder) / name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"the credential {name} cannot be read: {error}") from None
