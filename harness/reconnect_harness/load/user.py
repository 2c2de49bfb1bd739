"""`WebSocketUser`: a locust user that speaks WebSocket and accounts for every message.

    class ChatUser(WebSocketUser):
        @task
        def talk(self) -> None:
            self.send("hello")
            self.expect("hello", timeout=5)

What it sends carries a stamp: its stream, its number, and when it was sent. If a server sends messages back, or puts
the stamp into its answers (`pack`, `unpack`), lost, repeated, reordered and damaged messages are noticed.
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

from reconnect_harness.adapters.find import AdapterChoice
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history import message as messages
from reconnect_harness.history.audience import To
from reconnect_harness.history.message import Direction, MessageKind
from reconnect_harness.load.account import Stamp, UserAccount
from reconnect_harness.load.aware import AwareConversation
from reconnect_harness.load.conversation import Conversation, ConversationOver, ConversationTarget
from reconnect_harness.load.link import LinkEnd, LinkFailed
from reconnect_harness.load.login import LoginSteps
from reconnect_harness.load.user_group import UserGroup

__all__ = ["Message", "NotConnected", "NotReceived", "Stamp", "To", "WebSocketUser"]

#: What `expect` waits for: a payload, or a function that says whether a message is the right one; None for any message.
Match = str | bytes | Callable[["Message"], bool] | None

#: How long a login may take, in seconds.
LOGIN_SECONDS = 15.0

_WHY: Mapping[Flaw, str] = {
    Flaw.LOST: "sent and never received",
    Flaw.DUPLICATED: "received again",
    Flaw.REORDERED: "received after a later one",
    Flaw.CORRUPTED: "received, but not as it was sent",
    Flaw.MISDELIVERED: "misdelivered: it is of another user",
}


class Message(NamedTuple):
    """A message that was received. `stamp` is None where it carries none."""

    payload: str | bytes
    stamp: Stamp | None
    answer: bool
    """Whether it is one of the user's own messages that came back."""


class NotConnected(Exception):
    """There is no conversation: it was not begun, could not begin, or is over. The message says which."""


class NotReceived(Exception):
    """The expected message has not arrived in time."""


class WebSocketUser(User):
    """A user with one conversation at a time. Subclass it; `host` (or --host) is a URL, ws://HOST:PORT.

    Attributes:
        path: where to connect on the host.
        headers: further headers of the handshake.
        subprotocols: the subprotocols that are offered.
        aware: whether the user speaks the reconnect protocol, and resumes its session with counts.
        answered: whether what the user sends comes back with its stamp; otherwise its loss cannot be noticed.
        to: who receives what a user sends, without an adapter. With `sender` a message of another user, and one that
            was pushed to another, is misdelivered; where nothing is `answered`, others may receive all.
        inbox: how many messages are kept for a later `expect`.
        adapter: how messages look in the protocol of an application, as in a scenario; that of `--adapter` if None. It
            also says where the user connects, and who receives a message: with `others` no answer is expected.

    """

    abstract = True

    path: ClassVar[str] = "/"
    headers: ClassVar[Mapping[str, str]] = {}
    subprotocols: ClassVar[Sequence[str]] = ()
    aware: ClassVar[bool] = False
    answered: ClassVar[bool] = True
    to: ClassVar[To] = To.SENDER
    inbox: ClassVar[int] = 256
    adapter: ClassVar[object] = None

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.user_group = UserGroup.of(environment)
        self.sums = self.user_group.tally.of(type(self).__name__)
        self.sums.users += 1
        self.sums.exactly_once |= self.aware
        self._account: UserAccount | None = None
        self._conversation: Conversation | None = None
        wanted = self.adapter or self.user_group.settings.adapter
        self._adapters = AdapterChoice.of(wanted) if wanted else None
        self._login: LoginSteps | None = None
        self._inbox: deque[Message] = deque(maxlen=self.inbox)
        self._news = Event()
        # When recovery began: when the link was lost, or a fault ended.
        self._recovering_since: float | None = None

    # What the programs of users call.

    @property
    def connected(self) -> bool:
        """Whether there is a link now; an aware user can send without one."""
        return self._conversation is not None and self._conversation.connected

    @property
    def session(self) -> str:
        """The name of the user's own stream, which its stamps contain; empty before `connect`."""
        return self._account.stream if self._account is not None else ""

    def connect(self, path: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        """Begin a conversation, and close the present one; keep trying while the server does not answer.

        Raises:
            NotConnected: the server refuses, or has not answered for `--retry-for`.

        """
        self._may_talk()
        self.close()
        if not self.host:
            raise NotConnected("there is no host: give --host ws://HOST:PORT, or the class a `host`")
        kind = AwareConversation if self.aware else Conversation
        links = self.user_group.link_maker(self.host)
        stream = self.user_group.new_stream()
        subprotocols = self.subprotocols
        adapter = None
        if self._adapters is not None:
            adapter = self._adapters.for_client(stream, int(stream.rpartition(".")[2]))
            path, subprotocols = path or adapter.filled(adapter.path), adapter.subprotocols or subprotocols
        endpoint = ConversationTarget(links, path or self.path, headers or self.headers, subprotocols)
        conversation = self._conversation = kind(endpoint, self, self.user_group.settings.retry_for)
        self._login = None if adapter is None else LoginSteps(adapter, conversation.send)
        self._account = UserAccount(stream, self.user_group.settings.settle, self._hears)
        self._recovering_since = None
        self.user_group.join(self)
        self._log_in(lambda: self._open(conversation))
        if self._login is not None and not self._login.done.wait(LOGIN_SECONDS):
            self.sums.refused += 1
            raise NotConnected(f"the login has not ended after {LOGIN_SECONDS:.0f} s")

    def send(self, payload: str | bytes | None = None, *, answered: bool | None = None) -> int:
        """Send a message and return its number. Without a payload it is filler of the run's `--size`.

        Without a link an ordinary user waits for one; an aware user keeps the message for the next link.

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
            number = account.send(time.monotonic(), answered=self._is_answered if answered is None else answered)
            self.sums.sent += 1
            stamp = Stamp(account.stream, number, time.time())
            message = self._filler(stamp) if payload is None else self.pack(stamp, payload)
            conversation.send(message if self._login is None else self._login.adapter.pack(number, str(message)))
        except ConversationOver as over:
            raise NotConnected(f"the conversation is over: {over}") from over
        return number

    def expect(self, match: Match = None, timeout: float = 10.0, name: str = "expect") -> Message:
        """Wait for a message and return it; earlier ones are dropped. The wait counts as a request of that name.

        Raises:
            NotReceived: it has not arrived within `timeout` seconds.
            NotConnected: it cannot arrive, since the conversation is over.

        """
        begin = time.monotonic()
        while True:
            while self._inbox:
                found = self._inbox.popleft()
                if _matches(found, match):
                    self.user_group.record(name, time.monotonic() - begin, len(found.payload))
                    return found
            over = self._conversation is None or self._conversation.is_over
            left = begin + timeout - time.monotonic()
            if over or left <= 0:
                self._may_talk()
                self.user_group.record(
                    name, time.monotonic() - begin, error="conversation over" if over else "not received"
                )
                if over:
                    raise NotConnected("what is expected cannot come: the conversation is over")
                raise NotReceived(f"{name}: not received in {timeout:g} s")
            self._news.clear()
            self._news.wait(min(left, 1.0))

    def on_message(self, message: Message) -> None:
        """Handle a message as it arrives. Override it; while it waits, no later message is read."""

    def pack(self, stamp: Stamp, payload: str | bytes) -> str | bytes:
        """Combine stamp and payload to a message. Override it if the server has a message format of its own."""
        return messages.stamp(stamp.session, stamp.direction, stamp.number, payload, stamp.sent_at)

    def unpack(self, message: str | bytes) -> tuple[str | bytes, Stamp | None]:
        """Split a message into its payload and its stamp, None if it has none. The inverse of `pack`."""
        read = messages.decode(message)
        if read.stream == messages.UNREADABLE:
            return message, None
        return messages.payload(message), Stamp(read.stream, read.number, read.sent_at, read.direction, read.wrong)

    def drop(self) -> None:
        """Lose the link, as a network does; the user reconnects by itself."""
        if self._conversation is not None:
            self._conversation.drop()

    def close(self) -> None:
        """Wait up to `--settle` for what is in flight, and end the conversation with 1000."""
        self.user_group.release(self)

    # What the group calls: `load.user_group.GroupMember`.

    def start(self, group: Group) -> gevent.Greenlet[..., None]:
        """Start the user's program; when it ends, for any reason, the conversation is closed in good order."""
        greenlet: gevent.Greenlet[..., None] = super().start(group)
        greenlet.link(lambda _: self.user_group.depart(self))
        return greenlet

    @property
    def in_flight(self) -> int:
        """How many messages have not arrived and are not lost yet."""
        return self._account.in_flight if self._account is not None else 0

    @property
    def unanswered(self) -> int:
        """How many of the user's own messages have not come back."""
        return self._account.unanswered if self._account is not None else 0

    def close_account(self) -> None:
        """Count as lost what has not arrived by now."""
        if self._account is not None and not self._account.closed:
            self._lose(self._account.close(), "missing in the end")

    def give_up_overtaken(self) -> None:
        """Count as lost what was overtaken some time ago."""
        if self._account is not None:
            self._lose(self._account.give_up(time.monotonic()), "overtaken by later ones")

    def hang_up(self) -> None:
        if self._conversation is not None:
            self._conversation.close()

    def recovering(self, now: float) -> None:
        """Measure recovery from now on, the end of a fault, if something is in flight or the link is lost."""
        if self.in_flight or not self.connected:
            self._recovering_since = now

    # What the conversation calls: `load.conversation.ConversationListener`.

    def heard(self, message: str | bytes) -> None:
        """Count a message, and pass it on."""
        account = self._account
        if account is None or account.closed:
            return
        now = time.monotonic()
        try:
            carried = message if self._login is None else self._login.adapter.unpack(message)
            if self._login is not None and carried is None:
                self._login.heard(message)
                return
            payload, stamp = self.unpack(carried or message)
            if stamp is None:
                self.sums.pushed += 1
                self._pass_on(Message(payload, None, False))
                return
            answer = self._account_for(account, stamp, now, len(message))
            self._pass_on(Message(payload, stamp, answer))
        except Exception as mistake:  # noqa: BLE001  # an error in a user's code does not stop the reading of messages
            self.environment.events.user_error.fire(user_instance=self, exception=mistake, tb=mistake.__traceback__)

    def lost(self, ending: LinkEnd) -> None:
        self.sums.dropped += 1
        self._recovering_since = time.monotonic()

    def returned(self, seconds: float) -> None:
        self.sums.reconnects += 1
        self._log_in()
        self.user_group.record("reconnect", seconds)

    def over(self, reason: str, seconds: float | None) -> None:
        """Count the end of the conversation; what is in flight is lost with it."""
        self.sums.ended += 1
        self.user_group.record("reconnect" if seconds is not None else "session", seconds, error=reason)
        if self._account is not None and not self._account.closed:
            self._lose(self._account.close(), f"lost with its session: {reason}")
        self._news.set()

    @property
    def _is_answered(self) -> bool:
        return self.answered and (self._login is None or self._login.adapter.to is not To.OTHERS)

    def _hears(self, stamp: Stamp) -> bool:
        """Whether a message of another sender is for this user."""
        adapter = None if self._login is None else self._login.adapter
        if adapter is None and not self.answered:
            return True
        if (self.to if adapter is None else adapter.to) is To.SENDER:
            pushed = stamp.direction == Direction.U2C
            return pushed and self.user_group.is_pushed_to(self.session, stamp.session, stamp.number)
        index = stamp.session.rpartition(".")[2]
        if adapter is None or self._adapters is None or not index.isdecimal():
            return True
        return self._adapters.room(int(index)) == adapter.room

    def _log_in(self, connect: Callable[[], None] = lambda: None) -> None:
        """Log in on a link that there is, or that `connect` makes."""
        if self._login is not None:
            self._login.expect()
        connect()
        if self._login is not None:
            self._login.begin()

    def _may_talk(self) -> None:
        """End the user's program if the run is ending."""
        if self.user_group.silenced:
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
                self.user_group.record("connect", time.monotonic() - started, error=str(failed))
                away = time.monotonic() - begin
                if away > self.user_group.settings.retry_for or (failed.status is not None and failed.status < 500):
                    raise NotConnected(str(failed)) from failed
            except ConversationOver as over:
                raise NotConnected(str(over)) from over
            else:
                self.sums.connects += 1
                self.user_group.record("connect", time.monotonic() - started)
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
                self.user_group.record("round trip" if receipt.answer else "push delay", receipt.delay, length)
        if receipt.flaw is not None:
            if receipt.was_lost:
                sums.lost -= 1
            self.user_group.count_flaw(sums, receipt.flaw, _WHY[receipt.flaw])
            if receipt.flaw is not Flaw.DUPLICATED or self.aware:
                detail = f": {stamp.wrong}" if stamp.wrong else ""
                self._example(f"message {stamp.number} of {stamp.session} was {_WHY[receipt.flaw]}{detail}")
        elif self._recovering_since is not None:
            self.user_group.record("recovery", now - self._recovering_since)
            self._recovering_since = None
        return receipt.answer

    def _lose(self, count: int, why: str) -> None:
        if count:
            self.user_group.count_flaw(self.sums, Flaw.LOST, _WHY[Flaw.LOST], count)
            self._example(f"{count} of its messages were {why}" if count > 1 else f"one of its messages was {why}")

    def _example(self, line: str) -> None:
        self.user_group.tally.example(f"{type(self).__name__} {self.session}: {line}")

    def _pass_on(self, message: Message) -> None:
        if self.inbox:
            self._inbox.append(message)
            self._news.set()
        self.on_message(message)

    def _filler(self, stamp: Stamp) -> str | bytes:
        smallest, largest = self.user_group.settings.size
        size = smallest
        if largest > smallest:
            size = round(smallest * math.exp(random.random() * math.log(largest / max(1, smallest))))
        return messages.encode(stamp.session, Direction.C2U, stamp.number, size, MessageKind.TEXT, stamp.sent_at)


def _matches(message: Message, match: Match) -> bool:
    if match is None:
        return True
    return match(message) if callable(match) else message.payload == match
