"""`WebSocketUser`: a locust user that speaks WebSocket, and keeps an account of every message.

    class ChatUser(WebSocketUser):
        @task
        def talk(self) -> None:
            self.send("hello")
            self.expect("hello", timeout=5)

What it sends carries a stamp: whose it is, its number, when it was sent. A server that sends messages back, or puts the
stamp into its answers (`pack`, `unpack`), can be held to account: lost, repeated, out of order, damaged.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust import User
from locust.env import Environment

from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history import message as messages
from reconnect_harness.history.message import Direction, MessageKind
from reconnect_harness.load.account import Stamp, UserAccount
from reconnect_harness.load.aware import AwareConversation
from reconnect_harness.load.conversation import Conversation, Over, Place
from reconnect_harness.load.link import Ending, LinkFailed
from reconnect_harness.load.user_group import Crew

__all__ = ["Message", "NotConnected", "NotReceived", "Stamp", "WebSocketUser"]

#: What was expected: a payload, or what says whether a message is it; None for any message.
Match = str | bytes | Callable[["Message"], bool] | None

_WHY: Mapping[Flaw, str] = {
    Flaw.LOST: "sent and never received",
    Flaw.DUPLICATED: "received again",
    Flaw.REORDERED: "received after a later one",
    Flaw.CORRUPTED: "received, but not as it was sent",
}


class Message(NamedTuple):
    """A message that was received. `stamp` is None where it carries none."""

    payload: str | bytes
    stamp: Stamp | None
    answer: bool
    """Whether it is one of the user's own that came back."""


class NotConnected(Exception):
    """There is no conversation: it was not begun, could not be, or is over. The message says which."""


class NotReceived(Exception):
    """What was expected has not come in time."""


class WebSocketUser(User):
    """A user with one conversation at a time. Subclass it; `host` (or --host) is a URL, ws://HOST:PORT.

    Attributes:
        path: where to connect on the host.
        headers: what the handshake carries beside what the protocol does.
        subprotocols: what is offered.
        aware: whether the user speaks the reconnect protocol, and resumes its session with counts.
        answered: whether what the user sends comes back with its stamp; else it cannot be missed.
        inbox: how many messages that nobody has expected yet are kept for `expect`.

    """

    abstract = True

    path: ClassVar[str] = "/"
    headers: ClassVar[Mapping[str, str]] = {}
    subprotocols: ClassVar[Sequence[str]] = ()
    aware: ClassVar[bool] = False
    answered: ClassVar[bool] = True
    inbox: ClassVar[int] = 256

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.crew = Crew.of(environment)
        self.sums = self.crew.tally.of(type(self).__name__)
        self.sums.users += 1
        self.sums.exactly_once |= self.aware
        self._account: UserAccount | None = None
        self._conversation: Conversation | None = None
        self._inbox: deque[Message] = deque(maxlen=self.inbox)
        self._news = Event()
        # Since when the user has been cut off from what is under way to it.
        self._broken: float | None = None

    # What people's users do.

    @property
    def connected(self) -> bool:
        """Whether there is a link just now; an aware user can send without one."""
        return self._conversation is not None and self._conversation.connected

    @property
    def session(self) -> str:
        """The name of the user's own stream, as its stamps say it; empty before `connect`."""
        return self._account.stream if self._account is not None else ""

    def connect(self, path: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        """Begin a conversation, in place of the one that there is; keep trying while nobody answers.

        Raises:
            NotConnected: the server refuses for good, or nobody has answered for `--retry-for`.

        """
        self._may_talk()
        self.close()
        if not self.host:
            raise NotConnected("there is no host: give --host ws://HOST:PORT, or the class a `host`")
        kind = AwareConversation if self.aware else Conversation
        place = Place(self.crew.dialler(self.host), path or self.path, headers or self.headers, self.subprotocols)
        self._conversation = kind(place, self, self.crew.settings.retry_for)
        self._account = UserAccount(self.crew.new_stream(), self.crew.settings.settle)
        self._broken = None
        self.crew.join(self)
        self._open(self._conversation)

    def send(self, payload: str | bytes | None = None, *, answered: bool | None = None) -> int:
        """Send a message and return its number. Without a payload it is filler, of the `--size` of the run.

        While there is no link an ordinary user waits for one; what an aware user sends goes over the next.

        Raises:
            NotConnected: there is no conversation, or it is over.

        """
        self._may_talk()
        conversation, account = self._conversation, self._account
        if conversation is None or account is None:
            raise NotConnected("there is no conversation: connect() comes first")
        try:
            conversation.ready()
            self._may_talk()
            number = account.send(time.monotonic(), answered=self.answered if answered is None else answered)
            self.sums.sent += 1
            stamp = Stamp(account.stream, number, time.time())
            conversation.send(self._filler(stamp) if payload is None else self.pack(stamp, payload))
        except Over as over:
            raise NotConnected(f"the conversation is over: {over}") from over
        return number

    def expect(self, match: Match = None, timeout: float = 10.0, name: str = "expect") -> Message:
        """Wait for a message and return it; those before it are left out. It counts as a request of that name.

        Raises:
            NotReceived: it has not come within `timeout` seconds.
            NotConnected: nor can it, for the conversation is over.

        """
        begin = time.monotonic()
        while True:
            while self._inbox:
                found = self._inbox.popleft()
                if _matches(found, match):
                    self.crew.record(name, time.monotonic() - begin, len(found.payload))
                    return found
            over = self._conversation is None or self._conversation.is_over
            left = begin + timeout - time.monotonic()
            if over or left <= 0:
                self._may_talk()
                self.crew.record(name, time.monotonic() - begin, error="conversation over" if over else "not received")
                if over:
                    raise NotConnected("what is expected cannot come: the conversation is over")
                raise NotReceived(f"{name}: not received in {timeout:g} s")
            self._news.clear()
            self._news.wait(min(left, 1.0))

    def on_message(self, message: Message) -> None:
        """Take a message as it arrives; nothing, if not overridden. What waits here holds up the messages behind."""

    def pack(self, stamp: Stamp, payload: str | bytes) -> str | bytes:
        """Put the stamp to what is said, as the server will send it back. Override it to speak the server's own way."""
        return messages.stamp(stamp.session, stamp.direction, stamp.number, payload, stamp.sent_at)

    def unpack(self, message: str | bytes) -> tuple[str | bytes, Stamp | None]:
        """Take a message apart into what is said and its stamp, None if it has none. The other half of `pack`."""
        read = messages.decode(message)
        if read.stream == messages.UNREADABLE:
            return message, None
        return messages.payload(message), Stamp(read.stream, read.number, read.sent_at, read.direction, read.wrong)

    def drop(self) -> None:
        """Lose the link, as a network does; the user comes back by itself."""
        if self._conversation is not None:
            self._conversation.drop()

    def close(self) -> None:
        """Wait for what is in flight, for a while, and end the conversation with 1000."""
        self.crew.release(self)

    # What the crew asks.

    def start(self, group: Group) -> gevent.Greenlet[..., None]:
        """Start the user's program; when that ends, however it does, the conversation is closed in good order."""
        greenlet: gevent.Greenlet[..., None] = super().start(group)
        greenlet.link(lambda _: self.crew.depart(self))
        return greenlet

    @property
    def in_flight(self) -> int:
        """How many messages have neither come nor are lost yet."""
        return self._account.in_flight if self._account is not None else 0

    @property
    def unanswered(self) -> int:
        """How many of the user's own messages have not come back."""
        return self._account.unanswered if self._account is not None else 0

    def close_account(self) -> None:
        """Count as lost what has not come by now."""
        if self._account is not None and not self._account.closed:
            self._lose(self._account.close(), "had not come in the end")

    def give_up_overtaken(self) -> None:
        """Count as lost what was overtaken a while ago."""
        if self._account is not None:
            self._lose(self._account.give_up(time.monotonic()), "was overtaken by later ones")

    def hang_up(self) -> None:
        """Close the conversation."""
        if self._conversation is not None:
            self._conversation.close()

    def recovering(self, now: float) -> None:
        """Take note that a fault is over: if something is in flight, its end is what recovery is measured from."""
        if self.in_flight or not self.connected:
            self._broken = now

    # What the conversation tells.

    def heard(self, message: str | bytes) -> None:
        """Take a message: count it, and pass it on."""
        account = self._account
        if account is None or account.closed:
            return
        now = time.monotonic()
        try:
            payload, stamp = self.unpack(message)
            if stamp is None:
                self.sums.pushed += 1
                self._pass_on(Message(payload, None, False))
                return
            answer = self._account_for(account, stamp, now, len(message))
            self._pass_on(Message(payload, stamp, answer))
        except Exception as mistake:  # noqa: BLE001  # whatever people's code does, the messages behind are read
            self.environment.events.user_error.fire(user_instance=self, exception=mistake, tb=mistake.__traceback__)

    def lost(self, ending: Ending) -> None:
        """Take note that the link is lost."""
        self.sums.dropped += 1
        self._broken = time.monotonic()

    def returned(self, seconds: float) -> None:
        """Take note that the link is back."""
        self.sums.reconnects += 1
        self.crew.record("reconnect", seconds)

    def over(self, reason: str, seconds: float | None) -> None:
        """Take note that the conversation is over; what was in flight is lost with it."""
        self.sums.ended += 1
        self.crew.record("reconnect" if seconds is not None else "session", seconds, error=reason)
        if self._account is not None and not self._account.closed:
            self._lose(self._account.close(), f"was lost with its session: {reason}")
        self._news.set()

    # What is done for both.

    def _may_talk(self) -> None:
        """End the user's program if the run is ending."""
        if self.crew.hushed:
            raise gevent.GreenletExit

    def _open(self, conversation: Conversation) -> None:
        begin = time.monotonic()
        attempts = 0
        while True:
            started = time.monotonic()
            try:
                conversation.open()
            except LinkFailed as failed:
                self.sums.refused += 1
                self.crew.record("connect", time.monotonic() - started, error=str(failed))
                away = time.monotonic() - begin
                if away > self.crew.settings.retry_for or (failed.status is not None and failed.status < 500):
                    raise NotConnected(str(failed)) from failed
            except Over as over:
                raise NotConnected(str(over)) from over
            else:
                self.sums.connects += 1
                self.crew.record("connect", time.monotonic() - started)
                return
            gevent.sleep(random.uniform(0.0, min(3.0, 0.1 * 2.0**attempts)))
            attempts += 1
            self._may_talk()

    def _account_for(self, account: UserAccount, stamp: Stamp, now: float, length: int) -> bool:
        receipt = account.take(stamp, now, time.time())
        sums = self.sums
        if receipt.flaw in (None, Flaw.REORDERED):
            if receipt.answer:
                sums.answered += 1
            else:
                sums.pushed += 1
            if receipt.delay is not None:
                self.crew.record("round trip" if receipt.answer else "push delay", receipt.delay, length)
        if receipt.flaw is not None:
            if receipt.was_lost:
                sums.lost -= 1
            self.crew.count_flaw(sums, receipt.flaw, _WHY[receipt.flaw])
            if receipt.flaw is not Flaw.DUPLICATED or self.aware:
                detail = f": {stamp.wrong}" if stamp.wrong else ""
                self._example(f"message {stamp.number} of {stamp.session} was {_WHY[receipt.flaw]}{detail}")
        elif self._broken is not None:
            self.crew.record("recovery", now - self._broken)
            self._broken = None
        return receipt.answer

    def _lose(self, count: int, why: str) -> None:
        if count:
            self.crew.count_flaw(self.sums, Flaw.LOST, _WHY[Flaw.LOST], count)
            self._example(f"{count} of its messages {why}" if count > 1 else f"a message of it {why}")

    def _example(self, line: str) -> None:
        self.crew.tally.example(f"{type(self).__name__} {self.session}: {line}")

    def _pass_on(self, message: Message) -> None:
        if self.inbox:
            self._inbox.append(message)
            self._news.set()
        self.on_message(message)

    def _filler(self, stamp: Stamp) -> str | bytes:
        smallest, largest = self.crew.settings.size
        size = smallest
        if largest > smallest:
            size = round(smallest * math.exp(random.random() * math.log(largest / max(1, smallest))))
        return messages.encode(stamp.session, Direction.C2U, stamp.number, size, MessageKind.TEXT, stamp.sent_at)


def _matches(message: Message, match: Match) -> bool:
    if match is None:
        return True
    return match(message) if callable(match) else message.payload == match
