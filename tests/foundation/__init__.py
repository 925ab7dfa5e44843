"""Tests of the foundation: errors, limits, digest, text, clock and cbor."""
