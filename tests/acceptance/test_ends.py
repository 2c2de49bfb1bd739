"""PROTOCOL section 6: how a link, a session and the proxy end."""

import signal

import pytest

from .conftest import Serve
from .frames import Closed, Head, Opcode, Refused
from .rawserver import Answer, RawServer
from .rawsocket import dial
from .relay import Cut, Relay, Way
from .waiting import numbered

CHOSEN = "a-client-chosen-id"


# Either link lost with its last words unread.


@pytest.mark.parametrize("how", ["reset", "drop"])
async def test_last_words_and_the_cut_of_a_client_arrive_together(serve: Serve, upstream: RawServer, how: str) -> None:
    """The proxy finds data and the end of the link at once: it delivers the one and notices the other."""
    proxy = await serve(upstream.url, "--grace", "300ms")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    proxy.signal(signal.SIGSTOP)
    await client.send("last words")
    client.reset() if how == "reset" else client.drop()
    await client.ended()
    proxy.signal(signal.SIGCONT)
    assert await server.recv() == "last words"
    assert (await server.ended(within=8)).code != 1006


@pytest.mark.parametrize("how", ["reset", "drop"])
async def test_last_words_and_the_cut_of_an_upstream_arrive_together(
    serve: Serve, upstream: RawServer, how: str
) -> None:
    """The same on the other side: the client hears the last words, and the upstream is dialled again."""
    proxy = await serve(upstream.url)
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    proxy.signal(signal.SIGSTOP)
    await server.send("last words")
    server.reset() if how == "reset" else server.drop()
    await server.ended()
    proxy.signal(signal.SIGCONT)
    assert await client.recv() == "last words"
    again = await upstream.accept(within=8)
    await again.send("again")
    assert await client.recv() == "again"


# The upstream's memory of the session.


async def first_then(*later: Answer) -> RawServer:
    """Make an aware server that answers its first handshake properly and the later ones as told."""
    answers = iter([Answer(headers=[("X-Reconnect-Received", "0")]), *later])
    last = later[-1]
    return RawServer(lambda _: next(answers, last))


@pytest.mark.parametrize("answer", ["410", "too many", "too few"])
async def test_an_upstream_that_lost_the_session_ends_it(serve: Serve, answer: str) -> None:
    """410 on a redial, and counts outside what was confirmed .. sent, are 1014 with the reason."""
    later = {
        "410": Answer(410, body=b"gone"),
        "too many": Answer(headers=[("X-Reconnect-Received", "6")]),
        "too few": Answer(headers=[("X-Reconnect-Received", "4")]),
    }
    async with await first_then(later[answer]) as upstream:
        proxy = await serve(upstream.url)
        client = await dial(f"{proxy.url}/")
        server = await upstream.accept()
        await client.send(*numbered("c2u", 5))
        await server.until(lambda: 5 in server.tokens())
        await server.fence()
        server.reset()
        end = await client.ended()
        assert (end.code, end.reason) == (1014, "upstream lost the session")
        assert len(upstream.requests) == 2


async def test_a_4xx_on_a_redial_does_not_reach_the_client_as_data(serve: Serve) -> None:
    """An upstream that refuses a redial is retried within the budget or ends it: the client is closed properly."""

    def answer(request: Head) -> Answer:
        return Answer(401, body=b"who?") if request.get("x-reconnect") else Answer()

    async with RawServer(answer) as upstream:
        proxy = await serve(upstream.url, "--retry-for", "500ms")
        client = await dial(f"{proxy.url}/")
        (await upstream.accept()).reset()
        end = await client.ended()
        assert end.code not in (1000, 1005, 1006)
        assert not client.left()


# Too large, and the end of the proxy.


async def test_a_client_that_sends_too_much_is_closed_with_1009(serve: Serve, upstream: RawServer) -> None:
    """A message above `--max-message` closes its sender with 1009 and ends the session, upstream included."""
    proxy = await serve(upstream.url, "--max-message", "64KiB", "--grace", "60s")
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    await client.send("x" * 65536)
    assert await server.recv() == "x" * 65536
    await client.send("x" * 65537)
    assert (await client.ended()).code == 1009
    assert (await server.ended()).code != 1006
    assert not server.left()
    with pytest.raises(Refused) as refusal:
        await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])
    assert refusal.value.status == 410


async def test_an_upstream_that_sends_too_much_is_closed_with_1009(serve: Serve, upstream: RawServer) -> None:
    """The same the other way: the upstream gets 1009, the client a Close that is not an accident."""
    proxy = await serve(upstream.url, "--max-message", "64KiB")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await server.send("before", b"x" * 65537)
    assert await client.recv() == "before"
    assert (await server.ended()).code == 1009
    assert (await client.ended()).code not in (1005, 1006)
    assert len(upstream.requests) == 1


async def test_a_fragmented_message_that_is_too_large_is_1009(serve: Serve, upstream: RawServer) -> None:
    """The limit is on the message, not on the frame."""
    proxy = await serve(upstream.url, "--max-message", "64KiB")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send_frame(Opcode.BINARY, b"x" * 40_000, fin=False)
    await client.send_frame(Opcode.CONTINUATION, b"x" * 40_000)
    assert (await client.ended()).code == 1009
    await server.ended()
    assert not server.left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_closes_everybody_with_1012(serve: Serve, upstream: RawServer, number: signal.Signals) -> None:
    """The clients hear 1012 "service restart", the upstream gets a Close, and the proxy exits with 0."""
    proxy = await serve(upstream.url)
    clients = [await dial(f"{proxy.url}/") for _ in range(3)]
    servers = [await upstream.accept() for _ in range(3)]
    proxy.signal(number)
    for client in clients:
        end = await client.ended()
        assert (end.code, end.reason) == (1012, "service restart")
    for server in servers:
        assert (await server.ended()).code != 1006
    assert await proxy.exit_code() == 0


async def test_a_stop_delivers_what_is_on_its_way(serve: Serve, upstream: RawServer) -> None:
    """What the proxy holds for a client that reads goes out before the 1012, and no new session is opened."""
    proxy = await serve(upstream.url, drain="10s")
    client = await dial(f"{proxy.url}/", receive_buffer=8192)
    server = await upstream.accept()
    client.pause()
    await server.send(*numbered("u2c", 300, pad=20_000))
    await server.fence()
    proxy.signal()
    client.resume()
    assert await client.take(300) == numbered("u2c", 300, pad=20_000)
    assert (await client.ended()).code == 1012
    assert await proxy.exit_code() == 0
    with pytest.raises((Refused, OSError, Closed)):
        await dial(f"{proxy.url}/")


async def test_a_half_message_of_the_upstream_is_dropped(serve: Serve, upstream: RawServer) -> None:
    """A FIN in the middle of a frame from the upstream loses that frame only, and nothing that came before."""
    async with Relay(upstream.port) as relay:
        proxy = await serve(relay.url)
        client = await dial(f"{proxy.url}/")
        server = await upstream.accept()
        whole = numbered("u2c", 3, pad=100)
        await server.send(*whole)
        assert await client.take(3) == whole
        relay.cut_after(Way.BACK, 50, Cut.FINISH)
        await server.send("x" * 500)
        again = await upstream.accept()
        await again.send("next")
        assert await client.recv() == "next"
