"""The channel between the supervisor and a worker: frames of JSON over a Unix socket of their own.

A frame is its length (4 bytes, big-endian) and a JSON object. A frame with `ask` is a question, and one with `answer`
answers the question of that number. Every other frame is a notice. When one side ends, in any way, so does the other's
socket.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Self

_LENGTH = struct.Struct("!I")

#: Answers a question: its kind and its details.
Answer = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class ChannelClosed(Exception):
    """The other side has ended."""


class Channel:
    """One side, in the running loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `open`."""
        self._reader = reader
        self._writer = writer
        self._asked = 0
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Make a channel of the socket `end`, which it owns from then on."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def run(self, on_notice: Callable[[dict[str, Any]], None], answer: Answer) -> None:
        """Read until the other side has ended: pass notices to `on_notice`, and questions to `answer`."""
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                frame = json.loads(await self._reader.readexactly(length))
                if "answer" in frame:
                    question = self._questions.pop(frame["answer"], None)
                    if question is not None and not question.done():
                        question.set_result(frame)
                elif "ask" in frame:
                    task = asyncio.create_task(self._answer(frame, answer))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                else:
                    on_notice(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.close()

    def tell(self, **facts: Any) -> None:
        """Send a notice, which gets no answer."""
        if not self._writer.is_closing():
            data = json.dumps(facts).encode()
            self._writer.write(_LENGTH.pack(len(data)) + data)

    async def ask(self, kind: str, within: float, **details: Any) -> dict[str, Any]:
        """Ask a question of this `kind` and return the answer.

        Raises:
            TimeoutError: there was none for so many seconds.
            ChannelClosed: the other side has ended.
        """
        if self._writer.is_closing():
            raise ChannelClosed
        self._asked += 1
        number = self._asked
        question = self._questions[number] = asyncio.get_running_loop().create_future()
        try:
            self.tell(ask=number, kind=kind, **details)
            async with asyncio.timeout(within):
                answer: dict[str, Any] = await question
                return answer
        finally:
            self._questions.pop(number, None)

    def close(self) -> None:
        """Close this side, and fail the questions that are not answered."""
        self._writer.close()
        for task in self._answering:
            task.cancel()
        questions, self._questions = self._questions, {}
        for question in questions.values():
            if not question.done():
                question.set_exception(ChannelClosed())

    async def _answer(self, frame: dict[str, Any], answer: Answer) -> None:
        number, kind = frame.pop("ask"), frame.pop("kind")
        self.tell(**await answer(kind, frame), answer=number)


def receive_now(end: socket.socket) -> dict[str, Any]:
    """Read a frame without an event loop. Raises ChannelClosed."""
    (length,) = _LENGTH.unpack(_exactly(end, _LENGTH.size))
    frame: dict[str, Any] = json.loads(_exactly(end, length))
    return frame


def _exactly(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = end.recv(count - len(data))
        if not more:
            raise ChannelClosed
        data += more
    return data
