"""The goals of the figures: each is a bound on a figure, or on its ratio to a limit measured in the same run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Goal:
    """`name`, divided by the figure `of` if there is one, is to be at most `most`, or at least `least`."""

    name: str
    most: float | None = None
    least: float | None = None
    of: str | None = None

    def value(self, figures: Mapping[str, Any]) -> float | None:
        """Return the measured value, None when it was not measured."""
        if self.name not in figures or (self.of is not None and self.of not in figures):
            return None
        return float(figures[self.name]) / (1 if self.of is None else float(figures[self.of]))

    def is_met(self, value: float) -> bool:
        """Return True if `value` reaches the goal."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    @property
    def bound(self) -> str:
        """The bound, as a table shows it."""
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"


GOALS: Final = (
    Goal("first_replication_in_verifying", least=0.5),
    Goal("replication_into_one_record_per_s", least=1 / 1.3, of="first_replication_per_s"),
    Goal("import_per_s", least=0.4, of="sign_per_s"),
    Goal("catchup_in_verifying", most=3),
    Goal("live_p50_in_bare_rows", most=5),
    Goal("live_p50_ms", most=1, of="hypercore_live_p50_ms"),
    Goal("first_replication_per_s", least=2, of="hypercore_first_replication_per_s"),
    Goal("steady_live_p99_ms", most=50),
    Goal("beside_live_p99_ms", most=200),
    Goal("connect_ms", most=30),
    Goal("equal_round_trips", most=1),
    Goal("equal_bytes", most=64),
    Goal("sketch_bytes_each", most=30),
    Goal("sketch_round_trips", most=3),
    Goal("level_wise_bytes_each", most=540),
    Goal("level_wise_round_trips", most=7),
    Goal("reconcile_memory_bytes_each", most=64),
    Goal("write_cpu_growth", most=1.25),
    Goal("store_bytes_per_record_byte", most=1.5),
    Goal("tree_upkeep_us", most=5),
    Goal("tree_root_after_one_ms", most=1),
    Goal("million_import_cpu_growth", most=1.25),
    Goal("million_rss_mib", most=250),
    Goal("million_start_s", most=3),
    Goal("million_store_bytes_per_record_byte", most=1.5),
    Goal("idle_rss_mib", most=55),
    Goal("idle_cpu_percent", most=0.1),
    Goal("idle_written_bytes_per_hour", most=0),
    Goal("help_cpu_ms", most=90),
    Goal("status_cpu_ms", most=150),
    Goal("spread_50_bytes_per_record_byte", most=1.3),
    Goal("spread_1000_bytes_per_record_byte", most=1.4),
)


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each goal that was measured: figure, value, bound, and whether it is reached."""
    for goal in GOALS:
        value = goal.value(figures)
        if value is not None:
            what = goal.name if goal.of is None else f"{goal.name} / {goal.of}"
            yield f"{what:62} {value:>9.3g}  {goal.bound:<9} {'reached' if goal.is_met(value) else 'not reached'}"
