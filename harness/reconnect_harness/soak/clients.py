"""The guests of a soak: they come, talk, leave or vanish, and come again, each in a slot of its own.

    slot 12:   ├── c12.1 ──┤  ├─ c12.2 ─┤ ├──── c12.4 ────┤ …            a guest is one conversation
                                  cut: c12.2, and c12.3 when it is back     a stream has no gaps

A stream of an aware guest lasts as long as its session. An ordinary one cannot know what of its words was still read
when its connection died, so it begins another stream on the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from reconnect_harness.history.message import Direction
from reconnect_harness.peers.client import AwareClient, PlainClient, ReconnectingClient, Socket
from reconnect_harness.peers.clients import OPENING
from reconnect_harness.peers.workload import Speaker, Workload
from reconnect_harness.processes.actor import background, obey, run, say
from reconnect_harness.soak import upstream
from reconnect_harness.soak.ledger import Count, Ledger, Page, Recent, Row
from reconnect_harness.soak.upstream import AWARE, PLAIN

#: How long a short visit is, and the time until the next one, in seconds.
STAY = (0.5, 8.0)
AWAY = (0.05, 1.0)

#: How often a plain HTTP request is made, in seconds, and how long its answer may take.
BROWSE_SECONDS = 0.5
PAGE_SECONDS = 10.0

_POLL_SECONDS = 0.02


class Habit(NamedTuple):
    """What the guests of a slot are like: the kind of client, the path that they ask for, how they stay and go."""

    kind: str
    path: str
    stays: bool = False
    vanishes: bool = False


#: The habits of the slots, in turn.
HABITS = (
    Habit("aware", AWARE, stays=True),
    Habit("reconnecting", AWARE),
    Habit("aware", PLAIN, stays=True),
    Habit("plain", PLAIN),
    Habit("reconnecting", PLAIN, stays=True),
    Habit("aware", AWARE),
    Habit("reconnecting", AWARE, stays=True),
    Habit("plain", AWARE, vanishes=True),
    Habit("aware", PLAIN),
    Habit("reconnecting", PLAIN, vanishes=True),
)

#: The rows of their ledger.
ROWS = ("aware", "reconnecting", "plain", "page")


class _Vanishing(PlainClient):
    """A mixin of ordinary clients: they can be gone without a word."""

    _socket: Any = None

    async def _use(self, socket: Socket) -> None:
        self._socket = socket
        try:
            await super()._use(socket)
        finally:
            self._socket = None

    def vanish(self) -> None:
        """Be gone; nobody is told."""
        self.is_going = True
        if self._socket is not None:
            self._socket.transport.abort()


class _Plain(_Vanishing):
    """An ordinary guest."""


class _Reconnecting(_Vanishing, ReconnectingClient):
    """An ordinary guest that comes back: with another stream each time."""

    def __init__(self, *arguments: Any, streams: Callable[[], Speaker], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._streams = streams

    async def _use(self, socket: Socket) -> None:
        self.speaker = self._streams()
        await super()._use(socket)


class GuestPage(Page):
    """The page of one guest: it also tells of ends that the guest did not want."""

    def __init__(self, ledger: Ledger, row: Row, habit: Habit) -> None:
        self.recent = Recent()
        self._habit = habit
        self._since = time.monotonic()
        super().__init__(ledger, row, self.recent, once=habit.kind == "aware")

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Count a link, and tell of an end of it that needs an excuse."""
        super().link(name, event, asked=asked, code=code, reason=reason)
        if asked:
            return
        # Ordinary connections are cut, and nothing may be there to connect to; a session is not lost for that.
        session = event == "disconnected" and self._habit.kind == "aware"
        told = code not in (None, 1006) and event in ("disconnected", "unreachable")
        if session or told:
            # Whether it has one is not for the guest to say, so all of them are there to be judged.
            self.ledger.note(
                f"the {self._habit.kind} client {name} was {event}: {code or ''} {reason}".rstrip(" :"),
                count="ended",
                name=name,
                path=self._habit.path,
                since=self._since,
            )


class Slot:
    """A place for one guest at a time.

    Args:
        number: from 1 on.
        habit: what its guests are like.
        house: what all of them share.

    """

    def __init__(self, number: int, habit: Habit, house: House) -> None:
        self.number = number
        self.habit = habit
        self._house = house
        self._random = random.Random(f"{house.seed} slot {number}")
        self._ordinals = itertools.count(1)

    async def live(self) -> None:
        """Have one guest after the other, until the house closes."""
        await asyncio.sleep(self._random.random() * AWAY[1])
        while not self._house.closing.is_set():
            await self._host()
            if not self._house.closing.is_set():
                await asyncio.sleep(self._random.uniform(*AWAY))

    async def _host(self) -> None:
        """Have one guest, from its coming to its end."""
        guest, page = self._guest()
        guest.may_talk.set()
        talk = asyncio.create_task(guest.talk(self._house.opening))
        closing = asyncio.create_task(self._house.closing.wait())
        try:
            stay = None if self.habit.stays else self._random.uniform(*STAY)
            await asyncio.wait([talk, closing], timeout=stay, return_when=asyncio.FIRST_COMPLETED)
            guest.may_talk.clear()
            if self.habit.vanishes and isinstance(guest, _Vanishing) and not closing.done():
                guest.leaving.set()
                guest.vanish()
            else:
                await self._settle(guest, page, talk)
                guest.leaving.set()
            await talk
        finally:
            closing.cancel()
            talk.cancel()
            await asyncio.wait([closing, talk])

    def _guest(self) -> tuple[PlainClient, GuestPage]:
        house, kind = self._house, self.habit.kind
        page = GuestPage(house.book, house.book.rows[kind], self.habit)
        name = self._name()
        given: tuple[Any, ...] = (name, f"{house.url}/{self.habit.path}", house.load, page, house.seed)
        if kind == "aware":
            return AwareClient(*given, ping=house.ping), page
        if kind == "plain":
            return _Plain(*given, ping=house.ping), page

        def streams() -> Speaker:
            return Speaker(house.load, self._name(), Direction.C2U, house.seed)

        return _Reconnecting(*given, ping=house.ping, streams=streams), page

    def _name(self) -> str:
        return f"c{self.number}.{next(self._ordinals)}"

    async def _settle(self, guest: PlainClient, page: GuestPage, talk: asyncio.Task[None]) -> None:
        """Wait until what the guest has said has arrived, and what the upstream has said so far to it.

        What does not come in time is lost, unless nobody has promised it: a connection has died meanwhile.
        """
        there = self._house.upstream.rows[self.habit.path]
        said, heard = guest.speaker, page.recent.latest
        pushed = there.went.last(heard) if heard else 0

        def missing() -> tuple[int, int]:
            c2u = said.number - there.came.last(said.stream) if guest.speaker is said else 0
            u2c = 0
            if heard is not None and heard == page.recent.latest:
                u2c = min(pushed, there.went.last(heard)) - page.recent.last(heard)
            return max(0, c2u), max(0, u2c)

        deadline = time.monotonic() + self._house.patience
        while any(left := missing()) and not talk.done():
            if time.monotonic() > deadline:
                self._lost(page, guest.name, left)
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _lost(self, page: GuestPage, name: str, left: tuple[int, int]) -> None:
        c2u, u2c = left
        for row, number, words in (
            (self._house.upstream.rows[self.habit.path], c2u, f"c2u of {name}"),
            (page.row, u2c, f"u2c to {name}"),
        ):
            if number:
                row.add(Count.LOST, number)
                what = f"{words}: the last {number} have not arrived in {self._house.patience:g} s"
                self._house.book.tell(what, count=Count.LOST, name=name)


class House:
    """What all guests share."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.seed: str = spec["seed"]
        self.url: str = spec["url"]
        self.ping: float | None = spec["ping"]
        self.patience: float = spec["patience"]
        self.load = Workload.from_spec(spec["load"])
        self.book = Ledger(Path(spec["ledger"]), ROWS)
        self.upstream = upstream.ledger(Path(spec["upstream"]), spec["guests"])
        self.opening = asyncio.Semaphore(OPENING)
        self.closing = asyncio.Event()

    async def browse(self) -> None:
        """Make plain HTTP requests, until the house closes. What comes in answer has to be the page."""
        row = self.book.rows["page"]
        while not self.closing.is_set():
            row.add(Count.SENT)
            body = await asyncio.to_thread(_fetch, self.url)
            if body == upstream.PAGE:
                row.add(Count.ARRIVED)
            elif body is not None:
                row.add(Count.CORRUPTED)
                self.book.tell(f"a plain HTTP request was answered with {body[:80]!r}", count=Count.CORRUPTED)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), BROWSE_SECONDS)

    def close(self) -> None:
        """Close the ledgers."""
        self.book.close()
        self.upstream.close()


def _fetch(url: str) -> str | None:
    """Return the page, or None where a fault was in the way."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=PAGE_SECONDS)
    try:
        connection.request("GET", "/page")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    # The proxy says that the upstream is not there, or did not answer.
    return None if answer.status in (502, 503, 504) else body


async def play(spec: dict[str, Any]) -> None:
    """Host guests until stdin ends.

    `spec`: url (of the proxy, without a path), guests (how many at a time), load, ping (seconds), patience (how
    long a guest who wants to leave waits for what is under way, in seconds, before that is lost), ledger (a path),
    upstream (the path of the ledger of the upstream), seed. The words are `close`, after which nobody comes any more
    and those who are there leave, and `count`: how many of them are still there.
    """
    house = House(spec)
    habits: Iterator[Habit] = itertools.cycle(HABITS)
    slots = [Slot(number, next(habits), house) for number in range(1, spec["guests"] + 1)]
    lives = [background(slot.live()) for slot in slots]
    lives.append(background(house.browse()))

    async def close() -> dict[str, Any]:
        house.closing.set()
        return {}

    async def count() -> dict[str, Any]:
        return {"here": sum(not life.done() for life in lives)}

    commands: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {"close": close, "count": count}
    try:
        say({"ready": len(slots)})
        await obey(commands)
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        house.close()


if __name__ == "__main__":
    run(play)
