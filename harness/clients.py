"""The clients of a run: one process of them, each a stream of its own, `c01`, `c02` …

| kind | what it does |
| --- | --- |
| plain | an ordinary client that expects never to be disconnected: it does not come back |
| reconnecting | an ordinary client that comes back under its connection id, and resends nothing |
| aware | `reconnect_proxy.connect`: counts, resumes, and resends what was not received |

A kind is a class with `talk`, which ends when the client's conversation does; a new one is an entry in `KINDS`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from harness.actor import background, obey, run, say
from harness.history import End, Recorder
from harness.message import Direction, decode
from harness.workload import Speaker, Workload

#: How long a handshake may take, in seconds.
OPEN_SECONDS = 10.0

#: How many handshakes are under way at a time.
OPENING = 64

#: The longest wait before a reconnecting client tries again, in seconds.
RETRY_SECONDS = 1.0

#: Frames that an ordinary client lets wait; the default of websockets, 16, is for slow ones.
FRAMES = 256

#: What a slow client lets wait: frames, or bytes where it is aware. Little, so that its slowness is soon felt.
SLOW_FRAMES = 4
SLOW_BYTES = 64 * 1024

_FAILED_HANDSHAKE = (OSError, InvalidHandshake, TimeoutError, ConnectionClosed)


class Socket(Protocol):
    """What clients need of a connection: the methods that those of websockets and of reconnect_proxy share."""

    async def send(self, message: str | bytes) -> None:
        """Send one message."""

    async def recv(self) -> str | bytes:
        """Receive one message."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the conversation."""


class PlainClient:
    """An ordinary client, which does not come back.

    Args:
        name: its name, and that of its stream.
        url: where to connect.
        load: what it sends.
        recorder: where it records what it sees.
        seed: makes the same messages again.
        ping: seconds of silence after which it pings, and then gives the link up; None leaves that to the library.
        takes: how many messages a second it reads while the traffic lasts; 0 reads all that comes.

    """

    def __init__(
        self,
        name: str,
        url: str,
        load: Workload,
        recorder: Recorder,
        seed: str,
        *,
        ping: float | None = None,
        takes: float = 0.0,
    ) -> None:
        self.name = name
        self.url = url
        self.recorder = recorder
        self.speaker = Speaker(load, name, Direction.C2U, seed)
        self.random = random.Random(f"{seed} {name} waits")
        # As hard to guess as one of the proxy's, and the same again for the same seed.
        self.session_id = f"{name}-{self.random.getrandbits(128):032x}"
        # Set when the first handshake has come to an end, one way or the other.
        self.tried = asyncio.Event()
        # Says whether messages may be sent: between the start of the traffic and its end.
        self.may_talk = asyncio.Event()
        # Set when the client is to close and not to come back.
        self.leaving = asyncio.Event()
        self._load = load
        self._ping = ping
        self._takes = takes

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Hold the whole conversation: connect, send, receive, close."""
        socket = await self._open(opening)
        if socket is not None:
            await self._use(socket)

    async def _dial(self) -> Socket:
        return await connect(self.url, max_queue=SLOW_FRAMES if self._takes else FRAMES, **self._options())

    def _options(self) -> dict[str, Any]:
        # The environment may name a proxy, which is not the way to loopback; and the messages are random.
        options = {"proxy": None, "compression": None, "max_size": None, "open_timeout": OPEN_SECONDS}
        if self._ping is not None:
            options |= {"ping_interval": self._ping, "ping_timeout": self._ping}
        return options

    async def _open(self, opening: asyncio.Semaphore) -> Socket | None:
        """Connect once; record how it went."""
        try:
            async with opening:
                socket = await self._dial()
        except _FAILED_HANDSHAKE as failure:
            code = failure.response.status_code if isinstance(failure, InvalidStatus) else None
            self.recorder.link(self.name, "unreachable", asked=False, code=code, reason=str(failure))
            return None
        else:
            self.recorder.link(self.name, "connected", asked=True)
            return socket
        finally:
            self.tried.set()

    async def _use(self, socket: Socket) -> None:
        """Send and receive on a connection until it ends, or the client leaves."""
        sending = background(self._send(socket))
        leaving = background(self._leave(socket))
        code: int | None = None
        reason = ""
        try:
            while True:
                self.recorder.received(self.name, Direction.U2C, decode(await socket.recv()))
                if self._takes and self.may_talk.is_set():
                    await asyncio.sleep(1 / self._takes)
        except ConnectionClosed as end:
            code, reason = (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, str(end))
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.wait([sending, leaving])
            asked = self.leaving.is_set()
            self.recorder.link(self.name, "disconnected", asked=asked, code=code, reason=reason)

    async def _leave(self, socket: Socket) -> None:
        await self.leaving.wait()
        await socket.close(1000, "done")

    async def _send(self, socket: Socket) -> None:
        await self.may_talk.wait()
        # So that clients which start together do not speak in step.
        await asyncio.sleep(self.random.random() / max(1.0, self._load.rate))
        async for _ in self._load.moments():
            if not self.may_talk.is_set():
                return
            label, message = self.speaker.next()
            self.recorder.sent(self.name, Direction.C2U, label)
            try:
                await socket.send(message)
            except ConnectionClosed:
                # The receiving side sees the same, and ends the connection.
                self.recorder.refused(self.name, Direction.C2U, label)
                return


class ReconnectingClient(PlainClient):
    """An ordinary client that comes back under its connection id. What it sent is sent; it repeats nothing."""

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Hold the conversation over as many connections as it takes."""
        wait = 0.0
        while not self.leaving.is_set():
            socket = await self._open(opening)
            if socket is not None:
                await self._use(socket)
                wait = 0.0
            wait = min(RETRY_SECONDS, max(0.05, 2 * wait))
            await asyncio.sleep(wait * self.random.random())

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "additional_headers": {"X-Connection-Id": self.session_id}}


class AwareClient(PlainClient):
    """A client that knows the protocol. A lost link is not its user's business; a lost session is."""

    async def _dial(self) -> Socket:
        # Imported here: clients that know nothing of the protocol must not need it.
        from reconnect_proxy import connect as connect_session

        options = {**self._options(), **({"max_queue": SLOW_BYTES} if self._takes else {})}
        socket: Socket = await connect_session(self.url, **options)
        return socket


#: The kinds of client, by the name that a scenario calls them.
KINDS: Mapping[str, type[PlainClient]] = {
    "plain": PlainClient,
    "reconnecting": ReconnectingClient,
    "aware": AwareClient,
}


async def play(spec: dict[str, Any]) -> None:
    """Run the clients until stdin ends.

    `spec`: kind, url, count, load, lasts (seconds), ping (seconds or None), slow (None, or count and takes), history (a
    path), seed.
    """
    recorder = Recorder(Path(spec["history"]), End.CLIENT)
    load = Workload.from_spec(spec["load"])
    width = max(2, len(str(spec["count"])))
    slow = spec.get("slow") or {"count": 0, "takes": 0.0}
    clients = [
        KINDS[spec["kind"]](
            f"c{index:0{width}d}",
            spec["url"],
            load,
            recorder,
            spec["seed"],
            ping=spec.get("ping"),
            takes=slow["takes"] if index <= slow["count"] else 0.0,
        )
        for index in range(1, spec["count"] + 1)
    ]
    opening = asyncio.Semaphore(OPENING)
    talks = [asyncio.create_task(client.talk(opening)) for client in clients]
    sending = False

    async def go() -> dict[str, Any]:
        nonlocal sending
        sending = True
        for client in clients:
            client.may_talk.set()
        asyncio.get_running_loop().call_later(spec["lasts"], hush)
        return {}

    def hush() -> None:
        nonlocal sending
        sending = False
        for client in clients:
            client.may_talk.clear()

    async def count() -> dict[str, Any]:
        running = [talk for talk in talks if not talk.done()]
        await asyncio.gather(*(talk for talk in talks if talk.done()))
        return {**recorder.counts(), "sending": sending and bool(running)}

    async def close() -> dict[str, Any]:
        for client in clients:
            client.leaving.set()
        await asyncio.gather(*talks)
        return {}

    try:
        await asyncio.gather(*(client.tried.wait() for client in clients))
        say({"ready": len(clients)})
        await obey({"go": go, "count": count, "close": close})
    finally:
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        recorder.close()


if __name__ == "__main__":
    run(play)
