"""Hooks that can be named on a command line: `tests.reconnect_proxy.guard:GUARD`."""

from __future__ import annotations

from reconnect_proxy.hooks.api import Hooks, Refuse, Session


class Guard(Hooks):
    """Refuses every client."""

    def on_session(self, session: Session) -> None:
        """Refuse the client."""
        raise Refuse(403, "nobody may")


class Demanding(Hooks):
    """Cannot be made without an argument."""

    def __init__(self, needed: int) -> None:
        self.needed = needed


GUARD = Guard()
