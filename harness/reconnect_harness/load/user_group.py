"""All WebSocket users of one process, and what they share in a run.

    test_start ── users connect, talk, leave ── test_stopping: end ── test_stop

`end` means that no user sends any more, and that what is in flight is waited for. Until then no account is closed,
however the run ends: Ctrl-C, --run-time, --stop-timeout, the web UI, or a master.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, replace
from typing import Any, Protocol

import gevent
from gevent.pool import Group
from locust.env import Environment
from locust.runners import Runner

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.load.generator_load import GeneratorLoad
from reconnect_harness.load.link import LinkMaker
from reconnect_harness.load.settings import UserSettings
from reconnect_harness.load.shapes import STORM
from reconnect_harness.load.tally import FLAW_NAMES, Sums, Tally

#: The message that tells the users of a process that a fault has ended.
FAULT_OVER = "reconnect-fault-over"

#: The type of all requests of WebSocket users in locust's statistics.
REQUEST_TYPE = "WS"

#: How often accounts are searched for overtaken messages, and how often it is checked whether all has arrived, in
#: seconds.
LOOK_SECONDS = 1.0
POLL_SECONDS = 0.05

#: How long the closing handshakes at the end may take, in seconds.
GOODBYE_SECONDS = 10.0

_ATTRIBUTE = "reconnect_user_group"


class FailedRequest(Exception):
    """A failure in locust's statistics, which counts failures by their representation."""

    def __repr__(self) -> str:
        return f"Failure({str(self)!r})"


class GroupMember(Protocol):
    """What the group needs of a user (`load.user.WebSocketUser`)."""

    sums: Sums

    @property
    def in_flight(self) -> int:
        """How many messages have not arrived and are not lost yet."""

    @property
    def unanswered(self) -> int:
        """How many of the user's own messages have not come back."""

    def give_up_overtaken(self) -> None:
        """Count as lost what was overtaken some time ago."""

    def close_account(self) -> None:
        """Count as lost what has not arrived by now."""

    def hang_up(self) -> None:
        """Close the conversation."""

    def drop(self) -> None:
        """Lose the link."""

    def recovering(self, now: float) -> None:
        """Note that a fault has ended: recovery is measured from now on."""


class UserGroup:
    """The users of a process."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.settings = self._own = UserSettings.of(environment.parsed_options)
        # What they have sent and received in this run, and whether this process keeps up.
        self.tally = Tally()
        self.generator = GeneratorLoad()
        # Whether the run is ending: no user sends any more.
        self.silenced = False
        # How many runs there were, including this one.
        self.runs = 0
        self._drained = False
        self._members: dict[GroupMember, None] = {}
        self._leaving = Group()
        self._looking: gevent.Greenlet[..., None] | None = None
        self._link_makers: dict[str, LinkMaker] = {}
        # Streams of two processes, or of two runs, must have different names.
        self._token = secrets.token_hex(4)
        self._streams = 0
        # The user's stream at which each stream of a server has arrived first.
        self._pushed_to: dict[str, str] = {}

    @classmethod
    def of(cls, environment: Environment) -> UserGroup:
        """Return the group of an environment; it is made when it is first asked for."""
        group = getattr(environment, _ATTRIBUTE, None)
        if group is None:
            group = cls(environment)
            setattr(environment, _ATTRIBUTE, group)
        assert isinstance(group, UserGroup)
        return group

    # A run.

    def listen(self, runner: Runner) -> None:
        """React to the messages of a shape, and of the process that does the faults."""
        runner.register_message(STORM, lambda **_: self._drop_links())
        runner.register_message(FAULT_OVER, lambda **_: self._fault_over())

    def begin(self) -> None:
        """Begin a run with an empty tally. A master, or the web UI, may have changed the options since the last run."""
        settings = UserSettings.of(self.environment.parsed_options)
        # A master's options replace a worker's, but for how this machine connects, which it cannot know.
        sources, ca = (self._own.source_address or settings.source_address), (self._own.ca or settings.ca)
        self.settings = replace(settings, source_address=sources, ca=ca)
        self.tally = Tally()
        self.generator.stop()
        self.generator = GeneratorLoad()
        self.generator.start()
        self.silenced = self._drained = False
        self._pushed_to.clear()
        self.runs += 1
        self._look_on()

    def end(self) -> None:
        """Have no user send any more, wait until nothing is in flight or nothing new arrives, and close all accounts.

        Then all users leave, which takes `GOODBYE_SECONDS` at the most. May be called twice.
        """
        self.silenced = True
        if not self._drained:
            self.generator.stop()
            self._settle(list(self._members))
            for user in list(self._members):
                user.close_account()
            self._drained = True
        for user in list(self._members):
            self.depart(user)
        self._leaving.join(GOODBYE_SECONDS)
        self._leaving.kill()

    # Users.

    def join(self, user: GroupMember) -> None:
        """Add a user that has a conversation."""
        self._members[user] = None
        self._look_on()

    def depart(self, user: GroupMember) -> None:
        """Release a user whose program is over, in the background."""
        if user in self._members:
            self._leaving.spawn(self.release, user)

    def release(self, user: GroupMember) -> None:
        """Wait for what is in flight to a user, and close its conversation."""
        if user not in self._members:
            return
        if not self._drained:
            self._settle([user])
        self._members.pop(user, None)
        user.close_account()
        user.hang_up()

    def _drop_links(self) -> None:
        """Have all users lose their links at once."""
        for user in list(self._members):
            user.drop()

    def _fault_over(self) -> None:
        """Note that a fault has ended: users with messages in flight recover from now on."""
        now = time.monotonic()
        for user in self._members:
            user.recovering(now)

    def new_stream(self) -> str:
        """Return a name for a stream that no other stream has."""
        self._streams += 1
        return f"{self._token}.{self._streams}"

    def is_pushed_to(self, user: str, stream: str, number: int) -> bool:
        """Whether a stream of a server is for the user of this stream: the one at which its beginning has arrived."""
        # A server that was restarted begins again, under the same names.
        if number == 1 or stream not in self._pushed_to:
            self._pushed_to[stream] = user
        return self._pushed_to[stream] == user

    def link_maker(self, host: str) -> LinkMaker:
        if host not in self._link_makers:
            self._link_makers[host] = LinkMaker(host, self.settings.source_address, self.settings.ca)
        return self._link_makers[host]

    # Reports.

    def record(self, name: str, seconds: float | None, length: int = 0, error: str | None = None) -> None:
        """Put a request into locust's statistics; with `error` a failed one."""
        self.environment.events.request.fire(
            request_type=REQUEST_TYPE,
            name=name,
            response_time=None if seconds is None else seconds * 1000,
            response_length=length,
            exception=None if error is None else FailedRequest(error),
            context={},
        )

    def count_flaw(self, sums: Sums, flaw: Flaw, why: str, count: int = 1) -> None:
        sums.count(flaw, count)
        for _ in range(count):
            self.record(FLAW_NAMES[flaw], None, error=why)

    def report(self) -> dict[str, Any]:
        """Return a worker's report to its master: everything so far, and whether it is the final report of the run."""
        self._count_in_flight()
        return {
            "run": self.runs,
            "final": self._drained,
            "tally": asdict(self.tally),
            "generator": asdict(self.generator.reading),
        }

    def _count_in_flight(self) -> None:
        for sums in self.tally.sums.values():
            sums.in_flight = 0
        for user in self._members:
            user.sums.in_flight += user.in_flight

    def _settle(self, users: list[GroupMember]) -> None:
        """Wait until nothing is in flight to these users, or no answer has come for `--settle`.

        Only answers count as progress, since a server may push without end.
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
