"""The table of modes: the names a hello lists, what each mode serves, and when an opening is declined."""

import pytest

from echonode.model.record import MAIN
from echonode.node.hello import NAMES
from echonode.node.mode_table import MODES, SERVED_IN_PART, in_common, spec_of
from echonode.sync.select import Mode
from echonode.wire.messages import DeltaInit, Direction, PullInit
from tests.sync.universe import universe

# mode: serves one way, serves a part, brings records, is limited
TABLE = {
    Mode.LEVEL_WISE: (True, False, True, False),
    Mode.HASH_COMPARISON: (True, False, True, False),
    Mode.SNAPSHOT: (True, False, False, False),
    Mode.DELTA: (True, False, True, False),
    Mode.SKETCH: (False, False, True, False),
    Mode.RECONCILE: (True, True, True, True),
    Mode.PULL: (True, True, False, False),
    Mode.GET: (True, True, False, False),
    Mode.PUT: (True, True, True, False),
}


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_a_row_says_what_a_mode_serves(mode: Mode) -> None:
    spec = spec_of(mode)
    assert (spec.serves_one_way, spec.serves_part, spec.brings_records, spec.is_limited) == TABLE[mode]


def test_the_names_travel_in_their_order() -> None:
    assert NAMES == (
        "level_wise",
        "hash_comparison",
        "snapshot",
        "delta",
        "sketch",
        "reconcile",
        "pull",
        "get",
        "put",
        "follow",
    )
    assert [mode.value for mode in SERVED_IN_PART] == ["reconcile", "pull", "get", "put"]


def test_a_mode_is_in_common_when_both_run_it_and_it_serves_the_direction() -> None:
    names = [mode.value for mode in MODES]
    assert in_common([*names, "unheard of"], Direction.BOTH) == list(MODES)
    assert in_common(names, Direction.RECEIVE) == [mode for mode in MODES if mode is not Mode.SKETCH]
    assert in_common(["sketch", "delta"], Direction.BOTH) == [Mode.DELTA, Mode.SKETCH]
    assert in_common([], Direction.BOTH) == []


def test_an_opening_is_stale_when_it_names_a_place_that_the_log_does_not_have() -> None:
    store = universe().store(range(10))
    end = store.seq(MAIN)
    delta, pull = spec_of(Mode.DELTA), spec_of(Mode.PULL)
    for since, is_stale in ((0, False), (end, False), (end + 1, True)):
        assert delta.is_stale(DeltaInit((1, 0), MAIN, 0, store.instance, since), store) is is_stale
        assert pull.is_stale(PullInit((1, 0), MAIN, {}, since), store) is is_stale
    assert delta.is_stale(DeltaInit((1, 0), MAIN, 0, b"another!", 0), store)
