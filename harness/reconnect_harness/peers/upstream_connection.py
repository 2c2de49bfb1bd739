"""The connection of a mock upstream: it can also misbehave, and knows which end closed it."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.frames import Frame, Opcode

from reconnect_harness.history.message import LabelReader
from reconnect_harness.peers.late_pong import LatePongServer


class UpstreamConnection(LatePongServer):
    """A connection of a mock upstream.

    Attributes:
        labels: reads the messages of its session.
        hearing: cleared while the upstream reads nothing; code that receives messages waits for it first.

    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.labels = LabelReader()
        self.hearing = asyncio.Event()
        self.hearing.set()
        self._left: tuple[int, str] | None = None

    async def leave(self, code: int, reason: str) -> None:
        """Close it because the upstream wants to, and record that."""
        self._left = code, reason
        await self.close(code, reason)

    @property
    def ending(self) -> tuple[bool, int | None, str]:
        """Whether the upstream closed it, and the close code and reason of the side that did."""
        if self._left is not None:
            return True, *self._left
        return False, self.close_code, self.close_reason or ""

    def mute(self) -> None:
        """Answer no Ping from now on, which violates RFC 6455 section 5.5.2."""
        send = self.protocol.send_frame

        # websockets answers Pings itself, and has no option against that.
        def send_all_but_pongs(frame: Frame) -> None:
            if frame.opcode is not Opcode.PONG:
                send(frame)

        self.protocol.send_frame = send_all_but_pongs  # type: ignore[method-assign]

    async def deafen(self, seconds: float) -> None:
        """Read nothing from the socket for so many seconds."""
        self.hearing.clear()
        self.transport.pause_reading()
        await asyncio.sleep(seconds)
        if not self.transport.is_closing():
            self.transport.resume_reading()
        self.hearing.set()
