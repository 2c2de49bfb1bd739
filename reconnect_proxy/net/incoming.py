"""The client's leg: `IncomingWebSocket` of the original design."""

from __future__ import annotations

from collections.abc import Callable, MutableSet

from ..core.interfaces import LegListener
from .leg import WebSocketLeg


class IncomingWebSocket(WebSocketLeg):
    """A client's socket. It attaches to its session as soon as the 101 is written."""

    masked = False

    __slots__ = ("peer",)

    def __init__(
        self,
        attach: Callable[[WebSocketLeg], LegListener | None],
        peer: str,
        deflate: bool,
        max_message: int,
        legs: MutableSet[WebSocketLeg],
    ) -> None:
        """Make the leg of a client at the address `peer`; see `WebSocketLeg`."""
        super().__init__(attach, deflate, max_message, legs)
        self.peer = peer
