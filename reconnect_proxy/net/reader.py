"""How much of a socket is read at a time: not all that the system has collected of it.

picows reads into a buffer of its own, which doubles whenever a read has filled it, and does not shrink. If a peer sends
much while the leg is paused, the buffer would grow to what the system has collected meanwhile, some MiB for each leg,
and all of that would be read before its first message is handled. Here the buffer grows only with the size of messages.
"""

from __future__ import annotations

from picows.picows import WSProtocol  # type: ignore[attr-defined]

#: Bytes of read buffer that picows starts with: the least that it takes, and 256 of them it does not read into. So an
#: idle session takes little, and one that is sent much has what it needs after a few reads.
READ_BUFFER = 2 * 1024
#: Bytes that are read at a time, or half of the room that there is if that is more: messages that are larger come in a
#: few reads all the same.
READ_AT_ONCE = 128 * 1024


class Reader(WSProtocol):  # type: ignore[misc]
    """picows' end of a socket."""

    __slots__ = ()

    def get_buffer(self, size_hint: int) -> memoryview:
        """Return where the next bytes are to be written. `size_hint` says nothing: event loops pass a constant."""
        buffer: memoryview = WSProtocol.get_buffer(self, size_hint)
        room = len(buffer)
        return buffer if room <= READ_AT_ONCE else buffer[: max(READ_AT_ONCE, room // 2)]

    @property
    def room(self) -> int:
        """How many bytes the read buffer takes: a number that changes with every byte of an unfinished frame."""
        return len(WSProtocol.get_buffer(self, -1))
