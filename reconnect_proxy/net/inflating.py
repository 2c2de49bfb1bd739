"""Compressed messages for a peer that has not agreed on permessage-deflate: inflated one by one, as it takes them.

    WebSocketLeg.send --compressed--> InflatedMessages.open --inflated--> WebSocketLeg.send

What is held compressed may be a thousand times as large when it is inflated. So no more than INFLATED_PER_TURN is
inflated for a peer in one turn of the event loop, and other sessions run in between. This also bounds memory: until
the turn ends, uvloop keeps what it has written, even if the socket has taken it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.message import Message
from .deflate import Corrupt, TooBig, open_message

#: The bytes inflated for a peer from which on it gets the next message in the next turn of the event loop.
INFLATED_PER_TURN = 1024 * 1024


class InflatedMessages:
    """Inflates what one leg sends."""

    __slots__ = ("_inflated", "_on_stuck", "_on_turn", "stuck", "waits")

    def __init__(self, on_turn: Callable[[], None], on_stuck: Callable[[str], None]) -> None:
        """Inflate nothing yet.

        Args:
            on_turn: called in the turn of the loop after one in which the leg had to wait.
            on_stuck: called with the reason in the turn after a message could not be inflated.
        """
        self._on_turn, self._on_stuck = on_turn, on_stuck
        # Bytes inflated in this turn of the loop.
        self._inflated = 0
        #: The leg is not writable only because the next message waits for the next turn.
        self.waits = False
        #: The last message cannot be sent, and nothing may overtake it.
        self.stuck = False

    @property
    def full(self) -> bool:
        """Whether nothing more is inflated in this turn."""
        return self.stuck or self._inflated >= INFLATED_PER_TURN

    def open(self, opcode: int, payload: bytes, limit: int) -> Message | None:
        """Inflate a message of at most `limit` bytes. None: it is impossible, and `on_stuck` follows.

        It was not inflated when it came, so it is too late to blame its sender.
        """
        loop = asyncio.get_running_loop()
        try:
            message = open_message(opcode, payload, limit)
        except (TooBig, Corrupt) as error:
            self.stuck = True
            loop.call_soon(self._on_stuck, str(error))
            return None
        if not self._inflated:
            loop.call_soon(self._next_turn)
        # An empty message counts, too.
        self._inflated += len(message[1]) or 1
        return message

    def _next_turn(self) -> None:
        self._inflated = 0
        if self.waits:
            self.waits = False
            self._on_turn()
