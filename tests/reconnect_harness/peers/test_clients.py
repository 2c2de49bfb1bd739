"""The clients, in a process of their own, against a websockets server that a test controls."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction, MessageKind, decode, encode
from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.child import Actor, Warden
from tests.reconnect_harness.waiting import until


class Server:
    """A server that keeps what it receives, and aborts a connection after so many messages if it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.cut_after: int | None = None
        # How many messages it sends when it has received the first one.
        self.burst = 0
        # Whether it reads nothing, and therefore answers no Ping.
        self.deaf = False
        self.ids: list[str | None] = []
        # The extensions that each connection offered.
        self.offers: list[str | None] = []
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one client."""
        assert connection.request is not None
        self.ids.append(connection.request.headers.get("X-Connection-Id"))
        self.offers.append(connection.request.headers.get("Sec-WebSocket-Extensions"))
        count = 0
        if self.deaf:
            connection.transport.pause_reading()
        try:
            async for message in connection:
                label = decode(message)
                assert label.wrong is None
                self.numbers[label.stream].append(label.number)
                count += 1
                if count == 1:
                    for number in range(1, self.burst + 1):
                        await connection.send(encode(f"to-{label.stream}", "u2c", number, 2_000, MessageKind.BINARY))
                if count == self.cut_after:
                    connection.transport.abort()
        except ConnectionClosed:
            pass


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A running server."""
    made = Server()
    # One that is deaf hears no answer to its Close.
    async with serve(made.handle, "127.0.0.1", 0, compression=None, close_timeout=0.5) as running:
        made.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/"
        yield made


Start = Callable[..., Awaitable[Actor]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """A function that starts three clients of a kind; they send for half a second."""
    async with AsyncExitStack() as stack:
        warden = stack.enter_context(Warden())

        async def launch(kind: str, url: str, **more: Any) -> Actor:
            spec = {
                "kind": kind,
                "url": url,
                "count": 3,
                "lasts": 0.5,
                "load": Workload(200, 40, 400).to_spec(),
                "seed": "1",
                "history": str(tmp_path / "history"),
                **more,
            }
            actor = await Actor.launch("the clients", "reconnect_harness.peers.clients", spec, tmp_path / "log", warden)
            stack.push_async_callback(actor.stop)
            assert await actor.hear() == {"ready": 3}
            return actor

        yield launch


async def _until_silent(actor: Actor) -> int:
    """Let the clients send until their time is over; return how many messages they sent."""
    await actor.ask("go")

    async def silent() -> bool:
        return not (await actor.ask("count"))["sending"]

    await until(silent)
    return int((await actor.ask("count"))["sent"])


async def test_clients_send_streams_of_their_own_and_close(start: Start, server: Server, tmp_path: Path) -> None:
    """Numbers from 1 without a gap, in order; the close is recorded as asked for."""
    actor = await start("plain", server.url)
    sent = await _until_silent(actor)
    await actor.ask("close")
    await actor.stop()
    assert sorted(server.numbers) == ["c01", "c02", "c03"]
    assert sum(map(len, server.numbers.values())) == sent > 100
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in server.numbers.values())
    goodbyes = [event for event in History.merge([tmp_path / "history"]).links if event.event == "disconnected"]
    assert [(event.asked, event.code) for event in goodbyes] == [(True, 1000)] * 3


@pytest.mark.parametrize("kind", ["plain", "reconnecting"])
@pytest.mark.parametrize("compress", [False, True])
async def test_clients_offer_compression_if_they_are_told(
    start: Start, server: Server, kind: str, compress: bool
) -> None:
    """Not by default, as `websockets` does: faults of links are measured in bytes."""
    await start(kind, server.url, compress=compress)
    assert ["permessage-deflate" in (offer or "") for offer in server.offers] == [compress] * 3


async def test_a_plain_client_does_not_reconnect(start: Start, server: Server, tmp_path: Path) -> None:
    """It records that it was disconnected, and ends."""
    server.cut_after = 5
    actor = await start("plain", server.url)
    await _until_silent(actor)
    await actor.ask("close")
    await actor.stop()
    assert [numbers[:5] for numbers in server.numbers.values()] == [[1, 2, 3, 4, 5]] * 3
    assert len(server.ids) == 3
    ends = [event for event in History.merge([tmp_path / "history"]).links if event.event == "disconnected"]
    assert [(event.asked, event.code) for event in ends] == [(False, 1006)] * 3


async def test_a_reconnecting_client_reconnects_under_its_id(start: Start, server: Server) -> None:
    """Its numbers continue, and none is repeated."""
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


async def test_a_client_that_was_killed_continues_under_its_id(start: Start, server: Server) -> None:
    """The next process has the same ids, and its numbers continue."""
    killed = await start("reconnecting", server.url)
    said = await _until_silent(killed)
    killed.send_signal(signal.SIGKILL)
    await killed.wait()
    next_one = await start("reconnecting", server.url)
    assert await _until_silent(next_one) > said
    await next_one.ask("close")
    assert len(server.ids) == 6
    assert sorted(map(str, server.ids[:3])) == sorted(map(str, server.ids[3:]))
    for numbers in server.numbers.values():
        assert numbers == list(range(1, len(numbers) + 1))


async def test_visiting_clients_connect_one_after_the_other_and_again(
    start: Start, server: Server, tmp_path: Path
) -> None:
    """Each closes with 1000, names no session, and the messages that it has sent have arrived."""
    actor = await start("visiting", server.url, lasts=1.0, visits={"stay": 0.1, "away": 0.2})
    await _until_silent(actor)
    await actor.ask("close")
    await actor.stop()
    assert set(server.ids) == {None}
    found = History.merge([tmp_path / "history"])
    events = found.links
    assert [event.name for event in events if event.event == "connected"][:3] == ["c01", "c02", "c03"]
    for name in ("c01", "c02", "c03"):
        kinds = [event.event for event in events if event.name == name]
        assert kinds == ["connected", "disconnected"] * (len(kinds) // 2)
        assert len(kinds) >= 4
    assert all(event.asked and event.code == 1000 for event in events if event.event == "disconnected")
    # A connection that is being closed may refuse a message or two.
    owed = {stream.name: [event.number for event in stream.owed] for stream in found.streams[Direction.C2U]}
    assert owed == server.numbers
    assert all(len(numbers) > 20 for numbers in owed.values())


async def test_a_server_that_cannot_be_reached_is_recorded(start: Start, tmp_path: Path) -> None:
    """As a failed handshake."""
    actor = await start("plain", "ws://127.0.0.1:1/")
    await actor.ask("close")
    await actor.stop()
    events = History.merge([tmp_path / "history"]).links
    assert [(event.event, event.asked) for event in events] == [("unreachable", False)] * 3


async def test_clients_end_when_their_stdin_ends(start: Start, server: Server) -> None:
    """Also during the traffic."""
    actor = await start("reconnecting", server.url)
    await actor.ask("go")
    await actor.stop()
    assert actor.returncode == 0


async def test_a_slow_client_reads_few_messages_while_the_traffic_lasts(
    start: Start, server: Server, tmp_path: Path
) -> None:
    """The others read at once; at the end it has read all messages too."""
    server.burst = 300
    actor = await start("plain", server.url, slow={"count": 1, "takes": 4.0})
    await _until_silent(actor)

    async def all_there() -> bool:
        return int((await actor.ask("count"))["arrived"]) == 3 * server.burst

    await until(all_there)
    events = History.merge([tmp_path / "history"]).messages
    over = max(event.t for event in events if event.event == "sent")
    in_time = dict.fromkeys(("c01", "c02", "c03"), 0)
    for event in events:
        in_time[event.name] += event.event == "received" and event.t <= over
    assert in_time["c01"] < 10 < 100 < min(in_time["c02"], in_time["c03"])
    await actor.ask("close")


async def test_a_client_that_pings_gives_up_a_silent_link(start: Start, server: Server, tmp_path: Path) -> None:
    """Long before the library would ping by default, which is after twenty seconds."""
    server.deaf = True
    actor = await start("plain", server.url, ping=0.2)
    await actor.ask("go")

    async def all_gone() -> bool:
        links = History.merge([tmp_path / "history"]).links
        return sum(event.event == "disconnected" for event in links) == 3

    await until(all_gone)
    links = History.merge([tmp_path / "history"]).links
    assert all("keepalive ping timeout" in event.reason for event in links if event.event == "disconnected")
    assert links[-1].t - links[0].t < 20
    await actor.ask("close")
