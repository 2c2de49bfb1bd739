"""Hooks that break the proxy, to test the checks of a soak."""

from __future__ import annotations

import os
import time
from typing import Any

from reconnect_proxy import Hooks

_BEGIN = time.monotonic()

#: What is kept of sessions that are over.
_KEPT: list[object] = []

#: Messages so far.
_COUNT = 0


class Leaking(Hooks):
    """Keeps a mebibyte and a descriptor of each session, and takes more and more time for each message."""

    def on_session(self, session: Any) -> None:
        """Leak."""
        _KEPT.append(os.urandom(1 << 20))
        _KEPT.append(os.dup(2))

    def on_message(self, session: Any, message: Any) -> Any:
        """Take no time at first, and some 10 ms after 20 seconds."""
        time.sleep(0.01 * ((time.monotonic() - _BEGIN) / 20) ** 3)
        return message


class Losing(Hooks):
    """Drops some messages."""

    def on_message(self, session: Any, message: Any) -> Any:
        """Drop each fiftieth."""
        global _COUNT
        # Not of the probe, whose messages are a number.
        _COUNT += not message.data.strip().isdigit()
        return message if _COUNT % 50 else None
