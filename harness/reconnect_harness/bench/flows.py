"""What the generator's connections say, shape by shape. Each flow counts what comes about, and can be told to stop.

On the way of a message there is one call, one count and one send: the generator must not be the limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence

from reconnect_harness.bench.cases import Case, Shape
from reconnect_harness.bench.load import Connection, Load
from reconnect_harness.bench.metronome import Schedule
from reconnect_harness.bench.server import ALL, Word


class Traffic:
    """A flow of a case: `begin` starts it, `end` lets it run dry.

    Attributes:
        count: what came about so far, as `cases` says what is counted.
        found: latencies in seconds, where the flow measures them.

    """

    #: The path that the server is asked for, with {n}, and {grant} for the messages that it confirms at a time.
    path = "echo"

    def __init__(self, load: Load, case: Case) -> None:
        self.count = 0
        self.found: list[float] = []
        self.load = load
        self.active: Sequence[Connection] = load.connections[: case.active]
        self.payload = bytes(case.size)
        self.size = case.size
        self.window = case.window
        self.grant = grant(case)
        self.going = True

    def begin(self) -> None:
        """Say what is said first."""

    def end(self) -> None:
        """Say nothing more of one's own."""
        self.going = False

    def arrived(self, connection: Connection, size: int) -> None:
        """Take a message."""

    def allowed(self, word: Word) -> None:
        """Take leave to go on."""

    def wrong(self, size: int) -> None:
        """Take a message of a size that it cannot have."""
        self.load.fail(f"has turned a message of {self.size:,} bytes into one of {size:,}")


class Echoes(Traffic):
    """Each echo is answered with the next message, so that a window of them is under way on each connection."""

    def begin(self) -> None:
        """Fill the windows."""
        for connection in self.active:
            for _ in range(self.window):
                connection.send(self.payload)

    def arrived(self, connection: Connection, size: int) -> None:
        """Count an echo, and send the next message."""
        if size != self.size:
            self.wrong(size)
        self.count += 1
        if self.going:
            connection.send(self.payload)


class Replies(Traffic):
    """As `Echoes` with a window of one, with the latency of each reply."""

    def begin(self) -> None:
        """Ask on each connection."""
        for connection in self.active:
            connection.since = time.monotonic()
            connection.send(self.payload)

    def arrived(self, connection: Connection, size: int) -> None:
        """Count a reply, and ask again."""
        now = time.monotonic()
        if size != self.size:
            self.wrong(size)
        self.count += 1
        self.found.append(now - connection.since)
        if self.going:
            connection.since = now
            connection.send(self.payload)


class Up(Traffic):
    """One way to the server, which says past the contender how much of it has come."""

    path = "sink?n={n}&grant={grant}"

    def begin(self) -> None:
        """Fill the windows."""
        for connection in self.active:
            for _ in range(self.window):
                connection.send(self.payload)

    def allowed(self, word: Word) -> None:
        """Count what has come, and send as much again."""
        self.count += word.messages
        if self.going:
            connection = self.active[word.n]
            for _ in range(word.messages):
                connection.send(self.payload)


class Down(Traffic):
    """One way from the server, which is told past the contender how much of it has come."""

    path = "push?n={n}"

    def begin(self) -> None:
        """Ask for a window on each connection."""
        for connection in self.active:
            self.load.tell(Word(connection.n, self.window, self.size))

    def arrived(self, connection: Connection, size: int) -> None:
        """Count a message, and ask for more after some of them."""
        if size != self.size:
            self.wrong(size)
        self.count += 1
        connection.seen += 1
        if self.going and connection.seen % self.grant == 0:
            self.load.tell(Word(connection.n, self.grant, self.size))


class FanOut(Traffic):
    """The server says the same to all. It may go on when it has come to all of them."""

    path = "push?n={n}"

    def __init__(self, load: Load, case: Case) -> None:
        super().__init__(load, case)
        self._reached: Counter[int] = Counter()

    def begin(self) -> None:
        """Ask for a window for everyone."""
        self.load.tell(Word(ALL, self.window, self.size))

    def arrived(self, connection: Connection, size: int) -> None:
        """Count a message, and ask for more when the last connection has got so far."""
        if size != self.size:
            self.wrong(size)
        self.count += 1
        connection.seen += 1
        if connection.seen % self.grant == 0:
            self._reached[connection.seen] += 1
            if self._reached[connection.seen] == len(self.active):
                del self._reached[connection.seen]
                if self.going:
                    self.load.tell(Word(ALL, self.grant, self.size))


class Paced(Traffic):
    """An open loop: a message is sent at each moment of a schedule, on the connections in turn (see `metronome`)."""

    def __init__(self, load: Load, case: Case) -> None:
        super().__init__(load, case)
        self.schedule = Schedule(time.monotonic(), case.pace)
        self.idle = asyncio.Event()
        self._due: dict[Connection, deque[float]] = {connection: deque() for connection in self.active}
        self._under_way = 0

    def beat(self) -> None:
        """Send what is due."""
        if self.going:
            for k, moment in self.schedule.due(time.monotonic()):
                connection = self.active[k % len(self.active)]
                self._due[connection].append(moment)
                self._under_way += 1
                connection.send(self.payload)

    def arrived(self, connection: Connection, size: int) -> None:
        """Count an echo, which is that of the oldest message under way on its connection."""
        self.found.append(time.monotonic() - self._due[connection].popleft())
        if size != self.size:
            self.wrong(size)
        self.count += 1
        self._under_way -= 1
        if not self.going and not self._under_way:
            self.idle.set()

    def end(self) -> None:
        """Send no more; `idle` is set when every echo has come."""
        super().end()
        if not self._under_way:
            self.idle.set()


class Owed(Traffic):
    """Each session is owed one echo; `last` is the moment at which the last of them came."""

    def __init__(self, load: Load, case: Case) -> None:
        super().__init__(load, case)
        self.last: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """Say one word on each connection."""
        for connection in self.active:
            connection.send(self.payload)

    def arrived(self, connection: Connection, size: int) -> None:
        """Take an echo. Where it comes twice, as it may, it counts once."""
        connection.seen += 1
        self.count += connection.seen == 1
        if self.count == len(self.active) and not self.last.done():
            self.last.set_result(time.monotonic())


class Burst(Traffic):
    """So many messages at once; the server says when it had the first one, `first`, and the last one, `last`."""

    path = "burst?n={n}&total={grant}"

    def __init__(self, load: Load, case: Case) -> None:
        super().__init__(load, case)
        self.first = 0.0
        self.last: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """Send them all."""
        for _ in range(self.window):
            self.active[0].send(self.payload)

    def allowed(self, word: Word) -> None:
        """Take note of the first, and of the last."""
        if word.messages == 1:
            self.first = word.t
        elif not self.last.done():
            self.last.set_result(word.t)


#: The flow of each shape that is measured over an interval of time.
STEADY: dict[Shape, type[Traffic]] = {
    Shape.REQUEST_REPLY: Replies,
    Shape.CROWD: Replies,
    Shape.PIPELINED: Echoes,
    Shape.UP: Up,
    Shape.DOWN: Down,
    Shape.FAN_OUT: FanOut,
}


def grant(case: Case) -> int:
    """Return how many messages are confirmed at a time in a one-way case: half a window, so that it never runs dry."""
    return case.window if case.shape in (Shape.BURST, Shape.DRAIN) else max(1, case.window // 2)
