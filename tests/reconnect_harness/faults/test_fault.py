"""Faults as data: which are refused, and when each happens."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from reconnect_harness.faults.fault import Fault, needs_resets, timeline
from reconnect_harness.faults.link_faults import LINK_FAULTS
from reconnect_harness.faults.process_faults import PROCESS_FAULTS
from reconnect_harness.toxiproxy.toxics import TOXICS


def times(fault: Fault, seed: int = 1) -> list[float]:
    """Return when the fault happens."""
    return [occurrence.at for occurrence in timeline([fault], random.Random(seed))]


def test_every_toxic_is_a_fault() -> None:
    """Everything that Toxiproxy can do to a link can be asked for by its name."""
    assert set(TOXICS) <= set(LINK_FAULTS)


def test_a_fault_is_repeated_at_equal_distances() -> None:
    """Counted from its first time."""
    assert times(Fault(LINK_FAULTS["reset"], "upstream", 1.0, times=3, every=0.5)) == [1.0, 1.5, 2.0]


def test_random_times_are_within_their_range_and_depend_on_the_seed() -> None:
    """Without `every` each time is drawn, and the same seed draws the same."""
    fault = Fault(LINK_FAULTS["cut"], "upstream", (1.0, 7.0), lasts=(0.1, 0.3), times=50)
    drawn = timeline([fault], random.Random(7))
    assert [o.at for o in drawn] == sorted(o.at for o in drawn)
    assert all(1 <= o.at <= 7 and o.lasts is not None and 0.1 <= o.lasts <= 0.3 for o in drawn)
    assert len({o.toxic.attributes["bytes"] for o in drawn if o.toxic}) > 10
    assert drawn == timeline([fault], random.Random(7))
    assert drawn != timeline([fault], random.Random(8))


def test_random_distances_add_up() -> None:
    """A range of `every` is drawn for each gap."""
    moments = times(Fault(LINK_FAULTS["reset"], "upstream", 1.0, times=5, every=(0.5, 1.0)))
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert all(0.5 <= gap <= 1.0 for gap in gaps)
    assert len(set(gaps)) == 4


def test_several_faults_are_one_timeline() -> None:
    """The occurrences of all faults are in order of time."""
    drawn = timeline(
        [Fault(LINK_FAULTS["reset"], "a", 1.0, times=2, every=2.0), Fault(LINK_FAULTS["down"], "b", 2.0, lasts=1.0)],
        random.Random(1),
    )
    assert [(o.fault.name, o.at) for o in drawn] == [("reset", 1.0), ("down", 2.0), ("reset", 3.0)]


def test_links_that_are_reset_must_be_made_for_it() -> None:
    """Only the links of a reset fault need resets."""
    faults = [
        Fault(LINK_FAULTS["reset"], "a", 1.0),
        Fault(LINK_FAULTS["reset_peer"], "b", 1.0, lasts=1.0),
        Fault(LINK_FAULTS["down"], "c", 1.0, lasts=1.0),
    ]
    assert [needs_resets(faults, name) for name in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"do": "down"}, r"down needs `for`: how long it lasts"),
        ({"do": "reset", "lasts": 1.0}, r"reset is over at once and has no `for`"),
        ({"do": "reset", "times": 0}, r"times of reset is 0; it must be 1 or more"),
        ({"do": "reset", "times": 2}, r"reset happens 2 times: it needs `every`, or a range of `at`"),
        ({"do": "reset", "at": -1.0}, r"`at` of reset is -1\.0; it must be 0 s or more"),
        ({"do": "reset", "at": (2.0, 1.0)}, r"`at` of reset is \(2\.0, 1\.0\); .* the lesser number first"),
        ({"do": "down", "lasts": 1.0, "stream": "upstream"}, r"down affects both streams"),
        ({"do": "silence", "lasts": 1.0, "stream": "up"}, r"stream of silence is 'up'; it may be upstream"),
        ({"do": "down", "lasts": 1.0, "toxicity": 0.5}, r"down affects every connection"),
        ({"do": "kill", "attributes": {"x": 1}}, r"kill has no attributes, it was given x"),
        ({"do": "latency", "lasts": 1.0}, r"latency needs its attribute 'latency'"),
        ({"do": "cut", "lasts": 1.0, "attributes": {"bytes": (-1, 5)}}, r"bytes of limit_data is -1"),
        (
            {"do": "slicer", "lasts": 1.0, "attributes": {"average_size": (5, 50), "size_variation": (1, 9)}},
            r"must be less than average_size, 5",
        ),
    ],
)
def test_a_fault_that_cannot_be_is_one_sentence(arguments: dict[str, Any], said: str) -> None:
    """The error says what was given and what is allowed."""
    kind = {**LINK_FAULTS, **PROCESS_FAULTS}[arguments["do"]]
    given = {key: value for key, value in arguments.items() if key != "do"}
    with pytest.raises(ValueError, match=said):
        Fault(**{"kind": kind, "target": "upstream", "at": 1.0, **given})
