"""A WebSocket end written by hand: it does what a test tells it, and else answers as RFC 6455 asks."""

import asyncio
import base64
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence

from .frames import BodyEnd, Closed, Frame, Head, Headers, Opcode, Refused, accept_of, encode, read_frame, read_head
from .waiting import PATIENCE, Message

_open: set["RawSocket"] = set()

#: Bytes of a refusal's body after which a client leaves, and bytes that it reads at once.
MOST_OF_A_BODY = 1024 * 1024
PIECE = 64 * 1024


async def close_all() -> None:
    """Reset every connection that a test has left open: until then none ends for want of a variable's name."""
    while _open:
        await _open.pop().detach()


class RawSocket:
    """Either end of one WebSocket connection."""

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        request: Head,
        response: Head,
        *,
        client: bool,
        answer_pings: bool = True,
    ) -> None:
        """Take over a connection whose handshake is done; `client` says which end this is."""
        self.reader, self.writer = streams
        self.request = request
        self.response = response
        self.answer_pings = answer_pings
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        # Every frame in the order of arrival: its opcode, and its payload (for data: its size).
        self.journal: list[tuple[Opcode, bytes | int]] = []
        # Messages that came compressed (RFC 7692), as they came; what else is said of messages is not of these.
        self.compressed: list[Frame] = []
        self.on_message: Callable[[Message], None] | None = None
        self.on_pong: Callable[[bytes], None] | None = None
        self.end: Closed | None = None
        self._client = client
        self._waiting: list[Message] = []
        self._change = asyncio.Condition()
        self._reading = asyncio.Event()
        self._reading.set()
        self._fragments: list[Frame] = []
        self._close_sent = False
        self._task = asyncio.create_task(self._read())
        _open.add(self)

    # What it is told to do.

    async def send(self, *messages: Message) -> None:
        """Send messages, each as one frame, all in one write."""
        self._write(b"".join(self._encoded(message) for message in messages))
        await self.writer.drain()

    async def send_frame(self, opcode: Opcode, payload: bytes, fin: bool = True, rsv1: bool = False) -> None:
        """Send one frame of any kind."""
        self._write(encode(Frame(opcode, payload, fin, rsv1), self._client))
        await self.writer.drain()

    async def fence(self) -> None:
        """Ping with a fresh payload and wait for its Pong: all that was sent before has been handled."""
        payload = b"fence" + os.urandom(6)
        await self.send_frame(Opcode.PING, payload)
        await self.until(lambda: payload in self.pongs)

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Say Close and wait for the end of the connection."""
        self._close_sent = True
        payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
        with contextlib.suppress(ConnectionError):
            await self.send_frame(Opcode.CLOSE, payload)
        await self.ended()

    def reset(self) -> None:
        """End the TCP connection with RST, if it has not ended."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None and sock.fileno() == -1:
            # To abort a transport of CPython's that was closed with data in its buffer, and is gone, raises
            # AttributeError (agronholm/anyio#1250).
            return
        # uvloop has none any more once the transport is closed.
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def drop(self) -> None:
        """End the TCP connection with FIN and no Close frame."""
        self.writer.close()

    def pause(self) -> None:
        """Stop reading: the peer meets backpressure once the buffers between are full."""
        self._reading.clear()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()

    async def detach(self) -> None:
        """Stop reading and reset: from now on nothing that arrives is handled."""
        self.on_message = None
        self._task.cancel()
        await asyncio.wait([self._task])
        self.reset()

    # What it is asked.

    async def recv(self, within: float = PATIENCE) -> Message:
        """Take the next message; Closed at the end, TimeoutError when none comes."""
        await self.until(lambda: bool(self._waiting) or self.end is not None, within)
        if self._waiting:
            return self._waiting.pop(0)
        assert self.end is not None
        raise self.end

    async def take(self, count: int, within: float = PATIENCE) -> list[Message]:
        """Take the next `count` messages."""
        await self.until(lambda: len(self._waiting) >= count or self.end is not None, within)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        if len(taken) < count:
            raise AssertionError(f"{len(taken)} of {count} messages came before {self.end}")
        return taken

    def left(self) -> list[Message]:
        """Take what has arrived and was not taken, without waiting."""
        taken, self._waiting = self._waiting, []
        return taken

    async def ended(self, within: float = PATIENCE) -> Closed:
        """Wait for the end of the connection and say how it ended."""
        await self.until(lambda: self.end is not None, within)
        assert self.end is not None
        return self.end

    async def until(self, check: Callable[[], bool], within: float = PATIENCE) -> None:
        """Wait until a condition on what has arrived holds."""
        try:
            async with asyncio.timeout(within), self._change:
                await self._change.wait_for(check)
        except TimeoutError:
            kinds = [opcode.name for opcode, _ in self.journal[-5:]]
            raise TimeoutError(f"{within} s passed; {len(self.journal)} frames came, the last {kinds}") from None

    def tokens(self) -> list[int]:
        """The counts that the peer pinged with so far."""
        return [int.from_bytes(payload, "big") for payload in self.pings if len(payload) == 8]

    # How it reads.

    def _encoded(self, message: Message) -> bytes:
        text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else message
        return encode(Frame(Opcode.TEXT if text else Opcode.BINARY, payload), self._client)

    def _write(self, data: bytes) -> None:
        if self.end is not None:
            raise self.end
        self.writer.write(data)

    async def _read(self) -> None:
        end = Closed(1006, "")
        try:
            while True:
                await self._reading.wait()
                frame = await read_frame(self.reader)
                if frame.opcode is Opcode.CLOSE:
                    end = self._parse_close(frame.payload)
                    await self._answer_close(frame.payload)
                    break
                await self._handle(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            # The link ended without a Close frame: 1006, as RFC 6455 section 7.1.5 has it.
            pass
        finally:
            self.writer.close()
            self.end = end
            with contextlib.suppress(asyncio.CancelledError):
                await self._tell()

    async def _tell(self) -> None:
        async with self._change:
            self._change.notify_all()

    async def _handle(self, frame: Frame) -> None:
        data = frame.opcode < Opcode.CLOSE
        self.journal.append((frame.opcode, len(frame.payload) if data else frame.payload))
        if frame.opcode is Opcode.PING:
            self.pings.append(frame.payload)
            if self.answer_pings and not self.writer.is_closing():
                self.writer.write(encode(Frame(Opcode.PONG, frame.payload), self._client))
        elif frame.opcode is Opcode.PONG:
            self.pongs.append(frame.payload)
            if self.on_pong is not None:
                self.on_pong(frame.payload)
        else:
            self._gather(frame)
        await self._tell()

    def _gather(self, frame: Frame) -> None:
        self._fragments.append(frame)
        if not frame.fin:
            return
        payload = b"".join(part.payload for part in self._fragments)
        first = self._fragments[0]
        text = first.opcode is Opcode.TEXT
        self._fragments.clear()
        if first.rsv1:
            self.compressed.append(Frame(first.opcode, payload, rsv1=True))
            return
        message: Message = payload.decode() if text else payload
        if self.on_message is not None:
            self.on_message(message)
        else:
            self._waiting.append(message)

    @staticmethod
    def _parse_close(payload: bytes) -> Closed:
        if len(payload) < 2:
            return Closed(1005, "")
        return Closed(int.from_bytes(payload[:2], "big"), payload[2:].decode())

    async def _answer_close(self, payload: bytes) -> None:
        if self._close_sent:
            return
        with contextlib.suppress(ConnectionError):
            self.writer.write(encode(Frame(Opcode.CLOSE, payload[:2]), self._client))
            await self.writer.drain()


async def connected(address: str, receive_buffer: int | None = None) -> socket.socket:
    """Open a TCP connection to HOST:PORT."""
    host, _, port = address.rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    except BaseException:
        sock.close()
        raise
    return sock


async def dial(
    url: str,
    headers: Headers = (),
    *,
    subprotocols: Sequence[str] = (),
    answer_pings: bool = True,
    receive_buffer: int | None = None,
    sock: socket.socket | None = None,
) -> RawSocket:
    """Open a connection as a client; Refused when the answer is not 101, OSError when nothing listens.

    `sock` is a TCP connection to use, in place of a new one.
    """
    rest = url.removeprefix("ws://")
    authority, slash, path = rest.partition("/")
    if sock is None:
        sock = await connected(authority, receive_buffer)
    reader, writer = await asyncio.open_connection(sock=sock)
    key = base64.b64encode(os.urandom(16)).decode()
    fields = [("Host", authority), ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13"), *headers]
    fields.append(("Upgrade", "websocket"))
    if not any(name.lower() == "connection" for name, _ in headers):
        fields.append(("Connection", "Upgrade"))
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    first_line = f"GET {slash or '/'}{path} HTTP/1.1"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    try:
        writer.write(f"{first_line}\r\n{lines}\r\n".encode("latin-1"))
        async with asyncio.timeout(PATIENCE):
            response = await read_head(reader)
            body, end = (b"", BodyEnd.WHOLE) if response.status == 101 else await _read_body(reader, response)
    except asyncio.IncompleteReadError as error:
        writer.close()
        raise ConnectionResetError("the connection ended in the handshake") from error
    except BaseException:
        writer.close()
        raise
    if response.status != 101:
        writer.close()
        raise Refused(response, body, end)
    assert response.get("sec-websocket-accept") == accept_of(key), response
    request = Head(first_line, [(name.lower(), value) for name, value in fields])
    return RawSocket((reader, writer), request, response, client=True, answer_pings=answer_pings)


async def _read_body(reader: asyncio.StreamReader, head: Head) -> tuple[bytes, BodyEnd]:
    """Read the body of an answer to a GET, but no more than MOST_OF_A_BODY bytes of it."""
    body = bytearray()
    try:
        async for piece in _pieces(reader, head):
            body += piece
            if len(body) > MOST_OF_A_BODY:
                return bytes(body), BodyEnd.LEFT
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        return bytes(body + getattr(error, "partial", b"")), BodyEnd.CUT
    return bytes(body), BodyEnd.WHOLE


async def _pieces(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """Read a body piece by piece, each of at most 64 KiB (RFC 9112 section 6.3)."""
    length = head.get("content-length")
    if head.status in (204, 304):
        return
    if head.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            async for piece in _exactly(reader, size):
                yield piece
            assert await reader.readexactly(2) == b"\r\n"
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    elif length is not None:
        async for piece in _exactly(reader, int(length)):
            yield piece
    else:
        while piece := await reader.read(PIECE):
            yield piece


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield await reader.readexactly(min(size, PIECE))
        size -= PIECE
