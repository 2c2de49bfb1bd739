"""The clients, in a process of their own, against a websockets server that does to them what the test wants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from harness.history import History
from harness.message import decode
from harness.processes import Actor, Warden
from harness.workload import Workload
from tests.harness.waiting import until


class Server:
    """A server that keeps what it gets, and cuts a connection off after so many messages if it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.cut_after: int | None = None
        self.ids: list[str | None] = []
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one client."""
        assert connection.request is not None
        self.ids.append(connection.request.headers.get("X-Connection-Id"))
        count = 0
        try:
            async for message in connection:
                label = decode(message)
                assert label.wrong is None
                self.numbers[label.stream].append(label.number)
                count += 1
                if count == self.cut_after:
                    connection.transport.abort()
        except ConnectionClosed:
            pass


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A running server."""
    made = Server()
    async with serve(made.handle, "127.0.0.1", 0, compression=None) as running:
        made.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/"
        yield made


Start = Callable[[str, str], Awaitable[Actor]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """A function that starts three clients of a kind; they send for half a second."""
    async with AsyncExitStack() as stack:
        warden = stack.enter_context(Warden())

        async def launch(kind: str, url: str) -> Actor:
            spec = {
                "kind": kind,
                "url": url,
                "count": 3,
                "lasts": 0.5,
                "load": Workload(200, 40, 400).to_spec(),
                "seed": "1",
                "history": str(tmp_path / "history"),
            }
            actor = await Actor.launch("the clients", "harness.clients", spec, tmp_path / "log", warden)
            stack.push_async_callback(actor.stop)
            assert await actor.hear() == {"ready": 3}
            return actor

        yield launch


async def _until_silent(actor: Actor) -> int:
    """Have the clients talk until their time is over; return how much they sent."""
    await actor.ask("go")

    async def silent() -> bool:
        return not (await actor.ask("count"))["sending"]

    await until(silent)
    return int((await actor.ask("count"))["sent"])


async def test_clients_send_streams_of_their_own_and_say_goodbye(start: Start, server: Server, tmp_path: Path) -> None:
    """Numbers from 1 without a gap, in order; a close that they wanted is recorded as such."""
    actor = await start("plain", server.url)
    sent = await _until_silent(actor)
    await actor.ask("close")
    await actor.stop()
    assert sorted(server.numbers) == ["c01", "c02", "c03"]
    assert sum(map(len, server.numbers.values())) == sent > 100
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in server.numbers.values())
    goodbyes = [event for event in History.merge([tmp_path / "history"]).links if event.event == "disconnected"]
    assert [(event.asked, event.code) for event in goodbyes] == [(True, 1000)] * 3


async def test_a_plain_client_does_not_come_back(start: Start, server: Server, tmp_path: Path) -> None:
    """It records that it was disconnected, and that is the end of it."""
    server.cut_after = 5
    actor = await start("plain", server.url)
    await _until_silent(actor)
    await actor.ask("close")
    await actor.stop()
    assert [numbers[:5] for numbers in server.numbers.values()] == [[1, 2, 3, 4, 5]] * 3
    assert len(server.ids) == 3
    ends = [event for event in History.merge([tmp_path / "history"]).links if event.event == "disconnected"]
    assert [(event.asked, event.code) for event in ends] == [(False, 1006)] * 3


async def test_a_reconnecting_client_comes_back_under_its_id(start: Start, server: Server) -> None:
    """It goes on with its numbers, and repeats none."""
    server.cut_after = 20
    actor = await start("reconnecting", server.url)
    await _until_silent(actor)
    await actor.ask("close")
    assert len(server.ids) > 3
    assert len(set(server.ids)) == 3
    assert all(len(name or "") >= 16 for name in server.ids)
    for numbers in server.numbers.values():
        assert numbers == sorted(set(numbers))
        assert len(numbers) > 20


async def test_a_server_that_is_not_there_is_recorded(start: Start, tmp_path: Path) -> None:
    """A handshake that fails is no silence."""
    actor = await start("plain", "ws://127.0.0.1:1/")
    await actor.ask("close")
    await actor.stop()
    events = History.merge([tmp_path / "history"]).links
    assert [(event.event, event.asked) for event in events] == [("unreachable", False)] * 3


async def test_clients_end_when_nobody_listens_to_them(start: Start, server: Server) -> None:
    """The end of stdin is the end of the process, in the middle of its talk."""
    actor = await start("reconnecting", server.url)
    await actor.ask("go")
    await actor.stop()
    assert actor.returncode == 0
