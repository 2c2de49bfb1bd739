"""What workers send each other: letters, with file descriptors in them.

Each worker has an inbox, a pair of Unix sockets that keep messages apart (SOCK_SEQPACKET). It reads at one end; all
others write at the other, each letter in one piece or not at all. The supervisor has made the pair and holds both ends,
so letters to a worker that has died wait for the one that takes its place.

A letter is a line of JSON, and behind it bytes that are nobody's business here. What would be too long for a message
goes in a file in memory, whose descriptor is the letter's last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Inbox", "Letter", "Outbound", "Parcel", "make_inbox"]

#: Bytes of letters that an inbox should hold; the system may allow less (net.core.wmem_max).
ROOM = 4 * 1024**2
#: Bytes that a message takes at the most; what is longer goes in a file.
LONGEST = 64 * 1024
#: For the file descriptors in a letter, of which there are three at the most.
_ROOM_FOR_DESCRIPTORS = socket.CMSG_LEN(4 * array("i").itemsize)
#: Letters that are read in one turn of the loop.
LETTERS_A_TURN = 32

logger = logging.getLogger("reconnect_proxy.workers")


@dataclass(slots=True)
class Letter:
    """What one worker tells another: `facts` that JSON can hold, `data`, and file descriptors.

    Who sends it closes its own copies of the descriptors; who gets it has copies that it must close.
    """

    facts: dict[str, Any]
    data: bytes = b""
    descriptors: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close what nobody has taken."""
        while self.descriptors:
            os.close(self.descriptors.pop())


def make_inbox() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new inbox: to read at, and to write at."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (reading, writing):
        end.setblocking(False)
    writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
    return reading, writing


class Inbox:
    """The end at which a worker reads its letters, from `start` to `close`."""

    def __init__(self, reading: socket.socket, take: Callable[[Letter], None]) -> None:
        """Read at `reading`, and give each letter to `take`, which has its descriptors from then on."""
        self._reading = reading
        self._take = take
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin to read."""
        self._loop.add_reader(self._reading, self._read)

    def close(self) -> None:
        """Read what there is, and then no more."""
        self._loop.remove_reader(self._reading)
        while (letter := self._next()) is not None:
            self._take(letter)
        self._reading.close()

    def _read(self) -> None:
        for _ in range(LETTERS_A_TURN):
            letter = self._next()
            if letter is None:
                return
            self._take(letter)

    def _next(self) -> Letter | None:
        try:
            # Not `socket.recv_fds`, which drops flags (Python 3.11): programs that hooks start would have the sockets.
            message, extra, _, _ = self._reading.recvmsg(LONGEST, _ROOM_FOR_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        if not message:
            # The supervisor is gone, and this process is about to be.
            self._loop.remove_reader(self._reading)
            return None
        line, _, data = message.partition(b"\n")
        facts = json.loads(line)
        descriptors = array("i")
        for _, _, packed in extra:
            descriptors.frombytes(packed)
        letter = Letter(facts, data, descriptors.tolist())
        if facts.pop("filed", False):
            with os.fdopen(letter.descriptors.pop(), "rb") as file:
                file.seek(0)
                letter.data = file.read()
        return letter


class Parcel:
    """A letter on its way. `then` hears whether it has been sent, unless it is called back before."""

    __slots__ = ("_outbound", "letter", "then", "timer")

    def __init__(self, outbound: Outbound, letter: Letter, then: Callable[[bool], None]) -> None:
        self._outbound = outbound
        self.letter = letter
        self.then = then
        self.timer: asyncio.TimerHandle | None = None

    def call_back(self) -> None:
        """Do not send it any more."""
        self._outbound.forget(self)


class Outbound:
    """The end at which the others write to a worker's inbox."""

    def __init__(self, writing: socket.socket) -> None:
        self._writing = writing
        self._waiting: deque[Parcel] = deque()
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Send nothing more."""
        for parcel in list(self._waiting):
            self._fail(parcel)
        self._writing.close()

    def send(self, letter: Letter, then: Callable[[bool], None], patience: float) -> Parcel | None:
        """Send a letter, at once if there is room for it, and tell `then` whether it has left.

        Its descriptors are not needed any more when `then` is called. It is called with False when for `patience`
        seconds there was no room. Returns the letter on its way; None: it is decided already.
        """
        parcel = Parcel(self, letter, then)
        if not self._waiting:
            sent = self._write(letter)
            if sent is not None:
                then(sent)
                return None
            self._loop.add_writer(self._writing, self._on_room)
        self._waiting.append(parcel)
        parcel.timer = self._loop.call_later(patience, self._fail, parcel)
        return parcel

    def forget(self, parcel: Parcel) -> None:
        """Do not send a letter that waits for room."""
        if parcel in self._waiting:
            self._waiting.remove(parcel)
        if parcel.timer is not None:
            parcel.timer.cancel()
        if not self._waiting:
            self._loop.remove_writer(self._writing)

    def _fail(self, parcel: Parcel) -> None:
        self.forget(parcel)
        parcel.then(False)

    def _on_room(self) -> None:
        while self._waiting:
            parcel = self._waiting[0]
            sent = self._write(parcel.letter)
            if sent is None:
                return
            self.forget(parcel)
            parcel.then(sent)

    def _write(self, letter: Letter) -> bool | None:
        """Write a letter; return whether that went well, or None if there is no room."""
        line = json.dumps(letter.facts).encode()
        file: list[int] = []
        data: Sequence[bytes] = (line, b"\n", letter.data)
        if sum(map(len, data)) > LONGEST:
            file.append(_file_of(letter.data))
            data = (json.dumps({**letter.facts, "filed": True}).encode(), b"\n")
        try:
            socket.send_fds(self._writing, data, [*letter.descriptors, *file])
        except BlockingIOError:
            return None
        except OSError as error:
            # So many descriptors are on their way, for instance, as one process may have.
            logger.warning("letter not sent", extra={"fields": {"detail": error.strerror or str(error)}})
            return False
        finally:
            for descriptor in file:
                os.close(descriptor)
        return True


def _file_of(data: bytes) -> int:
    """Return the descriptor of a file in memory that holds `data`."""
    descriptor = os.memfd_create("reconnect-proxy-letter")
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return descriptor
