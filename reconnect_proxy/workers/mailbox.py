"""Messages between workers, with file descriptors in them.

Each worker has a mailbox: a pair of Unix sockets that keep messages apart (SOCK_SEQPACKET). The worker reads at one
end. The others write at the other end, each message as a whole or not at all. The supervisor has made the pair and has
both ends open. So messages to a worker that has died wait for the one that replaces it.

A message is a line of JSON and then bytes that this module does not look at. Data that is too long for one message goes
into a file in memory, whose descriptor is the last in the message.
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

#: Bytes of messages that a mailbox should hold; the system may allow less (net.core.wmem_max).
CAPACITY = 4 * 1024**2
#: Bytes of the longest message; longer data goes into a file.
LONGEST = 64 * 1024
#: For the file descriptors in a message, of which there are at most three.
_ROOM_FOR_DESCRIPTORS = socket.CMSG_LEN(4 * array("i").itemsize)
#: Messages that are read in one turn of the loop.
MESSAGES_A_TURN = 32

logger = logging.getLogger("reconnect_proxy.workers")


@dataclass(slots=True)
class WorkerMessage:
    """A message of one worker to another: `facts` that JSON can hold, `data`, and file descriptors.

    The sender closes its own copies of the descriptors; the receiver has copies that it must close.
    """

    facts: dict[str, Any]
    data: bytes = b""
    descriptors: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close the descriptors that were not taken."""
        while self.descriptors:
            os.close(self.descriptors.pop())


def make_mailbox() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new mailbox: to read at, and to write at."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (reading, writing):
        end.setblocking(False)
    writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CAPACITY)
    return reading, writing


class MailboxReader:
    """The end at which a worker reads its mailbox, from `start` to `close`."""

    def __init__(self, reading: socket.socket, take: Callable[[WorkerMessage], None]) -> None:
        """Read at `reading`, and give each message to `take`, which owns its descriptors from then on."""
        self._reading = reading
        self._take = take
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._loop.add_reader(self._reading, self._read)

    def close(self) -> None:
        """Read what there is, and nothing after that."""
        self._loop.remove_reader(self._reading)
        while (message := self._next()) is not None:
            self._take(message)
        self._reading.close()

    def _read(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            message = self._next()
            if message is None:
                return
            self._take(message)

    def _next(self) -> WorkerMessage | None:
        try:
            # `socket.recv_fds` drops flags (Python 3.11). Programs that hooks start must not inherit the sockets.
            packet, extra, _, _ = self._reading.recvmsg(LONGEST, _ROOM_FOR_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        if not packet:
            # The supervisor has died, and this process ends soon.
            self._loop.remove_reader(self._reading)
            return None
        line, _, data = packet.partition(b"\n")
        facts = json.loads(line)
        descriptors = array("i")
        for _, _, packed in extra:
            descriptors.frombytes(packed)
        message = WorkerMessage(facts, data, descriptors.tolist())
        if facts.pop("filed", False):
            with os.fdopen(message.descriptors.pop(), "rb") as file:
                file.seek(0)
                message.data = file.read()
        return message


@dataclass(slots=True, eq=False)
class _Waiting:
    """A message that waits for room in a mailbox; `then` is told whether it was sent."""

    message: WorkerMessage
    then: Callable[[bool], None]
    timer: asyncio.TimerHandle | None = None


class MailboxWriter:
    """The end at which the others write to the mailbox of a worker."""

    def __init__(self, writing: socket.socket) -> None:
        self._writing = writing
        self._waiting: deque[_Waiting] = deque()
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Send nothing more."""
        for waiting in list(self._waiting):
            self._fail(waiting)
        self._writing.close()

    def send(self, message: WorkerMessage, then: Callable[[bool], None], patience: float) -> None:
        """Send a message, at once if there is room for it, and tell `then` whether it was sent.

        When `then` is called, the descriptors of the message are not needed any more. It is called with False if there
        was no room for `patience` seconds.
        """
        if not self._waiting:
            sent = self._write(message)
            if sent is not None:
                then(sent)
                return
            self._loop.add_writer(self._writing, self._on_room)
        waiting = _Waiting(message, then)
        self._waiting.append(waiting)
        waiting.timer = self._loop.call_later(patience, self._fail, waiting)

    def _fail(self, waiting: _Waiting) -> None:
        self._remove(waiting)
        waiting.then(False)

    def _on_room(self) -> None:
        while self._waiting:
            waiting = self._waiting[0]
            sent = self._write(waiting.message)
            if sent is None:
                return
            self._remove(waiting)
            waiting.then(sent)

    def _remove(self, waiting: _Waiting) -> None:
        self._waiting.remove(waiting)
        if waiting.timer is not None:
            waiting.timer.cancel()
        if not self._waiting:
            self._loop.remove_writer(self._writing)

    def _write(self, message: WorkerMessage) -> bool | None:
        """Write a message; return whether that was possible, or None if there is no room."""
        line = json.dumps(message.facts).encode()
        file: list[int] = []
        data: Sequence[bytes] = (line, b"\n", message.data)
        if sum(map(len, data)) > LONGEST:
            file.append(_file_of(message.data))
            data = (json.dumps({**message.facts, "filed": True}).encode(), b"\n")
        try:
            socket.send_fds(self._writing, data, [*message.descriptors, *file])
        except BlockingIOError:
            return None
        except OSError as error:
            # For instance: as many descriptors are in mailboxes as one process may have open.
            logger.warning("message to worker not sent", extra={"fields": {"detail": error.strerror or str(error)}})
            return False
        finally:
            for descriptor in file:
                os.close(descriptor)
        return True


def _file_of(data: bytes) -> int:
    """Return the descriptor of a file in memory that holds `data`."""
    descriptor = os.memfd_create("reconnect-proxy-message")
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return descriptor
