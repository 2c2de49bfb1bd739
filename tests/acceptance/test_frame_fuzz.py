"""Streams of frames that a generator made up, judged by `websockets`' own parser: the proxy never reads them otherwise.

Runs a few examples; `HYPOTHESIS_PROFILE=fuzz` a few thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame as ParsedFrame
from websockets.frames import Opcode as ParsedOpcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from reconnect_proxy import Proxy

from .frames import Refused, accept_of, read_head
from .rawsocket import RawSocket, close_all, dial
from .waiting import Message, Tally

#: The largest message, in bytes.
LIMIT = 4096
#: What the test says last, and what stands for the end of the upstream's connection.
END = "the end of the example"
EXAMPLES = 2000 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 60

texts = st.text(max_size=40).map(str.encode)
payloads = st.one_of(
    st.binary(max_size=40), texts, st.sampled_from([b"", b"\xc3\x28", b"\xed\xa0\x80", bytes(125), bytes(126)])
)


@dataclass(frozen=True, slots=True)
class Made:
    """A frame as it goes over the wire: every bit of its head is the generator's. `length` None tells the truth."""

    opcode: int
    payload: bytes
    fin: bool = True
    reserved: int = 0
    masked: bool = True
    length: int | None = None

    def encode(self) -> bytes:
        """Write it down, the length in as few bytes as it takes: `websockets` does not mind more, the proxy does."""
        length = len(self.payload) if self.length is None else self.length
        bit = 0x80 if self.masked else 0
        head = bytes([(0x80 if self.fin else 0) | self.reserved << 4 | self.opcode])
        if length < 126:
            head += bytes([bit | length])
        elif length < 65536:
            head += struct.pack("!BH", bit | 126, length)
        else:
            head += struct.pack("!BQ", bit | 127, length)
        key = b"\x13\x57\x9b\xdf" if self.masked else b""
        payload = bytes(byte ^ key[n % 4] for n, byte in enumerate(self.payload)) if key else self.payload
        return head + key + payload


valid = st.builds(Made, st.sampled_from([1, 2, 9, 10]), st.one_of(texts, st.just(b"\x00" * 125)))
fragment = st.builds(Made, st.sampled_from([0, 0, 0, 1, 2]), payloads, st.booleans())
close = st.builds(
    Made, st.just(8), st.one_of(payloads, st.integers(0, 65535).map(lambda code: code.to_bytes(2, "big") + b"why"))
)
wild = st.builds(
    Made,
    st.integers(0, 15),
    payloads,
    st.booleans(),
    st.sampled_from([0, 0, 0, 1, 2, 4, 7]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([None, None, None, 5000, 65536, 2**40]),
)
streams = st.lists(st.one_of(valid, valid, fragment, close, wild), max_size=12)
cuts = st.lists(st.integers(1, 400), max_size=6)


@dataclass(slots=True)
class Reading:
    """What a reader makes of a stream: the whole messages, and the code it closes with; None: it waits for more."""

    messages: list[Message]
    code: int | None


def oracle(raw: bytes) -> Reading:
    """Read a stream as `websockets` does."""
    protocol = ServerProtocol(state=State.OPEN, max_size=LIMIT)
    protocol.receive_data(raw)
    messages: list[Message] = []
    parts: list[ParsedFrame] = []
    code: int | None = None
    for frame in protocol.events_received():
        assert isinstance(frame, ParsedFrame)
        if frame.opcode is ParsedOpcode.CLOSE:
            code = protocol.close_rcvd.code if protocol.close_rcvd is not None else None
        elif frame.opcode in (ParsedOpcode.TEXT, ParsedOpcode.BINARY, ParsedOpcode.CONT):
            parts.append(frame)
            if frame.fin:
                whole = b"".join(bytes(part.data) for part in parts)
                text = parts[0].opcode is ParsedOpcode.TEXT
                parts.clear()
                try:
                    messages.append(whole.decode() if text else whole)
                except UnicodeDecodeError:
                    # The layers above the parser check that.
                    return Reading(messages, 1007)
    if protocol.close_sent is not None:
        code = protocol.close_sent.code
    return Reading(messages, code)


class Collector:
    """An upstream that writes down what arrives for each path."""

    def __init__(self) -> None:
        self.heard: dict[str, Tally] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Accept one connection and listen."""
        request = await read_head(reader)
        accept = accept_of(request.get("sec-websocket-key") or "")
        lines = ("HTTP/1.1 101 Go", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}")
        writer.write("\r\n".join((*lines, "", "")).encode())
        link = RawSocket((reader, writer), request, request, client=False)
        heard = self.heard[request.target]
        link.on_message = heard.add
        await link.ended(within=600)
        heard.add(END)


class Rig:
    """A proxy with its upstream in an event loop of their own, for as many examples as there are."""

    def __init__(self) -> None:
        self.upstream = Collector()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._number = 0
        self._stack = AsyncExitStack()
        self.url = self.runner.run(self._start())

    async def _start(self) -> str:
        server = await asyncio.start_server(self.upstream.serve, "127.0.0.1", 0)
        # Without waiting for its connections: those end with the proxy, which stops before it is closed.
        self._stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        proxy = Proxy(upstream=f"ws://127.0.0.1:{port}", listen="127.0.0.1:0", max_message=LIMIT, grace="10s")
        return (await self._stack.enter_async_context(proxy)).url

    def stop(self) -> None:
        """Stop it all."""
        with self.runner:
            self.runner.run(self._stack.aclose())
            self.runner.run(close_all())

    async def read(self, raw: bytes, sizes: list[int]) -> Reading:
        """Send a stream in pieces; return what the upstream heard of it, and how it was closed."""
        self._number += 1
        target = f"/{self._number}"
        heard = self.upstream.heard[target] = Tally()
        link = await dial(f"{self.url}{target}")
        with contextlib.suppress(ConnectionError):
            for size in [*sizes, len(raw)]:
                piece, raw = raw[:size], raw[size:]
                link.writer.write(piece)
                await link.writer.drain()
                await asyncio.sleep(0)
            link.writer.write_eof()
        code = (await link.ended()).code
        try:
            again = await dial(f"{self.url}{target}", [("X-Reconnect-Id", link.response.get("x-connection-id") or "")])
        except Refused:
            # Its session ended with it (1009): so does the upstream's connection, behind all messages.
            await heard.until(lambda items: END in items)
            return Reading(heard.items[:-1], code)
        await again.send(END)
        await heard.until(lambda items: END in items)
        await again.detach()
        return Reading(heard.items[:-1], code)


@pytest.fixture(autouse=True)
def no_socket_is_left() -> None:
    """Leave the sockets to the rig: they belong to its event loop."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Start a proxy for all examples."""
    rig = Rig()
    yield rig
    rig.stop()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=streams, sizes=cuts)
@example(frames=[Made(1, b"a"), Made(0, b"b")], sizes=[1, 1, 1])
@example(frames=[Made(1, b"\xe2", fin=False), Made(9, b"p"), Made(0, b"\x82\xac")], sizes=[3])
def test_streams_of_frames_are_read_as_websockets_reads_them(rig: Rig, frames: list[Made], sizes: list[int]) -> None:
    """The messages in front of what is wrong arrive, no others, and the close code is right; or more is awaited."""
    raw = b"".join(frame.encode() for frame in frames)
    expected = oracle(raw)
    found = rig.runner.run(rig.read(raw, sizes))
    assert found.messages[: len(expected.messages)] == expected.messages
    if not any(frame.opcode == 8 for frame in frames):
        # Behind a Close frame that is wrong, picows reads on for the ten milliseconds until it ends the connection.
        assert len(found.messages) == len(expected.messages)
    if expected.code == 1002 and any(frame.opcode == 8 for frame in frames):
        # So websockets answers a Close in the middle of a message; the proxy answers with the same code.
        assert found.code != 1011
    elif expected.code is None:
        assert found.code == 1006
    elif any(frame.reserved or frame.length or frame.opcode == 8 for frame in frames):
        # A frame may be wrong in two ways. The proxy looks at reserved bits when a frame is whole, and at what is
        # behind a Close frame before it answers that.
        assert found.code in (expected.code, 1002, 1006, 1007, 1009)
    else:
        # The reset for what was not read any more may overtake the Close.
        assert found.code in (expected.code, 1006)
