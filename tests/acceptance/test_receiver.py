"""Receiver mode: many clients, one upstream connection that outlives them all."""

import asyncio

from .conftest import Serve
from .ordinary import Talker, conversation, ordinary_server
from .rawserver import RawServer
from .rawsocket import dial
from .waiting import Message, numbered, without_repeats

RECEIVER = ("--mode", "receiver")


async def test_three_clients_come_and_go(serve: Serve) -> None:
    """One upstream connection throughout, and nothing that it sends is lost while no client is connected."""
    server = Talker(numbered("u2c", 1500), 500)
    heard: list[Message] = []
    async with ordinary_server(server.converse) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", *RECEIVER)
        for place in range(3):
            client = Talker(numbered("c2u", 50, start=1 + 50 * place), 0)
            async with conversation(proxy.url, client):
                await client.finishes()
                last = server.to_say[(300, 700, 1500)[place] - 1]
                await client.heard.until(lambda items, last=last: last in items)  # type: ignore[misc]
                await server.heard.reaches(50 * (place + 1))
            heard += client.heard.items
            # Some tenth of a second of messages without a client.
            said = server.said
            if place < 2:
                async with asyncio.timeout(10):
                    while server.said < said + 50:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
    assert server.connections == 1
    # One that leaves may have taken more than it has confirmed: at least once, and in order.
    assert without_repeats(heard) == server.to_say
    assert server.heard.items == numbered("c2u", 50) + numbered("c2u", 50, 51) + numbered("c2u", 50, 101)


async def test_attached_clients_all_get_everything_and_may_all_speak(serve: Serve, upstream: RawServer) -> None:
    """Two clients without an id share the session: each hears all from when it came, the upstream hears both."""
    proxy = await serve(upstream.url, *RECEIVER)
    first = await dial(f"{proxy.url}/first", [("Cookie", "who=first")])
    server = await upstream.accept()
    second = await dial(f"{proxy.url}/second")
    assert first.response.get("x-connection-id") and second.response.get("x-connection-id")
    await server.send(*numbered("u2c", 200))
    assert await first.take(200) == numbered("u2c", 200)
    assert await second.take(200) == numbered("u2c", 200)
    await first.send("from the first")
    assert await server.recv() == "from the first"
    await second.send("from the second")
    assert await server.recv() == "from the second"
    first.reset()
    await server.send("after")
    assert await second.recv() == "after"
    assert len(upstream.requests) == 1
    assert upstream.requests[0].target == "/first"
    assert upstream.requests[0].get("cookie") == "who=first"


async def test_what_nobody_heard_goes_to_the_next_client(serve: Serve, upstream: RawServer) -> None:
    """With no client there messages wait, and one client gets them, in order, once."""
    proxy = await serve(upstream.url, *RECEIVER)
    first = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await first.close(1000)
    await server.send(*numbered("u2c", 100))
    await server.fence()
    second = await dial(f"{proxy.url}/")
    assert await second.take(100) == numbered("u2c", 100)
    await second.until(lambda: 100 in second.tokens())
    await second.fence()
    third = await dial(f"{proxy.url}/")
    await server.send("live")
    assert await third.recv() == "live"
    assert await second.recv() == "live"


async def test_a_slow_client_is_closed_and_disturbs_nobody(serve: Serve, upstream: RawServer) -> None:
    """One that does not read is closed with 1013 past the high-water mark; the other gets everything."""
    proxy = await serve(upstream.url, *RECEIVER, "--max-queue", "256KiB")
    fast = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    slow = await dial(f"{proxy.url}/", receive_buffer=8192)
    slow.pause()
    messages: list[Message] = [bytes([n % 256]) * 65536 for n in range(200)]
    speech = asyncio.create_task(server.send(*messages))
    assert await fast.take(200) == messages
    await speech
    slow.resume()
    assert (await slow.ended()).code == 1013
    left = slow.left()
    assert left == messages[: len(left)]
    await server.send("after")
    assert await fast.recv() == "after"
    assert fast.end is None


async def test_a_burst_makes_no_client_slow(serve: Serve, upstream: RawServer) -> None:
    """Two clients that read, and a burst of many times the queue: the upstream is held back, no client is closed."""
    proxy = await serve(upstream.url, *RECEIVER, "--max-queue", "256KiB")
    clients = [await dial(f"{proxy.url}/") for _ in range(2)]
    server = await upstream.accept()
    messages: list[Message] = [bytes([n % 256]) * 65536 for n in range(200)]
    speech = asyncio.create_task(server.send(*messages))
    for client in clients:
        assert await client.take(200) == messages
        assert client.end is None
    await speech


async def test_a_named_client_has_an_upstream_of_its_own(serve: Serve, upstream: RawServer) -> None:
    """A client with an id shares nothing with the others, and resumes like in duplex mode."""
    proxy = await serve(upstream.url, *RECEIVER)
    shared = await dial(f"{proxy.url}/")
    shared_server = await upstream.accept()
    named = await dial(f"{proxy.url}/", [("X-Connection-Id", "a-named-client-0001"), ("X-Reconnect-Received", "0")])
    named_server = await upstream.accept()
    assert named.response.get("x-connection-id") == "a-named-client-0001"
    await named_server.send("to the named")
    await shared_server.send("to the rest")
    assert await named.recv() == "to the named"
    assert await shared.recv() == "to the rest"
    await named.until(lambda: 1 in named.tokens())
    named.reset()
    await named_server.send("waits")
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", "a-named-client-0001"), ("X-Reconnect-Received", "1")])
    assert await again.recv() == "waits"
    await again.fence()
    assert not again.left()
    assert len(upstream.requests) == 2


async def test_dial_start_connects_before_any_client(serve: Serve, upstream: RawServer) -> None:
    """With `--dial start` the upstream is there from the beginning, and its first words wait."""
    proxy = await serve(upstream.url, *RECEIVER, "--dial", "start")
    server = await upstream.accept()
    await server.send(*numbered("u2c", 50))
    await server.fence()
    client = await dial(f"{proxy.url}/")
    assert await client.take(50) == numbered("u2c", 50)
    await client.send("hello")
    assert await server.recv() == "hello"
    assert len(upstream.requests) == 1


async def test_the_upstream_stays_without_clients(serve: Serve, upstream: RawServer) -> None:
    """Without `--grace` the shared upstream outlives every client; with it, the grace ends it."""
    proxy = await serve(upstream.url, *RECEIVER)
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.close(1000)
    brief = await serve(upstream.url, *RECEIVER, "--grace", "200ms")
    other = await dial(f"{brief.url}/")
    short_lived = await upstream.accept()
    await other.close(1000)
    await short_lived.ended()
    await server.fence()
    assert server.end is None


async def test_a_lost_upstream_is_redialled_for_the_clients_that_are_there(serve: Serve, upstream: RawServer) -> None:
    """The shared upstream is retried as in any mode, and what clients said meanwhile is delivered."""
    proxy = await serve(upstream.url, *RECEIVER)
    clients = [await dial(f"{proxy.url}/") for _ in range(2)]
    (await upstream.accept()).reset()
    for client in clients:
        await client.send("hello")
    server = await upstream.accept()
    assert await server.take(2) == ["hello", "hello"]
    await server.send("welcome")
    assert [await client.recv() for client in clients] == ["welcome", "welcome"]
