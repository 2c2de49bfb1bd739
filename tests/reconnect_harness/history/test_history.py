"""The history: the records of several processes, merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageKind, MessageLabel
from reconnect_harness.history.record import End, LinkEvent
from reconnect_harness.history.recorder import Recorder
from tests.reconnect_harness.histories import conversation, fault, history, message

LABEL = MessageLabel("c01", "c2u", 1, 100, MessageKind.TEXT)


def test_records_of_several_processes_are_one_history_in_order_of_time(tmp_path: Path) -> None:
    """The sending in one process comes before the arrival in another, in either order of the files."""
    client, upstream = (Recorder(tmp_path / end, end) for end in End)
    client.link("c01", "connected", asked=True)
    client.sent("c01", Direction.C2U, LABEL)
    upstream.received("u1", Direction.C2U, LABEL._replace(wrong='its "checksum" does not match'))
    client.link("c01", "disconnected", asked=False, code=1006, reason="gone")
    for recorder in (client, upstream):
        recorder.close()
    found = History.merge([tmp_path / End.UPSTREAM, tmp_path / End.CLIENT])
    assert [(event.event, event.end, event.number) for event in found.messages] == [
        ("sent", End.CLIENT, 1),
        ("received", End.UPSTREAM, 1),
    ]
    assert found.messages[0].t <= found.messages[1].t
    assert found.messages[1].wrong == 'its "checksum" does not match'
    assert [(event.event, event.code, event.reason) for event in found.links] == [
        ("connected", None, ""),
        ("disconnected", 1006, "gone"),
    ]


def test_a_last_line_that_was_cut_off_is_ignored(tmp_path: Path) -> None:
    """Its process was killed while it wrote the line."""
    file = tmp_path / "file"
    recorder = Recorder(file, End.CLIENT)
    recorder.sent("c01", Direction.C2U, LABEL)
    recorder.sent("c01", Direction.C2U, LABEL)
    recorder.close()
    file.write_bytes(file.read_bytes()[:-20])
    assert len(History.merge([file]).messages) == 1


def test_any_other_line_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """An incomplete history proves nothing."""
    (tmp_path / "file").write_text('{"t":1,\n{"t":2}\n')
    with pytest.raises(ValueError, match="Expecting"):
        History.merge([tmp_path / "file"])


def test_streams_have_the_sent_and_the_received_messages() -> None:
    """One stream for each name and direction."""
    found = history(*conversation([1, 2]), *conversation([1], direction=Direction.U2C, stream="u1.1"))
    (c2u,), (u2c,) = found.streams[Direction.C2U], found.streams[Direction.U2C]
    assert (len(c2u.sent), list(c2u.received)) == (10, ["upstream"])
    assert (len(u2c.sent), list(u2c.received)) == (10, ["c01"])


def test_several_upstreams_are_one_receiver() -> None:
    """A session that moves from one server to another is still one stream."""
    events = [event._replace(name="u2") if event.t > 5 else event for event in conversation(range(1, 11))]
    (stream,) = history(*events).streams[Direction.C2U]
    assert [event.number for event in stream.received["upstream"]] == list(range(1, 11))


def test_a_written_history_is_in_order_of_time_from_the_start(tmp_path: Path) -> None:
    """Messages, links and faults are in one file, each line JSON."""
    found = history(*conversation([1, 2, 3]), faults=[fault()])
    found.start = 1.0
    found.write(tmp_path / "history.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    times = [line.get("t", line.get("asked")) for line in lines]
    assert times == sorted(times)
    assert times[0] == 0.0
    written = next(line for line in lines if line["event"] == "fault")
    assert (written["took_hold"], written["cleared"]) == (3.0, 4.0)


def test_the_faults_at_a_time_are_those_that_are_on_or_just_were() -> None:
    """From the time a fault is asked for until a second after it is cleared."""
    found = history(faults=[fault(4.0, 5.0), fault(None, None)])
    assert [len(found.faults_on(t)) for t in (3.9, 3.995, 4.5, 5.9, 6.1)] == [0, 1, 1, 1, 0]


def test_a_history_that_was_written_can_be_read(tmp_path: Path) -> None:
    """It is equal, with its times counted from its start."""
    told = history(
        *conversation([1, 2], sent=3),
        message("received", 9, 4.0, wrong="its checksum does not match"),
        faults=[fault(2.0, 2.5), fault(None, None, "no Toxiproxy")],
        links=[LinkEvent(1.5, End.CLIENT, "c01", "disconnected", False, 1006, "gone")],
    )
    told.write(tmp_path / "history.jsonl")
    assert History.read(tmp_path / "history.jsonl") == told
    told.start = 1.0
    told.write(tmp_path / "history.jsonl")
    assert History.read(tmp_path / "history.jsonl").messages[0].t == 0.0


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    """Only the last one may be cut off by a kill."""
    (tmp_path / "history.jsonl").write_text('{"t":\n{"t"')
    with pytest.raises(ValueError, match=r"history\.jsonl, line 1: it is not JSON"):
        History.read(tmp_path / "history.jsonl")


@pytest.mark.parametrize("line", ['{"event":"fault"}', '{"t":1,"stream":"c01","event":"sent"}', "[]", "{}"])
def test_a_line_of_another_form_is_an_error(tmp_path: Path, line: str) -> None:
    """The error has the line and the problem."""
    (tmp_path / "history.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"history\.jsonl, line 1: it is not an event of a history"):
        History.read(tmp_path / "history.jsonl")
