"""Peers that know the protocol, written from PROTOCOL.md sections 3 and 4 alone."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from .frames import Closed, Head, Headers, Opcode, Refused, token
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .waiting import PATIENCE, Message, Tally

BURST = 64


class AwareEnd:
    """One end of a session: all it received, all it has to say, and what the peer confirmed of that."""

    def __init__(self) -> None:
        """Start a session at 0 in both directions."""
        self.received = Tally()
        self.outbox: list[Message] = []
        self.confirmed = 0
        self.sent = 0
        self.resumed = 0
        self.complaints: list[str] = []
        self.socket: RawSocket | None = None
        self._more = asyncio.Event()

    def push(self, *messages: Message) -> None:
        """Say something, now or as soon as there is a link."""
        self.outbox.extend(messages)
        self._more.set()

    def agrees(self, count: int) -> bool:
        """Check the peer's count against what it confirmed and what was sent."""
        if self.confirmed <= count <= self.sent:
            return True
        self.complaints.append(f"the peer has {count}, but confirmed {self.confirmed} and was sent {self.sent}")
        return False

    async def carry(self, link: RawSocket, has: int, silence: float | None = None) -> None:
        """Speak over a link to a peer that has `has` messages, until the link ends or falls silent."""
        self.confirmed = max(self.confirmed, has)
        self.socket = link
        talk = asyncio.create_task(self._talk(link, has))
        watch = asyncio.create_task(self._watch(link, silence)) if silence else None
        try:
            await link.until(lambda: link.end is not None, within=600)
        finally:
            for task in (talk, watch):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])

    def confirm(self, payload: bytes) -> None:
        """Take a Pong's token: the peer holds every message up to it."""
        if len(payload) == 8:
            self.confirmed = max(self.confirmed, int.from_bytes(payload, "big"))

    async def _talk(self, link: RawSocket, has: int) -> None:
        place = has
        with contextlib.suppress(Closed, ConnectionError):
            while True:
                batch = self.outbox[place : place + BURST]
                if not batch:
                    self._more.clear()
                    await self._more.wait()
                    continue
                place += len(batch)
                self.sent = max(self.sent, place)
                await link.send(*batch)
                await link.send_frame(Opcode.PING, token(place))

    @staticmethod
    async def _watch(link: RawSocket, silence: float) -> None:
        frames = -1
        while len(link.journal) > frames:
            frames = len(link.journal)
            with contextlib.suppress(Closed, ConnectionError):
                await link.send_frame(Opcode.PING, b"there?")
            await asyncio.sleep(silence)
        link.reset()


class AwareServer(RawServer):
    """An upstream that keeps sessions by id, and can be cut off at any moment."""

    def __init__(self, greet: Callable[[AwareEnd], None] | None = None) -> None:
        """Prepare; `greet` is called with each new session."""
        super().__init__(answer=self._answer, on_socket=self._start)
        self.sessions: dict[str, AwareEnd] = {}
        self.forget = False
        self._greet = greet
        self._carriers: set[asyncio.Task[None]] = set()

    @property
    def session(self) -> AwareEnd:
        """The one session that there is."""
        assert len(self.sessions) == 1, list(self.sessions)
        return next(iter(self.sessions.values()))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        await super().__aexit__(kind, error, trace)
        await asyncio.gather(*self._carriers, return_exceptions=True)

    def _answer(self, request: Head) -> Answer:
        stated = request.get("x-reconnect-received")
        resume = request.get("x-reconnect-id")
        fresh = request.get("x-connection-id")
        if stated is None:
            return Answer(400, body=b"this upstream serves aware proxies only")
        if resume is None and fresh is not None and fresh not in self.sessions:
            end = self.sessions[fresh] = AwareEnd()
            if self._greet is not None:
                self._greet(end)
            return Answer(headers=[("X-Reconnect-Received", "0")])
        # An id that is known resumes, whichever of the two names carried it (PROTOCOL section 3).
        resume = resume or fresh
        if resume is None:
            return Answer(400, body=b"no id")
        known = None if self.forget else self.sessions.get(resume)
        if known is None:
            return Answer(410, body=b"no such session")
        if not known.agrees(int(stated)):
            return Answer(409, body=b"the histories disagree")
        if known.socket is not None:
            # From here on the old link says nothing more: the count below must be the last word.
            known.socket.on_message = None
            known.socket.on_pong = None
            known.socket.answer_pings = False
            known.socket.reset()
        known.resumed += 1
        return Answer(headers=[("X-Reconnect-Received", str(len(known.received.items)))])

    def _start(self, link: RawSocket) -> None:
        identity = link.request.get("x-reconnect-id") or link.request.get("x-connection-id")
        assert identity is not None
        end = self.sessions[identity]
        link.on_message = end.received.add
        link.on_pong = end.confirm
        task = asyncio.create_task(end.carry(link, int(link.request.get("x-reconnect-received") or "0")))
        self._carriers.add(task)


class AwareClient(AwareEnd):
    """A client that resumes its session over as many links as it takes."""

    def __init__(
        self,
        url: str,
        headers: Headers = (),
        silence: float | None = None,
        chosen: str | None = None,
        connect: Callable[[], Awaitable[socket.socket]] | None = None,
    ) -> None:
        """Prepare, with an id of its own if `chosen`; a link silent for `silence` s is given up.

        With `connect`, each link is on the TCP connection that it returns.
        """
        super().__init__()
        self.url = url
        self.session_id: str | None = None
        self._chosen = chosen
        self.lost: Refused | None = None
        self.links = 0
        self._headers = list(headers)
        self._silence = silence
        self._connect = connect
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect for the first time."""
        self._task = asyncio.create_task(self._live())
        waiter = asyncio.create_task(self._connected.wait())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([waiter, self._task], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave with 1000."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if self.socket is not None and self.socket.end is None:
            self.socket.on_message = None
            with contextlib.suppress(Closed, TimeoutError):
                await self.socket.close(1000)
        if self.socket is not None:
            await self.socket.detach()
        if kind is None and not self._task.cancelled():
            self._task.result()

    async def _live(self) -> None:
        while self.lost is None:
            fields = [("X-Reconnect-Received", str(len(self.received.items))), *self._headers]
            if self.session_id is not None:
                fields.append(("X-Reconnect-Id", self.session_id))
            elif self._chosen is not None:
                fields.append(("X-Connection-Id", self._chosen))
            try:
                link = await dial(self.url, fields, sock=await self._connect() if self._connect else None)
            except Refused as error:
                if self.session_id is None:
                    raise
                if error.status < 500:
                    self.lost = error
            except OSError:
                await asyncio.sleep(0.02)
            else:
                await self._use(link)

    async def _use(self, link: RawSocket) -> None:
        link.on_message = self.received.add
        link.on_pong = self.confirm
        stated = link.response.get("x-reconnect-received")
        assert stated is not None, f"the 101 does not say how much was received: {link.response}"
        self.links += 1
        if self.session_id is None:
            self.session_id = link.response.get("x-connection-id") or self._chosen
        if not self.agrees(int(stated)):
            await link.detach()
            raise AssertionError(self.complaints[-1])
        self._connected.set()
        self.resumed += self.links > 1
        await self.carry(link, int(stated), self._silence)
        # What the old link may still hold was not answered with a Pong; the count is stated without it.
        await link.detach()
