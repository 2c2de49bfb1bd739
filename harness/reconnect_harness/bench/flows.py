"""What the generator's connections send, shape by shape. Each flow counts what is done, and can be told to stop.

A message costs one call, one count and one send: the generator must not be the bottleneck.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence

from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.connections import Flow, GeneratorConnection, GeneratorConnections
from reconnect_harness.bench.open_loop import Schedule, called_on
from reconnect_harness.bench.server import ALL, ControlMessage


class TrafficFlow(Flow):
    """The flow of a case: after `begin` it sends, after `end` it only receives.

    Attributes:
        count: what was done so far; `cases` says what is counted.
        found: latencies in seconds, where the flow measures them.

    """

    #: The path on the server, with {n} for the connection, and {grant} for how many messages it confirms at a time.
    path = "echo"

    def __init__(self, connections: GeneratorConnections, case: Case) -> None:
        super().__init__(case.size)
        self.count = 0
        self.found: list[float] = []
        self.connections = connections
        self.active: Sequence[GeneratorConnection] = connections.open_ones[: case.active]
        self.payload = bytes(case.size)
        self.window = case.window
        self.grant = grant(case)
        self.going = True

    def begin(self) -> None:
        """Fill the window of each connection."""
        for connection in self.active:
            for _ in range(self.window):
                connection.send(self.payload)

    def end(self) -> None:
        """Send no more."""
        self.going = False

    async def finished(self) -> None:
        """Wait for the echoes that are still to come, if they are measured."""


class Echoes(TrafficFlow):
    """Each echo is answered with the next message, so that a window of them is in flight on each connection."""

    def arrived(self, connection: GeneratorConnection) -> None:
        """Count an echo, and send the next message."""
        self.count += 1
        if self.going:
            connection.send(self.payload)


class Replies(TrafficFlow):
    """As `Echoes` with a window of one; the latency of each reply is measured."""

    def begin(self) -> None:
        """Send one request on each connection."""
        for connection in self.active:
            connection.since = time.monotonic()
            connection.send(self.payload)

    def arrived(self, connection: GeneratorConnection) -> None:
        """Count a reply, and send the next request."""
        now = time.monotonic()
        self.count += 1
        self.found.append(now - connection.since)
        if self.going:
            connection.since = now
            connection.send(self.payload)


class Up(TrafficFlow):
    """One-way traffic to the server, which confirms past the contender how many messages have arrived."""

    path = "sink?n={n}&grant={grant}"

    def allowed(self, message: ControlMessage) -> None:
        """Count what has arrived, and send as many messages again."""
        self.count += message.messages
        if self.going:
            connection = self.active[message.n]
            for _ in range(message.messages):
                connection.send(self.payload)


class Down(TrafficFlow):
    """One-way traffic from the server, which is told past the contender how many messages have arrived."""

    path = "push?n={n}"

    def begin(self) -> None:
        for connection in self.active:
            self.connections.tell(ControlMessage(connection.n, self.window, self.size))

    def arrived(self, connection: GeneratorConnection) -> None:
        """Count a message, and ask for more after some of them."""
        self.count += 1
        connection.seen += 1
        if self.going and connection.seen % self.grant == 0:
            self.connections.tell(ControlMessage(connection.n, self.grant, self.size))


class FanOut(TrafficFlow):
    """The server sends the same messages to all. The next ones are asked for when all clients have them."""

    path = "push?n={n}"

    def __init__(self, connections: GeneratorConnections, case: Case) -> None:
        super().__init__(connections, case)
        self._reached: Counter[int] = Counter()

    def begin(self) -> None:
        self.connections.tell(ControlMessage(ALL, self.window, self.size))

    def arrived(self, connection: GeneratorConnection) -> None:
        """Count a message, and ask for more when the last connection has as many."""
        self.count += 1
        connection.seen += 1
        if connection.seen % self.grant == 0:
            self._reached[connection.seen] += 1
            if self._reached[connection.seen] == len(self.active):
                del self._reached[connection.seen]
                if self.going:
                    self.connections.tell(ControlMessage(ALL, self.grant, self.size))


class Paced(TrafficFlow):
    """An open loop: a message is sent at each moment of a schedule, on the connections in turn (`bench.open_loop`)."""

    def __init__(self, connections: GeneratorConnections, case: Case) -> None:
        super().__init__(connections, case)
        self._schedule = Schedule(time.monotonic(), case.pace)
        self._timer = contextlib.ExitStack()
        self._due: dict[GeneratorConnection, deque[float]] = {connection: deque() for connection in self.active}
        self._in_flight = 0
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Send whenever a message is due."""
        self._timer.enter_context(called_on(self._schedule, self._send_due))

    def _send_due(self) -> None:
        for k, moment in self._schedule.due(time.monotonic()):
            connection = self.active[k % len(self.active)]
            self._due[connection].append(moment)
            self._in_flight += 1
            connection.send(self.payload)

    def arrived(self, connection: GeneratorConnection) -> None:
        """Count an echo: that of the oldest message in flight on its connection."""
        self.found.append(time.monotonic() - self._due[connection].popleft())
        self.count += 1
        self._in_flight -= 1
        if not self.going and not self._in_flight:
            self._idle.set()

    def end(self) -> None:
        super().end()
        self._timer.close()

    async def finished(self) -> None:
        """Wait for all echoes: the slowest come last, and matter most."""
        if self._in_flight:
            await self._idle.wait()


class UntilLast(TrafficFlow):
    """Messages that are sent once; `first` and `last` are the moments at which the first and the last one arrived."""

    def __init__(self, connections: GeneratorConnections, case: Case) -> None:
        super().__init__(connections, case)
        self.first = 0.0
        self.last: asyncio.Future[float] = asyncio.get_running_loop().create_future()


class Owed(UntilLast):
    """Each session waits for one echo."""

    # The echo from the opening of a session may come again.
    lenient = True

    def arrived(self, connection: GeneratorConnection) -> None:
        """Count an echo; one that arrives twice, as it may, counts once."""
        connection.seen += 1
        self.count += connection.seen == 1
        if self.count == len(self.active) and not self.last.done():
            self.last.set_result(time.monotonic())


class Burst(UntilLast):
    """Many messages at once on one connection; the server reports when the first one arrived, and the last one."""

    path = "burst?n={n}&total={grant}"

    def allowed(self, message: ControlMessage) -> None:
        """Store the moments of the first message and of the last one."""
        if message.messages == 1:
            self.first = message.t
        elif not self.last.done():
            self.last.set_result(message.t)


#: The flow of each shape.
FLOWS: dict[Shape, type[TrafficFlow]] = {
    Shape.REQUEST_REPLY: Replies,
    Shape.CROWD: Replies,
    Shape.OPEN: TrafficFlow,
    Shape.PIPELINED: Echoes,
    Shape.UP: Up,
    Shape.DOWN: Down,
    Shape.FAN_OUT: FanOut,
    Shape.PACED: Paced,
    Shape.RECOVER: Owed,
    Shape.BURST: Burst,
    Shape.DRAIN: Burst,
}


def grant(case: Case) -> int:
    """Return how many messages are confirmed at a time in a one-way case: half a window, so that it is never empty."""
    return case.window if case.shape in (Shape.BURST, Shape.DRAIN) else max(1, case.window // 2)
