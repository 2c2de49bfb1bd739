"""Empty messages say nothing about themselves: their number follows from their place, and is checked."""

from __future__ import annotations

import pytest

from reconnect_harness.checks.checkers import message_findings
from reconnect_harness.history.message import Direction, MessageKind
from tests.reconnect_harness.histories import history, message

#: Of the messages 1 to 5 these are sent empty.
EMPTY = (2, 4)


@pytest.mark.parametrize(
    ("arrivals", "found"),
    [
        # Each is the size of a message that arrives, and the number that its receiver gives it.
        ([(100, 1), (0, 2), (100, 3), (0, 4), (100, 5)], {}),
        (
            [(100, 1), (100, 3), (0, 4), (100, 5)],
            {"lost": "number 2 (text, 0 bytes) was sent and never arrived: an empty"},
        ),
        # Number 3 is lost, so that the one after it is taken for number 3.
        ([(100, 1), (0, 2), (0, 3), (100, 5)], {"lost": "number 3 (text, 100 bytes) was sent and never arrived"}),
        (
            [(100, 1), (0, 2), (0, 3), (100, 3), (0, 4), (100, 5)],
            {"corrupted": "an empty message came, 100 bytes were sent", "duplicated": "number 3 (text, 100 bytes)"},
        ),
    ],
)
def test_an_empty_message_is_the_next_one(arrivals: list[tuple[int, int]], found: dict[str, str]) -> None:
    """One that is lost, one after a lost one, and one that comes twice."""
    sent = [message("sent", n, n)._replace(size=0 if n in EMPTY else 100) for n in range(1, 6)]
    came = [message("received", n, 10.0 + i)._replace(size=size) for i, (size, n) in enumerate(arrivals)]
    findings = message_findings(history(*sent, *came), Direction.C2U)
    assert {flaw for flaw, finding in findings.items() if finding.value} == set(found)
    for flaw, finding in findings.items():
        assert all(found[flaw] in violation.what for violation in finding.violations), finding.violations


def test_an_empty_message_has_a_type() -> None:
    """Which no header says."""
    sent = message("sent", 1, 1.0)._replace(size=0)
    came = message("received", 1, 2.0)._replace(size=0, kind=MessageKind.BINARY)
    finding = message_findings(history(sent, came), Direction.C2U)
    (violation,) = (found for each in finding.values() for found in each.violations)
    assert "sent as text, came as binary" in violation.what
