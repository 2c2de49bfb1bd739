"""A transport that stands between another one and the protocol that reads: what such layers have in common.

To the transport below it is the protocol, and to the protocol above it is the transport. What becomes of the bytes, and
how the connection ends, is what the layers differ in.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast


class LayeredTransport(asyncio.Transport):
    """Passes on who reads, and all about the write buffer."""

    __slots__ = ("_buffered", "_protocol", "_transport")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        """Stand between `transport`, which is not told yet, and `protocol`."""
        super().__init__()
        self._transport = transport
        # A BufferedProtocol, or a Protocol.
        self._protocol: Any = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    # What the transport below calls.

    def pause_writing(self) -> None:
        """Pass on that the write buffer is full."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the write buffer has emptied."""
        self._protocol.resume_writing()

    # What the protocol above calls (asyncio.Transport).

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` read from now on."""
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who reads."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def can_write_eof(self) -> bool:
        """Tell that one direction cannot be ended alone, as under TLS it cannot."""
        return False

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the bytes below which writing goes on again, and above which it is to pause."""
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say from how many bytes in the write buffer on the protocol is told to pause."""
        self._transport.set_write_buffer_limits(high, low)
