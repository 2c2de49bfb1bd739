"""PROTOCOL section 6: a session opens, its links are lost and come back, row by row."""

import asyncio
import json

import pytest

from ..silence import silent_server
from .conftest import Serve
from .frames import Refused
from .rawserver import Answer, RawServer
from .rawsocket import dial
from .relay import Relay
from .waiting import eventually, numbered

CHOSEN = "a-client-chosen-id"


# New client.


@pytest.mark.parametrize("trouble", ["refused", "503", "500", "hangup"])
async def test_a_client_is_accepted_while_the_upstream_is_down(serve: Serve, trouble: str) -> None:
    """Its messages wait, and arrive in order once the upstream is up."""
    answers = {"503": Answer(503, body=b"later"), "500": Answer(500)}
    async with RawServer() as upstream, Relay(upstream.port) as relay:
        if trouble == "refused":
            await relay.refuse()
        elif trouble == "hangup":
            relay.target = 1
        else:
            upstream.answer = lambda _: answers[trouble]
        proxy = await serve(relay.url, "--connect-timeout", "1s")
        client = await dial(f"{proxy.url}/room?x=1", [("Cookie", "a=b")])
        await client.send(*numbered("c2u", 100))
        await client.fence()
        upstream.answer = lambda _: Answer()
        relay.target = upstream.port
        await relay.heal()
        server = await upstream.accept()
        assert await server.take(100) == numbered("c2u", 100)
        assert (server.request.target, server.request.get("cookie")) == ("/room?x=1", "a=b")
        await server.send("hello")
        assert await client.recv() == "hello"


@pytest.mark.parametrize("trouble", ["refused", "503"])
async def test_a_client_may_be_refused_while_the_upstream_is_down(serve: Serve, trouble: str) -> None:
    """With `accept_when_down = false` it gets 503 with Retry-After instead, in the proxy's form."""
    async with RawServer(lambda _: Answer(503)) as upstream, Relay(upstream.port) as relay:
        if trouble == "refused":
            await relay.refuse()
        proxy = await serve(relay.url, "--connect-timeout", "500ms", config="accept-when-down = false\n")
        with pytest.raises(Refused) as refusal:
            await dial(f"{proxy.url}/")
        assert refusal.value.status == 503
        assert set(json.loads(refusal.value.body)) == {"error", "detail"}
        assert refusal.value.head.get("retry-after") is not None


async def test_a_101_that_no_redial_would_cure_is_502_at_once(serve: Serve, upstream: RawServer) -> None:
    """The client does not wait in an open socket until the retry budget is over."""
    upstream.answer = lambda _: Answer(headers=[("Sec-WebSocket-Protocol", "never-offered")])
    proxy = await serve(upstream.url)
    async with asyncio.timeout(5):
        with pytest.raises(Refused) as refusal:
            await dial(f"{proxy.url}/")
    assert refusal.value.status == 502
    body = json.loads(refusal.value.body)
    assert body["error"] == "bad-handshake"
    assert "'never-offered', which was not offered" in body["detail"]
    assert len(upstream.requests) == 1


async def test_one_clients_bad_path_costs_others_nothing(serve: Serve, upstream: RawServer) -> None:
    """An upstream that answers 500 is there: dials of it are neither few at a time nor apart because of that."""
    upstream.answer = lambda head: Answer(500 if head.target.startswith("/broken") else 101)
    proxy = await serve(upstream.url, "--no-accept-when-down")
    for number in range(10):
        with pytest.raises(Refused) as refusal:
            await dial(f"{proxy.url}/broken/{number}")
        assert refusal.value.status == 503
    await dial(f"{proxy.url}/fine")
    assert "upstream ejected" not in proxy.log


async def test_with_eject_on_5xx_bad_answers_eject_an_upstream(serve: Serve, upstream: RawServer) -> None:
    """The control of the test before."""
    upstream.answer = lambda _: Answer(500)
    proxy = await serve(upstream.url, "--no-accept-when-down", "--eject-on", "5xx")
    for number in range(10):
        with pytest.raises(Refused):
            await dial(f"{proxy.url}/broken/{number}")
    await eventually(lambda: "upstream ejected" in proxy.log, "the upstream is ejected")


async def test_an_upstream_that_never_comes_ends_the_session(serve: Serve) -> None:
    """When the retry budget is over the client is closed with 1014 and told why."""
    async with RawServer() as upstream, Relay(upstream.port) as relay:
        await relay.refuse()
        proxy = await serve(relay.url, "--retry-for", "600ms")
        client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
        end = await client.ended()
        assert (end.code, end.reason) == (1014, "upstream unavailable")
        with pytest.raises(Refused) as refusal:
            await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])
        assert refusal.value.status == 410


async def test_a_slow_upstream_counts_as_down(serve: Serve) -> None:
    """A handshake that is not answered within the connect timeout is a failed dial."""
    async with silent_server() as url:
        proxy = await serve(url, "--connect-timeout", "300ms", "--retry-for", "500ms")
        client = await dial(f"{proxy.url}/")
        assert (await client.ended()).code == 1014


async def test_the_next_upstream_in_the_list_is_tried(serve: Serve) -> None:
    """Of two upstreams the one that is down is passed over, at first and later."""
    async with RawServer() as one, RawServer() as two, Relay(one.port) as relay:
        proxy = await serve(relay.url, "--upstream", two.url)
        client = await dial(f"{proxy.url}/")
        await client.send("one")
        server = await one.accept()
        assert await server.recv() == "one"
        await server.fence()
        await relay.refuse()
        await client.send("two")
        server = await two.accept()
        assert "two" in await server.take(1) or await server.recv() == "two"


@pytest.mark.parametrize(("later", "ends"), [("first", False), ("second", True), (None, True)])
async def test_a_subprotocol_promised_while_down_must_come_true(serve: Serve, later: str | None, ends: bool) -> None:
    """While the upstream is down the client gets its first offer; an upstream that then differs is 1002."""
    async with RawServer() as upstream, Relay(upstream.port) as relay:
        await relay.refuse()
        fields = [("Sec-WebSocket-Protocol", later)] if later else []
        upstream.answer = lambda _: Answer(headers=fields)
        proxy = await serve(relay.url)
        client = await dial(f"{proxy.url}/", subprotocols=["first", "second"])
        assert client.response.get("sec-websocket-protocol") == "first"
        await client.send("hello")
        await relay.heal()
        server = await upstream.accept()
        if ends:
            assert (await client.ended()).code == 1002
        else:
            assert await server.recv() == "hello"


# Client link lost.


@pytest.mark.parametrize("code", [1000, 1001, 4321])
async def test_when_grace_is_over_the_upstream_gets_the_code_of_the_client(
    serve: Serve, upstream: RawServer, code: int
) -> None:
    """The client's Close is passed on after the grace, and not before."""
    proxy = await serve(upstream.url, "--grace", "500ms")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send("last words")
    await client.close(code, "bye")
    assert await server.recv() == "last words"
    await server.fence()
    assert server.end is None, "the grace is running"
    assert (await server.ended()).code == code


@pytest.mark.parametrize("how", ["reset", "drop"])
async def test_when_grace_is_over_the_upstream_is_closed_properly(serve: Serve, upstream: RawServer, how: str) -> None:
    """A client that vanished leaves no code; the upstream gets a Close frame all the same."""
    proxy = await serve(upstream.url, "--grace", "200ms")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    client.reset() if how == "reset" else client.drop()
    assert (await server.ended()).code != 1006


async def test_grace_on_abnormal_ends_at_once_on_a_clean_close(serve: Serve, upstream: RawServer) -> None:
    """`grace_on = abnormal`: 1000 says that the client will not return; a client whose link is reset is awaited."""
    proxy = await serve(upstream.url, "--grace", "60s", "--grace-on", "abnormal")
    leaving = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await leaving.close(1000)
    assert (await server.ended()).code == 1000
    dropped = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    dropped.reset()
    await server.fence()
    await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])
    assert server.end is None
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("options", [("--grace", "5s"), ("--mode", "sender")])
async def test_last_words_of_a_client_reach_an_upstream_that_is_away(serve: Serve, options: tuple[str, ...]) -> None:
    """A client says something, closes 1000 and is gone while the upstream is down: it arrives all the same."""
    async with RawServer() as upstream, Relay(upstream.port) as relay:
        proxy = await serve(relay.url, *options)
        client = await dial(f"{proxy.url}/")
        await upstream.accept()
        await relay.refuse()
        await client.send(*numbered("c2u", 20))
        await client.close(1000)
        await relay.heal()
        server = await upstream.accept()
        assert await server.take(20) == numbered("c2u", 20)


# Upstream link lost.


async def test_a_retryable_loss_is_redialled(serve: Serve, upstream: RawServer) -> None:
    """The client notices nothing; the redial says that it is one, and what waited goes through in order."""
    proxy = await serve(upstream.url)
    for how in (1001, 1011, 1012, 1013, 1014, "reset", "drop"):
        client = await dial(f"{proxy.url}/room", [("Cookie", "a=b")])
        server = await upstream.accept()
        await client.send("one")
        await server.recv()
        await server.until(lambda: 1 in server.tokens())  # noqa: B023
        await server.fence()
        if isinstance(how, int):
            await server.close(how)
        else:
            server.reset() if how == "reset" else server.drop()
        await client.send(*numbered("c2u", 10))
        again = await upstream.accept()
        assert await again.take(10) == numbered("c2u", 10), how
        identity = client.response.get("x-connection-id")
        assert again.request.target == "/room"
        assert again.request.get("cookie") == "a=b"
        assert again.request.get("x-reconnect") == "true"
        assert again.request.get("x-reconnect-id") == identity
        assert again.request.get("x-reconnect-received") == "0"
        assert again.request.get("x-connection-id") is None
        assert client.end is None, how


async def test_a_final_close_is_passed_on_after_the_queue(serve: Serve, upstream: RawServer) -> None:
    """What the upstream said before its Close is delivered, then the client gets the same code and reason."""
    proxy = await serve(upstream.url)
    codes = (1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4999)
    for code in codes:
        client = await dial(f"{proxy.url}/")
        server = await upstream.accept()
        client.pause()
        await server.send(*numbered("u2c", 500, pad=200))
        close = asyncio.create_task(server.close(code, "my reason"))
        client.resume()
        assert await client.take(500) == numbered("u2c", 500, pad=200), code
        end = await client.ended()
        await close
        assert (end.code, end.reason) == (code, "my reason")
    assert len(upstream.requests) == len(codes)


async def test_a_final_close_awaits_a_client_that_is_away(serve: Serve, upstream: RawServer) -> None:
    """A client that comes back within its grace finds what is left, and then the upstream's close."""
    proxy = await serve(upstream.url)
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    client.reset()
    await server.send(*numbered("u2c", 50))
    await server.close(4007, "over")
    again = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    assert await again.take(50) == numbered("u2c", 50)
    end = await again.ended()
    assert (end.code, end.reason) == (4007, "over")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("setting", "code"), [("any", 1000), ("any", 4000), ("4100,1000", 4100), ("4100,1000", 1000)])
async def test_retry_on_widens_what_is_redialled(serve: Serve, upstream: RawServer, setting: str, code: int) -> None:
    """`any` retries the final codes too, and a list what it names."""
    proxy = await serve(upstream.url, "--retry-on", setting)
    client = await dial(f"{proxy.url}/")
    await (await upstream.accept()).close(code)
    again = await upstream.accept()
    await client.send("still here")
    assert await again.recv() == "still here"


@pytest.mark.parametrize("how", [1001, 1012, "reset"])
async def test_retry_on_none_ends_a_session_with_its_upstream(
    serve: Serve, upstream: RawServer, how: int | str
) -> None:
    """The client gets the upstream's code, or 1014 if there was none, and no redial is made."""
    proxy = await serve(upstream.url, "--retry-on", "none")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await server.send("last words")
    if isinstance(how, int):
        await server.close(how, "going")
    else:
        await server.fence()
        server.reset()
    assert await client.recv() == "last words"
    end = await client.ended()
    assert (end.code, end.reason) == ((how, "going") if isinstance(how, int) else (1014, "upstream connection lost"))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("options", "status", "is_final"), [((), 404, True), (("--final-status", "none"), 404, False)])
async def test_a_final_status_of_a_redial_ends_the_session(
    serve: Serve, upstream: RawServer, options: tuple[str, ...], status: int, is_final: bool
) -> None:
    """The client is told at once that what it was connected to is gone; with `none` the upstream is dialled on."""
    proxy = await serve(upstream.url, *options)
    client = await dial(f"{proxy.url}/page/1")
    server = await upstream.accept()
    upstream.answer = lambda _: Answer(status)
    server.reset()
    if is_final:
        end = await client.ended()
        assert (end.code, end.reason) == (1014, f"upstream refused the session: {status}")
    else:
        await eventually(lambda: "dial failed" in proxy.log, "a redial fails")
        upstream.answer = lambda _: Answer()
        await client.send("still here")
        assert await (await upstream.accept()).recv() == "still here"


async def test_a_code_that_the_list_does_not_name_is_final(serve: Serve, upstream: RawServer) -> None:
    """With a list of codes another one is passed on to the client."""
    proxy = await serve(upstream.url, "--retry-on", "4100")
    client = await dial(f"{proxy.url}/")
    await (await upstream.accept()).close(4200, "over")
    end = await client.ended()
    assert (end.code, end.reason) == (4200, "over")


async def test_the_retry_budget_begins_anew_with_each_message_that_gets_through(serve: Serve) -> None:
    """Several outages, each shorter than the budget and together longer, are survived."""
    async with RawServer() as upstream, Relay(upstream.port) as relay:
        proxy = await serve(relay.url, "--retry-for", "2s")
        client = await dial(f"{proxy.url}/")
        for number in range(1, 5):
            await client.send(f"message {number}")
            server = await upstream.accept()
            assert await server.recv() == f"message {number}"
            # Once the proxy's Pong has come back, it has read the one that confirms the message.
            await server.until(lambda: server.tokens() == [number])  # noqa: B023
            await server.fence()
            await relay.refuse()
            await asyncio.sleep(0.8)
            await relay.heal()
        assert client.end is None


@pytest.mark.parametrize("greets", [True, False])
async def test_a_message_that_makes_the_upstream_drop_its_link(serve: Serve, upstream: RawServer, greets: bool) -> None:
    """It is sent again ever more rarely, and its session ends when the budget is over, although every dial succeeds."""
    upstream.answer = lambda _: Answer(answer_pings=False)
    proxy = await serve(upstream.url, "--retry-for", "6s")
    client = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await client.send("poison")
    begun = asyncio.get_running_loop().time()
    times: list[float] = []
    while client.end is None:
        if greets:
            await server.send("greeting")
        assert await server.recv() == "poison"
        times.append(asyncio.get_running_loop().time() - begun)
        # Longer than what makes a link count as one that has held.
        await asyncio.sleep(0.25)
        server.reset()
        arrival, end = asyncio.create_task(upstream.accept()), asyncio.create_task(client.ended())
        await asyncio.wait([arrival, end], return_when=asyncio.FIRST_COMPLETED)
        if not arrival.done():
            arrival.cancel()
            break
        end.cancel()
        server = arrival.result()
    assert client.end is not None
    assert (client.end.code, client.end.reason) == (1014, "upstream unavailable; 1 message uncertain")
    assert 4 <= len([at for at in times if at < 5.0]) <= 10, times
    assert times[-1] > 3.0


async def test_a_session_without_a_client_does_not_throw_the_client_of_its_successor_out(
    serve: Serve, upstream: RawServer
) -> None:
    """A server that allows one connection for each user ends the old one: it has no client, and stays ended."""
    proxy = await serve(upstream.url, "--grace", "1s")
    client = await dial(f"{proxy.url}/")
    ghost = await upstream.accept()
    await client.send("login")
    assert await ghost.recv() == "login"
    # Its Pong confirms the login: nothing is owed.
    await ghost.until(lambda: 1 in ghost.tokens())
    await ghost.fence()
    client.reset()
    await eventually(lambda: "leg=client" in proxy.log, "the proxy saw the client leave")
    again = await dial(f"{proxy.url}/")
    server = await upstream.accept()
    await again.send("login")
    assert await server.recv() == "login"
    ghost.reset()
    await eventually(lambda: "session ended" in proxy.log, "the grace of the first session was over")
    assert len(upstream.requests) == 2
    await server.send("still here")
    assert await again.recv() == "still here"
