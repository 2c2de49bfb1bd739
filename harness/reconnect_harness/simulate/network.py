"""A network without sockets: connections whose frames take time, and links with faults.

    near end ──put──► Pipe "upstream" ───deliver──► far end       a connection is two pipes; the frames of a pipe
    near end ◄─deliver── Pipe "downstream" ◄──put── far end       arrive in order, when the faults of its link let them

The faults are those of `faults.link_faults`, with the effects that Toxiproxy has: a cut loses some of what is in
flight, and both ends learn of it; a silence loses everything, and both ends learn of it only when it is over.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from reconnect_harness.faults.fault import Occurrence
from reconnect_harness.simulate.clock import VirtualClock, VirtualTimer
from reconnect_harness.toxiproxy.toxics import Toxic
from reconnect_proxy.core.wire import Claim

#: The bytes of a frame besides its payload: its header, or the few lines of a handshake.
FRAME_BYTES = 8

#: With more bytes than this in flight in a pipe its sender has to wait; with fewer than this it may go on.
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024

#: The shortest and the longest time that a frame takes without faults, in seconds.
TRAVEL_SECONDS = (0.0005, 0.02)

#: The faults of links that are simulated.
SIMULATED_LINK_FAULTS = ("down", "reset", "silence", "latency", "bandwidth", "cut")


class FrameKind(Enum):
    """What goes over a connection. END is the end of the connection without a close frame."""

    REQUEST = auto()
    RESPONSE = auto()
    DATA = auto()
    PING = auto()
    PONG = auto()
    CLOSE = auto()
    END = auto()


class Frame(NamedTuple):
    """One thing that goes over a connection.

    Attributes:
        kind: what it is.
        payload: that of DATA, PING and PONG; the reason of a CLOSE.
        number: the opcode of DATA, the status of a RESPONSE, the code of a CLOSE.
        claim: what a REQUEST says about its session.
        received: the count that a RESPONSE to an aware peer states.

    """

    kind: FrameKind
    payload: bytes = b""
    number: int = 0
    claim: Claim | None = None
    received: int | None = None


class ConnectionEnd:
    """One end of a connection.

    Attributes:
        on_frame: called with each frame that arrives, until the end is closed.
        on_room: called when the network takes more again, after `blocked`.
        open: whether frames are handled.
        closing: whether a last frame was sent.
        paused: whether frames wait in the network.
        blocked: whether more is in flight than should be.
        frames: how many frames have arrived.

    """

    def __init__(self) -> None:
        self.out: Pipe | None = None
        self.into: Pipe | None = None
        self.on_frame: Callable[[Frame], None] = lambda frame: None
        self.on_room: Callable[[], None] = lambda: None
        self.open = True
        self.closing = False
        self.paused = False
        self.blocked = False
        self.frames = 0

    def put(self, frame: Frame) -> None:
        """Send a frame; does nothing if the end is closed, or closing."""
        if self.open and not self.closing and self.out is not None:
            self.out.put(frame)

    def close(self, frame: Frame, *, reading: bool = False) -> None:
        """Send a last frame, a CLOSE or an END; with `reading`, handle frames until the other end closes."""
        self.put(frame)
        self.closing = True
        self.open = self.open and reading

    def take(self, frame: Frame) -> None:
        """Handle a frame from the network."""
        if self.open:
            self.frames += 1
            if frame.kind in (FrameKind.CLOSE, FrameKind.END):
                self.put(Frame(FrameKind.END))
                self.open = False
            self.on_frame(frame)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        """Handle the frames that wait, and those that arrive."""
        self.paused = False
        if self.into is not None:
            self.into.flow()


class Pipe:
    """One direction of a connection: frames in flight, in order."""

    def __init__(self, link: SimulatedLink, stream: str, source: ConnectionEnd, target: ConnectionEnd) -> None:
        self.stream = stream
        self._link = link
        self._source = source
        self._target = target
        # Each frame with the moment of its arrival.
        self._in_flight: deque[tuple[float, Frame]] = deque()
        self._bytes = 0
        # When the last frame arrives, and when the narrowest part of the way is free again.
        self._last = self._free = 0.0
        self._timer: VirtualTimer | None = None
        #: A frame was lost: later ones cannot arrive either, since TCP delivers in order.
        self.gap = False
        #: How many frames have arrived.
        self.delivered = 0
        self._cut = False

    @property
    def empty(self) -> bool:
        return not self._in_flight

    def put(self, frame: Frame) -> None:
        if self._cut:
            return
        size = len(frame.payload) + FRAME_BYTES
        if not self._link.lets_through(self, size):
            return
        self._append(frame, size)
        self._bytes += size
        if self._bytes > HIGH_WATER:
            self._source.blocked = True

    def cut(self, kept: float) -> None:
        """End the connection here: this share (0..1) of what is in flight still arrives, and then END."""
        if self._cut:
            return
        self._cut = True
        left = 0 if self.gap else int(kept * len(self._in_flight))
        while len(self._in_flight) > left:
            self._in_flight.pop()
        self.gap = False
        self._last = min(self._last, self._in_flight[-1][0]) if self._in_flight else 0.0
        self._append(Frame(FrameKind.END), 0)

    def flow(self) -> None:
        """Schedule the delivery of the next frame, if its receiver is not paused."""
        if self._timer is None and self._in_flight and not self._target.paused:
            delay = self._in_flight[0][0] - self._link.clock.time()
            self._timer = self._link.clock.call_later(delay, self._deliver)

    def _append(self, frame: Frame, size: int) -> None:
        ready = self._link.clock.time()
        if rate := self._link.rate(self.stream):
            ready = self._free = max(ready, self._free) + size / rate
        self._last = max(self._last, ready + self._link.delay(self.stream))
        self._in_flight.append((self._last, frame))
        self.flow()

    def _deliver(self) -> None:
        self._timer = None
        now = self._link.clock.time()
        while self._in_flight and self._in_flight[0][0] <= now and not self._target.paused:
            _, frame = self._in_flight.popleft()
            self._bytes -= len(frame.payload) + FRAME_BYTES
            # The END of a cut connection comes from the network itself, and cannot be lost.
            last = self._cut and frame.kind is FrameKind.END and not self._in_flight
            self.gap = self.gap or (not last and self._link.is_silent(self.stream))
            if last or not self.gap:
                self.delivered += 1
                self._target.take(frame)
        self.flow()
        if self._source.blocked and self._bytes < LOW_WATER:
            self._source.blocked = False
            if self._source.open:
                self._source.on_room()


class SimulatedConnection:
    """One connection over a link: `near` is the end that made it."""

    def __init__(self, link: SimulatedLink) -> None:
        self.near, self.far = ConnectionEnd(), ConnectionEnd()
        self.near.out = self.far.into = Pipe(link, "upstream", self.near, self.far)
        self.far.out = self.near.into = Pipe(link, "downstream", self.far, self.near)

    @property
    def pipes(self) -> list[Pipe]:
        return [pipe for pipe in (self.near.out, self.far.out) if pipe is not None]

    @property
    def over(self) -> bool:
        return not self.near.open and not self.far.open

    def cut(self, draw: random.Random | None) -> None:
        """End it. A random share of what is in flight in each direction still arrives; without `draw` nothing does."""
        for pipe in self.pipes:
            pipe.cut(draw.random() if draw else 0.0)


class SimulatedLink:
    """A link of the scenario, and the faults that are on.

    Args:
        name: `client`, `upstream` …
        clock: the time.
        draw: where small delays, and what survives a cut, are drawn from.

    """

    def __init__(self, name: str, clock: VirtualClock, draw: random.Random) -> None:
        self.name = name
        self.clock = clock
        self._draw = draw
        self._connections: list[SimulatedConnection] = []
        self._downs = 0
        self._silent: Counter[str] = Counter()
        self._toxics: list[Toxic] = []
        # For each `cut` that is on: its limit in bytes, and the bytes that each pipe may still carry.
        self._limits: list[tuple[Occurrence, int, dict[Pipe, int]]] = []

    def connect(self) -> SimulatedConnection | None:
        """Make a connection; None if the link is down."""
        if self._downs:
            return None
        self._connections = [connection for connection in self._connections if not connection.over]
        self._connections.append(SimulatedConnection(self))
        return self._connections[-1]

    def delay(self, stream: str) -> float:
        """Return how long a frame takes, in seconds."""
        seconds = self._draw.uniform(*TRAVEL_SECONDS)
        for toxic in self._on("latency", stream):
            jitter = toxic.attributes["jitter"]
            seconds += max(0.0, toxic.attributes["latency"] + self._draw.uniform(-jitter, jitter)) / 1000
        return seconds

    def rate(self, stream: str) -> float:
        """Return how many bytes a second a direction carries, 0 for no limit."""
        rates = [toxic.attributes["rate"] * 1000.0 for toxic in self._on("bandwidth", stream)]
        return min(rates, default=0.0)

    def is_silent(self, stream: str) -> bool:
        """Return whether everything in this direction is lost at present."""
        return self._silent[stream] > 0

    def lets_through(self, pipe: Pipe, size: int) -> bool:
        """Count bytes against the limits that are on. If one is exceeded, cut the connection; the bytes are lost."""
        for occurrence, limit, left in self._limits:
            if occurrence.fault.stream not in (pipe.stream, "both"):
                continue
            left[pipe] = left.get(pipe, limit) - size
            if left[pipe] < 0:
                for connection in self._connections:
                    if pipe in connection.pipes:
                        # Both ends learn of it later, by a timer: this may be called from within the core.
                        connection.cut(None)
                return False
        return True

    def begin(self, occurrence: Occurrence) -> None:
        name = occurrence.fault.name
        if name in ("down", "reset"):
            self._downs += name == "down"
            self._cut_all(self._draw)
        elif name == "silence":
            self._silent.update(_streams(occurrence))
        elif name == "cut":
            assert occurrence.toxic is not None
            self._limits.append((occurrence, occurrence.toxic.attributes["bytes"], {}))
        else:
            assert occurrence.toxic is not None
            self._toxics.append(occurrence.toxic)

    def end(self, occurrence: Occurrence) -> None:
        name = occurrence.fault.name
        if name == "down":
            self._downs -= 1
        elif name == "silence":
            self._silent.subtract(_streams(occurrence))
            # The connections have lost bytes, so they cannot go on.
            self._cut_all(None)
        elif name == "cut":
            self._limits = [limit for limit in self._limits if limit[0] is not occurrence]
        elif name != "reset":
            assert occurrence.toxic is not None
            self._toxics.remove(occurrence.toxic)

    def _on(self, kind: str, stream: str) -> list[Toxic]:
        return [toxic for toxic in self._toxics if toxic.type == kind and toxic.stream in (stream, "both")]

    def _cut_all(self, draw: random.Random | None) -> None:
        for connection in self._connections:
            connection.cut(draw)
        self._connections.clear()


def _streams(occurrence: Occurrence) -> list[str]:
    stream = occurrence.fault.stream
    return ["upstream", "downstream"] if stream == "both" else [stream]
