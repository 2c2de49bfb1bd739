"""What the proxy and its sessions report: one value for each event that is worth a log line or a counter.

The core reports and does not log. The owner of a `Context` gives it an `Observe` callable; `observe.logs` and
`observe.metrics` make a line and a number of each event, as `observe.event_table` says. No event is on the path of a
message.

Events do not change after they are made. They are not frozen, because making a frozen dataclass takes four times as
long, and each session reports several events in its first millisecond.
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
    """How a dial of an upstream ended. `REJECTED`: the upstream answered with an HTTP status below 500."""

    CONNECTED = "connected"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


def short_id(session_id: str) -> str:
    """Return the form in which a session id may be logged: its first 6 characters and `…`, since an id is a secret."""
    return f"{session_id[:6]}…"


@dataclass(slots=True)
class SessionOpened:
    """A new session exists. `connected` is False if its upstream could not be reached yet; the client waits for it."""

    session_id: str
    upstream: str
    connected: bool


@dataclass(slots=True)
class LegLost:
    """A link broke or closed. `code` is the close code (1006: none), `waiting` the messages now owed to that leg."""

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
    """A dial of `upstream` failed, for the reason in `detail`."""

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

    @property
    def uncertain(self) -> int:
        """How many of the resent messages may arrive twice: the peer does not say what it has received."""
        return 0 if self.aware else self.resent


@dataclass(slots=True)
class TakenOver:
    """A client came back while its old link still looked open; the old one was closed with 4000."""

    session_id: str


@dataclass(slots=True)
class LegMute:
    """A peer sends data but answers no Ping, and its queue is full. It gets each message at most once from now on.

    What it is sent is not held any more, and counts as uncertain until it answers a Ping.
    """

    session_id: str
    leg: LegName


@dataclass(slots=True)
class MuteEnded:
    """A mute peer has answered a Ping, so it is served at least once again. `unproven` messages came after that Ping.

    Those are still uncertain; the next Pong proves them.
    """

    session_id: str
    leg: LegName
    unproven: int


@dataclass(slots=True)
class MessagesUncertain:
    """The link of a mute peer has ended. It may have received `count` messages or not, and gets none of them again."""

    session_id: str
    leg: LegName
    count: int


@dataclass(slots=True)
class UncertainDropped:
    """`count` messages that may or may not have arrived were dropped, as `uncertain = drop` asks."""

    session_id: str
    leg: LegName
    count: int


@dataclass(slots=True)
class SlowClientClosed:
    """A `receiver` client past its high-water mark was closed with 1013, so that it does not slow the others down."""

    session_id: str
    waiting: int


@dataclass(slots=True)
class SessionEnded:
    """The session is over, with the close code and reason its legs were given, after `age` seconds.

    `undelivered_c2u` and `undelivered_u2c` are the messages that were accepted and never sent, `uncertain_c2u` and
    `uncertain_u2c` those that were sent and not confirmed: the peer may have them. The other counts are what was
    received in all: messages, and the bytes of their payloads. `left` is True if a client closed the session; that
    client does not want what it had not confirmed.
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
    uncertain_c2u: int = 0
    uncertain_u2c: int = 0


class Limit(StrEnum):
    """The limits of one session."""

    MESSAGE = "message-size"
    RATE = "message-rate"
    IDLE = "idle-time"
    QUEUE = "queue"
    STALLED = "stalled"
    PREAMBLE = "preamble"


@dataclass(slots=True)
class LimitReached:
    """A session reached `limit`, as `detail` says. That ends it, except for the message rate: it slows its client."""

    session_id: str
    limit: Limit
    detail: str


@dataclass(slots=True)
class HeldLimitReached:
    """The sessions hold `held` bytes, more than `limit`. New ones are refused; those that hold most are paused."""

    held: int
    limit: int


@dataclass(slots=True)
class HeldLimitRelieved:
    """After `seconds` the sessions hold clearly less than the limit again: `held` bytes."""

    held: int
    seconds: float


@dataclass(slots=True)
class MessagesDropped:
    """A session has ended that dropped `c2u` and `u2c` messages because its `on_message` hook said so, or failed."""

    session_id: str
    c2u: int
    u2c: int


@dataclass(slots=True)
class HookFailed:
    """A hook of the embedding program raised an exception or returned an invalid value: `detail`.

    Each failure is one event. The log has the traceback of one failure a second.
    """

    session_id: str
    hook: str
    detail: str


@dataclass(slots=True)
class EndedByOperator:
    """A request from the address `operator` to the admin listener ends the session. `session ended` follows."""

    session_id: str
    operator: str


@dataclass(slots=True)
class AdminRefused:
    """The admin listener refused a request from `address`, with 401 (no token, or a wrong one), 403 or 421."""

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
    """`upstream` failed several times in a row, the last time for `reason`. Sessions avoid it; a few dials probe it."""

    upstream: str
    reason: str


@dataclass(slots=True)
class UpstreamReturned:
    """`upstream`, which was ejected, is used again, for `reason`."""

    upstream: str
    reason: str


@dataclass(slots=True)
class Dialled:
    """A dial of `upstream` ended `seconds` after its turn came. The wait for its turn is not included."""

    upstream: str
    outcome: DialOutcome
    seconds: float


@dataclass(slots=True)
class TlsHandshakeFailed:
    """The TLS handshake with a client at `peer` (its IP address) failed, for the reason in `detail`."""

    peer: str
    detail: str


@dataclass(slots=True)
class TlsReloaded:
    """The certificates of a leg were read again. New handshakes use them."""

    leg: LegName


@dataclass(slots=True)
class TlsReloadFailed:
    """The certificates of a leg were read again and cannot be used, for the reason in `detail`. The old ones stay."""

    leg: LegName
    detail: str


@dataclass(slots=True)
class HttpRelayed:
    """An upstream answered a plain HTTP request, whole or in part. `path` has no query, which may be a secret."""

    upstream: str
    method: str
    path: str
    status: int
    seconds: float


@dataclass(slots=True)
class HttpFailed:
    """An upstream failed a plain HTTP request. `status` is 502 or 504, or 0 if its answer had begun and was cut off."""

    upstream: str
    status: int
    detail: str


@dataclass(slots=True)
class DebuggerUrlPassed:
    """An answer of `upstream` tells a client to connect to `address`, past the proxy, see `--rewrite-debugger-url`.

    This is said once for each upstream.
    """

    upstream: str
    address: str


@dataclass(slots=True)
class HeaderDropped:
    """A request had a header called `name`, which was dropped because of its underscore: `--underscores-in-headers`.

    Others are dropped as well; this is said once.
    """

    name: str


@dataclass(slots=True)
class HandedOn:
    """A client was handed on to the worker of its session, number `to`. `relayed`: its TLS stays in this worker."""

    session_id: str
    to: int
    relayed: bool


@dataclass(slots=True)
class WorkerLost:
    """A worker died, as `detail` says, and its `sessions` are lost. Another worker takes its place."""

    worker: int
    detail: str
    sessions: int


@dataclass(slots=True)
class WorkerReturned:
    """The place of a worker that died is taken, `away` seconds later."""

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
    | MuteEnded
    | MessagesUncertain
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
    | DebuggerUrlPassed
    | HeaderDropped
    | HandedOn
    | WorkerLost
    | WorkerReturned
)

Observe = Callable[[Event], None]
