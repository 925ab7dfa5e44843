"""The root key as a sealed text: it opens with its passphrase alone, and says what is wrong with any other text."""

import pytest

from echonode.errors import LocalError
from echonode.model.identity import SigningKey
from echonode.model.root_export import RANDOM_BYTES, export_root, exported_key, import_root

SEED = b"a seed of a root key".ljust(32, b".")
SEALED = export_root(SEED, "gr\u00fc\u00df dich", bytes(range(RANDOM_BYTES)))


def test_a_root_key_opens_with_its_passphrase_in_either_form_of_unicode() -> None:
    assert import_root(SEALED, "gru\u0308\u00df dich") == SEED
    assert import_root(f"  {SEALED.replace(chr(10), '  ')}", "gr\u00fc\u00df dich") == SEED, "line ends do not matter"
    assert exported_key(SEALED) == SigningKey(SEED).public
    assert all(len(line) <= 64 for line in SEALED.splitlines())


def test_another_passphrase_or_an_altered_text_opens_nothing() -> None:
    with pytest.raises(LocalError, match="not the passphrase"):
        import_root(SEALED, "gruss dich")
    head, *lines = SEALED.splitlines()
    last = lines[-1]
    altered = "\n".join([head, *lines[:-1], last[:4] + ("a" if last[4] != "a" else "b") + last[5:]])
    with pytest.raises(LocalError, match="not the passphrase"):
        import_root(altered, "gr\u00fc\u00df dich")


@pytest.mark.parametrize("text", ["", "\n", "echonode-root-2 aaaa", "aaaa"])
def test_what_is_no_exported_root_key_is_named(text: str) -> None:
    with pytest.raises(LocalError, match="no exported root key"):
        exported_key(text)


def test_a_missing_line_is_named() -> None:
    head, _, *lines = SEALED.splitlines()
    with pytest.raises(LocalError, match="a line is missing"):
        import_root("\n".join([head, *lines]), "gr\u00fc\u00df dich")
