"""Recorders: records are written at once, and the recorder of a restarted process continues the file."""

from __future__ import annotations

from pathlib import Path

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageKind, MessageLabel
from reconnect_harness.history.record import End
from reconnect_harness.history.recorder import Recorder

LABEL = MessageLabel("c01", "c2u", 1, 100, MessageKind.TEXT)


def test_every_record_is_in_the_file_at_once(tmp_path: Path) -> None:
    """A process that is killed then has lost nothing."""
    recorder = Recorder(tmp_path / "file", End.CLIENT)
    recorder.sent("c01", Direction.C2U, LABEL)
    assert len(History.merge([tmp_path / "file"]).messages) == 1
    recorder.close()


def test_a_recorder_counts_what_arrived_without_repeats(tmp_path: Path) -> None:
    """From these counts a run knows whether everything has arrived."""
    recorder = Recorder(tmp_path / "file", End.CLIENT)
    for number in (1, 2, 2, 3):
        recorder.received("c01", Direction.U2C, LABEL._replace(number=number))
    for number in (1, 2):
        recorder.sent("c01", Direction.C2U, LABEL._replace(number=number))
    recorder.refused("c01", Direction.C2U, LABEL._replace(number=2))
    assert recorder.counts() == {"sent": 1, "arrived": 3, "distinct": 3}
    recorder.close()


def test_a_recorder_continues_the_file_of_a_killed_process(tmp_path: Path) -> None:
    """With its counts and the last number of each stream; a line that was cut off is removed."""
    killed = Recorder(tmp_path / "file", End.CLIENT)
    killed.link("c01", "connected", asked=True)
    for number in (1, 2, 3):
        killed.sent("c01", Direction.C2U, LABEL._replace(number=number))
    killed.received("c01", Direction.U2C, LABEL._replace(number=1))
    killed.sent("c01", Direction.C2U, LABEL._replace(number=4))
    killed.close()
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-20])
    next_one = Recorder(tmp_path / "file", End.CLIENT)
    assert next_one.said == {"c01": 3}
    next_one.received("c01", Direction.U2C, LABEL._replace(number=1))
    next_one.received("c01", Direction.U2C, LABEL._replace(number=2))
    next_one.sent("c01", Direction.C2U, LABEL._replace(number=4))
    assert next_one.counts() == {"sent": 4, "arrived": 2, "distinct": 2}
    next_one.close()
    assert [event.number for event in History.merge([tmp_path / "file"]).messages] == [1, 2, 3, 1, 1, 2, 4]


def test_a_message_to_several_receivers_is_distinct_once(tmp_path: Path) -> None:
    """Each arrival of a message at the clients of a shared session counts; the message is one."""
    recorder = Recorder(tmp_path / "file", End.CLIENT)
    for name, numbers in (("c01", (1, 2)), ("c02", (2, 3))):
        for number in numbers:
            recorder.received(name, Direction.U2C, LABEL._replace(stream="u1.1", number=number))
    assert recorder.counts() == {"sent": 0, "arrived": 4, "distinct": 3}
    recorder.close()
