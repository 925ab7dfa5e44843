"""Every field of every message: values at the edge of what is accepted, and just over it (PROTOCOL.md §6, §12)."""

from typing import Any

from echonode.wire import messages as m
from tests.wire.payloads import Path


def text(size: int) -> str:
    return "x" * size


U16, U63, U64 = 2**16 - 1, 2**63 - 1, 2**64 - 1
WIDE = "é" * 32  # 64 bytes in 32 characters
PART = b"\x00\x80\x00" + bytes(16)
OFFER = [bytes(32), bytes(32), b"s", bytes(64)]
LEAVES = [b"\x01", bytes(16), None]
LEAF = [bytes(32), bytes(16)]
ID = [bytes(32), "x", bytes(32)]
ASKED = [bytes(32), None]

# (message, where, what is accepted there at the edge, what lies just over it)
BOUNDS: list[tuple[type[Any], Path, list[Any], list[Any]]] = [
    (m.Auth, (1,), [[OFFER] * 4], [[], [OFFER] * 5]),
    (m.Auth, (1, 0, 0), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Auth, (1, 0, 1), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Auth, (1, 0, 2), [b"s", bytes(1024)], [b"", bytes(1025)]),
    (m.Auth, (1, 0, 3), [bytes(64)], [bytes(63), bytes(65)]),
    (m.Hello, (1,), [[0, 0], [U16, U16]], [[U16 + 1, 0], [0, U16 + 1], [1, -1], [1], [1, 0, 0], [True, 0]]),
    (m.Hello, (2,), [bytes(16)], [bytes(15), bytes(17)]),
    (m.Hello, (3,), ["x", text(64), WIDE, "e\u0301"], ["", text(65), WIDE + "x", "a\nb", "a\x7f", "\x00"]),
    (m.Hello, (4,), [bytes(8)], [bytes(7), bytes(9)]),
    (m.Hello, (5,), [bytes(8)], [bytes(7), bytes(9)]),
    (m.Hello, (6,), [0, U16], [U16 + 1, -1]),
    (
        m.Hello,
        (7,),
        [{}, {text(200): [0, U16]}, {f"{number:02}": [1, 0] for number in range(64)}],
        [{text(201): [1, 0]}, {"": [1, 0]}, {"note": [1]}, {1: [1, 0]}, {f"{n:02}": [1, 0] for n in range(65)}, []],
    ),
    (m.Hello, (8,), [[], ["x"] * 32, [text(200)]], [["x"] * 33, [text(201)], [""], {}]),
    (m.Hello, (9,), [[], [["x", bytes(32), 0, 0, PART, False]] * 65], [[["x", bytes(32), 0, 0, PART, False]] * 66]),
    (m.Hello, (9, 0, 0), [text(64)], [text(65), ""]),
    (m.Hello, (9, 0, 1), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Hello, (9, 0, 2), [0, U64], [-1]),
    (m.Hello, (9, 0, 3), [0, U63], [-1, U63 + 1]),
    (m.Hello, (9, 0, 4), [b"\x00", bytes(259)], [b"", bytes(260)]),
    (m.Hello, (9, 0, 5), [True, False], [0, 1, None]),
    (
        m.Hello,
        (10,),
        [{}, {bytes(8): U64}, {bytes([number]) * 8: 0 for number in range(16)}],
        [{bytes(7): 0}, {bytes(9): 0}, {bytes(8): -1}, {bytes([number]) * 8: 0 for number in range(17)}],
    ),
    (m.Close, (1,), [0, 255], [-1, 256, True]),
    (m.Close, (2,), [["x"] * 32, [text(200)]], [["x"] * 33, [text(201)], [b"x"]]),
    (m.Done, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Done, (2,), [0, U64], [-1]),
    (m.Done, (3,), [0, U63], [-1, U63 + 1]),
    (m.Done, (4,), [True, False], [0, 1]),
    (m.Refused, (1,), [0, 255], [-1, 256]),
    (m.Refused, (2,), [["x"] * 32], [["x"] * 33]),
    (m.Turn, (1,), [[], ["x"] * 65], [["x"] * 66, [text(65)]]),
    (m.LevelWiseInit, (2,), ["x", text(64)], ["", text(65)]),
    (m.LevelWiseInit, (3,), [0, 1, 2], [-1, 3, False]),
    (m.LevelWiseInit, (4,), [16, 32], [0, 15, 17, 31, 33, True]),
    (m.LevelWiseInit, (5,), [[b""], [b""] * 1024, [bytes([15]) * 64]], [[], [b""] * 1025, [bytes(65)], [b"\x10"]]),
    (m.NodesRequest, (1,), [[b""], [b""] * 1024, [bytes(64)]], [[], [b""] * 1025, [bytes(65)], [b"\x00\xff"]]),
    (m.Nodes, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Nodes, (2,), [[], [b"\x01"] * 1024, [bytes(2051)]], [[b"\x01"] * 1025, [bytes(2052)], [b""]]),
    (m.HashComparisonInit, (3,), [0, 1, 2], [-1, 3]),
    (m.HashComparisonInit, (4,), [16, 32], [8, 64]),
    (m.HashComparisonInit, (5,), [1, 2, 3, 4], [0, 5]),
    (m.HashComparisonInit, (6,), [b"\x00", bytes(2051)], [b"", bytes(2052)]),
    (m.CompareRequest, (1,), [b"", bytes([15]) * 64], [b"\x10", bytes(65)]),
    (m.CompareRequest, (2,), [b"\x00", bytes(2051)], [b"", bytes(2052)]),
    (m.Differences, (2,), [[], [[b"", b"\x01"]] * 1024], [[[b"", b"\x01"]] * 1025, [[b""]], [[b"\x10", b"\x01"]]]),
    (m.SnapshotInit, (3,), [None, [bytes(32), bytes(32)]], [[bytes(32)], [bytes(31), bytes(32)], [None, None], []]),
    (m.Credit, (1,), [1, 4], [0, 5]),
    (
        m.Page,
        (1,),
        [None, [bytes(32), U64, U63, bytes(8)]],
        [
            *([bytes(32), 0, 0], [bytes(31), 0, 0, bytes(8)], [bytes(32), 0, 0, bytes(7)]),
            *([bytes(32), -1, 0, bytes(8)], [bytes(32), 0, U63 + 1, bytes(8)]),
        ],
    ),
    (m.Page, (2,), [[], [b"r"] * 1000, [bytes(256 * 1024)]], [[b""], [b"r"] * 1001, [bytes(256 * 1024 + 1)]]),
    (m.Page, (3,), [True, False], [0, None]),
    (m.Fetch, (1,), [[LEAVES] * 1024], [[], [LEAVES] * 1025, [[b""]], [LEAVES[:2]]]),
    (m.Fetch, (1, 0, 0), [b"", bytes(64)], [bytes(65), b"\x10"]),
    (m.Fetch, (1, 0, 1), [None, bytes(16), bytes(262_144)], [b"", bytes(15), bytes(17), bytes(262_160)]),
    (m.Fetch, (1, 0, 2), [None, bytes(32)], [bytes(31), bytes(33)]),
    (m.Records, (1,), [[], [b"r"] * 1000], [[b""], [b"r"] * 1001]),
    (m.Records, (2,), [[], [LEAVES] * 1024], [[LEAVES] * 1025]),
    (m.Records, (3,), [True, False], [0, None]),
    (m.Put, (1,), [[b"r"] * 1000, [bytes(256 * 1024)]], [[], [b""], [b"r"] * 1001, [bytes(256 * 1024 + 1)]]),
    (m.Stored, (1,), [0, 1000], [-1, 1001]),
    (m.Stored, (2,), [0, 1000], [-1, 1001]),
    (m.Stored, (3,), [[], [[bytes(32), 255]] * 1000], [[[bytes(32), 0]] * 1001, [[bytes(31), 0]], [[bytes(32), 256]]]),
    (m.DeltaInit, (1,), [[0, 0]], [[0]]),
    (m.DeltaInit, (2,), [text(64)], [text(65)]),
    (m.DeltaInit, (3,), [0, 1, 2], [-1, 3]),
    (m.DeltaInit, (4,), [bytes(8)], [bytes(7), bytes(9)]),
    (m.DeltaInit, (5,), [0, U63], [-1, U63 + 1]),
    (m.Changes, (1,), [0, U63], [-1, U63 + 1]),
    (m.Changes, (2,), [[], [b"r"] * 1000], [[b""], [b"r"] * 1001]),
    (m.Changes, (3,), [True, False], [0, None]),
    (m.Changes, (4,), [None, 0, U63], [-1, U63 + 1, False]),
    (m.ReconcileInit, (3,), [0, 1, 2], [-1, 3]),
    (
        m.ReconcileInit,
        (4,),
        [{}, {9: 0}, {1: [number.to_bytes(32, "big") for number in range(256)]}],
        [{0: 0}, {12: 0}, {1: []}, {1: [bytes(31)]}, []],
    ),
    (m.ReconcileInit, (5,), [b"a", bytes(1_000_000)], [b"", bytes(1_000_001), "a"]),
    (m.Reconcile, (1,), [b"a", bytes(1_000_000)], [b"", bytes(1_000_001)]),
    (m.Want, (1,), [[bytes(32)] * 1000], [[], [bytes(32)] * 1001, [bytes(31)]]),
    (m.Offers, (1,), [[LEAF] * 1000], [[], [LEAF] * 1001, [LEAF[:1]], [[bytes(32), bytes(15)]]]),
    (m.Heads, (1,), [[], [999] * 1000], [[0] * 1001, [1000], [-1]]),
    (m.Heads, (2,), [[], [b"r"] * 1000], [[b""], [b"r"] * 1001]),
    (m.Heads, (3,), [True, False], [0, None]),
    (
        m.PullInit,
        (3,),
        [{}, {11: text(200)}, {7: [f"{number:03}" for number in range(256)]}],
        [{11: text(201)}, {7: ["a"] * 257}, {9: -1}, None],
    ),
    (m.PullInit, (4,), [0, 2**63 - 1], [-1, 2**63]),
    (m.PullMore, (1,), [0, 2**63 - 1], [-1, 2**63]),
    (m.Ids, (1,), [[], [ID] * 1000], [[ID] * 1001, [ID[:2]], [[bytes(32), "", bytes(32)]]]),
    (m.Ids, (2,), [0, 2**63 - 1], [-1, 2**63]),
    (m.Ids, (3,), [True, False], [0]),
    (m.GetInit, (3,), [[ASKED] * 1000, [[bytes(32), bytes(32)]]], [[], [ASKED] * 1001, [[bytes(31), None]]]),
    (m.GetMore, (1,), [[ASKED] * 1000], [[], [ASKED] * 1001, [[bytes(32), bytes(31)]], [ASKED[:1]]]),
    (m.PutInit, (3,), [[LEAF] * 1000], [[], [LEAF] * 1001]),
    (m.PairStart, (1,), [bytes(33)], [bytes(32), bytes(34)]),
    (m.PairAnswer, (1,), [bytes(33)], [bytes(32), bytes(34)]),
    (m.PairConfirm, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.PairFinish, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.PairFinish, (2,), [bytes(48)], [bytes(47), bytes(49)]),
]
IDS = [f"{kind.__name__}-{'.'.join(map(str, path))}" for kind, path, *_ in BOUNDS]
