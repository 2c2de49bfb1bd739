"""A town in a process of its own: an upstream, and bystanders that talk to it through the proxy under attack.

    python -m tests.acceptance.hostile.town

First line of output: the upstream's port. Then a line of JSON for each line of input:

    settle URL COUNT   let COUNT bystanders move in, who talk through the proxy at URL from now on
    judge              wait until all that was said has arrived; tell what is wrong, and what attackers asked for

Odd bystanders are ordinary WebSocket clients, even ones speak the reconnect protocol. Each says numbered messages and
is told numbered messages, RATE a second either way; one that is lost, repeated or out of order is a fault for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from reconnect_proxy.client.connect import connect as aware_connect

from ..frames import Closed, read_head
from ..rawsocket import RawSocket
from ..waiting import Message
from .evil import EVIL, upgrade

#: Messages a second that a bystander says, and is told.
RATE = 2.5
#: Seconds within which what was said has to arrive.
PATIENCE = 20.0

_READING_ENDS = (asyncio.IncompleteReadError, ConnectionError)


class Count:
    """The messages of one direction: how many were said, how many came; all faults are kept."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self.name = name
        self.said = 0
        self.heard = 0
        self._faults = faults

    def say(self) -> str:
        """Make the next message."""
        self.said += 1
        return f"{self.name}:{self.said}"

    def hear(self, message: Message) -> None:
        """Take the message that should be the next."""
        self.heard += 1
        if message != f"{self.name}:{self.heard}":
            self._faults.append(f"{self.name}: {message[:40]!r} came as number {self.heard}")


class Bystander:
    """A client and its upstream, who mind their own business."""

    def __init__(self, number: int, faults: list[str]) -> None:
        self.number = number
        self.said = Count(f"c{number}", faults)
        self.told = Count(f"u{number}", faults)
        self.links = 0
        self._faults = faults

    async def live(self, url: str, settled: asyncio.Event, quiet: asyncio.Event) -> None:
        """Talk until cancelled."""
        target = f"{url}/bystander/{self.number}"
        try:
            async with self._connect(target) as ws:
                settled.set()
                listening = asyncio.create_task(self._listen(ws))
                try:
                    while True:
                        await quiet.wait()
                        await ws.send(self.said.say())
                        await asyncio.sleep(1 / RATE)
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
        except (ConnectionClosed, OSError) as error:
            self._faults.append(f"bystander {self.number} was cut off: {error}")

    def _connect(self, target: str) -> connect | aware_connect:
        if self.number % 2:
            return connect(target, proxy=None, compression=None, open_timeout=PATIENCE)
        return aware_connect(target, proxy=None, compression=None, open_timeout=PATIENCE)

    async def _listen(self, ws: object) -> None:
        async for message in ws:  # type: ignore[attr-defined]
            self.told.hear(message)

    async def serve(self, link: RawSocket, quiet: asyncio.Event) -> None:
        """Be the upstream of this bystander."""
        self.links += 1
        if self.links > 1:
            self._faults.append(f"the upstream of bystander {self.number} was connected {self.links} times")
        link.on_message = self.said.hear
        with contextlib.suppress(Closed, ConnectionError):
            while True:
                await quiet.wait()
                await link.send(self.told.say())
                await asyncio.sleep(1 / RATE)


class Town:
    """The upstream and all who live there."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.asked: dict[str, int] = {}
        self._talk = asyncio.Event()
        self._talk.set()
        self._bystanders: dict[int, Bystander] = {}
        self._lives: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection to the upstream."""
        try:
            request = await read_head(reader)
            path = request.target.partition("?")[0]
            if path.startswith("/bystander/"):
                bystander = self._bystanders[int(path.rpartition("/")[2])]
                await bystander.serve(upgrade(reader, writer, request), self._talk)
                return
            self.asked[path] = self.asked.get(path, 0) + 1
            behave = EVIL.get(path)
            if behave is None:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                await behave(reader, writer, request)
        except _READING_ENDS:
            # Attackers leave in every way there is.
            pass
        finally:
            writer.close()

    async def settle(self, url: str, count: int) -> dict[str, object]:
        """Let bystanders move in, one after the other, and talk when all are there."""
        self._talk.clear()
        async with asyncio.timeout(3 * PATIENCE):
            for number in range(count):
                settled = asyncio.Event()
                bystander = self._bystanders[number] = Bystander(number, self.faults)
                self._lives.append(asyncio.create_task(bystander.live(url, settled, self._talk)))
                await settled.wait()
        self._talk.set()
        return {"settled": count}

    async def judge(self) -> dict[str, object]:
        """Let everybody say some more, wait until all has arrived, and tell what went wrong so far."""
        counts = [count for each in self._bystanders.values() for count in (each.said, each.told)]
        before = sum(count.heard for count in counts)
        await self._until(lambda: sum(count.heard for count in counts) >= before + len(counts))
        self._talk.clear()
        await self._until(lambda: all(count.heard == count.said for count in counts))
        missing = [f"{count.name}: {count.heard} of {count.said} came" for count in counts if count.heard != count.said]
        self._talk.set()
        heard = sum(count.heard for count in counts)
        return {"faults": [*self.faults, *missing][:20], "heard": heard, "asked": self.asked}

    async def _until(self, check: Callable[[], bool]) -> None:
        for _ in range(int(PATIENCE / 0.02)):
            if check():
                return
            await asyncio.sleep(0.02)

    async def leave(self) -> None:
        """Cut all lines."""
        for life in self._lives:
            life.cancel()
        if self._lives:
            await asyncio.wait(self._lives)


async def main() -> None:
    """Do what the lines of the input say, until it ends."""
    town = Town()
    server = await asyncio.start_server(town.serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        answer = await (town.settle(line[1], int(line[2])) if line[0] == "settle" else town.judge())
        print(json.dumps(answer), flush=True)
    await town.leave()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
