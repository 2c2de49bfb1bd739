"""What differs between the modes and the settings of a session, as data.

There is one session machine (`Context`). Sender, receiver and duplex are values of `Policy`, not code paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """The three modes of DESIGN.md; `SENDER` and `RECEIVER` are the names of the original design."""

    DUPLEX = "duplex"
    SENDER = "sender"
    RECEIVER = "receiver"


class Uncertain(StrEnum):
    """What becomes of messages that were sent on a dead link to an unaware peer and not confirmed."""

    RESEND = "resend"
    DROP = "drop"
    CLOSE = "close"


class GraceOn(StrEnum):
    """Which ends of a client's link start its grace: any, or all but a clean close (1000)."""

    ANY = "any"
    ABNORMAL = "abnormal"


class GateKind(StrEnum):
    """How an upstream announces a state with which it can be reconnected, PROTOCOL.md section 5."""

    OPEN = "open"
    FIRST_MESSAGE = "first-message"
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate setting. `prefix` is used with `GateKind.PREFIX` only."""

    kind: GateKind = GateKind.OPEN
    prefix: bytes = b""


#: Close codes after which an upstream is redialled, PROTOCOL.md section 6. A close without a code (1005) is clean.
RETRYABLE = frozenset({1001, 1006, 1011, 1012, 1013, 1014})


@dataclass(frozen=True, slots=True)
class RetryOn:
    """Which ends of an upstream's link are redialled: all of them, or those with one of `codes`."""

    any: bool = False
    codes: frozenset[int] = RETRYABLE

    def retries(self, code: int) -> bool:
        """Tell whether a link that ended with `code` is to be redialled."""
        return self.any or code in self.codes


@dataclass(frozen=True, slots=True)
class Policy:
    """How one session behaves. Times in seconds, sizes in bytes.

    `grace` is how long an absent client is awaited: 0 ends the session with its link, None waits as long as the proxy
    runs. A `resumable` session can be come back to. To a `shared` one any number of clients may be attached; in any
    other the newest client takes over.
    """

    mode: Mode = Mode.DUPLEX
    resumable: bool = True
    shared: bool = False
    grace: float | None = 15.0
    grace_on: GraceOn = GraceOn.ANY
    retry_for: float = 60.0
    retry_on: RetryOn = RetryOn()
    gate: Gate = Gate()
    uncertain: Uncertain = Uncertain.RESEND
    accept_when_down: bool = True
    connect_timeout: float = 5.0
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    max_queue: int = 16 * 1024 * 1024
    #: How long nothing may move while both legs are there, and messages a second of a client; None: as one likes.
    idle_timeout: float | None = None
    max_rate: int | None = None
    #: What the sockets between two peers may hold in front of a Pong.
    slack: int = 16 * 1024 * 1024
    compression: bool = True

    @property
    def deflate(self) -> bool:
        """Whether permessage-deflate (RFC 7692) may be agreed on.

        Not where the proxy looks for control messages. Not where a hook reads messages: `compression` is False then.
        Not in a shared session, where one client's corrupt message would cost all of them their upstream.
        """
        return self.compression and not self.shared and self.gate.kind is GateKind.OPEN


SENDER = Policy(mode=Mode.SENDER, resumable=False, grace=0.0)
RECEIVER = Policy(mode=Mode.RECEIVER, grace=None)
DUPLEX = Policy(mode=Mode.DUPLEX)

#: The policy each mode starts from; a configuration replaces single values of it.
POLICIES = {Mode.SENDER: SENDER, Mode.RECEIVER: RECEIVER, Mode.DUPLEX: DUPLEX}
