"""The client's leg: `IncomingWebSocket` of the original design."""

from __future__ import annotations

from collections.abc import MutableSet

from ..core.context import Context
from ..core.wire import Claim
from .leg import WebSocketLeg


class IncomingWebSocket(WebSocketLeg):
    """A client's socket. It attaches to its session as soon as the 101 is written."""

    masked = False

    __slots__ = ("claim", "context", "peer")

    def __init__(
        self, context: Context, claim: Claim, peer: str, deflate: bool, max_message: int, legs: MutableSet[WebSocketLeg]
    ) -> None:
        """Make the leg of a client at the address `peer`, admitted to `context` with what its request claims."""
        super().__init__(deflate, max_message, legs)
        self.context = context
        self.claim = claim
        self.peer = peer

    def on_connected(self) -> None:
        """Attach to the session."""
        self.link = self.context.attach(self, self.claim)
