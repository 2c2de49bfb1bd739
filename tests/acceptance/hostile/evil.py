"""What an upstream may do to a proxy: each path of `EVIL` is one way. The first few are merely useful to attackers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

from ..frames import BodyEnd, Closed, Frame, Head, Headers, Opcode, accept_of, encode
from ..rawsocket import RawSocket

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Head], Awaitable[None]]


def proper(request: Head, headers: Headers = (), end: str = "\r\n") -> bytes:
    """Return the 101 that answers `request`, with more headers; `end` is the end of each line."""
    key = request.get("sec-websocket-key") or ""
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_of(key)), *headers]
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in fields), "", ""]
    return end.join(lines).encode("latin-1")


def upgrade(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head, headers: Headers = ()
) -> RawSocket:
    """Accept a handshake."""
    writer.write(proper(request, headers))
    return RawSocket((reader, writer), request, Head("HTTP/1.1 101", list(headers)), client=False)


# Useful to attackers.


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head) -> None:
    """Send everything back."""
    link = upgrade(reader, writer, request)
    try:
        while True:
            await link.send(await link.recv(within=600))
    except Closed:
        return


async def push(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head) -> None:
    """Say 1 to 100, then listen."""
    link = upgrade(reader, writer, request)
    await link.send(*map(str, range(1, 101)))
    await link.ended(within=600)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head) -> None:
    """Say more than anybody wants to hear."""
    link = upgrade(reader, writer, request)
    try:
        while True:
            await link.send(bytes(64 * 1024))
            # A write that need not wait does not let others run.
            await asyncio.sleep(0)
    except Closed:
        return


async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head) -> None:
    """Accept, read nothing for some seconds, and then leave."""
    if request.get("x-reconnect") is not None:
        writer.write(b"HTTP/1.1 503 Gone\r\nContent-Length: 0\r\n\r\n")
        return
    writer.write(proper(request))
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    await asyncio.sleep(4)
    transport.abort()


# Answers that are none.


def says(*parts: bytes, answer: Callable[[Head], bytes] | None = None) -> Behaviour:
    """Make an upstream that answers with these bytes, behind those that `answer` makes, and waits."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head) -> None:
        writer.write((answer(request) if answer else b"") + b"".join(parts))
        await writer.drain()
        await reader.read()

    return behave


def repeats(start: bytes, part: bytes, pause: float = 0.0) -> Behaviour:
    """Make an upstream that says `start` and then `part` without end."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head) -> None:
        writer.write(start)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


def headed(*headers: tuple[str, str], end: str = "\r\n") -> Behaviour:
    """Make an upstream whose 101 has these headers too."""
    return says(answer=lambda request: proper(request, headers, end))


def framed(*parts: bytes) -> Behaviour:
    """Make an upstream that sends these bytes behind a proper 101."""
    return says(*parts, answer=proper)


def two_accepts(request: Head) -> bytes:
    """Return a 101 with the right Sec-WebSocket-Accept first, and a wrong one."""
    return proper(request, [("Sec-WebSocket-Accept", accept_of("wrong"))])


def wrong_accept(request: Head) -> bytes:
    """Return a 101 that answers another key."""
    return proper(Head(request.first_line, [("sec-websocket-key", "wrong")]))


TEXT = encode(Frame(Opcode.TEXT, b"x"), mask=False)

#: Malformed heads: the dial has failed, with any status.
BAD_HEADS: dict[str, Behaviour] = {
    "bare-lf": headed(end="\n"),
    "bare-lf-in-a-header": headed(("X-Evil", "a\nSet-Cookie: stolen=1")),
    "bare-cr-in-a-header": headed(("X-Evil", "a\rSet-Cookie: stolen=1")),
    "nul-in-a-header": headed(("X-Evil", "a\0b")),
    "folded": headed(("X-Evil", "a\r\n Set-Cookie: stolen=1")),
    "space-before-the-colon": headed(("Set-Cookie ", "stolen=1")),
    "a-megabyte-of-headers": headed(*((f"X-Evil-{n}", "x" * 1000) for n in range(1000))),
    "head-without-end": repeats(b"HTTP/1.1 101 Switching Protocols\r\n", b"X-Evil: x\r\n" * 100),
    "slow-head": repeats(b"HTTP/1.1 101 Switching Protocols\r\n", b"X", pause=0.2),
    "silence": says(),
    "two-accepts": says(answer=two_accepts),
    "wrong-accept": says(answer=wrong_accept),
    "no-upgrade": says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"),
    "an-extension-not-offered": headed(("Sec-WebSocket-Extensions", "x-evil")),
    "a-subprotocol-not-offered": headed(("Sec-WebSocket-Protocol", "evil")),
    "count-is-no-number": headed(("X-Reconnect-Received", "many")),
    "count-is-negative": headed(("X-Reconnect-Received", "-1")),
    "count-is-endless": headed(("X-Reconnect-Received", "9" * 1000)),
    "two-counts": headed(("X-Reconnect-Received", "0"), ("X-Reconnect-Received", "1")),
    "http-2": says(b"HTTP/2 101\r\n\r\n"),
    "http-0-9": says(b"<html>hello</html>\r\n\r\n"),
    "tls-alert": says(b"\x15\x03\x01\x00\x02\x02\x28"),
    "garbage": says(bytes(range(256)) * 8),
    "endless-continue": repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10),
    "status-999": says(b"HTTP/1.1 999 Whatever\r\n\r\n"),
}

#: Those that are a 101 and violate a standard or the protocol of proxies. A client does not wait for another answer.
WRONG_101 = frozenset(
    {
        "bare-lf",
        "bare-lf-in-a-header",
        "bare-cr-in-a-header",
        "nul-in-a-header",
        "folded",
        "space-before-the-colon",
        "a-megabyte-of-headers",
        "head-without-end",
        *("two-accepts", "wrong-accept", "no-upgrade", "an-extension-not-offered", "a-subprotocol-not-offered"),
        *("count-is-no-number", "count-is-negative", "count-is-endless", "two-counts"),
    }
)

#: Refusals: the status that the client gets, and how its answer ends. 101: the answer is none, as above.
REFUSALS: dict[str, tuple[int, BodyEnd, Behaviour]] = {
    "endless-body": (403, BodyEnd.LEFT, repeats(b"HTTP/1.1 403 Forbidden\r\n\r\n", b"x" * 65536)),
    "endless-chunks": (
        403,
        BodyEnd.LEFT,
        repeats(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n%b\r\n" % (b"x" * 1024)),
    ),
    "a-length-of-terabytes": (
        403,
        BodyEnd.LEFT,
        repeats(b"HTTP/1.1 403 No\r\nContent-Length: 9999999999999\r\n\r\n", b"x" * 65536),
    ),
    "two-lengths": (
        101,
        BodyEnd.WHOLE,
        says(b"HTTP/1.1 403 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    ),
    "chunked-and-length": (
        101,
        BodyEnd.WHOLE,
        says(b"HTTP/1.1 403 No\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ),
    "a-bad-chunk": (403, BodyEnd.CUT, says(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n")),
    "early-hints": (
        403,
        BodyEnd.WHOLE,
        says(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
    ),
    "no-content": (204, BodyEnd.WHOLE, says(b"HTTP/1.1 204 No Content\r\n\r\n")),
}

#: Frames behind a proper 101 that break RFC 6455, and the close code that the client gets for it.
BAD_FRAMES: dict[str, tuple[int, Behaviour]] = {
    "masked": (1002, framed(encode(Frame(Opcode.TEXT, b"x"), mask=True))),
    "reserved-opcode": (1002, framed(b"\x83\x00")),
    "reserved-control-opcode": (1002, framed(b"\x8b\x00")),
    "reserved-bit-2": (1002, framed(b"\xa1\x01x")),
    "reserved-bit-1": (1002, framed(b"\xc1\x01x")),
    "fragmented-ping": (1002, framed(b"\x09\x00")),
    "large-ping": (1002, framed(b"\x89\x7e\x00\x80" + bytes(128))),
    "continues-nothing": (1002, framed(b"\x80\x01x")),
    "interrupted-fragment": (1002, framed(b"\x01\x01x", TEXT)),
    "bad-utf-8": (1007, framed(b"\x81\x02\xc3\x28")),
    "top-bit-of-the-length": (1002, framed(b"\x82\x7f" + struct.pack("!Q", 1 << 63))),
    "length-not-minimal": (1002, framed(b"\x82\x7e\x00\x05hello")),
    "a-petabyte": (1009, framed(b"\x82\x7f" + struct.pack("!Q", 1 << 50))),
    "close-code-of-one-byte": (1002, framed(b"\x88\x01\x03")),
    "close-code-1005": (1002, framed(b"\x88\x02\x03\xed")),
    "close-code-65535": (1002, framed(b"\x88\x02\xff\xff")),
    "close-reason-bad-utf-8": (1007, framed(b"\x88\x04\x03\xe8\xc3\x28")),
}

#: By path.
EVIL: dict[str, Behaviour] = {
    "/echo": echo,
    "/push": push,
    "/flood": flood,
    "/never-read": never_read,
    "/stolen-id": headed(("X-Connection-Id", "s" * 20), ("X-Reconnect-Id", "s" * 20), ("X-Reconnect", "true")),
    "/count-of-the-future": headed(("X-Reconnect-Received", "12345")),
    **{f"/head/{name}": behave for name, behave in BAD_HEADS.items()},
    **{f"/refusal/{name}": behave for name, (_, _, behave) in REFUSALS.items()},
    **{f"/frames/{name}": behave for name, (_, behave) in BAD_FRAMES.items()},
}


def _flood_of(frames: bytes, first: bytes = b"") -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Head) -> None:
        writer.write(proper(request) + first)
        while True:
            writer.write(frames)
            await writer.drain()
            await asyncio.sleep(0)

    return behave


EVIL["/ping-flood"] = _flood_of(b"\x89\x04ping" * 1000)
EVIL["/pong-flood"] = _flood_of((b"\x8a\x08" + b"\xff" * 8) * 1000)
EVIL["/fragment-flood"] = _flood_of(b"\x00\x00" * 5000, first=b"\x02\x01x")
