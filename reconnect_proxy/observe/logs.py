"""One log line for each event, as text for people or as JSON for machines.

Text: `2026-01-31 12:00:00.123 INFO leg lost session=abc123… leg=upstream code=1006 reason="" waiting=12`. JSON:
one object a line with `ts`, `level`, `event` and the same fields. Of a session's id only the first characters appear,
because an id is a secret (PROTOCOL.md section 7). What a peer said (a close reason) is quoted, so that it cannot forge
a line.

When many sessions lose their upstream at once, the log must not delay their return. So everything that can be known of
an event in advance is in a table, and what is written of it is limited.
"""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from ..config.values import LogFormat, LogLevel
from ..core.interfaces import Clock, Timer
from ..events import Event, short_id
from .event_table import EVENTS, PERIOD, EventRow
from .log_writer import LogWriter

logger = logging.getLogger("reconnect_proxy")

#: Tracebacks of one place of the program that are written within PERIOD.
TRACEBACKS = 3

#: Plain words, and floats and URLs too: anything else is quoted.
_PLAIN = re.compile(r"[^\s\"'=\\]+")


@dataclass(slots=True)
class _Burst:
    """The events of one kind, level and reason within one period."""

    row: EventRow
    timer: Timer
    count: int = 0


class EventLog:
    """Writes the line of each event it is called with (an `Observe`), and sums up where there are too many."""

    def __init__(self, clock: Clock) -> None:
        """Make a log that keeps time by `clock`, an event loop."""
        self._clock = clock
        # By kind, level and reason. The reasons are a few words of our own, so there are few of these.
        self._bursts: dict[tuple[type[Event], int, str], _Burst] = {}

    def __call__(self, event: Event) -> None:
        """Write the line of `event`, or count it among those that are summed up."""
        kind = type(event)
        row = EVENTS[kind]
        level = row.level if isinstance(row.level, int) else row.level(event)
        if not logger.isEnabledFor(level):
            return
        key = kind, level, getattr(event, row.reason) if row.reason else ""
        burst = self._bursts.get(key)
        if burst is None:
            timer = self._clock.call_later(PERIOD, lambda: self._sum_up(key))
            burst = self._bursts[key] = _Burst(row, timer)
        burst.count += 1
        if burst.count <= row.lines:
            name, values = line_of(event)
            logger.log(level, name, extra={"fields": values})

    def close(self) -> None:
        for key in list(self._bursts):
            self._bursts[key].timer.cancel()
            self._sum_up(key)

    def _sum_up(self, key: tuple[type[Event], int, str]) -> None:
        _, level, reason = key
        burst = self._bursts.pop(key)
        row, more = burst.row, burst.count - burst.row.lines
        if more > 0:
            why = {row.reason: reason} if row.reason else {}
            logger.log(level, row.name, extra={"fields": {**why, "more": more, "seconds": PERIOD}})


def line_of(event: Event) -> tuple[str, dict[str, object]]:
    """Return the name of `event` in words (`leg lost`) and its fields in order, a session's id cut short."""
    row = EVENTS[type(event)]
    values = {field: getattr(event, field) for field in row.fields}
    for key, value in values.items():
        if isinstance(value, float):
            values[key] = round(value, 3)
    if "session_id" in values:
        return row.name, _without_id(values, values.pop("session_id"))
    return row.name, values


def _without_id(values: dict[str, object], session_id: str) -> dict[str, object]:
    """Return `values` with the id cut short, in front and wherever a peer may have repeated it: in a close reason."""
    short = short_id(session_id)
    if session_id:
        for key, value in values.items():
            if isinstance(value, str) and session_id in value:
                values[key] = value.replace(session_id, short)
    return {"session": short, **values}


class TextFormatter(logging.Formatter):
    """Writes `TIME LEVEL event key=value key="some value"`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of `record`; a traceback follows on lines of its own."""
        moment = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        name = "" if record.name.split(".")[0] == logger.name else f"{record.name}: "
        values = "".join(f" {key}={_text(value)}" for key, value in _extra(record).items())
        line = f"{moment} {record.levelname} {name}{_one_line(record.getMessage())}{values}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line: `ts` (UTC, ISO 8601), `level`, `event`, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object of `record`; `logger` names another package, `exception` holds a traceback."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if record.name.split(".")[0] != logger.name:
            line["logger"] = record.name
        line |= _extra(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


def start_logging(style: LogFormat, level: LogLevel, stream: TextIO | None = None) -> logging.Handler:
    """Send log lines to `stream` (stderr): the proxy's from `level` on, those of all others from warnings on.

    Returns:
        The handler, for `logging.getLogger().removeHandler` when the process goes on without the proxy.

    """
    handler = LogWriter() if stream is None else logging.StreamHandler(stream)
    handler.addFilter(TracebackLimit())
    handler.setFormatter(JsonFormatter() if style is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logger.setLevel(level.upper())
    return handler


def announce(line: str) -> None:
    """Write a line that is no log line to stderr, behind the log lines that wait."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogWriter):
            handler.put(line)


class TracebackLimit(logging.Filter):
    """Drops tracebacks that repeat: an error that a client can cause must not fill the log. The next one counts them.

    TRACEBACKS of one place of the program are written within PERIOD.
    """

    def __init__(self) -> None:
        super().__init__()
        # By the place of the error: when its period began, and how many came since.
        self._seen: dict[tuple[object, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether `record` is written."""
        kind, _, trace = record.exc_info or (None, None, None)
        if trace is None:
            return True
        while trace.tb_next is not None:
            trace = trace.tb_next
        place = (record.name, kind, trace.tb_frame.f_code, trace.tb_lineno)
        now = time.monotonic()
        began, count = self._seen.get(place, (now, 0))
        if now >= began + PERIOD:
            if count > TRACEBACKS:
                record.fields = {**_extra(record), "more": count - TRACEBACKS, "seconds": round(now - began)}
            began, count = now, 0
        self._seen[place] = began, count + 1
        return count < TRACEBACKS


def _extra(record: logging.LogRecord) -> dict[str, object]:
    values = getattr(record, "fields", None)
    return values if isinstance(values, dict) else {}


def _json(value: object) -> str:
    """Return `value` as JSON, readable where that is safe: line and control characters are always escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isprintable() else json.dumps(value, default=str)


def _text(value: object) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return _json(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]
