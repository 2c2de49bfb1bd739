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
    """What is done with messages that were sent to an unaware peer on a dead link and not confirmed."""

    RESEND = "resend"
    DROP = "drop"
    CLOSE = "close"


class GraceOn(StrEnum):
    """Which ends of a client's link start its grace: any, or any except a goodbye (`clients.says_goodbye`)."""

    ANY = "any"
    ABNORMAL = "abnormal"


class ClientIds(StrEnum):
    """Whether a client may choose the id of a new session."""

    ACCEPT = "accept"
    REFUSE = "refuse"


class GateKind(StrEnum):
    """How an upstream announces a state with which it can be reconnected, PROTOCOL.md section 5."""

    OPEN = "open"
    FIRST_MESSAGE = "first-message"
    PREFIX = "prefix"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Gate:
    """Which messages of an upstream are control messages, and when a new link begins to carry data.

    | `kind` | a new link carries data | control messages |
    | --- | --- | --- |
    | OPEN | at once | none |
    | FIRST_MESSAGE | after its first message | the first one on each link |
    | PREFIX | at once | each that starts with `prefix` |
    | REPLAY | at once | none |

    With REPLAY the first `replays` messages of the client are sent again first on each redial, and as many as `answers`
    of what the upstream sends then are dropped.
    """

    kind: GateKind = GateKind.OPEN
    prefix: bytes = b""
    replays: int = 0
    answers: int = 0

    @property
    def reads_messages(self) -> bool:
        """Whether messages have to be looked at, to tell whether they are data."""
        return self.kind in (GateKind.FIRST_MESSAGE, GateKind.PREFIX)

    @property
    def opens_with_message(self) -> bool:
        """Whether a new link carries no data until its first message has come."""
        return self.kind is GateKind.FIRST_MESSAGE

    def is_control(self, payload: bytes) -> bool:
        """Tell whether a message that comes through the open gate is a control message."""
        return self.kind is GateKind.PREFIX and payload.startswith(self.prefix)


#: Close codes after which an upstream is redialled, PROTOCOL.md section 6. A close without a code (1005) is clean.
RETRYABLE = frozenset({1001, 1006, 1011, 1012, 1013, 1014})


#: HTTP statuses that end a session if its upstream answers a redial with one: it says that what the session was
#: connected to is gone. A browser that was restarted answers 404 to the address of a page that it had before.
FINAL_STATUS = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class RetryOn:
    """Which ends of an upstream's link lead to a redial: any, or those with one of `codes`; without codes none."""

    any: bool = False
    codes: frozenset[int] = RETRYABLE

    def retries(self, code: int) -> bool:
        """Tell whether a link that ended with `code` is to be redialled."""
        return self.any or code in self.codes


@dataclass(frozen=True, slots=True)
class Policy:
    """How one session behaves. Times in seconds, sizes in bytes.

    `grace` is how long an absent client is awaited: 0 ends the session with its link, None waits as long as the proxy
    runs. Clients can return to a `resumable` session. A `shared` one takes any number of clients; in any other the
    newest client takes over.
    """

    mode: Mode = Mode.DUPLEX
    resumable: bool = True
    client_ids: ClientIds = ClientIds.ACCEPT
    shared: bool = False
    grace: float | None = 15.0
    grace_on: GraceOn = GraceOn.ANY
    retry_for: float = 60.0
    retry_on: RetryOn = RetryOn()
    final_status: frozenset[int] = FINAL_STATUS
    gate: Gate = Gate()
    uncertain: Uncertain = Uncertain.RESEND
    accept_when_down: bool = True
    connect_timeout: float = 5.0
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    #: How long a plain client may leave a Ping unanswered while its system acknowledges what it is sent, and how long a
    #: peer may refuse bytes.
    unread_timeout: float = 600.0
    stall_timeout: float = 60.0
    max_queue: int = 16 * 1024 * 1024
    #: How long nothing may move while both legs are there, and the messages a second that a client may send. None: no
    #: limit.
    idle_timeout: float | None = None
    max_rate: int | None = None
    #: What the sockets between two peers may hold in front of a Pong.
    slack: int = 16 * 1024 * 1024
    compression: bool = True

    def shares(self, session_id: str | None) -> bool:
        """Whether a client that names this session, or none, belongs to the session that clients share."""
        return session_id is None and self.mode is Mode.RECEIVER

    @property
    def deflate(self) -> bool:
        """Whether permessage-deflate (RFC 7692) may be agreed on.

        Not if the proxy looks for control messages. Not if a hook reads messages: then `compression` is False.
        Not in a shared session, where one client's corrupt message would cost all of them their upstream.
        """
        return self.compression and not self.shared and not self.gate.reads_messages


SENDER = Policy(mode=Mode.SENDER, resumable=False, grace=0.0)
RECEIVER = Policy(mode=Mode.RECEIVER, grace=None)
DUPLEX = Policy(mode=Mode.DUPLEX)

#: The policy that each mode starts from. A configuration replaces single values of it.
POLICIES = {Mode.SENDER: SENDER, Mode.RECEIVER: RECEIVER, Mode.DUPLEX: DUPLEX}
