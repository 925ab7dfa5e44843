"""Redaction: names of people, machines and records are replaced in what leaves this machine; ids and times stay.

One name has one replacement in a whole bundle, so that lines can still be told apart. The replacements are drawn anew
for each bundle: nobody can find out a name by trying.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from ipaddress import ip_address
from typing import Any, Final

_NAMED: Final = {
    "record": "record",
    "address_of_record": "record",
    "node_name": "node",
    "peer_name": "node",
    "label": "node",
    "name": "name",
    "context": "context",
}
_WELL_KNOWN: Final = frozenset({"", "main", "identities"})
_SECRET: Final = re.compile(r"key|secret|token|code|passphrase|password", re.IGNORECASE)
_IPV4: Final = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
_IPV6: Final = r"(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])"
_IPS: Final = re.compile(f"{_IPV4}|{_IPV6}")
_NAME_CHARS_MIN: Final = 3  # a shorter name would be found in every word


class Redaction:
    """Replaces names. `key`: random bytes of this bundle; `folders`: paths by what stands in their place."""

    def __init__(self, key: bytes, folders: Mapping[str, str]) -> None:
        self._key = key
        self._texts = dict(sorted(folders.items(), key=lambda item: -len(item[0])))
        self._names: dict[str, str] = {}

    def learn(self, value: Any) -> None:
        """Note the names in a JSON value, to find them in free text too."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in _NAMED and isinstance(item, str) and item not in _WELL_KNOWN:
                    self._names.setdefault(item, f"{_NAMED[key]}-{self._hash(item)}")
                else:
                    self.learn(item)
        elif isinstance(value, list):
            for item in value:
                self.learn(item)

    def redacted(self, value: Any) -> Any:
        """Return a JSON value without names, secrets and public addresses."""
        if isinstance(value, Mapping):
            return {
                key: "(redacted)" if _is_secret(key, item) else self.redacted(item) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.redacted(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        if text in self._names:
            return self._names[text]
        for original, instead in self._texts.items():
            text = text.replace(original, instead)
        for name, instead in self._names.items():
            if len(name) >= _NAME_CHARS_MIN and name in text:
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text)
        return _IPS.sub(lambda found: self._address(found[0]), text)

    def _address(self, text: str) -> str:
        try:
            ip = ip_address(text)
        except ValueError:
            return text
        return text if not ip.is_global else f"address-{self._hash(text)}"

    def _hash(self, text: str) -> str:
        return blake2b(text.encode(), digest_size=3, key=self._key).hexdigest()


def _is_secret(key: str, value: object) -> bool:
    return isinstance(value, str) and _SECRET.search(key) is not None
