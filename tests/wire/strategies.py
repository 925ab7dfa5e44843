"""Hypothesis strategies for every message, within the bounds of PROTOCOL.md §6."""

import unicodedata
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from echonode.wire import messages as m


def data(size: int) -> SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def text(bytes_max: int) -> SearchStrategy[str]:
    letters = st.characters(exclude_categories=("Cc", "Cs"))
    return (
        st.text(letters, min_size=1, max_size=12)
        .map(lambda value: unicodedata.normalize("NFC", value))
        .filter(lambda value: len(value.encode()) <= bytes_max)
    )


def lists(one: SearchStrategy[Any], low: int = 0, high: int = 4) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(one, min_size=low, max_size=high).map(tuple)


def maps(key: SearchStrategy[Any], value: SearchStrategy[Any]) -> SearchStrategy[dict[Any, Any]]:
    return st.dictionaries(key, value, max_size=4)


u16 = st.integers(0, 2**16 - 1)
u64 = st.integers(0, 2**64 - 1) | st.sampled_from([0, 23, 24, 255, 256, 2**16, 2**32, 2**63, 2**64 - 1])
seqs = st.integers(0, 2**63 - 1)
hashes = data(32)
versions = st.tuples(u16, u16)
contexts = text(64)
names = text(200)
reasons = st.integers(0, 255)
prefixes = st.lists(st.integers(0, 15), max_size=64).map(bytes)
parts = st.binary(min_size=1, max_size=80)
records = st.binary(min_size=1, max_size=80)
wanted = st.builds(
    m.LeafRequest,
    prefixes,
    st.none() | st.integers(1, 5).flatmap(lambda count: data(16 * count)),
    st.none() | hashes,
)
symbols = st.integers(0, 5).flatmap(lambda count: data(12 * count))
places = st.builds(m.ContextCursor, contexts, st.none() | seqs)
opening = (versions, contexts)
seqs = st.integers(0, 2**63 - 1)
asked = st.builds(m.RecordRequest, hashes, st.none() | hashes)
filters = st.fixed_dictionaries(
    {},
    optional={
        **{number: st.sets(hashes, min_size=1, max_size=2).map(sorted) for number in range(1, 6)},
        6: st.sets(names, min_size=1, max_size=2).map(sorted),
        7: st.sets(contexts, min_size=1, max_size=2).map(sorted),
        8: st.sets(contexts, min_size=1, max_size=2).map(sorted),
        9: u64,
        10: u64,
        11: names,
    },
)

MESSAGES: dict[type[Any], SearchStrategy[Any]] = {
    m.Auth: st.builds(
        m.Auth, lists(st.builds(m.IdentityOffer, hashes, hashes, st.binary(min_size=1, max_size=80), data(64)), low=1)
    ),
    m.Hello: st.builds(
        m.Hello,
        versions,
        data(16),
        text(64),
        data(8),
        data(8),
        u16,
        maps(names, versions),
        lists(names),
        lists(
            st.builds(m.Summary, contexts, hashes, u64, seqs, st.binary(min_size=1, max_size=259), st.booleans())
        ),
        lists(st.builds(m.Seen, data(8), u64, hashes, st.binary(max_size=80))),
    ),
    m.Close: st.builds(m.Close, reasons, lists(names)),
    m.Done: st.builds(m.Done, hashes, u64, seqs, st.booleans()),
    m.Refused: st.builds(m.Refused, reasons, lists(names)),
    m.Ping: st.just(m.Ping()),
    m.Pong: st.just(m.Pong()),
    m.Turn: st.builds(m.Turn, lists(contexts)),
    m.LevelWiseInit: st.builds(
        m.LevelWiseInit, *opening, st.integers(0, 2), st.sampled_from([16, 32]), lists(prefixes, low=1)
    ),
    m.NodesRequest: st.builds(m.NodesRequest, lists(prefixes, low=1)),
    m.Nodes: st.builds(m.Nodes, hashes, lists(parts)),
    m.HashComparisonInit: st.builds(
        m.HashComparisonInit, *opening, st.integers(0, 2), st.sampled_from([16, 32]), st.integers(1, 4), parts
    ),
    m.CompareRequest: st.builds(m.CompareRequest, prefixes, parts),
    m.Differences: st.builds(m.Differences, hashes, lists(st.tuples(prefixes, parts))),
    m.SnapshotInit: st.builds(m.SnapshotInit, *opening, st.none() | st.tuples(hashes, hashes)),
    m.Credit: st.builds(m.Credit, st.integers(1, 4)),
    m.Page: st.builds(
        m.Page, st.none() | st.tuples(hashes, u64, seqs, data(8)), lists(records), st.booleans(), st.booleans()
    ),
    m.SketchInit: st.builds(m.SketchInit, *opening, data(8), st.integers(0, 65_536), st.binary(max_size=80)),
    m.SketchMore: st.builds(m.SketchMore, st.booleans(), st.integers(0, 65_536), st.binary(max_size=80)),
    m.SketchAnswer: st.builds(m.SketchAnswer, u64, st.integers(0, 65_536), symbols),
    m.SketchEqual: st.just(m.SketchEqual()),
    m.SketchWant: st.builds(m.SketchWant, st.integers(0, 5).flatmap(lambda count: data(4 * count))),
    m.Fetch: st.builds(m.Fetch, lists(wanted, low=1)),
    m.Records: st.builds(m.Records, lists(records), lists(wanted), st.booleans()),
    m.Put: st.builds(m.Put, lists(records, low=1)),
    m.Stored: st.builds(
        m.Stored, st.integers(0, 1000), st.integers(0, 1000), lists(st.builds(m.Refusal, hashes, reasons))
    ),
    m.DeltaInit: st.builds(m.DeltaInit, *opening, st.integers(0, 2), data(8), seqs),
    m.Changes: st.builds(m.Changes, seqs, lists(records), st.booleans(), st.none() | seqs),
    m.FollowInit: st.builds(m.FollowInit, versions, data(8), lists(places)),
    m.Follow: st.builds(m.Follow, lists(places)),
    m.Commits: st.builds(m.Commits, contexts, seqs, lists(records), lists(st.tuples(seqs, data(16)))),
    m.Missing: st.builds(m.Missing, contexts, lists(seqs, low=1)),
    m.Bodies: st.builds(m.Bodies, contexts, lists(seqs, low=1), lists(records)),
    m.Roots: st.builds(m.Roots, lists(st.builds(m.ContextRoot, contexts, hashes, seqs), low=1)),
    m.Taken: st.builds(m.Taken, st.integers(1, 2**21)),
    m.Lazy: st.just(m.Lazy()),
    m.ReconcileInit: st.builds(m.ReconcileInit, *opening, st.integers(0, 2), filters, parts),
    m.Reconcile: st.builds(m.Reconcile, parts),
    m.Want: st.builds(m.Want, lists(hashes, low=1)),
    m.Offers: st.builds(m.Offers, lists(st.tuples(hashes, data(16)), low=1)),
    m.Heads: st.builds(m.Heads, lists(st.integers(0, 999)), lists(records), st.booleans()),
    m.PullInit: st.builds(m.PullInit, *opening, filters, seqs),
    m.PullMore: st.builds(m.PullMore, seqs),
    m.Ids: st.builds(m.Ids, lists(st.builds(m.RecordId, hashes, names, hashes)), seqs, st.booleans()),
    m.GetInit: st.builds(m.GetInit, *opening, lists(asked, low=1)),
    m.GetMore: st.builds(m.GetMore, lists(asked, low=1)),
    m.PutInit: st.builds(m.PutInit, *opening, lists(st.tuples(hashes, data(16)), low=1)),
    m.PairStart: st.builds(m.PairStart, data(33)),
    m.PairAnswer: st.builds(m.PairAnswer, data(33)),
    m.PairConfirm: st.builds(m.PairConfirm, hashes),
    m.Rotated: st.builds(m.Rotated, data(200), data(64), data(100), data(64), st.booleans()),
    m.PairFinish: st.builds(m.PairFinish, hashes, st.binary(min_size=80, max_size=336)),
    m.PairMember: st.builds(m.PairMember, hashes, hashes, data(64)),
}

messages: SearchStrategy[m.Message] = st.one_of(list(MESSAGES.values()))
