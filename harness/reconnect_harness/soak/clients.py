"""The clients of a soak: they connect, talk, leave or vanish, and return, each in a slot of its own.

    slot 12:   ├── c12.1 ──┤  ├─ c12.2 ─┤ ├──── c12.4 ────┤ …      a client holds one conversation
                                  cut: c12.2, then c12.3              its streams are gapless

A stream of an aware client lasts as long as its session. An ordinary client cannot know which of its messages were
still read when its connection died, so it begins another stream on the next connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
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
from reconnect_harness.soak.ledger import Counted, Ledger, LedgerRow, StreamMarks, is_of_client
from reconnect_harness.soak.ledger_sink import LedgerSink, RecentStreams
from reconnect_harness.soak.upstream import AWARE, PLAIN

#: How long a short visit is, and the time until the next one, in seconds.
STAY = (0.5, 8.0)
AWAY = (0.05, 1.0)

#: How often a plain HTTP request is made, in seconds, and how long its answer may take.
REQUEST_SECONDS = 0.5
ANSWER_SECONDS = 10.0

_POLL_SECONDS = 0.02


class ClientProfile(NamedTuple):
    """What the clients of a slot do: their kind, the path that they ask for, whether they stay, how they leave."""

    kind: str
    path: str
    stays: bool = False
    vanishes: bool = False


#: The profiles of the slots, in turn.
PROFILES = (
    ClientProfile("aware", AWARE, stays=True),
    ClientProfile("reconnecting", AWARE),
    ClientProfile("aware", PLAIN, stays=True),
    ClientProfile("plain", PLAIN),
    ClientProfile("reconnecting", PLAIN, stays=True),
    ClientProfile("aware", AWARE),
    ClientProfile("reconnecting", AWARE, stays=True),
    ClientProfile("plain", AWARE, vanishes=True),
    ClientProfile("aware", PLAIN),
    ClientProfile("reconnecting", PLAIN, vanishes=True),
)

#: The rows of their ledger; `page` is for plain HTTP requests.
PAGE_ROW = "page"
ROWS = ("aware", "reconnecting", "plain", PAGE_ROW)


class _AbortableClient(PlainClient):
    """An ordinary client that can drop its connection without a close frame."""

    _socket: Any = None

    async def _use(self, socket: Socket) -> None:
        self._socket = socket
        try:
            await super()._use(socket)
        finally:
            self._socket = None

    def abort(self) -> None:
        self.is_going = True
        if self._socket is not None:
            self._socket.transport.abort()


class _NewStreamClient(_AbortableClient, ReconnectingClient):
    """An ordinary client that reconnects, with another stream on each connection."""

    def __init__(self, *arguments: Any, streams: Callable[[], Speaker], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._streams = streams

    async def _use(self, socket: Socket) -> None:
        self.speaker = self._streams()
        await super()._use(socket)


#: The class of each kind of client.
KINDS: dict[str, type[PlainClient]] = {
    "aware": AwareClient,
    "plain": _AbortableClient,
    "reconnecting": _NewStreamClient,
}


class ClientSink(LedgerSink):
    """What one client reports: to the ledger, and in words the ends of links that the client did not ask for."""

    def __init__(self, ledger: Ledger, row: LedgerRow, profile: ClientProfile, name: str, owners: StreamMarks) -> None:
        self.recent = RecentStreams()
        self._profile = profile
        self._name = name
        # The clients of the upstream's sessions, by stream; 0 of one from which no message has arrived yet.
        self._owners = owners
        self._since = time.monotonic()
        super().__init__(ledger, row, self.recent, once=profile.kind == "aware")

    def link(self, name: str, event: str, *, asked: bool, code: int | None = None, reason: str = "") -> None:
        """Counted a link; describe an end of it that only a fault may explain."""
        super().link(name, event, asked=asked, code=code, reason=reason)
        if asked:
            return
        # A connection of an ordinary client may be cut, and an upstream be away: no session is lost by that.
        session = event == "disconnected" and self._profile.kind == "aware"
        closed = code not in (None, 1006) and event in ("disconnected", "unreachable")
        if session or closed:
            # Whether a fault explains it is decided by `soak.verdict`, which needs all of them.
            self.ledger.write(
                f"the {self._profile.kind} client {name} was {event}: {code or ''} {reason}".rstrip(" :"),
                count="ended",
                name=name,
                path=self._profile.path,
                since=self._since,
            )

    def _elsewhere(self, stream: str, session: str) -> str | None:
        """Return in words where a message of the upstream has arrived, if its session is that of another client."""
        owner = self._owners.last(stream)
        return None if not owner or is_of_client(owner, self._name) else f"it came to {self._name}"


class ClientSettings:
    """What all clients of the process share: settings, the two ledgers, and the event that ends everything."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.seed: str = spec["seed"]
        self.url: str = spec["url"]
        self.ping: float | None = spec["ping"]
        self.patience: float = spec["patience"]
        self.load = Workload.from_spec(spec["load"])
        self.ledger = Ledger(Path(spec["ledger"]), ROWS)
        self.upstream = upstream.open_ledger(Path(spec["upstream"]), spec["clients"])
        self.opening = asyncio.Semaphore(OPENING)
        self.closing = asyncio.Event()

    def close(self) -> None:
        self.ledger.close()
        self.upstream.close()


class Slot:
    """A place for one client at a time; its number is from 1 on."""

    def __init__(self, number: int, profile: ClientProfile, settings: ClientSettings) -> None:
        self.number = number
        self.profile = profile
        self._settings = settings
        self._random = random.Random(f"{settings.seed} slot {number}")
        self._ordinals = itertools.count(1)

    async def run(self) -> None:
        """Run one client after the other until the soak closes."""
        closing = self._settings.closing
        await asyncio.sleep(self._random.random() * AWAY[1])
        while not closing.is_set():
            await self._run_client()
            if not closing.is_set():
                await asyncio.sleep(self._random.uniform(*AWAY))

    async def _run_client(self) -> None:
        """Run one client from its first connection to its last."""
        client, sink = self._client()
        client.may_talk.set()
        talk = asyncio.create_task(client.talk(self._settings.opening))
        closing = asyncio.create_task(self._settings.closing.wait())
        try:
            stay = None if self.profile.stays else self._random.uniform(*STAY)
            await asyncio.wait([talk, closing], timeout=stay, return_when=asyncio.FIRST_COMPLETED)
            client.may_talk.clear()
            if self.profile.vanishes and isinstance(client, _AbortableClient) and not closing.done():
                client.leaving.set()
                client.abort()
            else:
                await self._settle(client, sink, talk)
                client.leaving.set()
            await talk
        finally:
            closing.cancel()
            talk.cancel()
            await asyncio.wait([closing, talk])

    def _client(self) -> tuple[PlainClient, ClientSink]:
        settings, kind = self._settings, self.profile.kind
        name, owners = self._name(), settings.upstream.rows[self.profile.path].owners
        sink = ClientSink(settings.ledger, settings.ledger.rows[kind], self.profile, name, owners)
        more: dict[str, Any] = {"streams": self._speaker} if kind == "reconnecting" else {}
        url = f"{settings.url}/{self.profile.path}"
        client = KINDS[kind](name, url, settings.load, sink, settings.seed, ping=settings.ping, **more)
        return client, sink

    def _speaker(self) -> Speaker:
        return Speaker(self._settings.load, self._name(), Direction.C2U, self._settings.seed)

    def _name(self) -> str:
        return f"c{self.number}.{next(self._ordinals)}"

    async def _settle(self, client: PlainClient, sink: ClientSink, talk: asyncio.Task[None]) -> None:
        """Wait until what the client has sent has arrived, and what the upstream has sent to it so far.

        What does not arrive in time is lost, unless its connection has died, where nothing was promised.
        """
        upstream_row = self._settings.upstream.rows[self.profile.path]
        speaker, incoming = client.speaker, sink.recent.latest
        pushed = upstream_row.outgoing.last(incoming) if incoming else 0

        def missing() -> tuple[int, int]:
            same = client.speaker is speaker
            c2u = speaker.number - upstream_row.incoming.last(speaker.stream) if same else 0
            u2c = 0
            if incoming is not None and incoming == sink.recent.latest:
                u2c = min(pushed, upstream_row.outgoing.last(incoming)) - sink.recent.last(incoming)
            return max(0, c2u), max(0, u2c)

        deadline = time.monotonic() + self._settings.patience
        while any(left := missing()) and not talk.done():
            if time.monotonic() > deadline:
                self._count_lost(sink, client.name, left)
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _count_lost(self, sink: ClientSink, name: str, missing: tuple[int, int]) -> None:
        c2u, u2c = missing
        for row, number, words in (
            (self._settings.upstream.rows[self.profile.path], c2u, f"c2u of {name}"),
            (sink.row, u2c, f"u2c to {name}"),
        ):
            if number:
                row.add(Counted.LOST, number)
                what = f"{words}: the last {number} have not arrived in {self._settings.patience:g} s"
                self._settings.ledger.describe(what, count=Counted.LOST, name=name)


async def request_pages(settings: ClientSettings) -> None:
    """Make plain HTTP requests until the soak closes. The answer has to be the page of the upstream."""
    row = settings.ledger.rows[PAGE_ROW]
    while not settings.closing.is_set():
        row.add(Counted.SENT)
        body = await asyncio.to_thread(_fetch, settings.url)
        if body == upstream.PAGE:
            row.add(Counted.ARRIVED)
        elif body is not None:
            row.add(Counted.CORRUPTED)
            settings.ledger.describe(f"a plain HTTP request was answered with {body[:80]!r}", count=Counted.CORRUPTED)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(settings.closing.wait(), REQUEST_SECONDS)


def _fetch(url: str) -> str | None:
    """Return the page, or None where a fault was in the way."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/page")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    # With these the proxy says that the upstream is away, did not answer, or that it relays nothing but WebSocket.
    return None if answer.status in (426, 502, 503, 504) else body


async def play(spec: dict[str, Any]) -> None:
    """Run the clients until stdin ends.

    `spec`: url (of the proxy, without a path), clients (how many at a time), load, ping (seconds), patience (how many
    seconds a client that wants to leave waits for what is under way, before that is lost), ledger (a path), upstream
    (the path of the upstream's ledger), seed. The commands are `close`, after which no client connects any more and
    those that are connected leave, and `count`: how many slots have not ended yet.
    """
    settings = ClientSettings(spec)
    profiles: Iterator[ClientProfile] = itertools.cycle(PROFILES)
    slots = [Slot(number, next(profiles), settings) for number in range(1, spec["clients"] + 1)]
    tasks = [background(slot.run()) for slot in slots]
    tasks.append(background(request_pages(settings)))

    async def close() -> dict[str, Any]:
        settings.closing.set()
        return {}

    async def count() -> dict[str, Any]:
        return {"here": sum(not task.done() for task in tasks)}

    try:
        say({"ready": len(slots)})
        await obey({"close": close, "count": count})
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        settings.close()


if __name__ == "__main__":
    run(play)
