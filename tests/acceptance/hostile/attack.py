"""What attackers have: raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import struct

from ..frames import Closed
from ..rawsocket import RawSocket
from ..waiting import PATIENCE

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ?[^\r\n]*\r\n")


def head(*lines: str, first: str = "GET /smuggled HTTP/1.1") -> bytes:
    """Build a request head of a WebSocket handshake with more header lines."""
    usual = ("Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    return "\r\n".join((first, *usual, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *lines, "", "")).encode("latin-1")


async def shout(address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> bytes:
    """Connect, write the parts with a pause before each, and return all that comes until the peer ends that."""
    reader, writer = await asyncio.open_connection(*address)
    heard = b""
    try:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    await asyncio.sleep(pause)
                    writer.write(part)
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(65536):
                    heard += part
    finally:
        writer.transport.abort()
    return heard


def statuses(heard: bytes) -> list[int]:
    """Return the statuses of the responses in what was heard."""
    return [int(status) for status in _STATUS.findall(heard)]


async def provoke(link: RawSocket, raw: bytes) -> Closed:
    """Write raw bytes on a connection and return how the peer ends it."""
    with contextlib.suppress(ConnectionError):
        link.writer.write(raw)
        await link.writer.drain()
    return await link.ended()


def masked(*frames: bytes) -> bytes:
    """Mask frames that were written as a server writes them (payloads below 126 bytes, lengths as they are)."""
    result = b""
    for frame in frames:
        first, second = frame[:2]
        extended = {126: 2, 127: 8}.get(second, 0)
        key = os.urandom(4)
        payload = bytes(byte ^ key[place % 4] for place, byte in enumerate(frame[2 + extended :]))
        result += bytes([first, second | 0x80]) + frame[2 : 2 + extended] + key + payload
    return result


async def connect_and_reset(address: tuple[str, int], data: bytes) -> None:
    """Connect, write, and end the connection with RST at once."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, address)
        if data:
            await loop.sock_sendall(sock, data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        sock.close()
