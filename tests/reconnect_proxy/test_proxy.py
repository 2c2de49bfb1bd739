"""The proxy as a Python object: `async with Sender(upstream=...) as proxy`, real sockets at both ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from reconnect_proxy.config.model import Config
from reconnect_proxy.core.registry import RegistryState
from reconnect_proxy.draining import Stopped
from reconnect_proxy.events import Dialled, Event, LegLost, Resumed, SessionEnded, SessionOpened
from reconnect_proxy.proxy import Proxy, Receiver, Sender

ANY_PORT = "127.0.0.1:0"
ID = "a-session-of-mine"


class Upstream:
    """An echo server that keeps its connections and how they ended."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.closed: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        """Echo until the connection ends."""
        self.connections.append(connection)
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass  # how it ended is reported below
        await self.closed.put((connection.close_code, connection.close_reason))


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """Serve an `Upstream` on a free port."""
    served = Upstream()
    async with serve(served.handle, "127.0.0.1", 0) as server:
        served.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield served


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition on the proxy's own state, which has no event; bounded by the test's timeout."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def echoed(url: str, *messages: str) -> list[str | bytes]:
    """Send messages through a connection of their own and return the echoes."""
    async with connect(url) as client:
        for message in messages:
            await client.send(message)
        return [await client.recv() for _ in messages]


async def test_the_options_of_a_proxy_are_those_of_a_config() -> None:
    """A bad option is refused at once, and so is giving both."""
    with pytest.raises(ValueError, match="retry_for"):
        Proxy(upstream="ws://127.0.0.1:1", retry_for="soon")
    with pytest.raises(ValueError, match="not both"):
        Proxy(Config(upstream="ws://127.0.0.1:1"), mode="sender")
    with pytest.raises(ValueError, match="a Proxy is one process"):
        Proxy(upstream="ws://127.0.0.1:1", workers=2)


@pytest.mark.parametrize("kind", [Proxy, Sender, Receiver])
async def test_messages_pass_in_every_mode(kind: Callable[..., Proxy]) -> None:
    """Each mode is a working proxy within `async with`, at its `url`."""
    async with upstream() as served, kind(upstream=served.url, listen=ANY_PORT) as proxy:
        assert await echoed(proxy.url, "one", "two") == ["one", "two"]


async def test_the_port_is_free_again_after_the_block() -> None:
    """What `async with` started it stops: the address can be had at once."""
    async with upstream() as served:
        async with Proxy(upstream=served.url, listen=ANY_PORT) as proxy:
            address = proxy.url.removeprefix("ws://")
            async with connect(proxy.url):
                pass
        async with Proxy(upstream=served.url, listen=address) as again:
            assert again.url == f"ws://{address}"
            with pytest.raises(OSError, match="in use"):
                await Proxy(upstream=served.url, listen=address).start()


async def test_a_sender_closes_the_upstream_with_its_clients_code() -> None:
    """Its session ends with the client's socket."""
    async with upstream() as served, Sender(upstream=served.url, listen=ANY_PORT) as proxy:
        client = await connect(proxy.url)
        await client.send("hello")
        await client.close(4001, "done")
        assert await served.closed.get() == (4001, "done")
        await until(lambda: not proxy.sessions())


async def test_a_receiver_keeps_one_upstream_for_clients_that_come_and_go() -> None:
    """What the upstream sends while no client is connected waits for the first one."""
    async with upstream() as served, Receiver(upstream=served.url, listen=ANY_PORT) as proxy:
        assert await echoed(proxy.url, "a") == ["a"]
        await until(lambda: proxy.sessions()[0].clients == 0)
        await served.connections[0].send("while you were away")
        async with connect(proxy.url) as client:
            received = await client.recv()
            # The echo may come once more: an ordinary client does not say that it has it.
            assert (await client.recv() if received == "a" else received) == "while you were away"
        assert len(served.connections) == 1


async def test_a_client_that_names_an_id_in_receiver_mode_has_an_upstream_of_its_own() -> None:
    """The connection id chooses the upstream socket, as the original design left to be done."""
    async with upstream() as served, Receiver(upstream=served.url, listen=ANY_PORT) as proxy:
        async with connect(proxy.url) as shared, connect(f"{proxy.url}/?connection-id={ID}") as named:
            await named.send("mine")
            assert await named.recv() == "mine"
            await shared.send("ours")
            assert await shared.recv() == "ours"
        assert len(served.connections) == 2


async def test_an_observer_hears_the_life_of_a_session() -> None:
    """Opened, leg lost, resumed with how many messages, ended: what logs and metrics are made of."""
    events: list[Event] = []
    async with (
        upstream() as served,
        Proxy(upstream=served.url, listen=ANY_PORT, observe=events.append) as proxy,
        connect(proxy.url) as client,
    ):
        await client.send("a")
        await client.recv()
        served.connections[0].transport.abort()
        await client.send("b")
        while await client.recv() != "b":
            pass
    kinds = [type(event) for event in events if not isinstance(event, Dialled)]
    assert kinds[0] is SessionOpened
    assert kinds[-1] is SessionEnded
    assert kinds.index(LegLost) < kinds.index(Resumed)


async def test_drain_waits_for_what_is_owed_and_admits_nobody_new() -> None:
    """New sessions are refused with 503, those that exist can be come back to, and the wait ends when all is there."""
    async with upstream() as served, Proxy(upstream=served.url, listen=ANY_PORT) as proxy:
        async with connect(f"{proxy.url}/?connection-id={ID}"):
            pass
        await until(lambda: not proxy.sessions()[0].client_connected)
        await served.connections[0].send("late")
        await until(lambda: proxy.sessions()[0].u2c_queued == 1)
        draining = asyncio.create_task(proxy.drain(60))
        await until(lambda: proxy.draining)
        with pytest.raises(InvalidStatus) as refused:
            await connect(proxy.url)
        assert refused.value.response.status_code == 503
        async with connect(f"{proxy.url}/?connection-id={ID}") as client:
            assert await client.recv() == "late"
            await draining


async def test_talk_that_goes_on_does_not_keep_a_drain_from_ending() -> None:
    """Of that something is always on its way; what is on its way in the end is confirmed before clients are closed."""
    async with upstream() as served, Proxy(upstream=served.url, listen=ANY_PORT) as proxy, connect(proxy.url) as client:
        heard: list[str | bytes] = []

        async def talk() -> None:
            for number in itertools.count():
                await client.send(f"{number}")
                await asyncio.sleep(0)

        async def listen() -> None:
            async for message in client:
                heard.append(message)

        talking, listening = asyncio.create_task(talk()), asyncio.create_task(listen())
        await until(lambda: len(heard) > 100)
        await proxy.drain(3600)
        stopped = await proxy.stop()
        with pytest.raises(ConnectionClosed):
            await listening
        with pytest.raises(ConnectionClosed):
            await talking
        assert stopped == Stopped(1)
        assert client.close_code == 1012
        assert heard == [f"{number}" for number in range(len(heard))]


async def test_what_could_not_be_delivered_is_said_when_all_has_stopped() -> None:
    """A stop waits no longer than it is told to for an upstream that is not there."""
    async with Proxy(upstream="ws://127.0.0.1:1", listen=ANY_PORT) as proxy, connect(proxy.url) as client:
        await client.send("a")
        await client.send("b")
        await (await client.ping())
        await proxy.drain(0.1)
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{proxy.url}/?connection-id={ID}")
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "1"
        assert await proxy.stop() == Stopped(1, undelivered_c2u=2)


async def test_stop_closes_clients_with_1012() -> None:
    """A planned stop is told to the client as a service restart, to the upstream as going away."""
    async with upstream() as served:
        async with Proxy(upstream=served.url, listen=ANY_PORT) as proxy:
            client = await connect(proxy.url)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (1012, "service restart")
        assert (await served.closed.get())[0] == 1001


async def test_dial_start_keeps_what_is_said_before_any_client_is_there() -> None:
    """The shared upstream is dialled when the proxy starts."""
    async with upstream() as served, Receiver(upstream=served.url, listen=ANY_PORT, dial="start") as proxy:
        await until(lambda: bool(served.connections))
        await served.connections[0].send("early")
        async with connect(proxy.url) as client:
            assert await client.recv() == "early"


async def test_a_session_is_bound_to_the_headers_it_was_opened_with() -> None:
    """With `bind`, another client that has learnt the id is refused with 403."""
    async with upstream() as served, Proxy(upstream=served.url, listen=ANY_PORT, bind=["authorization"]) as proxy:
        url = f"{proxy.url}/?connection-id={ID}"
        mine = {"Authorization": "Bearer mine"}
        async with connect(url, additional_headers=mine):
            pass
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers={"Authorization": "Bearer stolen"})
        assert refused.value.response.status_code == 403
        async with connect(url, additional_headers=mine) as client:
            await client.send("still here")
            assert await client.recv() == "still here"


async def test_nothing_is_left_behind(recwarn: pytest.WarningsRecorder) -> None:
    """No session, socket or task outlives the block, however the clients left."""
    before = asyncio.all_tasks()
    async with upstream() as served:
        async with Proxy(upstream=served.url, listen=ANY_PORT) as proxy:
            clients = [await connect(proxy.url) for _ in range(10)]
            for client in clients[:5]:
                client.transport.abort()
        assert not proxy.sessions()
        assert not proxy.legs
        for client in clients:
            await client.wait_closed()
    assert asyncio.all_tasks() == before


async def test_ready_tells_whether_an_upstream_can_be_reached() -> None:
    """Before anybody has dialled it, while it carries sessions, and when it is gone and comes back."""
    proxy = Proxy(upstream="ws://127.0.0.1:1", listen=ANY_PORT)
    assert await proxy.ready() == "the proxy does not listen"
    async with upstream() as served, Proxy(upstream=served.url, listen=ANY_PORT) as proxy:
        assert await proxy.ready() is None
        async with connect(proxy.url):
            assert await proxy.ready() is None
        served_url = served.url
    async with Proxy(upstream=served_url, listen=ANY_PORT) as proxy:
        reason = await proxy.ready()
        assert reason is not None
        assert reason.startswith(f"no upstream can be reached: {served_url}: ")
        async with connect(proxy.url):
            await until(lambda: not proxy.upstreams()[0].healthy)
            assert await proxy.ready() is not None
            port = int(served_url.rpartition(":")[2])
            async with serve(Upstream().handle, "127.0.0.1", port):
                assert await proxy.ready() is None
        proxy.registry.state = RegistryState.DRAINING
        assert await proxy.ready() == "the proxy is being stopped"


async def test_new_sessions_are_spread_over_the_upstreams_by_weight() -> None:
    """And when one is lost its sessions move on to the next."""
    async with upstream() as one, upstream() as two:
        weighted = [f"{one.url} weight=2", two.url]
        async with Proxy(upstream=weighted, listen=ANY_PORT) as proxy, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(proxy.url)) for _ in range(6)]
            assert [len(each.connections) for each in (one, two)] == [4, 2]
            assert [each.sessions for each in proxy.upstreams()] == [4, 2]
            for connection in two.connections:
                connection.transport.abort()
            await until(lambda: [each.sessions for each in proxy.upstreams()] == [6, 0])
            for client in clients:
                await client.send("hello")
                assert await client.recv() == "hello"


async def test_no_more_than_max_dials_shake_hands_with_an_upstream_at_a_time() -> None:
    """However many clients come; each has its turn."""
    running = peak = 0

    async def slowly(connection: ServerConnection, request: object) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1

    served = Upstream()
    async with serve(served.handle, "127.0.0.1", 0, process_request=slowly) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Proxy(upstream=url, listen=ANY_PORT, max_dials=3) as proxy, AsyncExitStack() as stack:
            clients = await asyncio.gather(*(stack.enter_async_context(connect(proxy.url)) for _ in range(20)))
            assert (len(clients), peak) == (20, 3)


async def test_clients_that_leave_while_their_upstream_is_dialled_leave_no_turn_behind() -> None:
    """Whether their dial had begun or was waiting; the next client gets through at once."""
    silent = asyncio.Event()

    async def hold(connection: ServerConnection, request: object) -> None:
        await silent.wait()

    served = Upstream()
    async with serve(served.handle, "127.0.0.1", 0, process_request=hold) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Proxy(
            upstream=url, listen=ANY_PORT, max_dials=2, grace=0, connect_timeout=0.5, retry_for=1
        ) as proxy:
            clients = [asyncio.create_task(connected(proxy.url)) for _ in range(6)]
            await until(lambda: (proxy.upstreams()[0].dials_running, proxy.upstreams()[0].dials_waiting) == (2, 4))
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            await until(lambda: not proxy.sessions())
            assert (proxy.upstreams()[0].dials_running, proxy.upstreams()[0].dials_waiting) == (0, 0)
            silent.set()
            assert await echoed(proxy.url, "hello") == ["hello"]


async def connected(url: str) -> None:
    """Connect, and stay."""
    async with connect(url):
        await asyncio.get_running_loop().create_future()
