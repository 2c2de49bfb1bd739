"""What a session tells the outside about its life: one value per thing worth a log line and a counter.

The core reports; it does not log. Whoever owns a `Context` hands it an `Observe` callable, and `logs` and `metrics`
turn each event into a line and a number. Nothing here is on the path of a message.

Nobody changes an event; but they are not frozen, for making a frozen one takes four times as long, and each session has
several in its first millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class LegName(StrEnum):
    """The two legs of a session, PROTOCOL.md section 1."""

    CLIENT = "client"
    UPSTREAM = "upstream"


class DialOutcome(StrEnum):
    """How a dial of an upstream ended: a session has it, it said no (an HTTP answer below 500), or neither."""

    CONNECTED = "connected"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


def short_id(session_id: str) -> str:
    """Return the only form in which a session id may be logged: its first 6 characters and `…` (an id is a secret)."""
    return f"{session_id[:6]}…"


@dataclass(slots=True)
class SessionOpened:
    """A new session exists. `connected` is False when its upstream could not be reached and the client waits for it."""

    session_id: str
    upstream: str
    connected: bool


@dataclass(slots=True)
class LegLost:
    """A link died or closed. `code` is the close code (1006: none), `waiting` the messages now owed to that leg."""

    session_id: str
    leg: LegName
    code: int
    reason: str
    waiting: int


@dataclass(slots=True)
class Redial:
    """Attempt number `attempt` (1, 2, …) since the upstream was lost starts in `delay` seconds, towards `upstream`."""

    session_id: str
    upstream: str
    attempt: int
    delay: float


@dataclass(slots=True)
class DialFailed:
    """A dial of `upstream` came to nothing, for the reason in `detail`."""

    session_id: str
    upstream: str
    detail: str


@dataclass(slots=True)
class Resumed:
    """A leg has a link again after `away` seconds. `waiting` messages are owed, `resent` of them were sent before."""

    session_id: str
    leg: LegName
    resent: int
    waiting: int
    away: float
    aware: bool


@dataclass(slots=True)
class TakenOver:
    """A client came back while its old link still looked open; the old one was closed with 4000."""

    session_id: str


@dataclass(slots=True)
class LegMute:
    """A peer sends data but answers no Ping. From now on what is written to it counts as confirmed."""

    session_id: str
    leg: LegName


@dataclass(slots=True)
class UncertainDropped:
    """`count` messages that may or may not have arrived were dropped, as `uncertain = drop` asks."""

    session_id: str
    leg: LegName
    count: int


@dataclass(slots=True)
class SlowClientClosed:
    """A `receiver` client past its high-water mark was closed with 1013 for the sake of the others."""

    session_id: str
    waiting: int


@dataclass(slots=True)
class SessionEnded:
    """The session is over, with the close code and reason its legs were given, after `age` seconds.

    `undelivered_c2u` and `undelivered_u2c` are the messages that were accepted and could not be delivered any more. The
    rest is what was received in all: messages, and the bytes of their payloads. `left` is whether a client has closed
    it, which then does not want what it had not confirmed.
    """

    session_id: str
    code: int
    reason: str
    age: float
    undelivered_c2u: int
    undelivered_u2c: int
    c2u_messages: int
    c2u_bytes: int
    u2c_messages: int
    u2c_bytes: int
    left: bool = False


class Limit(StrEnum):
    """What a session may not pass."""

    MESSAGE = "message-size"
    RATE = "message-rate"
    IDLE = "idle-time"
    QUEUE = "queue"


@dataclass(slots=True)
class LimitReached:
    """A session met `limit`, as `detail` says. But for the message rate, which slows its client down, that ends it."""

    session_id: str
    limit: Limit
    detail: str


@dataclass(slots=True)
class HeldLimitReached:
    """All sessions together hold `held` bytes, more than `limit`: none is made, and those with most are held back."""

    held: int
    limit: int


@dataclass(slots=True)
class HeldLimitRelieved:
    """The sessions hold clearly less than the limit again, after `seconds`."""

    held: int
    seconds: float


@dataclass(slots=True)
class MessagesDropped:
    """A session that ends has dropped so many messages because a hook said so, or failed (`on_message`)."""

    session_id: str
    c2u: int
    u2c: int


@dataclass(slots=True)
class HookFailed:
    """A hook of the embedding program raised an exception, or returned what it may not: `detail`.

    Each failure is one event. The traceback is in the log, of one failure a second.
    """

    session_id: str
    hook: str
    detail: str


@dataclass(slots=True)
class EndedByOperator:
    """Somebody at the address `operator` asked the admin listener to end the session, whose end follows."""

    session_id: str
    operator: str


@dataclass(slots=True)
class AdminRefused:
    """The admin listener answered 401 (no token, or a wrong one), 403 or 421 to a request that came from `address`."""

    status: int
    path: str
    address: str


@dataclass(slots=True)
class Refused:
    """A client's request was answered with an HTTP error: `error` is the short name sent in the body."""

    status: int
    error: str
    detail: str


@dataclass(slots=True)
class UpstreamEjected:
    """`upstream` has failed several times in a row, the last time for `reason`: it is avoided, and probed gently."""

    upstream: str
    reason: str


@dataclass(slots=True)
class UpstreamReturned:
    """`upstream`, which was ejected, is used like any other again, for `reason`."""

    upstream: str
    reason: str


@dataclass(slots=True)
class Dialled:
    """A dial of `upstream` ended, `seconds` after its turn had come; the time it waited for that is not counted."""

    upstream: str
    outcome: DialOutcome
    seconds: float


@dataclass(slots=True)
class TlsHandshakeFailed:
    """A client at `peer` (its IP address) came to no TLS, for the reason in `detail`."""

    peer: str
    detail: str


@dataclass(slots=True)
class TlsReloaded:
    """The certificates of a leg were read anew: handshakes from now on use them."""

    leg: LegName


@dataclass(slots=True)
class TlsReloadFailed:
    """The certificates of a leg were to be read anew and will not do: those in force stay."""

    leg: LegName
    detail: str


@dataclass(slots=True)
class HttpRelayed:
    """A plain HTTP request was answered by an upstream, whole or not. `path` is without its query, maybe a secret."""

    upstream: str
    method: str
    path: str
    status: int
    seconds: float


@dataclass(slots=True)
class HttpFailed:
    """An upstream failed a plain HTTP request. `status` is 502 or 504, and 0 where its answer had begun and was cut."""

    upstream: str
    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class HandedOn:
    """A client whose session lives in another worker, number `to`, was handed on; `relayed`: without its TLS."""

    session_id: str
    to: int
    relayed: bool


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker died, as `detail` says, and the sessions that it had, so many, are lost. Another takes its place."""

    worker: int
    detail: str
    sessions: int


@dataclass(frozen=True, slots=True)
class WorkerReturned:
    """In place of a worker that died another serves, `away` seconds later."""

    worker: int
    away: float


Event = (
    SessionOpened
    | LegLost
    | Redial
    | DialFailed
    | Resumed
    | TakenOver
    | LegMute
    | UncertainDropped
    | SlowClientClosed
    | SessionEnded
    | MessagesDropped
    | HookFailed
    | EndedByOperator
    | AdminRefused
    | LimitReached
    | HeldLimitReached
    | HeldLimitRelieved
    | Refused
    | UpstreamEjected
    | UpstreamReturned
    | Dialled
    | TlsHandshakeFailed
    | TlsReloaded
    | TlsReloadFailed
    | HttpRelayed
    | HttpFailed
    | HandedOn
    | WorkerLost
    | WorkerReturned
)

Observe = Callable[[Event], None]
