"""The users of a load run without users of its own: they talk to a server that sends back what it receives.

Each sends `--rate` messages a second, evenly. Every message has its planned moment, and a late one does not delay the
next. How late they are shows whether the generator keeps up.
"""

from __future__ import annotations

import random
import time

import gevent
from locust import task

from reconnect_harness.load.user import NotConnected, WebSocketUser

__all__ = ["AwareUser", "PlainUser"]


class EchoUser(WebSocketUser):
    """A user of an echo server."""

    abstract = True
    inbox = 0

    _planned = 0.0

    def on_start(self) -> None:
        """Connect, then wait a random moment, so that users that start together do not send together."""
        self.connect()
        gevent.sleep(random.random() * self._period)
        self._planned = time.monotonic()

    def wait_time(self) -> float:
        """Return how long it is until the next message is due."""
        self._planned += self._period
        return max(0.0, self._planned - time.monotonic())

    @task
    def talk(self) -> None:
        """Send the next message, in a new conversation if the last one is over."""
        begun = time.monotonic()
        if self.connected:
            self.user_group.generator.sent(begun - self._planned)
        try:
            self.send()
        except NotConnected:
            self.connect()
        if time.monotonic() - begun > self._period:
            # There was no link. Messages that were due meanwhile are not sent, and not late.
            self._planned = time.monotonic()

    @property
    def _period(self) -> float:
        return 1.0 / self.user_group.settings.rate


class PlainUser(EchoUser):
    """An ordinary WebSocket client. When its link is lost it reconnects under its id, and repeats nothing."""


class AwareUser(EchoUser):
    """A client that speaks the reconnect protocol: it counts messages, and resumes its session."""

    aware = True
