"""Clients whose sessions are contended for: by themselves on another link, or by other clients.

| kind | what it does |
| --- | --- |
| half-open | reads nothing more from its link, and resumes under its id on a second one while the first still looks
open |
| vanishing | closes with 4321 and stays away, then asks for its session again |
| wrong-ids | talks, while a contender connects with unknown ids and malformed ones |
| robbed | talks with credentials, while a contender connects with its id and other credentials |
| stale-counts | talks, while a contender connects with its id and impossible counts |

Links of contenders are in the history as `c01.LABEL`, and are recorded as wanted by the client. The labels are those of
`ContestedClient.attempts`, `old` for the first link of a half-open client, `late` for a vanishing client that returns.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from reconnect_harness.history.message import Direction, decode
from reconnect_harness.peers.client import FAILED_HANDSHAKE, AwareClient, PlainClient, handshake_failure
from reconnect_harness.peers.unconfirmed import ImpossibleCount, UnconfirmedMessages
from reconnect_harness.processes.actor import background

#: The close code of a vanishing client.
VANISHED = 4321

#: Seconds between two attempts of a contender on a client's session.
ATTEMPT_SECONDS = 0.3

#: How long it may take to receive the buffered messages, in seconds; it takes only time of the event loop.
DRAIN_SECONDS = 0.1

#: How long the other side may take to close a link that it should have closed already, in seconds.
OLD_SECONDS = 10.0

#: When a client has received so many messages, some of them are confirmed: a Ping comes after 64 at the latest, and the
#: client has answered the last but one (PROTOCOL.md section 4).
CONFIRMED = 150

#: A count of messages that is more than any client or upstream has sent.
MANY = 1_000_000_000

_UNKNOWN = "an-id-that-is-unknown-"


class AbsentClient(PlainClient):
    """A client that is absent once: `absence` has when, counted from the start of the traffic, and for how long."""

    def __init__(self, *arguments: Any, absence: Mapping[str, float], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._after = absence["after"]
        self._away = absence["lasts"]


class _KeepingSocket:
    """Sends on a socket, and keeps what was sent."""

    def __init__(self, socket: ClientConnection, owed: UnconfirmedMessages) -> None:
        self._socket = socket
        self._owed = owed

    async def send(self, message: str | bytes) -> None:
        """Send one message."""
        self._owed.add(message)
        await self.send_owed()

    async def send_owed(self) -> None:
        """Send what was kept and not sent on this link yet."""
        for due in self._owed.due():
            await (self._socket.ping(due.to_bytes(8, "big")) if isinstance(due, int) else self._socket.send(due))


class HalfOpenClient(AbsentClient):
    """A client that takes its session over from its own link, which is still open but which the client does not read.

    It counts and resends as PROTOCOL.md section 4 says, on websockets alone, so that each message must arrive once.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._received = 0
        # It does not wait for Pongs: the count in the 101 of its second link confirms as much.
        self._owed = UnconfirmedMessages(asyncio.get_running_loop().time)

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Use one link, then another."""
        try:
            async with opening:
                old = await self._link({"X-Connection-Id": self.session_id})
        finally:
            self.tried.set()
        if old is None:
            return
        absent = background(self._until_absent())
        await self._converse(old, until=absent)
        if not absent.done():
            absent.cancel()
            return
        # The library may have answered a Ping behind messages that it has buffered, so these must be counted.
        old.transport.pause_reading()
        await self._drain(old)
        new = await self._link({"X-Reconnect-Id": self.session_id})
        if new is not None:
            ending = background(self._await_end(old))
            await self._converse(new, until=background(_never()))
            await asyncio.wait([ending])

    async def _until_absent(self) -> None:
        await self.may_talk.wait()
        await asyncio.sleep(self._after)

    async def _link(self, named: dict[str, str]) -> ClientConnection | None:
        headers = {**named, "X-Reconnect-Received": str(self._received)}
        options = {**self._options(), "ping_interval": None}
        try:
            # Without a limit of the buffer: at a limit the library would pause, and then resume reading by itself.
            socket = await connect(self.url, additional_headers=headers, max_queue=None, **options)
        except FAILED_HANDSHAKE as failure:
            self.recorder.link(self.name, "unreachable", asked=False, **handshake_failure(failure))
            return None
        self.recorder.link(self.name, "connected", asked=True)
        assert socket.response is not None
        count = socket.response.headers.get("X-Reconnect-Received")
        try:
            self._owed.resume(int(count) if count else self._owed.sent)
        except ImpossibleCount as impossible:
            self.recorder.link(self.name, "breach", asked=False, reason=str(impossible))
            await socket.close()
            return None
        await _KeepingSocket(socket, self._owed).send_owed()
        return socket

    async def _converse(self, socket: ClientConnection, until: asyncio.Task[None]) -> None:
        """Send and receive until the link ends, or `until` is done."""
        works = [background(self._send(_KeepingSocket(socket, self._owed))), background(self._leave(socket))]
        receiving = asyncio.create_task(self._receive(socket))
        await asyncio.wait([receiving, until], return_when=asyncio.FIRST_COMPLETED)
        ended = receiving.done()
        for task in (*works, receiving):
            task.cancel()
        await asyncio.wait([*works, receiving])
        if ended:
            until.cancel()
            asked = self.leaving.is_set()
            code, reason = socket.close_code, socket.close_reason or ""
            self.recorder.link(self.name, "disconnected", asked=asked, code=code, reason=reason)

    async def _receive(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._take(await socket.recv())

    def _take(self, message: str | bytes) -> None:
        self._received += 1
        self.recorder.received(self.name, Direction.U2C, decode(message))

    async def _drain(self, socket: ClientConnection) -> None:
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            while True:
                self._take(await asyncio.wait_for(socket.recv(), DRAIN_SECONDS))

    async def _await_end(self, socket: ClientConnection) -> None:
        """Wait for the end of the old link, ignore the messages on it, and record how it ended."""
        socket.transport.resume_reading()
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(OLD_SECONDS):
                while True:
                    await socket.recv()
        code, reason = socket.close_code, socket.close_reason or ""
        if code is None:
            reason = f"still open after {OLD_SECONDS:g} s"
            socket.transport.abort()
        self.recorder.link(f"{self.name}.old", "disconnected", asked=True, code=code, reason=reason)


class VanishingClient(AbsentClient):
    """A client that closes during the traffic, and asks for its session again when that should have ended."""

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "additional_headers": {"X-Connection-Id": self.session_id}}

    async def _leave(self, socket: Any) -> None:
        await self.may_talk.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.leaving.wait(), self._after)
        self.leaving.set()
        await socket.close(VANISHED, "vanished")

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Send and receive, close, and return."""
        await super().talk(opening)
        if self.leaving.is_set():
            await asyncio.sleep(self._away)
            await attempt(self, "late", {"X-Reconnect-Id": self.session_id})


class ContestedClient(AwareClient):
    """A client that sends and receives, while a contender makes handshakes with the headers of `attempts`, by label."""

    #: Headers of every handshake of the client itself.
    credentials: ClassVar[dict[str, str]] = {}

    def _options(self) -> dict[str, Any]:
        headers = {"additional_headers": self.credentials, "connection_id": self.session_id}
        return {**super()._options(), **headers}

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Send and receive, while a contender attempts to take the session."""
        contending = background(self._contend())
        try:
            await super().talk(opening)
        finally:
            contending.cancel()
            await asyncio.wait([contending])

    async def _contend(self) -> None:
        await self.may_talk.wait()
        while self.may_talk.is_set():
            await asyncio.sleep(ATTEMPT_SECONDS)
            for label, headers in self.attempts():
                await attempt(self, label, headers)

    def attempts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the label and the headers of each attempt."""
        raise NotImplementedError


class WrongIdsClient(ContestedClient):
    """A contender connects with ids that name no session: unknown ones, and malformed ones."""

    def attempts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the attempts."""
        yield "unknown", {"X-Reconnect-Id": f"{_UNKNOWN}{self.random.getrandbits(64):x}"}
        for wrong in ("too-short", "x" * 129, "a slash/and spaces in it"):
            yield "malformed", {"X-Reconnect-Id": wrong}
            yield "malformed", {"X-Connection-Id": wrong}


class RobbedClient(ContestedClient):
    """A contender has the id, but not the credentials."""

    credentials: ClassVar[dict[str, str]] = {"Authorization": "Bearer of-the-owner"}

    def attempts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the attempts."""
        yield "thief", {"X-Reconnect-Id": self.session_id, "Authorization": "Bearer of-a-thief"}
        yield "thief", {"X-Connection-Id": self.session_id}


class StaleCountsClient(ContestedClient):
    """A contender has the id, and states impossible counts."""

    def attempts(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the attempts, when so many messages have been received that some of them must be confirmed."""
        if self.recorder.arrived(self.name) >= CONFIRMED:
            yield "future", {"X-Reconnect-Id": self.session_id, "X-Reconnect-Received": str(MANY)}
            yield "past", {"X-Reconnect-Id": self.session_id, "X-Reconnect-Received": "0"}


async def attempt(client: PlainClient, label: str, headers: dict[str, str]) -> None:
    """Make one handshake with these headers and the options of a client, and record the result."""
    options: dict[str, Any] = {**client.basics, "open_timeout": OLD_SECONDS}
    name = f"{client.name}.{label}"
    try:
        socket = await connect(client.url, additional_headers=headers, **options)
    except FAILED_HANDSHAKE as failure:
        client.recorder.link(name, "unreachable", asked=True, **handshake_failure(failure))
    else:
        client.recorder.link(name, "connected", asked=True)
        await socket.close()


async def _never() -> None:
    await asyncio.Event().wait()
