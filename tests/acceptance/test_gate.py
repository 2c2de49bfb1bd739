"""PROTOCOL section 5: the upstream's control messages, and what waits for them."""

import pytest

from .conftest import Serve
from .frames import Closed, Frame, Headers, Opcode, encode
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .waiting import Message, numbered

STATE = "RECONNECT:state-0123456789abcdef"
INNER = "state-0123456789abcdef"


async def opened(
    url: str, upstream: RawServer, control: Message = STATE, headers: Headers = ()
) -> tuple[RawSocket, RawSocket]:
    """Connect through a proxy with the gate `first-message` and let the upstream open it."""
    opcode = Opcode.TEXT if isinstance(control, str) else Opcode.BINARY
    payload = control.encode() if isinstance(control, str) else control
    upstream.answer = lambda _: Answer(tail=encode(Frame(opcode, payload), mask=False))
    client = await dial(f"{url}/", headers)
    server = await upstream.accept()
    upstream.answer = lambda _: Answer()
    return client, server


async def test_the_first_message_is_kept_from_the_client(serve: Serve, upstream: RawServer) -> None:
    """The first message opens the gate and goes no further; the second is the client's first."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    client, server = await opened(proxy.url, upstream)
    await server.send("for the client")
    assert await client.recv() == "for the client"
    await client.send("for the server")
    assert await server.recv() == "for the server"


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_redial_sends_the_preamble_again_first(serve: Serve, upstream: RawServer, workers: int) -> None:
    """A login and a subscription, each with an answer: the client has these, and gets no other."""
    proxy = await serve(upstream.url, "--gate", "replay:2", "--workers", str(workers))
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send("login", b"subscribe")
    assert await server.take(2) == ["login", b"subscribe"]
    await server.send("welcome", "subscribed", "tick 1")
    assert await client.take(3) == ["welcome", "subscribed", "tick 1"]
    for number in (2, 3, 4):
        server.reset()
        await server.ended()
        await client.send(f"call {number}")
        server = await upstream.accept()
        # What is uncertain of the calls may come again between the preamble and this call.
        heard = await server.take(2)
        assert heard == ["login", b"subscribe"]
        while await server.recv() != f"call {number}":
            pass
        await server.send("welcome", "subscribed", f"tick {number}")
        assert await client.recv() == f"tick {number}"


async def test_a_preamble_that_is_too_big_is_refused(serve: Serve, upstream: RawServer) -> None:
    """It would be held for as long as the session: 1009, at both ends."""
    proxy = await serve(upstream.url, "--gate", "replay:2")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send(bytes(2 * 1024 * 1024))
    assert (await client.ended()).code == 1009
    assert (await server.ended()).code == 1009


@pytest.mark.parametrize(
    ("control", "identity"),
    [
        (STATE, INNER),
        ("RECONNECT#" + INNER, INNER),
        ("a-legal-id-by-itself.~9", "a-legal-id-by-itself.~9"),
        (b"RECONNECT:" + INNER.encode(), INNER),
    ],
)
async def test_the_id_is_taken_from_the_first_message(
    serve: Serve, upstream: RawServer, control: Message, identity: str
) -> None:
    """A client without an id gets the upstream's: in its 101, and good for a resume."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    client, server = await opened(proxy.url, upstream, control)
    assert client.response.get("x-connection-id") == identity
    client.reset()
    await server.send("waits")
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", identity)])
    assert again.response.get("x-connection-id") == identity
    # This client understands control messages; with or without them, the data arrives.
    told = await again.recv()
    assert "waits" in ((told, await again.recv()) if told == control else (told,))


async def test_the_id_of_the_client_is_kept(serve: Serve, upstream: RawServer) -> None:
    """A client with an id keeps it, also if the upstream gives another."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    client, server = await opened(proxy.url, upstream, headers=[("X-Connection-Id", "a-client-chosen-id")])
    assert client.response.get("x-connection-id") == "a-client-chosen-id"
    client.reset()
    await server.send("waits")
    again = await dial(f"{proxy.url}/", [("X-Connection-Id", "a-client-chosen-id")])
    assert await again.recv() == "waits"


async def test_messages_wait_for_the_gate(serve: Serve, upstream: RawServer) -> None:
    """On a redial the stored data goes first, and nothing else before the upstream's first message."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    client, server = await opened(proxy.url, upstream)
    server.reset()
    again = await upstream.accept()
    assert await again.recv() == STATE, "the stored reconnect data is the first that the upstream hears"
    await client.send(*numbered("c2u", 10))
    await client.fence()
    await again.fence()
    assert not again.left(), "the gate is closed"
    await again.send("RECONNECT:another-state-0123456")
    assert await again.take(10) == numbered("c2u", 10)
    await again.send("data")
    assert await client.recv() == "data"
    again.reset()
    third = await upstream.accept()
    assert await third.recv() == "RECONNECT:another-state-0123456", "the newest reconnect data is what is stored"


async def test_binary_reconnect_data_stays_binary(serve: Serve, upstream: RawServer) -> None:
    """The stored data is sent as it was, type included."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    _, server = await opened(proxy.url, upstream, b"\x00\x01\x02opaque")
    server.reset()
    again = await upstream.accept()
    assert await again.recv() == b"\x00\x01\x02opaque"


async def test_messages_sent_before_the_gate_first_opens_wait(serve: Serve, upstream: RawServer) -> None:
    """A client that talks at once, in the segment of its handshake, is heard behind the gate and in order."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    client, server = await opened(proxy.url, upstream)
    await client.send(*numbered("c2u", 50))
    assert await server.take(50) == numbered("c2u", 50)


@pytest.mark.parametrize("gate", ["first-message", "prefix:RECONNECT"])
async def test_a_client_that_replays_is_told(serve: Serve, upstream: RawServer, gate: str) -> None:
    """With X-Replay-Id in its own request a client gets the control messages too."""
    proxy = await serve(upstream.url, "--gate", gate)
    client, server = await opened(proxy.url, upstream, headers=[("X-Replay-Id", "replay-0123456789")])
    assert await client.recv() == STATE
    await server.send("data")
    assert await client.recv() == "data"
    assert upstream.requests[0].get("x-replay-id") == "replay-0123456789"


async def test_a_client_that_resumed_is_told(serve: Serve, upstream: RawServer) -> None:
    """With X-Reconnect-Id in its request a client gets the control messages of later redials."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    client, server = await opened(proxy.url, upstream)
    client.reset()
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", INNER)])
    server.reset()
    redial = await upstream.accept()
    assert await redial.recv() == STATE
    await redial.send("RECONNECT:another-state-0123456", "data")
    heard = [await again.recv()]
    while heard[-1] != "data":
        heard.append(await again.recv())
    assert "RECONNECT:another-state-0123456" in heard


async def test_a_control_message_is_not_counted(serve: Serve, upstream: RawServer) -> None:
    """Counts and tokens know data messages only, pushed control messages among them or not."""
    proxy = await serve(upstream.url, "--gate", "first-message")
    headers = [("X-Replay-Id", "replay-0123456789"), ("X-Reconnect-Received", "0")]
    client, server = await opened(proxy.url, upstream, headers=headers)
    await server.send("one", "two")
    assert await client.take(3) == [STATE, "one", "two"]
    await client.until(lambda: 2 in client.tokens())
    await client.fence()
    client.reset()
    identity = client.response.get("x-connection-id") or ""
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", identity), ("X-Reconnect-Received", "2")])
    await server.send("three")
    heard = [await again.recv()]
    while heard[-1] != "three":
        heard.append(await again.recv())
    assert [message for message in heard if message != STATE] == ["three"]


async def test_a_gate_that_stays_shut_is_a_failed_dial(serve: Serve, upstream: RawServer) -> None:
    """No first message within the connect timeout: redialled, and 1014 when the retry budget is over."""
    proxy = await serve(upstream.url, "--gate", "first-message", "--connect-timeout", "200ms", "--retry-for", "1500ms")
    client = await dial(f"{proxy.url}/")
    end = await client.ended()
    assert (end.code, end.reason) == (1014, "upstream unavailable")
    assert len(upstream.requests) >= 2
    with pytest.raises(Closed):
        await upstream.sockets[0].recv()


async def test_a_prefix_marks_control_messages_at_any_time(serve: Serve, upstream: RawServer) -> None:
    """Messages that start with the text are kept back, wherever they come; the gate opens with the handshake."""
    proxy = await serve(upstream.url, "--gate", "prefix:RECONNECT")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send("at once")
    assert await server.recv() == "at once"
    await server.send("one", "RECONNECT first", "two", b"RECONNECT second", "three", "not RECONNECT", "RECONNEC")
    assert await client.take(5) == ["one", "two", "three", "not RECONNECT", "RECONNEC"]


async def test_prefixed_data_goes_first_on_a_redial(serve: Serve, upstream: RawServer) -> None:
    """The newest control message is what the upstream hears first when it is dialled again."""
    proxy = await serve(upstream.url, "--gate", "prefix:RECONNECT")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await server.send("RECONNECT 1", "RECONNECT 2", "data")
    assert await client.recv() == "data"
    server.reset()
    again = await upstream.accept()
    await client.send("more")
    assert await again.take(2) == ["RECONNECT 2", "more"]
