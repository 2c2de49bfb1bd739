"""Clients that make claims on sessions: on their own again, on other people's, on ones that are none.

| kind | what it does |
| --- | --- |
| half-open | falls silent on its link, and comes back under its id on another one while the first still looks open |
| vanishing | closes with 4321 and stays away, then asks for its session again |
| wrong-ids | talks, while somebody else comes with ids that are unknown or no ids at all |
| robbed | talks with credentials, while a thief comes with its id and others |
| stale-counts | talks, while somebody else comes with its id and counts that cannot be |

Links of a client which are made for such a claim are in the history as `c01.LABEL`; what happens to them the client has
asked for. The labels are the keys of `CLAIMS`, `old` for a half-open link, `late` for a return from too long away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from reconnect_harness.history.message import Direction, decode
from reconnect_harness.peers.client import FAILED_HANDSHAKE, AwareClient, PlainClient, told
from reconnect_harness.processes.actor import background

#: How a vanishing client closes.
VANISHED = 4321

#: Seconds between two claims that somebody makes on a client's session.
CLAIM_SECONDS = 0.3

#: How long buffered messages may take to be handed out, in seconds; it takes no time but that of the event loop.
DRAIN_SECONDS = 0.1

#: How long the other side is given to close a link that it should have closed already, in seconds.
OLD_SECONDS = 10.0

#: Of so many messages that a client has received some are confirmed: a Ping comes after 64 at the latest, and it has
#: answered the one before last (PROTOCOL.md section 4).
CONFIRMED = 150

#: A count of messages that nobody has ever sent.
MANY = 1_000_000_000

_UNKNOWN = "an-id-that-nobody-has-"


class _AbsentClient(PlainClient):
    """A client that is absent for a while: `absence` says how long `after` the talk began, and how long it `lasts`."""

    def __init__(self, *arguments: Any, absence: Mapping[str, float], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._after = absence["after"]
        self._away = absence["lasts"]


class _Keeping:
    """Sends on a socket, and keeps what was sent."""

    def __init__(self, socket: ClientConnection, kept: list[str | bytes]) -> None:
        self._socket = socket
        self._kept = kept

    async def send(self, message: str | bytes) -> None:
        """Send one message."""
        self._kept.append(message)
        await self._socket.send(message)


class HalfOpenClient(_AbsentClient):
    """A client that takes its session over from its own link: that is still open, but the client hears nothing on it.

    It counts and resends as PROTOCOL.md section 4 has it, on websockets alone: what has to come through does so once.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._received = 0
        self._sent: list[str | bytes] = []

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Talk on one link, then on another."""
        try:
            async with opening:
                old = await self._link({"X-Connection-Id": self.session_id})
        finally:
            self.tried.set()
        if old is None:
            return
        silence = background(self._fall_silent())
        await self._converse(old, until=silence)
        if not silence.done():
            silence.cancel()
            return
        # What the library has taken it may have answered a Ping behind, so that has to be counted.
        old.transport.pause_reading()
        await self._drain(old)
        new = await self._link({"X-Reconnect-Id": self.session_id})
        if new is not None:
            forgetting = background(self._forget(old))
            await self._converse(new, until=background(_never()))
            await asyncio.wait([forgetting])

    async def _fall_silent(self) -> None:
        await self.may_talk.wait()
        await asyncio.sleep(self._after)

    async def _link(self, claim: dict[str, str]) -> ClientConnection | None:
        headers = {**claim, "X-Reconnect-Received": str(self._received)}
        options = {**self._options(), "ping_interval": None}
        try:
            # No limit to what is buffered: the library would read on by itself where it had stopped at one.
            socket = await connect(self.url, additional_headers=headers, max_queue=None, **options)
        except FAILED_HANDSHAKE as failure:
            self.recorder.link(self.name, "unreachable", asked=False, **told(failure))
            return None
        self.recorder.link(self.name, "connected", asked=True)
        assert socket.response is not None
        count = socket.response.headers.get("X-Reconnect-Received")
        for message in self._sent[int(count) if count else len(self._sent) :]:
            await socket.send(message)
        return socket

    async def _converse(self, socket: ClientConnection, until: asyncio.Task[None]) -> None:
        """Send and receive until the link ends, or `until` is done."""
        works = [background(self._send(_Keeping(socket, self._sent))), background(self._leave(socket))]
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

    async def _forget(self, socket: ClientConnection) -> None:
        """Wait for the end of the silent link, whatever else still comes on it, and record how it ended."""
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


class VanishingClient(_AbsentClient):
    """A client that closes in the middle of its talk, and asks for its session again when that should be over."""

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "additional_headers": {"X-Connection-Id": self.session_id}}

    async def _leave(self, socket: Any) -> None:
        await self.may_talk.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.leaving.wait(), self._after)
        self.leaving.set()
        await socket.close(VANISHED, "vanished")

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Talk, vanish, come back."""
        await super().talk(opening)
        if self.leaving.is_set():
            await asyncio.sleep(self._away)
            await claim(self, "late", {"X-Reconnect-Id": self.session_id})


class ClaimedClient(AwareClient):
    """A client that talks on, while somebody else makes claims: handshakes with the headers of `claims`, by label."""

    #: What it says of itself in every handshake.
    credentials: ClassVar[dict[str, str]] = {}

    def _options(self) -> dict[str, Any]:
        headers = {"additional_headers": self.credentials, "connection_id": self.session_id}
        return {**super()._options(), **headers}

    async def talk(self, opening: asyncio.Semaphore) -> None:
        """Talk, and be claimed."""
        claiming = background(self._be_claimed())
        try:
            await super().talk(opening)
        finally:
            claiming.cancel()
            await asyncio.wait([claiming])

    async def _be_claimed(self) -> None:
        await self.may_talk.wait()
        while self.may_talk.is_set():
            await asyncio.sleep(CLAIM_SECONDS)
            for label, headers in self.claims():
                await claim(self, label, headers)

    def claims(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the claims to make, a label and headers each."""
        raise NotImplementedError


class WrongIdsClient(ClaimedClient):
    """Somebody comes with ids that name no session: unknown ones, and what is no id at all."""

    def claims(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the claims to make."""
        yield "unknown", {"X-Reconnect-Id": f"{_UNKNOWN}{self.random.getrandbits(64):x}"}
        for wrong in ("too-short", "x" * 129, "a slash/and spaces in it"):
            yield "malformed", {"X-Reconnect-Id": wrong}
            yield "malformed", {"X-Connection-Id": wrong}


class RobbedClient(ClaimedClient):
    """A thief has got hold of the id, but not of the credentials."""

    credentials: ClassVar[dict[str, str]] = {"Authorization": "Bearer of-the-owner"}

    def claims(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the claims to make."""
        yield "thief", {"X-Reconnect-Id": self.session_id, "Authorization": "Bearer of-a-thief"}
        yield "thief", {"X-Connection-Id": self.session_id}


class StaleCountsClient(ClaimedClient):
    """Somebody has the id, and another idea of what was received."""

    def claims(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the claims to make, once so much has been received that some of it is confirmed for certain."""
        if self.recorder.arrived(self.name) >= CONFIRMED:
            yield "future", {"X-Reconnect-Id": self.session_id, "X-Reconnect-Received": str(MANY)}
            yield "past", {"X-Reconnect-Id": self.session_id, "X-Reconnect-Received": "0"}


async def claim(client: PlainClient, label: str, headers: dict[str, str]) -> None:
    """Make one handshake with these headers beside those of a client, and record what comes of it."""
    options: dict[str, Any] = {**client.basics, "open_timeout": OLD_SECONDS}
    name = f"{client.name}.{label}"
    try:
        socket = await connect(client.url, additional_headers=headers, **options)
    except InvalidStatus as refusal:
        client.recorder.link(name, "unreachable", asked=True, **told(refusal))
    except FAILED_HANDSHAKE as failure:
        client.recorder.link(name, "unreachable", asked=True, **told(failure))
    else:
        client.recorder.link(name, "connected", asked=True)
        await socket.close()


async def _never() -> None:
    await asyncio.Event().wait()
