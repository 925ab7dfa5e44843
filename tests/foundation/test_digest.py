"""Hashes of different domains differ, and all are BLAKE2b as published."""

from hashlib import blake2b

from echonode import digest as module
from echonode.digest import IDENTITY, VERSION, digest, digest16, keyed

DOMAINS = {name: value for name, value in vars(module).items() if name.isupper()}


def test_domains_are_distinct_and_fit_the_person_field() -> None:
    assert len(DOMAINS) > 10
    assert all(isinstance(domain, bytes) and 0 < len(domain) <= blake2b.PERSON_SIZE for domain in DOMAINS.values())
    padded = {domain.ljust(blake2b.PERSON_SIZE, b"\0") for domain in DOMAINS.values()}  # RFC 7693 pads with zeros
    assert len(padded) == len(DOMAINS)


def test_the_same_data_hashes_differently_in_each_domain() -> None:
    assert len({digest(domain, b"data") for domain in DOMAINS.values()}) == len(DOMAINS)
    assert len({digest16(domain, b"data") for domain in DOMAINS.values()}) == len(DOMAINS)
    assert len({keyed(domain, b"key", b"data") for domain in DOMAINS.values()}) == len(DOMAINS)


def test_lengths_and_keys_are_part_of_the_hash() -> None:
    assert len(digest(VERSION, b"")) == 32
    assert len(digest16(VERSION, b"")) == 16
    assert not digest(VERSION, b"").startswith(digest16(VERSION, b""))
    assert len(keyed(VERSION, b"key", b"", 8)) == 8
    assert keyed(VERSION, b"key", b"") not in (digest(VERSION, b""), keyed(VERSION, b"other", b""))


def test_known_answers() -> None:
    """The values were computed by hashlib with explicit parameters. They are frozen: stores on disk contain them."""
    assert digest(IDENTITY, b"abc") == blake2b(b"abc", digest_size=32, person=b"echonode ident").digest()
    assert digest(IDENTITY, b"abc").hex() == "e2d9fa68cc030760a84aa7b896045445736236c5cca094c291ec390170b9a9a9"
    assert digest16(VERSION, b"abc").hex() == "f7eed5e1fa7a1a9b5d9c915353d4af6c"
    assert keyed(VERSION, bytes(32), b"abc", 8).hex() == "1d3a822693f282b8"
