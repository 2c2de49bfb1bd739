"""What the core of the proxy asks of the world, under gevent: a socket (`Leg`), and time (`Clock`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import gevent
from websocket import ABNF

from reconnect_harness.load.link import LOST, Link, hang_up
from reconnect_proxy.core.interfaces import Acceptance, Timer
from reconnect_proxy.core.timers import Timers


class ConversationLeg:
    """A link as the core sees a socket; satisfies `reconnect_proxy.core.interfaces.Leg`."""

    #: What the system does not take at once waits in the link: as much as may be unconfirmed.
    writable = True
    #: websocket-client knows no compression.
    deflate = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write a message."""
        # If the link is lost, the greenlet that reads from it sees its end.
        with suppress(*LOST):
            self._link.send_frame(ABNF(1, 0, 0, 0, opcode, 1, payload))

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping."""
        with suppress(*LOST):
            self._link.ping(payload)

    def close(self, code: int, reason: str) -> None:
        """Write a close frame."""
        with suppress(*LOST):
            self._link.send_close(code, reason.encode())

    def abort(self) -> None:
        """Drop the socket. The greenlet that reads from it sees its end."""
        hang_up(self._link)

    def pause_reading(self) -> None:
        """Read on: users take all that arrives."""

    def resume_reading(self) -> None:
        """Read on."""

    def progress(self) -> int:
        """Return a constant: a frame is a sign of life when it is complete."""
        return 0

    def acceptance(self) -> Acceptance:
        """Return how many bytes still wait for the system."""
        waiting = self._link.waiting
        return Acceptance(-waiting, waiting > 0, acknowledges=False)


class GeventClock:
    """Time under gevent; satisfies `reconnect_proxy.core.interfaces.Clock`."""

    def time(self) -> float:
        """Return the present time in seconds."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call `callback` once, `delay` seconds from now, in a greenlet of its own."""
        return GreenletTimer(gevent.spawn_later(delay, callback))


class GreenletTimer(NamedTuple):
    """A call that is still to come."""

    greenlet: gevent.Greenlet[..., None]

    def cancel(self) -> None:
        """Cancel the call."""
        self.greenlet.kill(block=False)


#: The timers of all conversations of a process: one greenlet for all that are due.
CLOCK = Timers(GeventClock())
