"""The two ends of a relay, by hand: an upstream that does what a test tells it, a client that reads answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

#: Seconds after which a test that waits for something has failed.
PATIENCE = 10.0

Answer = Callable[["Conversation"], Awaitable[None]]


@dataclass
class Conversation:
    """A connection and the head that was read from it, at either end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    first: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)

    async def head(self) -> Self:
        """Read a head."""
        async with asyncio.timeout(PATIENCE):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.first = lines[0]
        self.headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:-2])]
        return self

    def get(self, name: str) -> str | None:
        """Return the one header of this name, or None."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, found
        return found[0] if found else None

    async def body(self) -> bytes:
        """Read the body of the message whose head was read: of the given length, chunked, or until the end."""
        async with asyncio.timeout(PATIENCE):
            if self.get("transfer-encoding") == "chunked":
                body = b""
                while piece := await self.chunk():
                    body += piece
                return body
            length = self.get("content-length")
            return await (self.reader.readexactly(int(length)) if length is not None else self.reader.read())

    async def chunk(self) -> bytes:
        """Read one chunk; the last one comes with its trailers, which are kept in `headers`."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            if size:
                return (await self.reader.readexactly(size + 2))[:-2]
            self.headers = []
            while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                name, _, value = line.decode().strip().partition(": ")
                self.headers.append((name.lower(), value))
            return b""

    async def send(self, data: bytes) -> None:
        """Write, and wait for room."""
        self.writer.write(data)
        await self.writer.drain()

    async def ended(self) -> bytes:
        """Read to the end of the connection. Raises ConnectionResetError where it is cut."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def left(self) -> None:
        """Wait until the peer has ended the connection, with or without an error."""
        with contextlib.suppress(ConnectionError):
            await self.ended()

    def close(self) -> None:
        """End the connection."""
        self.writer.close()

    def reset(self) -> None:
        """End the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed(self) -> None:
        """End the connection, and wait until that is done."""
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


class RawUpstream:
    """A server that hands each connection, its first head read, to `answer`."""

    def __init__(
        self, answer: Answer, context: ssl.SSLContext | None = None, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._answer = answer
        self._context = context
        self._address = address
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Each connection that sent a head, in order.
        self.requests: list[Conversation] = []
        # How many connections there were, with or without a head.
        self.connections = 0
        self.url = ""
        self.port = 0

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, *self._address, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'wss' if self._context else 'ws'}://{self._address[0]}:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and end what is open."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        conversation = Conversation(reader, writer)
        try:
            await conversation.head()
            self.requests.append(conversation)
            await self._answer(conversation)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await conversation.closed()


async def ask(url: str, request: bytes, context: ssl.SSLContext | None = None) -> Conversation:
    """Connect as a client, over TLS with a `context`, and send `request`, as it is."""
    host, _, port = url.partition("://")[2].rpartition(":")
    conversation = Conversation(*await asyncio.open_connection(host, int(port), ssl=context))
    await conversation.send(request)
    return conversation


def get(target: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Return a request without a body."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: proxy.example", *lines, "", ""]).encode("latin-1")
