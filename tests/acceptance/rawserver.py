"""A WebSocket server whose every answer is the test's."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from .frames import Head, Headers, accept_of, read_head
from .rawsocket import RawSocket
from .waiting import PATIENCE


@dataclass(slots=True, frozen=True)
class Answer:
    """What a server says to a handshake; `tail` is raw bytes written right behind a 101."""

    status: int = 101
    headers: Headers = ()
    body: bytes = b""
    tail: bytes = b""
    answer_pings: bool = True


@dataclass(slots=True)
class RawServer:
    """A server whose every answer is the test's: `answer` is asked for each request that arrives."""

    answer: Callable[[Head], Answer] = lambda _: Answer()
    requests: list[Head] = field(default_factory=list)
    sockets: list[RawSocket] = field(default_factory=list)
    port: int = 0
    on_socket: Callable[[RawSocket], None] | None = None
    _server: asyncio.Server | None = None
    _arrivals: asyncio.Queue[RawSocket] = field(default_factory=asyncio.Queue)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The address as a URL without a path."""
        return f"ws://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and reset what is still open."""
        assert self._server is not None
        self._server.close()
        for sock in self.sockets:
            await sock.detach()
        for writer in self._writers:
            writer.transport.abort()

    async def accept(self, within: float = PATIENCE) -> RawSocket:
        """Take the next connection whose handshake was accepted."""
        try:
            async with asyncio.timeout(within):
                return await self._arrivals.get()
        except TimeoutError:
            raise TimeoutError(f"no connection came in {within} s; requests so far {self.requests}") from None

    def skip(self) -> None:
        """Leave out the connections that have come and were not taken by `accept`."""
        while not self._arrivals.empty():
            self._arrivals.get_nowait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            request = await read_head(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        self.requests.append(request)
        answer = self.answer(request)
        fields = list(answer.headers)
        if answer.status == 101:
            accept = accept_of(request.get("sec-websocket-key") or "")
            fields += [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept)]
            if not any(name.lower() == "connection" for name, _ in fields):
                fields.append(("Connection", "Upgrade"))
        else:
            fields += [("Content-Length", str(len(answer.body))), ("Connection", "close")]
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        head = f"HTTP/1.1 {answer.status} Whatever\r\n{lines}\r\n".encode("latin-1")
        writer.write(head + answer.body + answer.tail)
        if answer.status != 101:
            writer.close()
            return
        response = Head(f"HTTP/1.1 {answer.status}", [(name.lower(), value) for name, value in fields])
        sock = RawSocket((reader, writer), request, response, client=False, answer_pings=answer.answer_pings)
        self.sockets.append(sock)
        if self.on_socket is not None:
            self.on_socket(sock)
        self._arrivals.put_nowait(sock)
