"""Log lines are written by a thread: what has no room, or cannot be written, is dropped, counted, and said once."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator

import pytest

from reconnect_proxy.observe import log_writer
from reconnect_proxy.observe.log_writer import WAITING_BYTES, LogWriter
from reconnect_proxy.observe.logs import TRACEBACKS, TextFormatter, TracebackLimit

LINE = "x" * 1023


class Pipe:
    """A pipe and the log that writes into it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.log = LogWriter(self.writing)
        self.log.setFormatter(TextFormatter())

    def read_lines(self, count: int) -> list[str]:
        """Read so many lines. They must come."""
        data = b""
        while data.count(b"\n") < count:
            data += os.read(self.reading, 65536)
        return data.decode().splitlines()

    def fill(self) -> int:
        """Write more lines than find room, and return how many were dropped."""
        for _ in range(2 * WAITING_BYTES // len(LINE)):
            self.log.put(LINE)
        return self.log.dropped


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Make a pipe whose reader goes away in the end, which ends the wait of the thread."""
    made = Pipe()
    yield made
    os.close(made.reading)
    made.log.flush()
    os.close(made.writing)


def test_lines_are_written_in_order_and_flush_waits_for_them(pipe: Pipe) -> None:
    """Each whole, whatever was said of how to write it."""
    for number in range(100):
        pipe.log.emit(logging.LogRecord("reconnect_proxy", logging.INFO, "", 0, f"event {number} \ud800", None, None))
    pipe.log.flush()
    lines = pipe.read_lines(100)
    assert [line.split(" INFO ")[1] for line in lines] == [f"event {number} \\ud800" for number in range(100)]


def test_a_pipe_that_is_not_read_takes_what_finds_room_and_the_rest_is_counted(pipe: Pipe) -> None:
    """As soon as it is read, one line says how many are missing."""
    dropped = pipe.fill()
    assert 0 < dropped < 2 * WAITING_BYTES // len(LINE)
    written = 2 * WAITING_BYTES // len(LINE) - dropped
    lines = pipe.read_lines(written + 1)
    missing = [line for line in lines if line != LINE]
    assert len(missing) == 1
    assert re.search(rf" WARNING log lines dropped count={dropped}$", missing[0])
    pipe.log.put("and again")
    assert pipe.read_lines(1) == ["and again"]


def test_a_flush_gives_up_when_the_pipe_is_not_read(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program can end."""
    monkeypatch.setattr(log_writer, "FLUSH_SECONDS", 0.05)
    pipe.fill()
    ended = threading.Event()
    threading.Thread(target=lambda: (pipe.log.flush(), ended.set()), daemon=True).start()
    assert ended.wait(5)


def test_lines_that_cannot_be_written_are_counted() -> None:
    """A full disk. What is said later is tried again."""
    full = os.open("/dev/full", os.O_WRONLY)
    log = LogWriter(full)
    for number in range(1, 4):
        log.put("lost")
        log.flush()
        assert log.dropped == number
    os.close(full)


def test_a_wrong_log_call_costs_nothing_but_its_line(pipe: Pipe) -> None:
    """The line says where it was written."""
    pipe.log.emit(logging.LogRecord("some.library", logging.INFO, "file.py", 7, "%d", ("no number",), None))
    [line] = pipe.read_lines(1)
    assert line.startswith("a log line of some.library (file.py:7) cannot be formatted: TypeError")


def failed(message: str) -> logging.LogRecord:
    """Return the record of an error at one place of the program."""
    try:
        int(message)
    except ValueError as error:
        exc_info = (ValueError, error, error.__traceback__)
    return logging.LogRecord("asyncio", logging.ERROR, "", 0, "failed", None, exc_info)


def test_tracebacks_that_repeat_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three within ten seconds; the next one says how many more there were. Other lines pass."""
    now = 0.0
    monkeypatch.setattr("reconnect_proxy.observe.logs.time.monotonic", lambda: now)
    limit = TracebackLimit()
    assert [limit.filter(failed(f"no number: {number}")) for number in range(10)] == [True] * TRACEBACKS + [False] * 7
    assert limit.filter(logging.LogRecord("asyncio", logging.ERROR, "", 0, "failed", None, None))
    now = 10.5
    record = failed("again")
    assert limit.filter(record)
    assert "failed more=7 seconds=10\n" in TextFormatter().format(record)
