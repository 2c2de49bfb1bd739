"""What is written in one turn of the event loop leaves in one system call.

    socket -> picows -> WebSocketLeg -> core ...
    socket <- transport <- BurstTransport <- picows, WebSocketLeg <- core ...
                               collects; flushes at the loop's next turn

A read may bring thirty small frames. Writing each one as it comes takes thirty system calls, and under TLS thirty
records, which costs more than everything else that is done for them. So a leg writes to a `BurstTransport`, which
collects. The event loop flushes it after it has handled what all sockets have brought, so the processes that wait for
these bytes wake up together. That makes a difference even if each of them gets one frame.

What is collected is bounded (COLLECTED). Its order is that of the writes, because there is no other way to the socket,
and `close` and `abort` write it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from struct import Struct
from typing import Any

#: The most bytes that a transport collects, in addition to its write buffer.
COLLECTED = 64 * 1024
#: The size of payloads, in bytes, from which on they are not copied to be joined with others.
LARGE = 16 * 1024

_SHORT, _MEDIUM, _LONG = Struct("!BB"), Struct("!BBH"), Struct("!BBQ")

Data = bytes | bytearray | memoryview


class _NoSocket:
    """What picows gets in place of the socket, to which it could only write past what is collected.

    picows asks for addresses and options to log them, and sets options that event loops have set already. With uvloop
    each answer would cost one or two system calls and a socket object.
    """

    def fileno(self) -> int:
        """Return no descriptor."""
        return -1

    def setsockopt(self, *option: int) -> None:
        """Set nothing."""

    def getsockopt(self, *option: int) -> int:
        """Return no value of an option."""
        return 0


_NO_SOCKET = _NoSocket()


class BurstTransport:
    """Collects what is written to the transport below, and passes everything else on."""

    __slots__ = ("_collected", "_loop", "_scheduled", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._collected: list[Data] = []
        # Bytes collected.
        self._size = 0
        # The event loop is going to flush.
        self._scheduled = False

    # Writing.

    def write(self, data: Data) -> None:
        """Collect `data`, or write it at once if it is large."""
        size = len(data)
        if size >= LARGE:
            self._write_through(data)
            return
        self._collected.append(data)
        self._size += size
        if self._size >= COLLECTED:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._on_turn)

    def write_frame(self, opcode: int, payload: bytes, mask: bytes = b"") -> None:
        """Write a whole message as one frame (RFC 6455 section 5.2); a large payload is not copied.

        Args:
            opcode: the opcode, with RSV1 as in the first byte of a frame.
            payload: as it is on the wire, masked if there is a mask.
            mask: the four bytes with which `payload` is masked, or none.
        """
        size = len(payload)
        second = 0x80 if mask else 0
        if size < 126:
            head = _SHORT.pack(0x80 | opcode, second | size)
        elif size < 2**16:
            head = _MEDIUM.pack(0x80 | opcode, second | 126, size)
        else:
            head = _LONG.pack(0x80 | opcode, second | 127, size)
        if mask:
            head += mask
        if size >= LARGE:
            self._write_through(head, payload)
            return
        self._collected.append(head)
        self._collected.append(payload)
        self._size += size + len(head)
        if self._size >= COLLECTED:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._on_turn)

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        self.write(b"".join(list_of_data))

    def _on_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write what was collected, unless the connection is lost."""
        if self._collected:
            data = self._take()
            if not self._transport.is_closing():
                self._transport.write(data)

    def mute(self) -> None:
        """Collect from now on, and flush nothing."""
        self._scheduled = True

    def unmute(self) -> None:
        """Drop what was written since `mute`, and go on as usual."""
        self._collected.clear()
        self._size = 0
        self._scheduled = False

    def _write_through(self, *parts: Data) -> None:
        """Write what was collected, and `parts` behind it."""
        if self._collected:
            parts = (self._take(), *parts)
        if not self._transport.is_closing():
            self._transport.writelines(parts)

    def _take(self) -> Data:
        collected, self._collected = self._collected, []
        self._size = 0
        return collected[0] if len(collected) == 1 else b"".join(collected)

    def get_write_buffer_size(self) -> int:
        """Return 1, so that picows does not write to the socket itself, around what is collected; see `waiting`."""
        return 1

    @property
    def waiting(self) -> int:
        """How many bytes wait for the socket, those collected among them."""
        return self._size + self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Write what was collected and close the connection behind it."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once, and what the socket does not take at once.

        What was collected is written first, because without collecting it would have left already. It may be a 101 and
        the close frame that tells the peer why the connection ends.
        """
        self.flush()
        self._transport.abort()

    # The rest of asyncio.Transport, as far as picows and the legs use it.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection, but not its socket, see `_NoSocket`."""
        if name == "socket":
            return _NO_SOCKET
        return default if name in ("peername", "sockname") else self._transport.get_extra_info(name, default)

    def fileno(self) -> int:
        return int(self._transport.get_extra_info("socket").fileno())

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the bytes in the write buffer below from which on the protocol is told to pause."""
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
