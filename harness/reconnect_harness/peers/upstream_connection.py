"""The connection of a mock upstream: one of websockets' that can also misbehave, and knows which end closed it."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.frames import Frame, Opcode

from reconnect_harness.peers.late_pong import PromisingServer


class UpstreamConnection(PromisingServer):
    """A connection of a mock upstream.

    Attributes:
        hearing: cleared while the upstream reads nothing; whoever takes messages waits for it first.

    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.hearing = asyncio.Event()
        self.hearing.set()
        self._left: tuple[int, str] | None = None

    async def leave(self, code: int, reason: str) -> None:
        """Close it of the upstream's own accord, and remember that."""
        self._left = code, reason
        await self.close(code, reason)

    @property
    def ending(self) -> tuple[bool, int | None, str]:
        """Whether the upstream wanted it to end, and the close code and reason of the side that did."""
        if self._left is not None:
            return True, *self._left
        return False, self.close_code, self.close_reason or ""

    def mute(self) -> None:
        """Answer no Ping from now on, which breaks RFC 6455 section 5.5.2."""
        send = self.protocol.send_frame

        # websockets answers Pings by itself, and has no setting for it.
        def send_all_but_pongs(frame: Frame) -> None:
            if frame.opcode is not Opcode.PONG:
                send(frame)

        self.protocol.send_frame = send_all_but_pongs  # type: ignore[method-assign]

    async def deafen(self, seconds: float) -> None:
        """Read nothing from the socket for a while."""
        self.hearing.clear()
        self.transport.pause_reading()
        await asyncio.sleep(seconds)
        if not self.transport.is_closing():
            self.transport.resume_reading()
        self.hearing.set()
