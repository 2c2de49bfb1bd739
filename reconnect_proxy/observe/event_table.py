"""The table of events. Each row says how one kind of event is logged, and what it adds to which metric.

`logs` and `metrics` work from this table.

| what a row says | where the rest comes from |
| --- | --- |
| the level of its line, a function of the event where it varies | the line's name and fields: the class of the event |
| how many such lines may be written in `PERIOD` | what the event means: the docstring of its class |
| the metrics that it moves, each with its help text | the values of their labels: fields of the event |

To add an event: write its class in `events`, a row here, and a case in the tests (`every_event`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ..events import (
    AdminRefused,
    DebuggerUrlPassed,
    DialFailed,
    Dialled,
    EndedByOperator,
    Event,
    HandedOn,
    HeaderDropped,
    HeldLimitReached,
    HeldLimitRelieved,
    HookFailed,
    HttpFailed,
    HttpRelayed,
    LegLost,
    LegMute,
    LegName,
    Limit,
    LimitReached,
    MessagesDropped,
    MessagesUncertain,
    MuteEnded,
    Redial,
    Refused,
    Resumed,
    SessionEnded,
    SessionOpened,
    SlowClientClosed,
    TakenOver,
    TlsHandshakeFailed,
    TlsReloaded,
    TlsReloadFailed,
    UncertainDropped,
    UpstreamEjected,
    UpstreamReturned,
    WorkerLost,
    WorkerReturned,
)

E = TypeVar("E", bound=Event)

DIRECTIONS = ("c2u", "u2c")

#: Seconds for which lines are counted.
PERIOD = 10.0
#: Lines that are written in that time for each kind, level and reason, if every client can cause them at any rate.
FEW_LINES = 10
#: The same for all other lines.
MANY_LINES = 500

#: Seconds. A redial starts within 100 ms and backs off to 3 s; a client may stay away for a grace of minutes.
RECOVERY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
#: Seconds. A handshake on a local network takes a millisecond or two; by default a dial is given up after five seconds.
DIAL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


# How the labels of metrics are written.


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a metric. Its value is the field of the event that has the same name."""

    name: str
    #: Values whose series exist from the start, so that a rule sees a zero before the first event.
    known: tuple[str, ...] = ()
    #: Turns the value of the field into the label; None: the value is the label.
    write: Callable[[Any], str] | None = None


def code_label(code: int) -> str:
    """Return the label of a close code.

    A peer may close with any of the two thousand codes from 3000 on. They share two labels, so that peers cannot fill
    the memory of the proxy, or of Prometheus, with series. 4000 is the proxy's own "taken over".
    """
    if 1000 <= code <= 1015 or code == 4000:
        return str(code)
    return f"{code // 1000}xxx" if 1000 <= code < 5000 else "other"


def _flag(name: str) -> Label:
    return Label(name, ("true", "false"), {True: "true", False: "false"}.__getitem__)


LEG = Label("leg", tuple(LegName))
DIRECTION = Label("direction", DIRECTIONS)
UPSTREAM = Label("upstream")
STATUS = Label("status")


# Metrics, and what an event adds to one.


@dataclass(frozen=True, slots=True, eq=False)
class MetricRow:
    """A metric that events move: a counter, or with `buckets` a histogram."""

    name: str
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """What an event adds to a metric."""

    metric: MetricRow
    #: The attribute of the event that is added; without one, 1 is added.
    amount: str = ""
    #: Labels that are no fields of the event.
    constant: Mapping[str, str] | None = None


def _count(name: str, text: str, *labels: Label, amount: str = "") -> Count:
    """Return what moves a counter that belongs to one event alone."""
    return Count(MetricRow(name, text, labels), amount)


LIMITS_REACHED = MetricRow(
    "limits_reached",
    "Times that a session reached one of its limits, or that the bytes held for all sessions reached theirs (held).",
    (Label("limit", (*Limit, "held")),),
)
MESSAGES_UNCERTAIN = MetricRow(
    "messages_uncertain",
    "Messages that a lost peer may have received, and cannot say so: resent (may arrive twice), dropped (may be lost), "
    "or mute (may be lost: the peer answered no Ping).",
    (LEG, Label("outcome", ("resent", "dropped", "mute"))),
)
MESSAGES_UNDELIVERED = MetricRow(
    "messages_undelivered",
    "Messages that were accepted, and not sent before their session ended.",
    (DIRECTION,),
)
MESSAGES_UNPROVEN = MetricRow(
    "messages_unproven",
    "Messages that were sent and not confirmed when their session ended: all that are uncertain then. If a client "
    "closes within some 100 ms of its last message, that one counts here although the client has it.",
    (DIRECTION,),
)
MESSAGES_DROPPED = MetricRow(
    "messages_dropped_by_hook",
    "Messages dropped because on_message said so, or failed; counted when the session ends.",
    (DIRECTION,),
)
TLS_RELOADS = MetricRow(
    "tls_reloads",
    "Times that certificates were read again: ok, or failed, and the old ones stay in use.",
    (LEG, Label("outcome", ("ok", "failed"))),
)


def _both_directions(metric: MetricRow, prefix: str = "") -> tuple[Count, ...]:
    return tuple(Count(metric, prefix + each, {"direction": each}) for each in DIRECTIONS)


# The rows.


@dataclass(frozen=True, slots=True)
class EventRow:
    """How one kind of event is logged and counted."""

    kind: type[Any]
    #: The words that begin its line: `leg lost`. They are stable, because alerts are made of them.
    name: str
    #: The attributes that its line shows, in their order.
    fields: tuple[str, ...]
    #: The `logging` level, or what returns that of an event.
    level: int | Callable[[Any], int]
    counts: tuple[Count, ...]
    #: How many lines of one level and reason are written in `PERIOD`; the rest is summed up in one line.
    lines: int
    #: The attribute that tells reasons apart; without one, all events of a level have the same.
    reason: str


def _row(
    kind: type[E],
    level: int | Callable[[E], int],
    *counts: Count,
    lines: int = MANY_LINES,
    reason: str = "",
) -> EventRow:
    name = re.sub(r"(?<!^)([A-Z])", r" \1", kind.__name__).lower()
    shown = tuple(field.name for field in fields(kind))
    return EventRow(kind, name, shown, level, counts, lines, reason)


def _level_of_end(event: SessionEnded) -> int:
    lost = event.undelivered_c2u or event.uncertain_c2u
    lost = lost or (not event.left and (event.undelivered_u2c or event.uncertain_u2c))
    return logging.WARNING if lost or event.code == 1014 else logging.INFO


DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

_ROWS = [
    # Sessions.
    _row(
        SessionOpened,
        lambda event: INFO if event.connected else WARNING,
        _count(
            "sessions_opened",
            "Sessions opened. connected is false if no upstream could be reached at that time.",
            _flag("connected"),
        ),
    ),
    _row(
        SessionEnded,
        _level_of_end,
        _count(
            "sessions_ended",
            "Sessions ended, by the close code that their legs were given.",
            Label("code", ("1000", "1001", "1014"), code_label),
        ),
        *_both_directions(MESSAGES_UNDELIVERED, "undelivered_"),
        *_both_directions(MESSAGES_UNPROVEN, "uncertain_"),
    ),
    _row(
        EndedByOperator,
        INFO,
        _count("sessions_ended_by_operator", "Sessions ended through the admin listener."),
    ),
    _row(
        LimitReached,
        WARNING,
        Count(LIMITS_REACHED),
        lines=FEW_LINES,
        reason="limit",
    ),
    _row(HeldLimitReached, WARNING, Count(LIMITS_REACHED, constant={"limit": "held"})),
    _row(HeldLimitRelieved, INFO),
    # Legs and their messages.
    _row(
        LegLost,
        INFO,
        _count(
            "legs_lost",
            "Links lost, by close code; 1006: without a close frame.",
            LEG,
            Label("code", (), code_label),
        ),
    ),
    _row(
        Resumed,
        INFO,
        _count("legs_resumed", "Legs that have a link again.", LEG),
        Count(
            MetricRow(
                "recovery_seconds",
                "Seconds from the loss of a leg until it was resumed.",
                (LEG,),
                RECOVERY_BUCKETS,
            ),
            "away",
        ),
        _count("messages_resent", "Messages sent again on a new link.", LEG, amount="resent"),
        Count(MESSAGES_UNCERTAIN, "uncertain", {"outcome": "resent"}),
    ),
    _row(UncertainDropped, WARNING, Count(MESSAGES_UNCERTAIN, "count", {"outcome": "dropped"})),
    _row(
        LegMute,
        WARNING,
        _count(
            "legs_mute",
            "Peers that send data, answer no Ping, and have a full queue. They get each message at most once then.",
            LEG,
        ),
    ),
    _row(MuteEnded, INFO),
    _row(MessagesUncertain, WARNING, Count(MESSAGES_UNCERTAIN, "count", {"outcome": "mute"})),
    _row(
        TakenOver,
        INFO,
        _count("takeovers", "Clients that came back before the proxy noticed the loss of their old link."),
        lines=FEW_LINES,
    ),
    _row(
        SlowClientClosed,
        WARNING,
        _count("slow_clients_closed", "Receiver clients that were closed because they were too slow."),
    ),
    _row(MessagesDropped, INFO, *_both_directions(MESSAGES_DROPPED)),
    # Each failure is an event; `hooks.calls` logs the error itself, with its traceback, once a second.
    _row(HookFailed, DEBUG, _count("hook_errors", "Failures of the embedding program's hooks.", Label("hook"))),
    # Upstreams. The sessions have lines of their own for how a dial went.
    _row(
        Dialled,
        DEBUG,
        Count(
            MetricRow(
                "dial_seconds",
                "Seconds that a dial of an upstream took, from its turn on, until it was connected, rejected, failed "
                "or cancelled.",
                (UPSTREAM, Label("outcome")),
                DIAL_BUCKETS,
            ),
            "seconds",
        ),
    ),
    _row(DialFailed, WARNING, _count("dial_failures", "Dials of sessions that failed.")),
    _row(Redial, INFO, _count("redials", "Attempts to reach a lost upstream again.")),
    _row(
        UpstreamEjected,
        WARNING,
        _count("upstream_ejections", "Times that an upstream was found to be down.", UPSTREAM),
    ),
    _row(
        UpstreamReturned,
        INFO,
        _count("upstream_returns", "Times that an upstream that was down was found to be up.", UPSTREAM),
    ),
    # Clients that get no session, plain HTTP, TLS.
    _row(
        Refused,
        lambda event: WARNING if event.status >= 500 else INFO,
        _count("refusals", "Requests that the proxy itself answered with an HTTP error.", STATUS, Label("error")),
        lines=FEW_LINES,
        reason="error",
    ),
    _row(
        HttpRelayed,
        DEBUG,
        _count(
            "http_requests",
            "Plain HTTP requests that an upstream answered, by the class of its status, such as 2xx.",
            Label("status", (), lambda status: f"{status // 100}xx"),
        ),
    ),
    _row(
        HttpFailed,
        WARNING,
        _count(
            "http_failures",
            "Plain HTTP requests that an upstream failed: 502, 504, or cut if its answer had begun.",
            Label("status", (), lambda status: str(status or "cut")),
        ),
    ),
    _row(DebuggerUrlPassed, WARNING),
    _row(HeaderDropped, WARNING),
    _row(
        TlsHandshakeFailed,
        INFO,
        _count("tls_handshake_failures", "Failed TLS handshakes with clients."),
        lines=FEW_LINES,
    ),
    _row(TlsReloaded, INFO, Count(TLS_RELOADS, constant={"outcome": "ok"})),
    _row(TlsReloadFailed, ERROR, Count(TLS_RELOADS, constant={"outcome": "failed"})),
    _row(
        AdminRefused,
        WARNING,
        _count("admin_refusals", "Requests that the admin listener refused: 401, 403 or 421.", STATUS),
        lines=FEW_LINES,
    ),
    # Workers.
    _row(
        HandedOn,
        DEBUG,
        _count(
            "clients_handed_on",
            "Clients that connected to another worker than that of their session. relayed is true under TLS, which "
            "stays in the first worker.",
            _flag("relayed"),
        ),
    ),
    _row(
        WorkerLost,
        ERROR,
        _count("workers_lost", "Workers that died."),
        _count("sessions_lost", "Sessions lost because their worker died.", amount="sessions"),
    ),
    _row(WorkerReturned, INFO),
]

#: The rows by the class of the event.
EVENTS: dict[type[Event], EventRow] = {row.kind: row for row in _ROWS}
