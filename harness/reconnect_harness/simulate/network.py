"""A network without sockets: a virtual clock, and links that delay, narrow, silence and cut what goes over them.

    near End --put--> Pipe "upstream" ---deliver--> far End       a connection is two pipes, and each frame in a pipe
    near End <-deliver-- Pipe "downstream" <--put-- far End       arrives in order, when the faults of its link let it

The faults are those of `faults.fault`, with the effect that Toxiproxy gives them: whoever is cut loses some of what
was under way and then learns of the end, and whoever falls silent learns nothing until the silence is over.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from reconnect_harness.faults.fault import Occurrence
from reconnect_harness.toxiproxy.toxics import Toxic
from reconnect_proxy.core.wire import Claim

#: What a frame costs beside its payload, in bytes: its header, or the few lines of a handshake.
FRAME_BYTES = 8

#: Bytes under way in a pipe above which its sender is held back, and below which it goes on.
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024

#: How long a frame is under way at least and at the most, in seconds, where nothing is wrong.
SWIFT = (0.0005, 0.02)

#: What can be done to a simulated link.
LINK_FAULTS = ("down", "reset", "silence", "latency", "bandwidth", "cut")


#: Calls within one `advance` above which the timers are held to set each other without end.
MAX_CALLS = 1_000_000


class VirtualTimer:
    """A call that is still to be made; satisfies `reconnect_proxy.core.interfaces.Timer`."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Take the call back."""
        self.callback = None


class VirtualClock:
    """Seconds that pass when `advance` says so; satisfies `reconnect_proxy.core.interfaces.Clock`."""

    def __init__(self, start: float = 0.0) -> None:
        # The present time in seconds.
        self.now = start
        self._due: list[tuple[float, int, VirtualTimer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        """Return the present time in seconds."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> VirtualTimer:
        """Call `callback` once, when `delay` seconds have passed."""
        timer = VirtualTimer(callback)
        heapq.heappush(self._due, (self.now + max(0.0, delay), next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and make the calls that fall due, each at its time."""
        until = self.now + seconds
        calls = 0
        while self._due and self._due[0][0] <= until:
            due, _, timer = heapq.heappop(self._due)
            if timer.callback is not None:
                self.now = due
                callback, timer.callback = timer.callback, None
                callback()
                calls += 1
                assert calls < MAX_CALLS, "the timers set each other without end"
        self.now = until


class FrameKind(Enum):
    """What goes over a connection. END is the end of it without a close frame."""

    REQUEST = auto()
    RESPONSE = auto()
    DATA = auto()
    PING = auto()
    PONG = auto()
    CLOSE = auto()
    END = auto()


class Frame(NamedTuple):
    """One thing that goes over a connection.

    `number` is the opcode of DATA, the status of a RESPONSE, the code of a CLOSE; `claim` is what a REQUEST says of its
    session, and `received` what a RESPONSE to an aware peer states.
    """

    kind: FrameKind
    payload: bytes = b""
    number: int = 0
    claim: Claim | None = None
    received: int | None = None


class End:
    """One end of a connection. `on_frame` takes what arrives, until the end is closed."""

    def __init__(self) -> None:
        self.out: Pipe | None = None
        self.into: Pipe | None = None
        self.on_frame: Callable[[Frame], None] = lambda frame: None
        # Called when the network takes more again.
        self.on_room: Callable[[], None] = lambda: None
        self.open = True
        # A last frame was sent, and nothing follows it.
        self.closing = False
        self.paused = False
        # More is under way than the network should be given.
        self.blocked = False
        self.frames = 0

    def put(self, frame: Frame) -> None:
        """Send a frame; nothing happens where the end is closed, or closing."""
        if self.open and not self.closing and self.out is not None:
            self.out.put(frame)

    def close(self, frame: Frame, *, hears: bool = False) -> None:
        """Send a last frame, a CLOSE or an END; whoever `hears` still takes what comes until the other end closes."""
        self.put(frame)
        self.closing = True
        self.open = self.open and hears

    def take(self, frame: Frame) -> None:
        """Take a frame from the network."""
        if self.open:
            self.frames += 1
            if frame.kind in (FrameKind.CLOSE, FrameKind.END):
                self.put(Frame(FrameKind.END))
                self.open = False
            self.on_frame(frame)

    def pause(self) -> None:
        """Take nothing for a while; it waits on the way."""
        self.paused = True

    def resume(self) -> None:
        """Take what waits, and what comes."""
        self.paused = False
        if self.into is not None:
            self.into.flow()


class Pipe:
    """One direction of a connection: frames on their way, in order."""

    def __init__(self, link: SimulatedLink, stream: str, source: End, target: End) -> None:
        self.stream = stream
        self._link = link
        self._source = source
        self._target = target
        self._under_way: deque[tuple[float, Frame]] = deque()
        self._bytes = 0
        # When the last frame put here arrives, and when the narrowest place is free again.
        self._last = self._free = 0.0
        self._timer: VirtualTimer | None = None
        # A byte was lost: what follows it cannot arrive.
        self._gap = False
        self._cut = False

    @property
    def empty(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def put(self, frame: Frame) -> None:
        """Send a frame on its way."""
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
        """End the connection here: of what is under way that share still arrives, and then the end of it."""
        if self._cut:
            return
        self._cut = True
        left = 0 if self._gap else int(kept * len(self._under_way))
        while len(self._under_way) > left:
            self._under_way.pop()
        self._gap = False
        self._last = min(self._last, self._under_way[-1][0]) if self._under_way else 0.0
        self._append(Frame(FrameKind.END), 0)

    def flow(self) -> None:
        """Have the next frame delivered when it is due and its receiver takes it."""
        if self._timer is None and self._under_way and not self._target.paused:
            delay = self._under_way[0][0] - self._link.clock.time()
            self._timer = self._link.clock.call_later(delay, self._deliver)

    def _append(self, frame: Frame, size: int) -> None:
        ready = self._link.clock.time()
        if rate := self._link.rate(self.stream):
            ready = self._free = max(ready, self._free) + size / rate
        self._last = max(self._last, ready + self._link.delay(self.stream))
        self._under_way.append((self._last, frame))
        self.flow()

    def _deliver(self) -> None:
        self._timer = None
        now = self._link.clock.time()
        while self._under_way and self._under_way[0][0] <= now and not self._target.paused:
            _, frame = self._under_way.popleft()
            self._bytes -= len(frame.payload) + FRAME_BYTES
            # The network's own end of a connection is no frame that could be lost on it.
            last = self._cut and frame.kind is FrameKind.END and not self._under_way
            self._gap = self._gap or (not last and self._link.is_silent(self.stream))
            if last or not self._gap:
                self._target.take(frame)
        self.flow()
        if self._source.blocked and self._bytes < LOW_WATER:
            self._source.blocked = False
            if self._source.open:
                self._source.on_room()


class Connection:
    """One connection over a link: `near` is the end of who made it."""

    def __init__(self, link: SimulatedLink) -> None:
        self.near, self.far = End(), End()
        self.near.out = self.far.into = Pipe(link, "upstream", self.near, self.far)
        self.far.out = self.near.into = Pipe(link, "downstream", self.far, self.near)

    @property
    def pipes(self) -> list[Pipe]:
        """Both directions."""
        return [pipe for pipe in (self.near.out, self.far.out) if pipe is not None]

    @property
    def over(self) -> bool:
        """Whether both ends are closed."""
        return not self.near.open and not self.far.open

    def cut(self, draw: random.Random | None) -> None:
        """End it; without `draw` all that is under way is lost, else a share of it in each direction."""
        for pipe in self.pipes:
            pipe.cut(draw.random() if draw else 0.0)


class SimulatedLink:
    """A link by its name in the scenario, and the faults that are on it.

    Args:
        name: `client`, `upstream` …
        clock: the time.
        draw: where the small delays, and what survives a cut, are drawn from.

    """

    def __init__(self, name: str, clock: VirtualClock, draw: random.Random) -> None:
        self.name = name
        self.clock = clock
        self._draw = draw
        self._connections: list[Connection] = []
        self._downs = 0
        self._silent: Counter[str] = Counter()
        self._toxics: list[Toxic] = []
        # For each `cut` that is on, the bytes that each pipe may still carry.
        self._limits: list[tuple[Occurrence, int, dict[Pipe, int]]] = []

    def connect(self) -> Connection | None:
        """Make a connection; None where the link is down."""
        if self._downs:
            return None
        self._connections = [connection for connection in self._connections if not connection.over]
        self._connections.append(Connection(self))
        return self._connections[-1]

    def delay(self, stream: str) -> float:
        """Return how long a frame is under way, in seconds."""
        seconds = self._draw.uniform(*SWIFT)
        for toxic in self._on("latency", stream):
            jitter = toxic.attributes["jitter"]
            seconds += max(0.0, toxic.attributes["latency"] + self._draw.uniform(-jitter, jitter)) / 1000
        return seconds

    def rate(self, stream: str) -> float:
        """Return the bytes a second that a direction carries, 0 for any number."""
        rates = [toxic.attributes["rate"] * 1000.0 for toxic in self._on("bandwidth", stream)]
        return min(rates, default=0.0)

    def is_silent(self, stream: str) -> bool:
        """Return whether what goes that way is lost at present."""
        return self._silent[stream] > 0

    def lets_through(self, pipe: Pipe, size: int) -> bool:
        """Count bytes against the limits that are on; past one of them the connection is cut, and they are lost."""
        for occurrence, limit, left in self._limits:
            if occurrence.fault.stream not in (pipe.stream, "both"):
                continue
            left[pipe] = left.get(pipe, limit) - size
            if left[pipe] < 0:
                for connection in self._connections:
                    if pipe in connection.pipes:
                        # The core is in the middle of a call: it hears of the end when that is over.
                        connection.cut(None)
                return False
        return True

    def begin(self, occurrence: Occurrence) -> None:
        """Let a fault take hold."""
        do = occurrence.fault.name
        if do in ("down", "reset"):
            self._downs += do == "down"
            self._cut_all(self._draw)
        elif do == "silence":
            self._silent.update(_streams(occurrence))
        elif do == "cut":
            assert occurrence.toxic is not None
            self._limits.append((occurrence, occurrence.toxic.attributes["bytes"], {}))
        else:
            assert occurrence.toxic is not None
            self._toxics.append(occurrence.toxic)

    def end(self, occurrence: Occurrence) -> None:
        """Undo it."""
        do = occurrence.fault.name
        if do == "down":
            self._downs -= 1
        elif do == "silence":
            self._silent.subtract(_streams(occurrence))
            # They have lost bytes.
            self._cut_all(None)
        elif do == "cut":
            self._limits = [limit for limit in self._limits if limit[0] is not occurrence]
        elif do != "reset":
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
