"""Every seam of the core: what it asks of the world around it, and what its parts ask of each other.

    world      a socket          who opens sockets      an event loop, or a counter
                 ^   |               ^   |                    ^
                Leg  LegListener  Dialler DialListener       Clock
                 |   v               |   v                    |
    core        Link              Upstream              all that waits

    in a session              Link, Outbox, Stream, Clients, Upstream, Delivery  --…Owner-->  Context
                              Link  --LinkOwner-->  Clients, Upstream      UpstreamGate  --GateOwner-->  Upstream
    between sessions          Pool  --SlotHolder-->  Upstream        MemoryBudget  --BudgetMember-->  Outbox
    between processes         Registry  --SessionIds, SessionCounts-->  one process, or several workers

These are protocols: a class satisfies one by having its members, without naming it. Each has only what its user needs,
so a test or a simulation can stand in with a few lines. Nothing here is implemented.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from ..events import Limit
from .dial import DialAnswer, DialFailure, DialRank, DialRequest
from .ending import Ending
from .message import Direction, Message

# The class `Link`: it knows this module, so this module cannot name it.
LinkType = TypeVar("LinkType", contravariant=True)

#: Takes a data message that a link has received: opcode, payload, and when it came (None: not known to the caller).
Deliver = Callable[[int, bytes, float | None], None]

#: Returns what takes the place of a message: the same one, another, or None to drop it. It must not raise, and must not
#: call the session.
Filter = Callable[[Direction, Message], Message | None]

#: What the embedding program sends a plain upstream first when it is connected again. None: it has failed.
OnRedial = Callable[[], list[Message] | None]


# Time.


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Cancel the call. Does nothing if it was made or cancelled before."""


class Clock(Protocol):
    """Monotonic seconds, and calls at a later time. An event loop satisfies this as it is."""

    def time(self) -> float:
        """Return the present time in seconds, from any fixed origin."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call `callback` once, `delay` seconds from now."""


# Sockets.


class Acceptance(NamedTuple):
    """What the system says of the bytes that were written to a socket."""

    #: A number that differs from that of the last call if the peer's system has accepted a byte in between.
    accepted: int
    #: Some were not accepted yet: they are in a buffer of this process, or of its system.
    waiting: bool
    #: The peer's system answers what is sent to it, even if its buffers are full. False if that is not known.
    acknowledges: bool


class Leg(Protocol):
    """A socket, as the core uses it. No call blocks, and no call enters the core again before it returns."""

    #: False while the socket takes no more. When it does again, it calls `LegListener.on_writable`.
    writable: bool
    #: The peer has agreed to compressed messages (RFC 7692). To every other peer they are sent inflated.
    deflate: bool

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write one whole data message."""

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake after what was written; 1005 closes without a code."""

    def abort(self) -> None:
        """Drop the socket at once, with everything in its buffers."""

    def pause_reading(self) -> None:
        """Stop reading, so that TCP holds the peer back."""

    def resume_reading(self) -> None:
        """Read again."""

    def progress(self) -> int:
        """Return a number that differs from that of the last call if a byte arrived in between."""

    def acceptance(self) -> Acceptance:
        """Return what the system says of the bytes that were written."""


class LegListener(Protocol):
    """What a socket calls: the `Link` that it carries."""

    @property
    def paused(self) -> bool:
        """Whether the socket is not to be read."""

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Take a whole data message."""

    def passes_compressed(self) -> bool:
        """Tell whether `on_message` takes compressed messages as they are. Asked for each one."""

    def on_pong(self, payload: bytes) -> None:
        """Take a Pong."""

    def on_heard(self) -> None:
        """Take any other sign of life: a Ping of the peer."""

    def on_writable(self) -> None:
        """Go on sending: the socket takes more again."""

    def on_lost(self, code: int, reason: str) -> None:
        """Take the end of the socket, with the close code (1006: without one)."""

    def on_too_big(self, reason: str) -> None:
        """Take a message above the size limit. The socket is being closed with 1009."""

    def on_stuck(self, reason: str) -> None:
        """Take the news that a message passed to `Leg.send` can never be sent to this peer."""

    def settle(self) -> None:
        """Get confirmed what was sent: the socket passes no more messages on from now."""


# Dialling.


class Dialler(Protocol):
    """Opens sockets to upstreams for one session, one dial at a time."""

    def dial(self, request: DialRequest, listener: DialListener, /) -> None:
        """Start a dial. It ends later, not at once, with a call of `on_connected` or `on_failed`."""

    def cancel(self) -> None:
        """Give up the dial in progress: its listener hears nothing more of it."""


class DialListener(Protocol):
    """What a dialler calls: the `Upstream` of the session."""

    def on_connected(self, request: DialRequest, leg: Leg, answer: DialAnswer) -> LegListener | None:
        """Take the socket of a dial that was answered 101. None: it is not needed, and is to be dropped."""

    def on_failed(self, request: DialRequest, failure: DialFailure) -> None:
        """Take the failure of a dial."""


class SlotHolder(Protocol):
    """A session that waits in the `Pool` for its turn to dial: its `Upstream`."""

    @property
    def rank(self) -> DialRank:
        """Which of the waiting sessions dials first. `Pool.rerank` must be called when it rises."""

    def on_turn(self) -> None:
        """Dial the target of the slot now. Every path ends with one of the reports of `Pool`."""

    def on_turned_away(self, reason: str) -> None:
        """Ask again, or give up. The slot is over: its target is down (`reason`), or another target is back."""

    def on_upstream_back(self) -> None:
        """Dial now instead of waiting longer: a target has come back (see `Pool.sleep`)."""


# Inside a session.


class LinkOwner(Protocol[LinkType]):
    """Hears what a link has to say, except for messages: a side of the session (`Clients`, `Upstream`)."""

    def link_relieved(self, link: LinkType) -> None:
        """Messages were confirmed, or the socket takes more again."""

    def link_lost(self, link: LinkType, code: int, reason: str) -> None:
        """The socket is gone or closing, with the close code (1006: without one). The link is dead already."""

    def link_too_big(self, link: LinkType, reason: str) -> None:
        """The peer sent a message above the limit. Its socket is being closed with 1009, and the link is dead."""

    def link_mute(self, link: LinkType) -> None:
        """The peer answers no Ping, and its outbox is full: from now on it is served at most once."""

    def link_answers(self, link: LinkType) -> None:
        """The peer was mute, and has answered a Ping: from now on it is served at least once again."""

    def link_uncertain(self, link: LinkType, count: int) -> None:
        """The link ends, and it will never be known whether `count` messages have arrived: the peer was mute."""

    def link_stuck(self, link: LinkType, reason: str) -> None:
        """The next message can never be sent to this peer."""

    def passes_compressed(self, link: LinkType) -> bool:
        """Tell whether compressed messages of this link's peer may stay compressed: every receiver can read them."""


class GateOwner(Protocol):
    """Hears what a link waits for before it carries data (`UpstreamGate`, `ReplayGate`): an `Upstream`."""

    def gate_opens(self) -> None:
        """Nothing keeps data messages from the present link any more."""

    def gate_control(self, message: Message) -> None:
        """The upstream sent a control message."""


# What the parts of a session ask of the session. `Context` satisfies the rest of these.


class OutboxOwner(Protocol):
    """Hears that an outbox has become full or has emptied."""

    def regulate(self) -> None:
        """Decide again which legs are read: an outbox has become full, or is not full any more."""


class PreambleOwner(OutboxOwner, Protocol):
    """The session, as the outbox that keeps its preamble sees it."""

    def end_at(self, limit: Limit, detail: str, code: int, reason: str) -> None:
        """End the session, since it has reached a limit."""


class SideOwner(OutboxOwner, Protocol):
    """The session, as both of its sides see it."""

    session_id: str | None

    def relieved(self) -> None:
        """Read on if an outbox has emptied, and end if that was the last thing to wait for."""

    def close(self, code: int, reason: str) -> None:
        """End the session now, even if messages are still owed: both legs are closed with this code."""


class ClientsOwner(SideOwner, Protocol):
    """The session, as its client side (`Clients`) sees it."""

    @property
    def worth_keeping(self) -> bool:
        """Whether a client that returns would miss anything: the upstream was connected, or a message is held."""

    def clients_gone(self, ending: Ending) -> None:
        """No client will come back. The upstream is to be closed with this code once it has everything."""

    def client_failed(self, code: int, reason: str) -> None:
        """The client cannot go on. Its link is to be closed with this code, and the upstream once it has everything."""


class UpstreamOwner(SideOwner, Protocol):
    """The session, as its upstream side (`Upstream`) sees it."""

    @property
    def client_away_since(self) -> float | None:
        """When, by the session's clock, the last client left; None while one is there."""

    def upstream_up(self, answer: DialAnswer) -> None:
        """A link is there, and its gate is open."""

    def upstream_unreachable(self, failure: DialFailure) -> None:
        """The first dial reached no upstream. `DialFailure.final` tells an answer from a failure that may pass."""

    def upstream_gone(self, ending: Ending) -> None:
        """No upstream will be reached again. The client is to be closed with this code once it has everything."""

    def upstream_control(self, message: Message) -> None:
        """The upstream sent a control message: new reconnect data."""


class DeliveryOwner(Protocol):
    """The session, as the wait for its last deliveries (`Delivery`) sees it."""

    def told_clients(self) -> tuple[int, str]:
        """Return the code and reason with which clients are closed."""

    def delivery_over(self) -> None:
        """Everything is delivered, or there is no hope that it will be."""


# What all sessions share.


class BudgetMember(Protocol):
    """An outbox that counts as full only because all sessions together hold too much."""

    def relieve(self) -> None:
        """Stop counting as full, unless for a reason of its own."""


# What workers share, and a single process has to itself.


class SessionIds(Protocol):
    """Makes ids of sessions, and knows those of other processes: `LocalIds`, or `workers.directory`."""

    def new_id(self) -> str:
        """Return an unguessable id for a session of this process."""

    def claim(self, session_id: str, then: Callable[[bool], None]) -> None:
        """Ask for an id that an upstream gave to a session here, and tell `then`, now or later, if it was free."""

    def release(self, session_id: str) -> None:
        """Give back the id of a session that has ended."""


class SessionCounts(Protocol):
    """Counts the sessions of all processes together: `LocalCounts`, or `workers.shared_counters`.

    A new session is added first, compared with the limits then, and removed again if it is too much. So the limits hold
    even if several processes add at the same moment.
    """

    @property
    def total(self) -> int:
        """How many sessions there are."""

    def of(self, address: str) -> int:
        """Return how many sessions an address has."""

    def add(self, address: str | None) -> None:
        """Count one session more, of `address` if they are counted by address."""

    def remove(self, address: str | None) -> None:
        """Count one session less."""

    def part(self, limit: int) -> int:
        """Return the part of a limit that is this process's own; the parts of all processes add up to it."""
