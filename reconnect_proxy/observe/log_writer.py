"""A log handler that never blocks: a thread writes the lines, so a full pipe or a slow disk stops nothing else.

    any thread --emit--> lines that wait, at most WAITING_BYTES --this thread--> the descriptor

Lines that find no room, or that cannot be written (the disk is full, the reader of the pipe is gone), are dropped and
counted. When lines can be written again, one of them says how many are missing.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

#: Bytes of lines that may wait to be written: some thousand lines.
WAITING_BYTES = 1024 * 1024
#: Seconds that the end of the program waits for lines to be written.
FLUSH_SECONDS = 1.0

_DROPPED = "log lines dropped"


class LogWriter(logging.Handler):
    """Writes log lines to a descriptor, stderr by default. It makes its thread with the first line."""

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        #: Lines dropped so far.
        self.dropped = 0
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        # Lines dropped since the last line that said so.
        self._missing = 0
        # The thread has lines in its hands that are not written yet.
        self._writing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the line of `record` to the thread, or drop it."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a wrong log call must harm nothing but its line
            line = f"a log line of {record.name} ({record.pathname}:{record.lineno}) cannot be formatted: {error!r}"
        self.put(line)

    def put(self, line: str) -> None:
        """Hand a line to the thread, or drop it. The call does not block."""
        data = (line + "\n").encode("utf-8", "backslashreplace")
        with self._changed:
            if self._waiting + len(data) > WAITING_BYTES:
                self._drop(1)
                return
            self._append(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, for at most FLUSH_SECONDS."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._writing), FLUSH_SECONDS)

    def _append(self, data: bytes) -> None:
        self._lines.append(data)
        self._waiting += len(data)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._missing += count

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                lines, self._lines, self._waiting = self._lines, deque(), 0
                self._writing = True
            written = self._write(b"".join(lines))
            with self._changed:
                if not written:
                    self._drop(len(lines))
                elif self._missing:
                    self._say_missing()

    def _say_missing(self) -> None:
        """Let a line that says how many are missing wait behind the others."""
        record = logging.LogRecord("reconnect_proxy", logging.WARNING, __file__, 0, _DROPPED, None, None)
        record.fields = {"count": self._missing}
        # The filters of the handler may add fields.
        self.filter(record)
        self._append((self.format(record) + "\n").encode())
        self._missing = 0

    def _write(self, data: bytes) -> bool:
        """Write `data`, however long that takes. Returns False if that is not possible."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Another program has made the descriptor non-blocking.
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


class DroppedLines(Collector):
    """How many log lines of this process were dropped."""

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield from self.collect()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Report the number."""
        text = "Log lines that were dropped, because stderr is not read or cannot be written."
        dropped = sum(each.dropped for each in logging.getLogger().handlers if isinstance(each, LogWriter))
        yield CounterMetricFamily("reconnect_proxy_log_lines_dropped", text, dropped)
