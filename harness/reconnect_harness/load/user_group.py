"""The crew: all WebSocket users of one process, and what they have in common in a run.

    test_start ── users come, talk, leave ── test_stopping: hush, and wait for what is in flight ── test_stop

Nobody's account is closed while something may still come, whoever ends the run: Ctrl-C, --run-time, --stop-timeout, the
web UI, or a master.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pool import Group
from locust.env import Environment

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.load.generator_load import Meter
from reconnect_harness.load.link import Dialler
from reconnect_harness.load.settings import Settings
from reconnect_harness.load.tally import FLAW_NAMES, Sums, Tally

if TYPE_CHECKING:
    from reconnect_harness.load.user import WebSocketUser

#: What all requests of WebSocket users are called in locust's statistics.
REQUEST_TYPE = "WS"

#: How often accounts are looked through for what was overtaken, and how often it is asked whether all has come.
LOOK_SECONDS = 1.0
POLL_SECONDS = 0.05

#: How long closing handshakes may take in the end, in seconds.
GOODBYE_SECONDS = 10.0

_ATTRIBUTE = "reconnect_crew"


class Failure(Exception):
    """What is a failure in locust's statistics; the text is what it is counted by."""


class Crew:
    """The users of a process.

    Attributes:
        settings: what the users are told.
        tally: what they did and got in this run.
        meter: whether this process keeps up.
        hushed: whether the run is ending: nobody sends any more.
        runs: how many runs there were, this one included.

    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.settings = self._own = Settings.of(environment.parsed_options)
        self.tally = Tally()
        self.meter = Meter()
        self.hushed = False
        self.runs = 0
        self._drained = False
        self._members: dict[WebSocketUser, None] = {}
        self._leaving = Group()
        self._looking: gevent.Greenlet[..., None] | None = None
        self._dialler: dict[str, Dialler] = {}
        # Streams of two processes, or of two runs, must not be taken for each other.
        self._token = secrets.token_hex(4)
        self._streams = 0

    @classmethod
    def of(cls, environment: Environment) -> Crew:
        """Return the crew of an environment; it is made when it is first asked for."""
        crew = getattr(environment, _ATTRIBUTE, None)
        if crew is None:
            crew = cls(environment)
            setattr(environment, _ATTRIBUTE, crew)
        assert isinstance(crew, Crew)
        return crew

    # A run.

    def begin(self) -> None:
        """Begin a run with an empty tally. Options may have come from the master, or the web UI, since the last one."""
        settings = Settings.of(self.environment.parsed_options)
        # A master's options take the place of a worker's; how this machine connects it cannot know.
        self.settings = replace(settings, sources=self._own.sources or settings.sources, ca=self._own.ca or settings.ca)
        self.tally = Tally()
        self.meter.stop()
        self.meter = Meter()
        self.meter.start()
        self.hushed = self._drained = False
        self.runs += 1
        self._look_on()

    def drain(self) -> None:
        """Have nobody send any more, wait until nothing is in flight or nothing new comes, and close all accounts."""
        self.hushed = True
        if self._drained:
            return
        self.meter.stop()
        self._settle(list(self._members))
        for user in list(self._members):
            user.close_account()
        self._drained = True

    def leave(self) -> None:
        """Wait until everybody has closed the conversation, for a while."""
        for user in list(self._members):
            self.depart(user)
        self._leaving.join(GOODBYE_SECONDS)
        self._leaving.kill()

    # Users.

    def join(self, user: WebSocketUser) -> None:
        """Look after a user that has a conversation."""
        self._members[user] = None
        self._look_on()

    def depart(self, user: WebSocketUser) -> None:
        """Let a user go whose program is over: what is in flight to it is waited for, and its conversation closed."""
        if user in self._members:
            self._leaving.spawn(self.release, user)

    def release(self, user: WebSocketUser) -> None:
        """Wait for what is in flight to a user, and close its conversation."""
        if user not in self._members:
            return
        if not self._drained:
            self._settle([user])
        self._members.pop(user, None)
        user.close_account()
        user.hang_up()

    def drop_links(self) -> None:
        """Have all users lose their links at once."""
        for user in list(self._members):
            user.drop()

    def fault_over(self) -> None:
        """Take note that a fault is over: whoever waits for something has begun to recover."""
        now = time.monotonic()
        for user in self._members:
            user.recovering(now)

    def new_stream(self) -> str:
        """Return a name for a stream that no other has."""
        self._streams += 1
        return f"{self._token}.{self._streams}"

    def dialler(self, host: str) -> Dialler:
        """Return what makes links to a host, a URL."""
        if host not in self._dialler:
            self._dialler[host] = Dialler(host, self.settings.sources, self.settings.ca)
        return self._dialler[host]

    # What is told.

    def record(self, name: str, seconds: float | None, length: int = 0, error: str | None = None) -> None:
        """Put a request into locust's statistics; with `error` a failed one."""
        self.environment.events.request.fire(
            request_type=REQUEST_TYPE,
            name=name,
            response_time=None if seconds is None else seconds * 1000,
            response_length=length,
            exception=None if error is None else Failure(error),
            context={},
        )

    def count_flaw(self, sums: Sums, flaw: Flaw, why: str, count: int = 1) -> None:
        """Count messages with a flaw."""
        sums.count(flaw, count)
        for _ in range(count):
            self.record(FLAW_NAMES[flaw], None, error=why)

    def report(self) -> dict[str, Any]:
        """Return what a worker tells its master: everything so far, and whether it is the last word."""
        self._count_in_flight()
        return {
            "run": self.runs,
            "final": self._drained,
            "tally": self.tally.to_report(),
            "meter": self.meter.reading.to_report(),
        }

    def _count_in_flight(self) -> None:
        for sums in self.tally.sums.values():
            sums.in_flight = 0
        for user in self._members:
            user.sums.in_flight += user.in_flight

    # What goes on beside.

    def _settle(self, users: list[WebSocketUser]) -> None:
        """Wait until nothing is in flight to these users, or no answer has come for as long as is allowed.

        Answers become fewer and fewer, so this ends; what is pushed may go on for ever.
        """
        awaited: int | None = None
        changed = time.monotonic()
        while time.monotonic() - changed < self.settings.settle:
            if not any(user.in_flight for user in users):
                return
            latest = sum(user.unanswered for user in users)
            if latest != awaited:
                awaited, changed = latest, time.monotonic()
            gevent.sleep(POLL_SECONDS)

    def _look_on(self) -> None:
        if self._looking is None or self._looking.dead:
            self._looking = gevent.spawn(self._look)

    def _look(self) -> None:
        while self._members or not self._drained:
            gevent.sleep(LOOK_SECONDS)
            for user in list(self._members):
                user.give_up_overtaken()
