"""What transports have in common that stand between another transport and the protocol that reads.

For the transport below such a layer is the protocol, for the protocol above it is the transport. The subclasses differ
in what they do with the bytes, and in how the connection ends.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

#: Takes the protocol's place when the connection is over.
_NO_PROTOCOL = asyncio.Protocol()


class LayeredTransport(asyncio.Transport):
    """Knows which protocol reads, and passes on everything about the write buffer."""

    __slots__ = ("_buffered", "_protocol", "_transport")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        """Stand between `transport` and `protocol`. The caller sets the protocol of `transport`."""
        super().__init__()
        self._transport = transport
        # A BufferedProtocol, or a Protocol.
        self._protocol: Any = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    # What the transport below calls.

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    # What the protocol above calls (asyncio.Transport).

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` read from now on."""
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    def can_write_eof(self) -> bool:
        """Tell that one direction cannot be ended alone: TLS cannot do that."""
        return False

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    # For the layers.

    def _release_protocol(self) -> Any:
        """Return the protocol, and keep no reference to it: the connection is over."""
        protocol, self._protocol = self._protocol, _NO_PROTOCOL
        return protocol
