"""Scenarios as text pictures for a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.scenario.timeline_text import chart, seconds, topology
from tests.reconnect_harness.test_plugin import MINE


def _scenario(**changes: Any) -> Scenario:
    clients = {"kind": "plain", "send": "10/s", "for": "6s"}
    return parse_scenario({**MINE, "clients": clients, **changes}, "test")


def test_a_chart_has_each_fault_on_its_target() -> None:
    """In sixty columns: a fault that lasts is a bar, a fault that is over at once is a mark."""
    faults = [
        {"at": "1s", "link": "upstream", "do": "down", "for": "500ms", "times": 2, "every": "2s"},
        {"at": "2s", "link": "upstream", "do": "silence", "stream": "downstream", "for": "1s"},
        {"at": "3s", "link": "client", "do": "reset"},
    ]
    assert chart(_scenario(faults=faults), 1) == [
        "traffic                        ============================================================",
        "upstream down                  ..........#####...............#####.........................",
        "upstream silence (downstream)  ....................##########..............................",
        "client reset                   ..............................!.............................",
        "                               0s        1s        2s        3s        4s        5s        6s",
    ]


def test_a_chart_ends_with_the_last_fault_or_the_traffic() -> None:
    """Also if the traffic ends first, or a fault is shorter than a column."""
    faults = [{"at": "11s", "link": "client", "do": "down", "for": "1s"}, {"at": 0, "link": "client", "do": "cont"}]
    faults[1] = {"at": 0, "link": "client", "do": "latency", "latency": "1ms", "for": "1ms"}
    chosen = _scenario(faults=faults)
    assert seconds(chosen) == 12
    traffic, latency, down, axis = chart(chosen, 1)
    assert traffic.split() == ["traffic", "=" * 30]
    assert latency.split() == ["client", "latency", "#" + "." * 59]
    assert down.split() == ["client", "down", "." * 55 + "#" * 5]
    assert axis.split() == ["0s", "2s", "4s", "6s", "8s", "10s", "12s"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "clients ------ proxy ------ upstream"),
        ({"faults": [{"at": 1, "link": "client", "do": "reset"}]}, "clients --[client link]-- proxy ------ upstream"),
        (
            {"chain": [{}, {}], "faults": [{"at": 1, "link": "middle", "do": "reset"}]},
            "clients ------ proxy-1 --[middle link]-- proxy-2 ------ upstream",
        ),
        (
            {
                "upstream": {"kind": "record", "count": 2},
                "faults": [{"at": 1, "link": "upstream-2", "do": "reset"}],
            },
            "clients ------ proxy --[upstream link]-- upstream-1 + upstream-2",
        ),
    ],
)
def test_a_topology_marks_the_links_with_faults(changes: dict[str, Any], line: str) -> None:
    """From the clients to the upstreams."""
    assert topology(_scenario(**changes)) == line
