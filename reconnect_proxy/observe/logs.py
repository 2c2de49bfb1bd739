"""One log line for each event of a session, as text for people or as JSON for machines.

Text: `2026-01-31 12:00:00.123 INFO leg lost session=abc123… leg=upstream code=1006 reason="" waiting=12`. JSON:
one object a line with `ts`, `level`, `event` and the same fields. A session's id appears cut short only, since an
id is a secret (PROTOCOL.md section 7); what a peer said (a close reason) is quoted, so that it cannot forge a line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TextIO, get_args

from ..config.values import LogFormat, LogLevel
from ..core.clock import Clock, Timer
from ..events import (
    AdminRefused,
    DialFailed,
    Dialled,
    Event,
    HandedOn,
    HeldLimitReached,
    HookFailed,
    HttpFailed,
    HttpRelayed,
    LegMute,
    LimitReached,
    Refused,
    SessionEnded,
    SessionOpened,
    SlowClientClosed,
    TakenOver,
    TlsHandshakeFailed,
    TlsReloadFailed,
    UncertainDropped,
    UpstreamEjected,
    WorkerLost,
    short_id,
)

__all__ = ["EventLog", "line_of", "log_event", "start_logging"]

logger = logging.getLogger("reconnect_proxy")

#: Plain words, and floats and URLs too: anything else is quoted.
_PLAIN = re.compile(r"[^\s\"'=\\]+")


#: For each kind of event its name in words and its fields: when many sessions lose their upstream at once, the log must
#: not be what delays their return.
_SHAPES: dict[type[Event], tuple[str, tuple[str, ...]]] = {
    kind: (re.sub(r"(?<!^)([A-Z])", r" \1", kind.__name__).lower(), tuple(field.name for field in fields(kind)))
    for kind in get_args(Event)
}


#: The levels of events that have always the same one, other than INFO.
_LEVELS: dict[type[Event], int] = {
    # The sessions have lines of their own for how that went.
    Dialled: logging.DEBUG,
    # Its error is logged with the traceback, and not each time: see `hook_calls`.
    HookFailed: logging.DEBUG,
    HandedOn: logging.DEBUG,
    HttpRelayed: logging.DEBUG,
    AdminRefused: logging.WARNING,
    DialFailed: logging.WARNING,
    HeldLimitReached: logging.WARNING,
    HttpFailed: logging.WARNING,
    LegMute: logging.WARNING,
    LimitReached: logging.WARNING,
    SlowClientClosed: logging.WARNING,
    UncertainDropped: logging.WARNING,
    UpstreamEjected: logging.WARNING,
    TlsReloadFailed: logging.ERROR,
    WorkerLost: logging.ERROR,
}

#: Seconds for which lines are counted.
PERIOD = 10.0
#: What whoever can connect can bring about as fast as that.
_ANYBODYS = (AdminRefused, LimitReached, Refused, TakenOver, TlsHandshakeFailed)
#: Lines in that time of one kind, level and reason: of those, and of the rest.
FEW_LINES = 10
MANY_LINES = 500


@dataclass(slots=True)
class _Burst:
    """The events of one kind, level and reason within one period."""

    timer: Timer
    count: int = 0


class EventLog:
    """Writes the line of each event it is called with (an `Observe`), and sums up where there are too many."""

    def __init__(self, clock: Clock) -> None:
        """Make a log that keeps time by `clock`, an event loop."""
        self._clock = clock
        # As many as there are kinds, levels and reasons: all words of our own.
        self._bursts: dict[tuple[type[Event], int, str], _Burst] = {}

    def __call__(self, event: Event) -> None:
        """Write the line of `event`, or count it among those that are summed up."""
        level = level_of(event)
        if not logger.isEnabledFor(level):
            return
        key = type(event), level, _reason_of(event)
        burst = self._bursts.get(key)
        if burst is None:
            timer = self._clock.call_later(PERIOD, lambda: self._sum_up(key))
            burst = self._bursts[key] = _Burst(timer)
        burst.count += 1
        if burst.count <= _lines_of(key[0]):
            log_event(event)

    def close(self) -> None:
        """Sum up what there is."""
        for key in list(self._bursts):
            self._bursts[key].timer.cancel()
            self._sum_up(key)

    def _sum_up(self, key: tuple[type[Event], int, str]) -> None:
        kind, level, reason = key
        more = self._bursts.pop(key).count - _lines_of(kind)
        if more > 0:
            name, keys = _SHAPES[kind]
            values: dict[str, object] = {word: reason for word in ("error", "limit") if word in keys}
            logger.log(level, name, extra={"fields": {**values, "more": more, "seconds": PERIOD}})


def _reason_of(event: Event) -> str:
    match event:
        case Refused(error=error):
            return error
        case LimitReached(limit=limit):
            return limit
        case _:
            return ""


def _lines_of(kind: type[Event]) -> int:
    return FEW_LINES if kind in _ANYBODYS else MANY_LINES


def log_event(event: Event) -> None:
    """Write the line of `event`."""
    level = level_of(event)
    if logger.isEnabledFor(level):
        name, values = line_of(event)
        logger.log(level, name, extra={"fields": values})


def level_of(event: Event) -> int:
    """Return the `logging` level of `event`: a warning where someone should look or a message was lost."""
    level = _LEVELS.get(type(event))
    if level is not None:
        return level
    match event:
        case SessionOpened(connected=connected):
            return logging.INFO if connected else logging.WARNING
        case SessionEnded(code=code, undelivered_c2u=c2u, undelivered_u2c=u2c, left=left):
            return logging.WARNING if c2u or (u2c and not left) or code == 1014 else logging.INFO
        case Refused(status=status):
            return logging.WARNING if status >= 500 else logging.INFO
        case _:
            return logging.INFO


def line_of(event: Event) -> tuple[str, dict[str, object]]:
    """Return the name of `event` in words (`leg lost`) and its fields in order, a session's id cut short."""
    name, keys = _SHAPES[type(event)]
    values = {key: getattr(event, key) for key in keys}
    for key, value in values.items():
        if isinstance(value, float):
            values[key] = round(value, 3)
    if "session_id" in values:
        return name, _without_id(values, values.pop("session_id"))
    return name, values


def _without_id(values: dict[str, object], session_id: str) -> dict[str, object]:
    """Return `values` with the id cut short, in front and wherever a peer may have repeated it: in a close reason."""
    short = short_id(session_id)
    if session_id:
        for key, value in values.items():
            if isinstance(value, str) and session_id in value:
                values[key] = value.replace(session_id, short)
    return {"session": short, **values}


def event_name(kind: type[Event]) -> str:
    """Return what lines of this kind of event say they are: `leg lost`."""
    return _SHAPES[kind][0]


def field_names(kind: type[Event]) -> tuple[str, ...]:
    """Return the names of the fields of such a line, in their order."""
    return tuple("session" if name == "session_id" else name for name in _SHAPES[kind][1])


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
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logger.setLevel(level.upper())
    return handler


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
