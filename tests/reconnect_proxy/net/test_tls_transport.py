"""TLS over real sockets: nothing is lost, for every way in which either side ends; and backpressure is that of TCP."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import cast

import pytest
import uvloop

from reconnect_proxy.net.tls import listener_context, upstream_context
from reconnect_proxy.net.tls_transport import TlsFailed, TlsTransport

from ...certificates import Authority

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
LOTS = random.Random(1).randbytes(3_000_000)


class Reader(asyncio.BufferedProtocol):
    """Reads into a small buffer, as picows does, and keeps what it is told."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.events: list[str] = []
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.grown = asyncio.Event()
        # Called when something was read, in the midst of it.
        self.when_read: Callable[[], None] | None = None
        self._buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Offer the buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what came."""
        self.received += self._buffer[:nbytes]
        if self.when_read is not None:
            self.when_read()
        self.grown.set()

    def pause_writing(self) -> None:
        """Keep that."""
        self.events.append("pause")

    def resume_writing(self) -> None:
        """Keep that."""
        self.events.append("resume")
        self.grown.set()

    def eof_received(self) -> None:
        """Keep that."""
        self.events.append("eof")
        self.grown.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep that; a second time would be an error."""
        self.ended.set_result(exc)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that came has made the condition true."""
        while not condition():
            self.grown.clear()
            await self.grown.wait()


class Accepted(asyncio.Protocol):
    """The listener's side: starts TLS on what is accepted, with a `Reader` above."""

    def __init__(self, context: ssl.SSLContext, accepted: asyncio.Future[tuple[TlsTransport, Reader]]) -> None:
        self._context = context
        self._accepted = accepted
        self.reader = Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start TLS."""
        tls = TlsTransport(cast(asyncio.Transport, transport), self.reader, self._context)
        self._accepted.set_result((tls, self.reader))


@contextlib.asynccontextmanager
async def accepting(
    authority: Authority,
) -> AsyncIterator[tuple[int, Awaitable[tuple[TlsTransport, Reader]]]]:
    """Listen for one connection; yields the port, and what it becomes."""
    identity = authority.issue()
    context = listener_context(str(identity.cert), str(identity.key))
    # Without tickets a client that never reads has nothing unread, and ends TCP with a FIN.
    context.num_tickets = 0
    accepted: asyncio.Future[tuple[TlsTransport, Reader]] = asyncio.get_running_loop().create_future()
    server = await asyncio.get_running_loop().create_server(lambda: Accepted(context, accepted), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], accepted
    finally:
        server.close()
        if accepted.done():
            tls, reader = accepted.result()
            # CPython's transport may raise AttributeError if it is over already.
            if not reader.ended.done():
                tls.abort()
            await reader.ended


@contextlib.contextmanager
def peer(port: int, authority: Authority, **options: int) -> Iterator[ssl.SSLSocket]:
    """Connect an ordinary blocking TLS client; for use in a thread."""
    plain = socket.socket()
    try:
        for option, value in options.items():
            plain.setsockopt(socket.SOL_SOCKET, getattr(socket, option), value)
        plain.settimeout(20)
        plain.connect(("127.0.0.1", port))
        with authority.client().wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
            yield tls
    finally:
        plain.close()


def run_with(loop: Callable[[], asyncio.AbstractEventLoop], work: Awaitable[None]) -> None:
    """Run a test in a loop of this kind."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work)  # type: ignore[arg-type]


@pytest.mark.parametrize("notify", [True, False], ids=["close_notify", "FIN alone"])
@pytest.mark.parametrize("pause", [True, False], ids=["paused", "reading"])
@pytest.mark.parametrize("loop", LOOPS)
def test_what_was_read_is_handed_on_before_the_end(
    loop: Callable[[], asyncio.AbstractEventLoop], pause: bool, notify: bool, authority: Authority
) -> None:
    """A peer that writes and leaves at once, politely or not, is heard to its end, however slowly."""

    def write(port: int, left: threading.Event) -> None:
        with peer(port, authority) as tls:
            tls.sendall(LOTS[:200_000])
            if notify:
                with contextlib.suppress(OSError):
                    tls.settimeout(0.1)
                    tls.unwrap()
        left.set()

    async def test() -> None:
        left = threading.Event()
        async with accepting(authority) as (port, accepted):
            writing = asyncio.create_task(asyncio.to_thread(write, port, left))
            tls, reader = await accepted
            if pause:
                reader.when_read = tls.pause_reading
                await reader.until(lambda: bool(reader.received))
                reader.when_read = None
                await asyncio.to_thread(left.wait, 20)
                assert len(reader.received) == 1000
                tls.resume_reading()
            assert await reader.ended is None
            await writing
            assert reader.received == LOTS[:200_000]
            assert reader.events == ["eof"]

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_written_arrives_whole(loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority) -> None:
    """In pieces of any size, from nothing to many records, with a close behind it and a close_notify at the end."""

    def read(port: int) -> bytes:
        with peer(port, authority, SO_RCVBUF=8192) as tls:
            tls.sendall(b"go")
            found = bytearray()
            # At a FIN without a close_notify this would raise.
            while data := tls.recv(65536):
                found += data
            return bytes(found)

    async def test() -> None:
        async with accepting(authority) as (port, accepted):
            reading = asyncio.create_task(asyncio.to_thread(read, port))
            tls, reader = await accepted
            await reader.until(lambda: reader.received == b"go")
            tls.write(b"")
            tls.writelines((LOTS[:3], LOTS[3:10], memoryview(LOTS)[10:20_000]))
            tls.write(bytearray(LOTS[20_000:20_001]))
            tls.write(LOTS[20_001:])
            tls.close()
            tls.write(b"behind the end")
            assert await reading == LOTS
            await reader.ended

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_does_not_read_pauses_whoever_writes(
    loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority
) -> None:
    """The limits are those of the write buffer below: above the one it says pause, below the other resume."""

    def read(port: int, may: threading.Event) -> int:
        with peer(port, authority, SO_RCVBUF=8192) as tls:
            tls.sendall(b"go")
            may.wait(20)
            found = 0
            while found < 100 * 100_000:
                found += len(tls.recv(65536))
            return found

    async def test() -> None:
        may = threading.Event()
        async with accepting(authority) as (port, accepted):
            reading = asyncio.create_task(asyncio.to_thread(read, port, may))
            tls, reader = await accepted
            await reader.until(lambda: reader.received == b"go")
            tls.set_write_buffer_limits(high=256 * 1024)
            assert tls.get_write_buffer_limits()[1] == 256 * 1024
            sent = 0
            while not reader.events:
                tls.write(LOTS[:100_000])
                sent += 1
                await asyncio.sleep(0)
            assert tls.get_write_buffer_size() > 256 * 1024
            assert sent <= 100, "the sockets held all of it: the test has to write more"
            may.set()
            await reader.until(lambda: reader.events == ["pause", "resume"])
            for _ in range(100 - sent):
                tls.write(LOTS[:100_000])
            assert await reading == 100 * 100_000
            await reader.ended

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_paused_reader_holds_the_peer_back(
    loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority
) -> None:
    """Without a reader, nothing piles up here: the peer's socket fills, and empties when reading goes on."""

    def write(port: int, stuck: threading.Event, may: threading.Event) -> None:
        with peer(port, authority, SO_SNDBUF=65536) as tls:
            tls.settimeout(0.3)
            sent, rest = 0, memoryview(LOTS * 10)
            while sent < len(rest):
                try:
                    sent += tls.send(rest[sent : sent + 16384])
                except TimeoutError:
                    stuck.set()
                    may.wait(20)

    async def test() -> None:
        stuck, may = threading.Event(), threading.Event()
        async with accepting(authority) as (port, accepted):
            writing = asyncio.create_task(asyncio.to_thread(write, port, stuck, may))
            tls, reader = await accepted
            reader.when_read = tls.pause_reading
            assert await asyncio.to_thread(stuck.wait, 20)
            assert len(reader.received) == 1000
            assert not tls.is_reading()
            reader.when_read = None
            tls.resume_reading()
            tls.pause_reading()
            tls.resume_reading()
            may.set()
            assert await reader.ended is None
            await writing
            assert reader.received == LOTS * 10

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reset_is_the_end(loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority) -> None:
    """The protocol above hears of it, and of nothing else."""

    def reset(port: int) -> None:
        with peer(port, authority) as tls:
            tls.sendall(b"go")
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def test() -> None:
        async with accepting(authority) as (port, accepted):
            resetting = asyncio.create_task(asyncio.to_thread(reset, port))
            _, reader = await accepted
            assert isinstance(await reader.ended, ConnectionResetError)
            await resetting
            assert reader.events == []

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_abort_drops_what_waits(loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority) -> None:
    """The connection is over at once for both, and the peer can tell that this was not all."""

    def read(port: int) -> str:
        with peer(port, authority) as tls:
            tls.sendall(b"go")
            try:
                while tls.recv(65536):
                    pass
            except OSError as error:
                return type(error).__name__
            return "a clean end"

    async def test() -> None:
        async with accepting(authority) as (port, accepted):
            reading = asyncio.create_task(asyncio.to_thread(read, port))
            tls, reader = await accepted
            await reader.until(lambda: reader.received == b"go")
            tls.abort()
            tls.abort()
            tls.close()
            assert tls.is_closing()
            await reader.ended
            assert await reading in ("SSLEOFError", "ConnectionResetError")

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_handshake_that_fails_is_told_to_the_peer(
    loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority
) -> None:
    """A client without forward secrecy gets an alert, which says more about the cause than a socket that just ends."""
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256")

    def connect(port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), 20) as plain,
            pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"),
        ):
            context.wrap_socket(plain, server_hostname="localhost")

    async def test() -> None:
        async with accepting(authority) as (port, accepted):
            await asyncio.to_thread(connect, port)
            _, reader = await accepted
            error = await reader.ended
            assert isinstance(error, TlsFailed)
            assert "no shared cipher" in str(error)

    run_with(loop, test())


class Tampering:
    """A TLS client whose records can be spoilt and cut on their way: its bytes are in the test's hands."""

    def __init__(self, authority: Authority) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = authority.client().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def shake_hands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Complete the handshake, a byte at a time."""
        while self.tls.version() is None or self.outgoing.pending:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            await self.dribble(writer)
            if self.tls.cipher() is None:
                self.incoming.write(await reader.read(65536))

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Return what comes until the server's close_notify."""
        found = bytearray()
        while True:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                if data := await reader.read(65536):
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            except ssl.SSLZeroReturnError:
                # As an empty read, if this side has sent its own close_notify.
                return bytes(found)
            else:
                if not data:
                    return bytes(found)
                found += data

    async def dribble(self, writer: asyncio.StreamWriter) -> None:
        """Send what waits a byte at a time."""
        for byte in self.outgoing.read():
            writer.write(bytes([byte]))
            await asyncio.sleep(0)


async def test_records_may_come_a_byte_at_a_time(authority: Authority) -> None:
    """The handshake, and data, however TCP cuts them."""
    async with accepting(authority) as (port, accepted):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        client = Tampering(authority)
        await client.shake_hands(from_server, to_server)
        client.tls.write(b"hello")
        await client.dribble(to_server)
        tls, reader = await accepted
        await reader.until(lambda: reader.received == b"hello")
        assert tls.established
        to_server.close()
        await to_server.wait_closed()


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_arrives_behind_the_close_notify_of_the_peer(
    loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority
) -> None:
    """A peer that says no more may still read: what was written to it before is not dropped."""

    async def test() -> None:
        async with accepting(authority) as (port, accepted):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
            client = Tampering(authority)
            await client.shake_hands(from_server, to_server)
            client.tls.write(b"go")
            await client.dribble(to_server)
            tls, reader = await accepted
            await reader.until(lambda: reader.received == b"go")
            sent = 0
            # More than the sockets can still take.
            while tls.get_write_buffer_size() < 2 * len(LOTS):
                tls.write(LOTS)
                sent += 1
                await asyncio.sleep(0)
            with contextlib.suppress(ssl.SSLWantReadError):
                client.tls.unwrap()
            await client.dribble(to_server)
            await reader.until(lambda: reader.events[-1:] == ["eof"])
            assert tls.get_write_buffer_size()
            assert await client.read(from_server) == LOTS * sent
            assert await reader.ended is None
            to_server.close()
            await to_server.wait_closed()

    run_with(loop, test())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_close_does_not_wait_for_the_peer(
    loop: Callable[[], asyncio.AbstractEventLoop], authority: Authority
) -> None:
    """TCP ends behind the close_notify, whether or not the peer ever answers that."""

    async def test() -> None:
        async with accepting(authority) as (port, accepted):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
            client = Tampering(authority)
            await client.shake_hands(from_server, to_server)
            client.tls.write(b"go")
            await client.dribble(to_server)
            tls, reader = await accepted
            await reader.until(lambda: reader.received == b"go")
            tls.close()
            assert await reader.ended is None
            assert await client.read(from_server) == b""
            assert await from_server.read() == b""
            to_server.close()
            await to_server.wait_closed()

    run_with(loop, test())


async def test_a_record_that_was_changed_on_its_way_ends_the_connection(authority: Authority) -> None:
    """What came before it counts, and the reason is said."""
    async with accepting(authority) as (port, accepted):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        client = Tampering(authority)
        await client.shake_hands(from_server, to_server)
        client.tls.write(b"hello")
        good = client.outgoing.read()
        client.tls.write(b"world")
        bad = bytearray(client.outgoing.read())
        bad[-1] ^= 1
        to_server.write(good + bad)
        _, reader = await accepted
        error = await reader.ended
        assert isinstance(error, TlsFailed)
        assert "bad record mac" in str(error) or "decryption failed" in str(error)
        assert reader.received == b"hello"
        to_server.close()
        await to_server.wait_closed()


@pytest.mark.parametrize(
    ("said", "reason", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "http request", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"\x00garbage\r\n" * 10, "wrong version number", b""),
        (b"\x16\x03\x01", "broken off", b""),
    ],
)
async def test_who_speaks_no_tls_is_shut_out(said: bytes, reason: str, answer: bytes, authority: Authority) -> None:
    """Plain HTTP is told in plain HTTP, everybody else by an alert or not at all."""
    async with accepting(authority) as (port, accepted):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        to_server.write(said)
        to_server.write_eof()
        answered = await from_server.read()
        assert answered.startswith(answer)
        _, reader = await accepted
        error = await reader.ended
        assert isinstance(error, TlsFailed)
        assert reason in str(error)
        to_server.close()
        await to_server.wait_closed()


async def test_who_only_looks_whether_somebody_listens_is_no_failure(authority: Authority) -> None:
    """Load balancers connect and leave; that is nothing to report."""
    async with accepting(authority) as (port, accepted):
        _, to_server = await asyncio.open_connection("127.0.0.1", port)
        to_server.close()
        await to_server.wait_closed()
        _, reader = await accepted
        assert await reader.ended is None


async def test_the_name_of_the_server_must_be_one() -> None:
    """What cannot be a host's name is refused before anything is sent."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
        transport, protocol = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        try:
            with pytest.raises(ValueError, match="label empty"):
                TlsTransport(transport, protocol, upstream_context(), ".h")
        finally:
            transport.abort()
