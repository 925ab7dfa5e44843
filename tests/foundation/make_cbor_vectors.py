"""Write proto/vectors/cbor.json: items that every implementation reads, and items that none may read.

Run `python -m tests.foundation.make_cbor_vectors` to rewrite it, and only on purpose: what one node reads and another
refuses keeps their stores apart. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from echonode import cbor
from echonode.errors import RemoteError
from echonode.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX

PATH: Final = Path(__file__).parents[2] / "proto" / "vectors" / "cbor.json"

READ: Final[Mapping[str, str]] = {
    "the least number": "00",
    "the greatest number in one byte": "17",
    "the least number in two bytes": "1818",
    "the least number in nine bytes": "1b0000000100000000",
    "the greatest number": "1bffffffffffffffff",
    "the least negative number": "3bffffffffffffffff",
    "no bytes": "40",
    "24 bytes": "5818 00*24",
    "no text": "60",
    "text outside the basic plane": "64f09f9880",
    "false, true and null": "83f4f5f6",
    "an empty array and an empty map": "8280a0",
    "keys that are numbers": "a2000118ff02",
    "keys that are negative numbers": "a220012102",
    "keys that are bytes, a shorter one first": "a241ff0142000002",
    "keys that are text, a shorter one first": "a2616201626161f6",
    "16 arrays in each other": f"81*{CBOR_DEPTH_MAX} 00",
    "16 maps in each other": f"a100*{CBOR_DEPTH_MAX} 00",
    "16 containers in each other, the last of them empty": f"81*{CBOR_DEPTH_MAX - 1} 80",
    "65,536 items: an array with what is in it": f"99ffff 00*{CBOR_ITEMS_MAX - 1}",
    "65,534 items: an array of maps, with keys and values": "995555 a10000*21844 a0",
}

REFUSED: Final[Mapping[str, str]] = {
    "nothing": "",
    "an item that ends early: a number": "1900",
    "an item that ends early: bytes": "4200",
    "an item that ends early: an array": "8200",
    "an array of 2^64 - 1 items that does not begin": "9bffffffffffffffff",
    "a byte behind the end": "0000",
    "a number of one byte in two": "1817",
    "a number of two bytes in three": "190018",
    "a number of five bytes in nine": "1b00000000ffffffff",
    "a negative number of one byte in two": "3800",
    "a length not in its shortest form": "580100",
    "a count not in its shortest form": "980100",
    "a tag": "c000",
    "a big number": "c249010000000000000000",
    "a float": "f90000",
    "undefined": "f7",
    "another simple value": "e0",
    "false in two bytes": "f814",
    "bytes of indefinite length": "5f4100ff",
    "text of indefinite length": "7f6161ff",
    "an array of indefinite length": "9f00ff",
    "a map of indefinite length": "bf0000ff",
    "a break alone": "ff",
    "a reserved length": "1c",
    "text that is not UTF-8": "61ff",
    "half of a surrogate pair": "63eda080",
    "a key twice": "a200010002",
    "keys out of order": "a201010001",
    "keys in the order of their bytes, and not of their encodings": "a262616101616202",
    "keys of two kinds": "a20001410002",
    "a number and a negative number as keys": "a200012001",
    "a key that is an array": "a18000",
    "a key that is null": "a1f600",
    "17 arrays in each other": f"81*{CBOR_DEPTH_MAX + 1} 00",
    "17 maps in each other": f"a100*{CBOR_DEPTH_MAX + 1} 00",
    "17 containers in each other, the last of them empty": f"81*{CBOR_DEPTH_MAX} 80",
    "65,537 items: an array with what is in it": f"9a00010000 00*{CBOR_ITEMS_MAX}",
}


def whole(pieces: str) -> bytes:
    """Return the bytes that the pieces are."""
    data = b""
    for piece in pieces.split():
        digits, _, times = piece.partition("*")
        data += bytes.fromhex(digits) * int(times or 1)
    return data


def build() -> dict[str, Any]:
    """Return the vectors as JSON."""
    return {
        "about": "One CBOR item each (PROTOCOL.md §2.1), as pieces in a row: hex, and *N behind what stands there N "
        "times. Each item that is read has no other encoding. The others are refused with the reason given.",
        "read": READ,
        "refused": {what: {"reason": _reason(whole(pieces)), "bytes": pieces} for what, pieces in REFUSED.items()},
    }


def _reason(data: bytes) -> str:
    """Return the reason for which `data` is refused."""
    try:
        cbor.decode(data)
    except RemoteError as error:
        return error.reason.text
    raise AssertionError(f"it is read: {data.hex()[:80]}")


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n")
