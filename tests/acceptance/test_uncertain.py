"""PROTOCOL section 2: what was sent and not confirmed to a peer that does not count, by each of three settings."""

import pytest

from .absence import go_unconfirmed
from .conftest import Serve
from .frames import Refused
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .waiting import numbered

CHOSEN = "a-client-chosen-id"


async def upstream_lost(serve: Serve, upstream: RawServer, setting: str) -> RawSocket:
    """Send ten messages of which five are confirmed, lose the link; give the client."""
    proxy = await serve(upstream.url, "--uncertain", setting)
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send(*numbered("c2u", 5))
    await server.take(5)
    await server.until(lambda: 5 in server.tokens())
    server.answer_pings = False
    await client.send(*numbered("c2u", 5, start=6))
    await server.take(5)
    server.reset()
    return client


@pytest.mark.parametrize(("setting", "first"), [("resend", 6), ("drop", 11)])
async def test_upstream_gets_uncertain_messages_again_or_not(
    serve: Serve, upstream: RawServer, setting: str, first: int
) -> None:
    """`resend` repeats what is uncertain, `drop` leaves it out; both go on with the rest in order."""
    client = await upstream_lost(serve, upstream, setting)
    again = await upstream.accept()
    # Not before the new link is there: what is written to a dying one would be uncertain too.
    await client.send(*numbered("c2u", 5, start=11))
    assert await again.take(16 - first) == numbered("c2u", 16 - first, start=first)
    await again.fence()
    assert not again.left()


async def test_close_ends_the_session_rather_than_guess(serve: Serve, upstream: RawServer) -> None:
    """`close` says a code and a reason to the client, and sends nothing that might be a repeat."""
    client = await upstream_lost(serve, upstream, "close")
    end = await client.ended()
    assert end.code not in (1000, 1005, 1006)
    assert end.reason
    assert not any(sock.left() for sock in upstream.sockets[1:])


async def test_nothing_uncertain_is_no_reason_to_close(serve: Serve, upstream: RawServer) -> None:
    """With `close` and everything confirmed a lost link is redialled as ever."""
    proxy = await serve(upstream.url, "--uncertain", "close")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send("one")
    await server.until(lambda: 1 in server.tokens())
    await server.fence()
    server.reset()
    again = await upstream.accept()
    await client.send("two")
    assert await again.recv() == "two"


@pytest.mark.parametrize(("setting", "first"), [("resend", 6), ("drop", 11)])
async def test_client_gets_uncertain_messages_again_or_not(
    serve: Serve, upstream: RawServer, setting: str, first: int
) -> None:
    """The same towards a client that comes back with its id and no count."""
    proxy = await serve(upstream.url, "--uncertain", setting)
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    await go_unconfirmed(client, server, 5)
    # Not before the proxy knows: what it writes to the dying link would be uncertain too.
    await server.fence()
    again = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    await server.send(*numbered("u2c", 5, start=11))
    assert await again.take(16 - first) == numbered("u2c", 16 - first, start=first)
    await again.fence()
    assert not again.left()


async def test_close_ends_the_session_of_a_client_too(serve: Serve, upstream: RawServer) -> None:
    """With `close` a client that comes back to uncertain messages is told so, and its upstream is released."""
    proxy = await serve(upstream.url, "--uncertain", "close")
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)], answer_pings=False)
    server = await upstream.accept()
    await server.send("one")
    await client.recv()
    client.reset()
    try:
        again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])
    except Refused as refusal:
        # Ended as soon as the link was lost: then there is no session to come back to.
        assert refusal.status == 410
    else:
        end = await again.ended()
        assert end.code not in (1000, 1005, 1006)
        assert end.reason
    assert (await server.ended()).code != 1006


@pytest.mark.parametrize("setting", ["resend", "drop", "close"])
async def test_an_aware_upstream_leaves_nothing_uncertain(serve: Serve, setting: str) -> None:
    """A count settles it under every setting: what the upstream has is not repeated, the rest comes."""
    answers = iter([Answer(headers=[("X-Reconnect-Received", "0")], answer_pings=False)])
    later = Answer(headers=[("X-Reconnect-Received", "3")])
    async with RawServer(lambda _: next(answers, later)) as upstream:
        proxy = await serve(upstream.url, "--uncertain", setting)
        client = await dial(f"{proxy.url}/")
        server = await upstream.accept()
        await client.send(*numbered("c2u", 6))
        await server.take(6)
        server.reset()
        again = await upstream.accept()
        assert again.request.get("x-reconnect-id") == client.response.get("x-connection-id")
        assert again.request.get("x-reconnect-received") == "0"
        assert again.request.get("x-connection-id") is None
        assert await again.take(3) == numbered("c2u", 3, start=4)
        await again.fence()
        assert not again.left()
