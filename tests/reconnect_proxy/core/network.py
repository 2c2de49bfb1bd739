"""A network that loses, delays and cuts, and the two peers at its ends, for `test_machine`.

    Peer <--to_peer-- Socket <--SimLeg-- (proxy)        a socket is two queues of frames,
    Peer --to_proxy-> Socket --Link----> (proxy)        and each frame moves when the test says so

A cut keeps some frames of each queue, as a network does whose last packets still arrive, and puts the end of the socket
behind them: each side learns of it when it has read the rest. When a socket falls silent, neither side is told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from reconnect_proxy.core.confirmation import IN_FLIGHT
from reconnect_proxy.core.dial import DialRequest
from reconnect_proxy.core.interfaces import Acceptance, Clock, DialListener
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.outbox import MESSAGE_COST, Outbox
from reconnect_proxy.core.upstream import Upstream
from reconnect_proxy.core.wire import decode_token, encode_token

#: What control messages begin with; data never does.
CONTROL = b"R:"


class Kind(Enum):
    """What moves over a socket. HELLO is a 101, END the end of the socket without a close frame.

    An UNASKED_PONG names a message that no Ping has asked about. One that answers a Ping all the same would be a lie.
    """

    HELLO = auto()
    DATA = auto()
    PING = auto()
    PONG = auto()
    UNASKED_PONG = auto()
    CLOSE = auto()
    END = auto()


class Frame(NamedTuple):
    """One thing that moves over a socket. `number` is the code of a CLOSE, or the count of a HELLO if it has one."""

    kind: Kind
    payload: bytes = b""
    number: int | None = None


@dataclass
class ExpectedStream:
    """What is true of one direction: what the proxy has accepted, and what was confirmed to it."""

    # All payloads in the order in which live links brought them to the proxy.
    heard: list[bytes] = field(default_factory=list)
    # What the stream consists of, and the number of each: what was heard, but for what a filter has made of it.
    accepted: list[bytes] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    # How many came when there was no receiver left.
    discarded: int = 0
    # How many the filter has dropped.
    dropped: int = 0
    # Confirmed, or let go of: to a mute peer, and with `drop`. And what the words of the peer prove.
    confirmed: int = 0
    proven: int = 0
    # Let go of on links that are over, and never proven; and how many of these the proxy has reported.
    written_off: int = 0
    reported: int = 0
    # Sent by the proxy on any link.
    furthest: int = 0
    held: int = 0

    def accept(self, payload: bytes) -> None:
        """Record a message that a live link brings."""
        assert payload not in self.numbers, f"{payload!r} is counted twice"
        self.accepted.append(payload)
        self.numbers[payload] = len(self.accepted)
        self.held += len(payload) + MESSAGE_COST

    def confirm(self, number: int) -> None:
        """Take what a peer has taken responsibility for into account."""
        self.release(max(number, self.confirmed))
        self.proven = max(self.proven, number)

    def release(self, number: int) -> None:
        """Let go of what was written to a peer that gets it once."""
        assert self.confirmed <= number <= self.furthest
        self.held -= sum(len(payload) + MESSAGE_COST for payload in self.accepted[self.confirmed : number])
        self.confirmed = number

    def write_off(self) -> int:
        """Give up the proof of what was let go of; return how many messages that is."""
        count = self.confirmed - self.proven
        self.written_off += count
        self.proven = self.confirmed
        return count

    def agrees_with(self, outbox: Outbox) -> None:
        """Check the proxy's counts, which only the words of peers may move."""
        counts = (outbox.pushed, outbox.confirmed, outbox.proven, outbox.furthest, outbox.bytes_held)
        assert counts == (len(self.accepted), self.confirmed, self.proven, self.furthest, self.held)
        assert len(outbox) == len(self.accepted) - self.confirmed
        assert outbox.pushed_bytes == sum(map(len, self.accepted))

    @property
    def received(self) -> int:
        """How many messages arrived at the proxy, with those for which there was no receiver left."""
        return self.discarded + len(self.accepted)

    @property
    def undelivered(self) -> int:
        """How many messages were never sent."""
        return self.received - self.furthest

    @property
    def uncertain(self) -> int:
        """How many messages were sent, and no word of the peer proves that it has them."""
        return self.written_off + self.furthest - self.proven


class SimLeg:
    """The proxy's end of a socket; satisfies `Leg`. Checks each message against what this peer may be sent."""

    def __init__(self, socket: Socket, owed: ExpectedStream, clock: Clock) -> None:
        self.writable = True
        self.deflate = False
        self.paused = False
        self.closing = False
        self.gone = False
        # Takes no messages any more, and answers no Pings.
        self.deaf = False
        self.controls: list[bytes] = []
        # The number of the message that must come next on this link; set when the link begins.
        self.next = 0
        self._socket = socket
        self._owed = owed
        self._clock = clock
        # Pings that are not answered, and when each was written. And when the proxy last read a frame.
        self._asked: list[int] = []
        self._asked_at: list[float] = []
        self._heard_at = -math.inf
        # When the first message was written that no Ping has followed.
        self._unasked_since: float | None = None
        self._frames_read = 0

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write a message, if it is the one that is due."""
        assert not self.closing, "a message behind the close frame"
        assert not self.gone, "a message on a dropped socket"
        assert opcode == Opcode.BINARY
        if payload.startswith(CONTROL):
            self.controls.append(payload)
        else:
            assert self.writable, "a message on a socket that takes no more"
            number = self._owed.numbers[payload]
            assert number > self._owed.confirmed, f"{number} is sent though it is confirmed"
            assert number == self.next, f"{number} is sent where {self.next} is due"
            self.next += 1
            self._owed.furthest = max(self._owed.furthest, number)
            if self._socket.peer.mute:
                self._owed.release(number)
            if self._unasked_since is None:
                self._unasked_since = self._clock.time()
        self._socket.put_to_peer(Frame(Kind.DATA, payload))

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping."""
        assert not self.closing, "a Ping behind the close frame"
        assert not self.gone, "a Ping on a dropped socket"
        number = decode_token(payload)
        assert number is not None
        if self._socket.peer.mute and len(self._asked) == IN_FLIGHT:
            # The Pong to one in the middle is not awaited any more.
            del self._asked[IN_FLIGHT // 2], self._asked_at[IN_FLIGHT // 2]
        self._asked.append(number)
        self._asked_at.append(self._clock.time())
        self._unasked_since = None
        assert len(self._asked) <= IN_FLIGHT
        self._socket.put_to_peer(Frame(Kind.PING, payload))

    @property
    def unasked(self) -> float:
        """For how long, in seconds, a message has waited for a Ping behind it, though fewer than four are in flight."""
        waits = self._unasked_since is not None and len(self._asked) < IN_FLIGHT
        return self._clock.time() - self._unasked_since if waits and self._unasked_since is not None else 0.0

    def asks_about(self, payload: bytes) -> bool:
        """Tell whether a Pong with this payload would answer a Ping."""
        return decode_token(payload) in self._asked

    def answered(self, payload: bytes) -> int | None:
        """Return the number that a Pong confirms, None if it answers nothing; it answers for all earlier Pings."""
        number = decode_token(payload)
        if number not in self._asked:
            return None
        place = self._asked.index(number) + 1
        del self._asked[:place], self._asked_at[:place]
        return number

    def answers_late(self, seconds: float) -> bool:
        """Tell whether a Ping is unanswered for so long, and the peer was heard after that."""
        return bool(self._asked_at) and self._heard_at >= self._asked_at[0] + seconds

    def close(self, code: int, reason: str) -> None:
        """Write a close frame behind what was written."""
        if not self.closing and not self.gone:
            self.closing = True
            self._socket.put_to_peer(Frame(Kind.CLOSE, number=code))

    def abort(self) -> None:
        """Drop the socket, and what was on its way through it."""
        self.gone = True
        self._socket.broken = True
        self._socket.to_proxy.clear()
        self._socket.to_peer.clear()
        self._socket.to_peer.append(Frame(Kind.END))

    def pause_reading(self) -> None:
        """Stop being read."""
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        """Be read again."""
        assert self.paused
        self.paused = False

    def progress(self) -> int:
        """Return how many frames were read."""
        return self._frames_read

    def acceptance(self) -> Acceptance:
        """Say that what was written is with the network."""
        return Acceptance(0, waiting=False, acknowledges=False)

    def take(self) -> Frame:
        """Read the next frame from the peer."""
        self._frames_read += 1
        self._heard_at = self._clock.time()
        return self._socket.to_proxy.popleft()


class Socket:
    """One connection between the proxy and `peer`."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.to_peer: deque[Frame] = deque()
        self.to_proxy: deque[Frame] = deque()
        self.leg = SimLeg(self, peer.owed, peer.clock)
        # The proxy's view of this socket, once there is one.
        self.link: Link | None = None
        # The dial whose answer the first frame is, and the count in it.
        self.dial: tuple[DialRequest, Upstream] | None = None
        self.count: int | None = None
        # Takes everything and moves nothing, but what is still on its way to the proxy.
        self.silent = False
        # Takes nothing more: cut, or left by its peer.
        self.broken = False

    def carries(self) -> bool:
        """Tell whether the proxy takes this socket for a living one."""
        return self.link is not None and not self.link.dead

    def put_to_peer(self, frame: Frame) -> None:
        """Send a frame to the peer, unless the socket is broken."""
        if not self.broken:
            self.to_peer.append(frame)

    def put_to_proxy(self, frame: Frame) -> None:
        """Send a frame to the proxy, unless the socket is broken, or silently dead."""
        if not self.broken and not self.silent:
            self.to_proxy.append(frame)

    def cut(self, kept_for_peer: int, kept_for_proxy: int, code: int) -> None:
        """Break the socket: of what is on its way so many frames still arrive, and then its end, with a close code."""
        if self.broken:
            return
        self.broken = True
        end = Frame(Kind.END) if code == 1006 else Frame(Kind.CLOSE, number=code)
        for queue, kept in ((self.to_peer, kept_for_peer), (self.to_proxy, kept_for_proxy)):
            while len(queue) > kept:
                queue.pop()
            queue.append(end)

    def fall_silent(self, kept_for_proxy: int) -> None:
        """Move nothing any more but so many frames that are on their way to the proxy."""
        self.silent = True
        while len(self.to_proxy) > kept_for_proxy:
            self.to_proxy.pop()

    def readable_by_proxy(self) -> bool:
        """Tell whether the proxy would read a frame now."""
        return bool(self.to_proxy) and not (self.leg.paused or self.leg.gone)

    def readable_by_peer(self) -> bool:
        """Tell whether a frame would reach the peer now."""
        return bool(self.to_peer) and not self.silent


class Manner(Enum):
    """What a peer does with the messages and Pings that it reads."""

    #: Takes a message at once, and answers a Ping at once.
    PROMPT = auto()
    #: The same, in order, but only when it comes to it: see `Peer.work`. What it has not come to is lost with its link.
    SLOW = auto()
    #: Takes messages, and answers no Ping.
    MUTE = auto()


class Peer:
    """A client or an upstream that keeps PROTOCOL.md: an aware one counts and keeps promises, another just talks."""

    def __init__(
        self,
        name: bytes,
        aware: bool,
        manner: Manner,
        owed: ExpectedStream,
        may_repeat: bool,
        clock: Clock,
    ) -> None:
        self.name = name
        self.clock = clock
        self.aware = aware
        self.manner = manner
        # The proxy takes it for a mute one.
        self.mute = False
        # What it has read and not come to.
        self._read: deque[Frame] = deque()
        # What the proxy owes to this peer, and whether it may do so twice.
        self.owed = owed
        self.may_repeat = may_repeat
        self.socket: Socket | None = None
        # The handshake is complete.
        self.ready = False
        # All it ever said, how much of that is on the present socket or has arrived, and what the proxy says to have.
        self.stream: list[bytes] = []
        self.next = 0
        self.promised = 0
        # The furthest message it has received, and how many different ones.
        self.reached = 0
        self.received = 0

    def say(self, count: int, size: int) -> None:
        """Say something: an aware peer at once or when it can, another only where there is a socket."""
        if self.aware or self.ready:
            start = len(self.stream)
            self.stream += [self.name + b"%d" % n + bytes(size) for n in range(start, start + count)]
            self.write()

    def write(self) -> None:
        """Put on the socket what is not on it yet. An aware peer asks with a Ping whether it has arrived."""
        if self.socket is not None and self.ready and self.next < len(self.stream):
            for payload in self.stream[self.next :]:
                self.socket.put_to_proxy(Frame(Kind.DATA, payload))
            self.next = len(self.stream)
            if self.aware:
                self.socket.put_to_proxy(Frame(Kind.PING, encode_token(self.next)))

    def hear_count(self, received: int | None) -> None:
        """Take the proxy's word for how many of this peer's messages it has, and go on behind them."""
        if self.aware:
            assert received is not None
            assert self.promised <= received <= len(self.stream), "the proxy has broken its promise"
            self.promised = self.next = received

    def read(self) -> None:
        """Take one frame from the present socket."""
        socket = self.socket
        assert socket is not None
        frame = socket.to_peer.popleft()
        if frame.kind in (Kind.DATA, Kind.PING):
            self._read.append(frame)
            if self.manner is not Manner.SLOW:
                self.work()
        elif frame.kind is Kind.PONG:
            number = decode_token(frame.payload)
            assert number is not None
            self.promised = max(self.promised, number)
        elif frame.kind is Kind.HELLO:
            self.hear_count(frame.number)
            self.ready = True
            self.write()
        else:
            self.leave(0)

    def work(self, frames: int = 1) -> None:
        """Come to so many of the messages and Pings that were read."""
        while self._read and frames > 0:
            frame = self._read.popleft()
            frames -= 1
            if frame.kind is Kind.DATA:
                if not frame.payload.startswith(CONTROL):
                    self._take(self.owed.numbers[frame.payload])
            elif self.manner is not Manner.MUTE and self.socket is not None:
                self.socket.put_to_proxy(Frame(Kind.PONG, frame.payload))

    def _take(self, number: int) -> None:
        # Nothing is missing but what the proxy has let go of without proof, and counts as uncertain.
        due = max(self.reached, self.owed.confirmed) + 1
        assert self.may_repeat or number > self.reached, f"{number} came again behind {self.reached}"
        assert number <= due, f"{number} came where {due} was due"
        self.received += number > self.reached
        self.reached = max(self.reached, number)

    def leave(self, drained: int, last: Frame | None = None) -> None:
        """Give the present socket up, after reading so much of what it may have buffered already."""
        socket = self.socket
        while drained > 0 and self.socket is socket and socket is not None and socket.readable_by_peer():
            self.read()
            drained -= 1
        self._read.clear()
        if self.socket is not None:
            left, self.socket, self.ready = self.socket, None, False
            left.put_to_proxy(last or Frame(Kind.END))
            left.broken = True
            left.to_peer.clear()


class SimDialler:
    """Keeps the dial under way until the upstream takes it; satisfies `Dialler`."""

    def __init__(self, may_dial: Callable[[], bool]) -> None:
        self.may_dial = may_dial
        self.under_way: tuple[DialRequest, Upstream] | None = None
        # The socket on which the upstream has answered, while its 101 is on its way.
        self.answered: Socket | None = None

    def dial(self, dial: DialRequest, upstream: DialListener) -> None:
        """Start a dial."""
        assert isinstance(upstream, Upstream)
        assert self.may_dial(), "no client needs this dial, and nothing is owed"
        assert self.under_way is None, "two dials at a time"
        assert self.answered is None, "two dials at a time"
        self.under_way = (dial, upstream)

    def cancel(self) -> None:
        """Give the dial up: its socket is dropped, and its answer never read."""
        self.under_way = None
        if self.answered is not None:
            self.answered.leg.abort()
            self.answered = None
