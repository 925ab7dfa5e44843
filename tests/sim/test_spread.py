"""The cost of a write for a network: each node receives it once and little more, in networks of any size
(PROTOCOL.md §8.15). Larger networks: `echonode simulate --nodes N`, proto/COSTS.md.

Up to LINKS_ALL_MAX nodes each hears of a write from all others, so that status is true soon: four nodes, and 24,
stand on both sides of that bound.
"""

from dataclasses import replace

import pytest

from echonode.sim.batch import calm
from echonode.sim.figures import Figures
from echonode.sim.scenario import run_seed


@pytest.fixture(scope="module")
def networks() -> list[Figures]:
    return [run_seed(1, replace(calm(), nodes=nodes, records=20)) for nodes in (4, 24)]


def test_a_write_travels_whole_once_to_each_node_with_little_beside_it(networks: list[Figures]) -> None:
    for figures in networks:
        assert figures.bytes_per_write is not None and figures.bytes_of_write is not None
        # Every node must receive the record, except the one that wrote it.
        least = (figures.nodes - 1) / figures.nodes
        assert least < figures.bytes_per_write / figures.bytes_of_write < 1.5


def test_six_times_as_many_nodes_wait_a_hop_or_two_longer(networks: list[Figures]) -> None:
    few, many = networks
    assert 0 < few.median_lag_s < many.median_lag_s < 6 * few.median_lag_s


def test_idle_nodes_send_little(networks: list[Figures]) -> None:
    for figures in networks:
        assert figures.idle_bytes_s is not None
        assert figures.idle_bytes_s < 50
