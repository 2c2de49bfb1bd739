"""A client's handshake, for tests that change one part of it."""

from __future__ import annotations

HANDSHAKE = (
    b"GET /chat?x=1 HTTP/1.1\r\nHost: example.org\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
)


def replaced(old: bytes, new: bytes) -> bytes:
    """Return the handshake with one part of it replaced, which must be there."""
    assert old in HANDSHAKE
    return HANDSHAKE.replace(old, new)
