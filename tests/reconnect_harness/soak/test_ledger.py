"""Messages are judged one by one, by the number of the one before."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconnect_harness.history.message import Direction, MessageKind, MessageLabel
from reconnect_harness.soak import ledger as module
from reconnect_harness.soak.clients import PROFILES, ClientSink
from reconnect_harness.soak.ledger import Counted, Ledger, MarkTable, words
from reconnect_harness.soak.ledger_sink import LedgerSink, RecentStreams

MARKS = MarkTable(3, 4)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of one row, with marks."""
    ledger = Ledger(tmp_path / "one.ledger", ["row"], incoming=MARKS, outgoing=MARKS, owners=MARKS)
    yield ledger
    ledger.close()


def _sink(ledger: Ledger, **options: bool) -> LedgerSink:
    row = ledger.rows["row"]
    return LedgerSink(ledger, row, row.incoming, row.outgoing, **options)


def _said(number: int, stream: str = "c1.1", **fields: str) -> MessageLabel:
    return MessageLabel(stream, "c2u", number, 40, MessageKind.TEXT, **fields)


def _receive(sink: LedgerSink, *numbers: int, stream: str = "c1.1") -> dict[Counted, int]:
    for number in numbers:
        sink.received("u1", Direction.C2U, _said(number, stream))
    return {count: number for count, number in sink.row.counts().items() if number and count is not Counted.ARRIVED}


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        ((1, 2, 3), {}),
        ((1, 4), {Counted.LOST: 2}),
        ((2, 3), {Counted.LOST: 1}),
        ((1, 3, 2, 4), {Counted.REORDERED: 1}),
        ((1, 4, 3), {Counted.LOST: 1, Counted.REORDERED: 1}),
        ((1, 2, 1, 2, 3), {Counted.REPEATED: 2}),
        ((1, 3, 2, 2), {Counted.REORDERED: 1, Counted.REPEATED: 1}),
    ],
)
def test_a_message_is_judged_by_those_before_it(
    ledger: Ledger, numbers: tuple[int, ...], counts: dict[Counted, int]
) -> None:
    """A message that counted as lost and arrives late is reordered, and no longer lost."""
    assert _receive(_sink(ledger), *numbers) == counts


def test_streams_are_judged_by_themselves(ledger: Ledger) -> None:
    """Each has its own numbers."""
    sink = _sink(ledger)
    _receive(sink, 1, 2, stream="c1.1")
    _receive(sink, 1, stream="c2.1")
    assert _receive(sink, 3, stream="c1.1") == {}


def test_what_goes_wrong_is_described(ledger: Ledger, tmp_path: Path) -> None:
    """A repeated message is described only where repeats are forbidden."""
    _receive(_sink(ledger), 1, 1)
    assert not list(words(tmp_path / "one.ledger"))
    sink = _sink(ledger, once=True)
    _receive(sink, 1, 4)
    sink.received("u1", Direction.C2U, _said(5, wrong="its checksum does not match"))
    sink.received("u1", Direction.U2C, _said(5))
    assert [line["what"] for line in words(tmp_path / "one.ledger")] == [
        "c2u c1.1 number 1 came again",
        "c2u c1.1 number 4 came after number 1",
        "c2u c1.1 number 5 is wrong: its checksum does not match",
        "c2u c1.1 number 5 was misdelivered: it came u2c",
    ]


def test_a_message_of_another_session_is_misdelivered_in_both_directions(ledger: Ledger, tmp_path: Path) -> None:
    """A session is that of the client from which it hears first; its stream is for no other client, nor the next one in
    the same place."""
    row = ledger.rows["row"]
    upstream = _sink(ledger)
    for stream in ("c1.2", "c1.3", "c2.1"):
        upstream.received("u1", Direction.C2U, _said(1, stream), "a1.1")
    label = MessageLabel("a1.1", "u2c", 1, 40, MessageKind.TEXT)
    for client in ("c1.1", "c1.2", "c1.3", "c2.1"):
        sink = ClientSink(ledger, row, PROFILES[0], client, row.owners)
        sink.received(client, Direction.U2C, label)
        sink.received(client, Direction.U2C, label._replace(stream="a1.2"))
    assert [line["what"] for line in words(tmp_path / "one.ledger")] == [
        "c2u c2.1 number 1 was misdelivered: it came in the session of c1",
        "u2c a1.1 number 1 was misdelivered: it came to c1.3",
        "u2c a1.1 number 1 was misdelivered: it came to c2.1",
    ]
    assert row.counts()[Counted.MISDELIVERED] == 3


def test_not_everything_is_described(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that loses a message every second for a year does not fill the disk."""
    monkeypatch.setattr(module, "DESCRIBED", 3)
    _receive(_sink(ledger), *range(2, 100, 2))
    assert len(list(words(tmp_path / "one.ledger"))) == 3
    ledger.write("what has to be judged is said always")
    assert len(list(words(tmp_path / "one.ledger"))) == 4


def test_what_a_socket_refused_is_not_sent(ledger: Ledger) -> None:
    """What is sent leaves a mark; where a stream ends with its link, so does the mark."""
    sink = _sink(ledger, per_link=True)
    for number in (1, 2):
        sink.sent("p1.1", Direction.U2C, _said(number, "p1.1"))
    sink.refused("p1.1", Direction.U2C, _said(2, "p1.1"))
    assert sink.row.counts()[Counted.SENT] == 1
    assert sink.row.outgoing.last("p1.1") == 2
    sink.link("p1.1", "disconnected", asked=False)
    assert sink.row.outgoing.last("p1.1") == 0
    assert sink.row.counts()[Counted.CUT] == 1


def test_marks_are_of_the_latest_streams(ledger: Ledger) -> None:
    """A later stream replaces one that ended long ago."""
    came = ledger.rows["row"].incoming
    for stream, number in (("c1.1", 5), ("c1.2", 6), ("c2.1", 7), ("c1.5", 8)):
        came.set(stream, number)
    assert [came.last(stream) for stream in ("c1.1", "c1.2", "c2.1", "c1.5", "c1.9")] == [0, 6, 7, 8, 0]
    came.clear()
    assert came.last("c1.5") == 0
    with pytest.raises(ValueError, match="is not the name of a stream"):
        came.last("upstream")


def test_recent_streams_are_few() -> None:
    """The memory of a client does not grow."""
    recent = RecentStreams()
    for ordinal in range(100):
        recent.set(f"c1.{ordinal}", ordinal + 1)
    assert recent.latest == "c1.99"
    assert [recent.last(f"c1.{ordinal}") for ordinal in (99, 84, 83)] == [100, 85, 0]


def test_a_killed_process_loses_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """The next process continues with its numbers; processes that read the file see them at once."""
    code = f"""
import os, signal
from pathlib import Path
from reconnect_harness.history.message import *
from reconnect_harness.soak.ledger import *
from reconnect_harness.soak.ledger_sink import *
ledger = Ledger(Path({str(tmp_path / "one.ledger")!r}), ["row"], incoming=MarkTable(3, 4), outgoing=MarkTable(3, 4))
sink = LedgerSink(ledger, ledger.rows["row"], ledger.rows["row"].incoming)
for number in (1, 2, 3):
    sink.received("u1", Direction.C2U, MessageLabel("c1.1", "c2u", number, 40, MessageKind.TEXT))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert ledger.rows["row"].incoming.last("c1.1") == 3
    assert _receive(_sink(ledger), 4) == {}
    assert ledger.rows["row"].counts()[Counted.ARRIVED] == 4


def test_the_file_does_not_grow(ledger: Ledger, tmp_path: Path) -> None:
    """However many streams and messages there are."""
    size = (tmp_path / "one.ledger").stat().st_size
    sink = _sink(ledger)
    for ordinal in range(1, 50):
        _receive(sink, *range(1, 20), stream=f"c1.{ordinal}")
    assert (tmp_path / "one.ledger").stat().st_size == size
