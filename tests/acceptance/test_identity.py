"""PROTOCOL section 3 and 7: ids, counts, refusals, takeover, and who may resume."""

import asyncio
import itertools
import json
import re
from collections.abc import Sequence

import pytest

from .absence import go_unconfirmed
from .conftest import Serve
from .frames import Headers, Opcode, Refused, token
from .rawserver import RawServer
from .rawsocket import dial
from .waiting import eventually, numbered

CHOSEN = "a-client-chosen-id.~_9"


def why(refusal: Refused) -> str:
    """Check the form of a refusal of the proxy itself and give its `error`."""
    assert (refusal.head.get("content-type") or "").startswith("application/json")
    answer = json.loads(refusal.body)
    assert set(answer) == {"error", "detail"}
    assert answer["error"] and answer["detail"]
    return str(answer["error"])


async def refused(url: str, headers: Headers = ()) -> Refused:
    """Dial and expect a refusal in the proxy's form."""
    with pytest.raises(Refused) as refusal:
        await dial(url, headers)
    why(refusal.value)
    return refusal.value


async def test_an_id_that_the_proxy_makes_cannot_be_guessed(serve: Serve, upstream: RawServer) -> None:
    """Every 101 carries an id of 128 bits or more, in URL-safe characters, never the same twice, told upstream."""
    proxy = await serve(upstream.url)
    made = set()
    for _ in range(20):
        client = await dial(f"{proxy.url}/")
        server = await upstream.accept()
        identity = client.response.get("x-connection-id")
        assert identity is not None
        assert re.fullmatch(r"[A-Za-z0-9_-]{22,128}", identity), identity
        assert server.request.get("x-connection-id") == identity
        assert client.response.get("x-reconnect-received") is None, "the client did not say that it counts"
        made.add(identity)
    assert len(made) == 20
    assert len({identity[:8] for identity in made}) == 20


@pytest.mark.parametrize("form", ["header", "query"])
async def test_a_client_may_choose_its_id(serve: Serve, upstream: RawServer, form: str) -> None:
    """The id that the client brings, in a header or the query, is the session's, here and upstream."""
    proxy = await serve(upstream.url)
    url, fields = with_id(f"{proxy.url}/", form, "connection-id", CHOSEN)
    client = await dial(url, [*fields, ("X-Reconnect-Received", "0")])
    assert client.response.get("x-connection-id") == CHOSEN
    assert client.response.get("x-reconnect-received") == "0"
    request = (await upstream.accept()).request
    assert request.get("x-connection-id") == CHOSEN
    assert request.get("x-reconnect-received") == "0"


async def test_a_known_id_resumes_under_either_name(serve: Serve, upstream: RawServer) -> None:
    """The client comes back to its session and its upstream connection, and finds what waited for it."""
    proxy = await serve(upstream.url)
    forms, names, cuts = ("header", "query"), ("connection-id", "reconnect-id"), ("reset", "close")
    for number, (form, name, cut) in enumerate(itertools.product(forms, names, cuts)):
        identity = f"{CHOSEN}-{number}"
        client = await dial(f"{proxy.url}/room", [("X-Connection-Id", identity)])
        server = await upstream.accept()
        await client.send("before")
        assert await server.recv() == "before"
        if cut == "reset":
            client.reset()
            await client.ended()
        else:
            await client.close(1000)
        await server.send("while away")
        await server.fence()
        url, fields = with_id(f"{proxy.url}/room", form, name, identity)
        again = await dial(url, fields)
        assert again.response.get("x-connection-id") == identity
        assert await again.recv() == "while away"
        await again.send("after")
        assert await server.recv() == "after"
        assert len(upstream.requests) == number + 1, "the upstream's connection is the one from before"


def with_id(url: str, form: str, name: str, identity: str) -> tuple[str, list[tuple[str, str]]]:
    """Put an id into the query or a header."""
    if form == "query":
        return f"{url}?{name}={identity}", []
    return url, [("X-" + name.title(), identity)]


@pytest.mark.parametrize("name", ["X-Connection-Id", "X-Reconnect-Id"])
async def test_a_malformed_id_is_answered_400(serve: Serve, upstream: RawServer, name: str) -> None:
    """An id that is not 16 to 128 of the legal characters is refused, and the upstream not bothered."""
    proxy = await serve(upstream.url)
    spaced, slashed, foreign = "has a space in the id", "slash/slash/slash/", "ä" * 20
    for identity in ("fifteen-letters", "x" * 129, spaced, slashed, foreign, ""):
        assert (await refused(f"{proxy.url}/", [(name, identity)])).status == 400, identity
    assert not upstream.requests


async def test_a_malformed_parameter_is_answered_400(serve: Serve, upstream: RawServer) -> None:
    """The rules of an id hold in the query too, after percent-decoding."""
    proxy = await serve(upstream.url)
    encoded = "/?reconnect-id=" + "%2F" * 17
    for target in ("/?connection-id=short", encoded, "/?a=1&connection-id="):
        assert (await refused(proxy.url + target)).status == 400, target
    assert not upstream.requests


async def test_a_malformed_count_is_answered_400(serve: Serve, upstream: RawServer) -> None:
    """A count is a plain decimal number of sane length."""
    proxy = await serve(upstream.url)
    for count in ("-1", "x", "", "1.5", "+1", "0x10", "1 2", "²", "9" * 40):
        fields = [("X-Connection-Id", CHOSEN), ("X-Reconnect-Received", count)]
        assert (await refused(f"{proxy.url}/", fields)).status == 400, count
    assert not upstream.requests


async def test_a_legal_id_of_extreme_length_is_taken(serve: Serve, upstream: RawServer) -> None:
    """16 and 128 characters are both legal."""
    proxy = await serve(upstream.url)
    for identity in ("x" * 16, "y" * 128):
        client = await dial(f"{proxy.url}/", [("X-Connection-Id", identity)])
        assert client.response.get("x-connection-id") == identity


async def test_an_unknown_session_is_answered_410(serve: Serve, upstream: RawServer) -> None:
    """`X-Reconnect-Id` says resume or fail: no session is opened, no upstream dialled."""
    proxy = await serve(upstream.url)
    assert (await refused(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])).status == 410
    assert (await refused(f"{proxy.url}/?reconnect-id={CHOSEN}")).status == 410
    assert not upstream.requests


async def test_a_session_whose_grace_is_over_is_answered_410(serve: Serve, upstream: RawServer) -> None:
    """After the grace an id is as unknown as any other."""
    proxy = await serve(upstream.url, "--grace", "200ms")
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    client.reset()
    await server.ended()
    assert (await refused(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])).status == 410


async def test_counts_that_disagree_are_answered_409(serve: Serve, upstream: RawServer) -> None:
    """More than was sent, and less than was confirmed, are refused; what lies between resumes."""
    proxy = await serve(upstream.url)
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN), ("X-Reconnect-Received", "0")])
    server = await upstream.accept()
    await go_unconfirmed(client, server, 3)
    for count in (9, 4, 0):
        fields = [("X-Reconnect-Id", CHOSEN), ("X-Reconnect-Received", str(count))]
        assert (await refused(f"{proxy.url}/", fields)).status == 409
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN), ("X-Reconnect-Received", "6")])
    assert await again.take(2) == numbered("u2c", 2, start=7)
    await again.fence()
    assert not again.left()


async def test_a_count_on_a_fresh_session_is_answered_409(serve: Serve, upstream: RawServer) -> None:
    """A client that claims to have messages of a session that does not exist has another history."""
    proxy = await serve(upstream.url)
    fields = [("X-Connection-Id", CHOSEN), ("X-Reconnect-Received", "5")]
    assert (await refused(f"{proxy.url}/", fields)).status == 409


async def test_an_aware_client_resumes_where_it_stopped(serve: Serve, upstream: RawServer) -> None:
    """Both counts are exchanged in the handshake and nothing is said twice."""
    proxy = await serve(upstream.url)
    client = await dial(f"{proxy.url}/", [("X-Reconnect-Received", "0")], answer_pings=False)
    identity = client.response.get("x-connection-id") or ""
    server = await upstream.accept()
    await client.send(*numbered("c2u", 7))
    await server.take(7)
    await server.send(*numbered("u2c", 9))
    await client.take(9)
    client.reset()
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", identity), ("X-Reconnect-Received", "4")])
    assert again.response.get("x-reconnect-received") == "7"
    assert await again.take(5) == numbered("u2c", 5, start=5)
    await again.fence()
    assert not again.left()


async def test_a_second_client_takes_the_session_over(serve: Serve, upstream: RawServer) -> None:
    """An id belongs to one client: the link that still looks open is closed with 4000, the new one carries on."""
    proxy = await serve(upstream.url)
    first = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    second = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    end = await first.ended()
    assert (end.code, end.reason) == (4000, "taken over")
    await server.send("to the second")
    assert await second.recv() == "to the second"
    await second.send("from the second")
    assert await server.recv() == "from the second"
    assert len(upstream.requests) == 1


async def test_what_a_link_says_after_the_takeover_is_ignored(serve: Serve, upstream: RawServer) -> None:
    """Messages of the old link that come after it was taken over do not reach the upstream."""
    proxy = await serve(upstream.url)
    first = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    server = await upstream.accept()
    second = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    if first.end is None:
        await first.send("from a dead generation")
    await second.send("from the living one")
    assert await server.recv() == "from the living one"
    await first.ended()
    await second.fence()
    await server.fence()
    assert not server.left()


async def test_too_many_sessions_are_answered_503(serve: Serve, upstream: RawServer) -> None:
    """Past `--max-sessions` a new one is put off, a known one resumes, and a place that is freed is given."""
    proxy = await serve(upstream.url, "--max-sessions", "2", "--grace", "200ms")
    clients = [await dial(f"{proxy.url}/") for _ in range(2)]
    refusal = await refused(f"{proxy.url}/")
    assert refusal.status == 503
    assert int(refusal.head.get("retry-after") or "-1") >= 0
    assert len(upstream.requests) == 2
    identity = clients[0].response.get("x-connection-id") or ""
    await dial(f"{proxy.url}/", [("X-Reconnect-Id", identity)])
    clients[1].reset()
    servers = [await upstream.accept() for _ in range(2)]
    await eventually(lambda: any(server.end is not None for server in servers), "the second session ended")
    await dial(f"{proxy.url}/")


async def test_a_bound_session_is_resumed_with_the_same_credentials_only(serve: Serve, upstream: RawServer) -> None:
    """With `bind`, another cookie or none is answered 403 and the session goes on for its owner."""
    proxy = await serve(upstream.url, config='bind = ["authorization", "cookie"]\n')
    own: Headers = [("Cookie", "user=alice"), ("Authorization", "Bearer a"), ("X-Connection-Id", CHOSEN)]
    client = await dial(f"{proxy.url}/", own)
    others: list[Headers] = [
        [("X-Reconnect-Id", CHOSEN)],
        [("X-Reconnect-Id", CHOSEN), ("Cookie", "user=bob"), ("Authorization", "Bearer a")],
        [("X-Connection-Id", CHOSEN), ("Cookie", "user=alice")],
    ]
    for fields in others:
        assert (await refused(f"{proxy.url}/", fields)).status == 403
    assert client.end is None, "an intruder does not disturb the owner"
    client.reset()
    again = await dial(f"{proxy.url}/", own)
    assert again.response.get("x-connection-id") == CHOSEN
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--mode", "receiver")])
async def test_a_session_is_resumed_with_its_path_and_origin_only(
    serve: Serve, upstream: RawServer, options: Sequence[str]
) -> None:
    """A client that guesses a guessable id gets nothing with another path or Origin; the query may differ."""
    proxy = await serve(upstream.url, *options)
    guessable = "0000000000000000"
    page = ("Origin", "https://app.example")
    client = await dial(f"{proxy.url}/room?token=1", [("X-Connection-Id", guessable), page])
    server = await upstream.accept()
    strangers: list[tuple[str, Headers]] = [
        ("/other", [page]),
        ("/room/", [page]),
        ("/ROOM", [page]),
        ("/room", []),
        ("/room", [("Origin", "https://evil.example")]),
        ("/room", [("Origin", "null")]),
        ("/room", [page, ("Origin", "https://evil.example")]),
    ]
    for name in ("X-Connection-Id", "X-Reconnect-Id"):
        for path, headers in strangers:
            refusal = await refused(f"{proxy.url}{path}", [(name, guessable), *headers])
            assert (refusal.status, why(refusal)) == (403, "other-credentials"), (path, headers)
    await client.send("undisturbed")
    assert await server.recv() == "undisturbed"
    again = await dial(f"{proxy.url}/room?token=2", [("X-Reconnect-Id", guessable), page])
    await server.send("for the page")
    assert await again.recv() == "for the page"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_clients_choose_no_ids_if_the_proxy_refuses_them(serve: Serve, upstream: RawServer, workers: int) -> None:
    """403 for a chosen id, in a header or the query; an id of the proxy resumes its session."""
    proxy = await serve(upstream.url, "--client-ids", "refuse", "--workers", str(workers))
    for form in ("header", "query"):
        url, fields = with_id(f"{proxy.url}/", form, "connection-id", CHOSEN)
        assert why(await refused(url, fields)) == "client-id-refused"
    assert not upstream.requests
    client = await dial(f"{proxy.url}/")
    identity = client.response.get("x-connection-id")
    assert identity is not None
    server = await upstream.accept()
    client.reset()
    await server.send("while away")
    for name in ("connection-id", "reconnect-id"):
        url, fields = with_id(f"{proxy.url}/", "query", name, identity)
        again = await dial(url, fields)
        assert await again.recv() == "while away"
        await again.fence()
        await server.send("while away")


async def test_ids_are_not_logged_whole(serve: Serve, upstream: RawServer) -> None:
    """Even the most talkative log shows six characters of an id at most."""
    proxy = await serve(upstream.url, "--log-level", "debug", "--grace", "100ms")
    client = await dial(f"{proxy.url}/?connection-id={CHOSEN}")
    server = await upstream.accept()
    server.reset()
    await upstream.accept()
    await client.close(1000)
    await eventually(lambda: upstream.sockets[-1].end is not None, "the session ended")
    await refused(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN)])
    assert CHOSEN[:6] in proxy.log
    assert CHOSEN[:7] not in proxy.log


async def test_the_shared_session_takes_visitors_of_any_path_and_origin(serve: Serve, upstream: RawServer) -> None:
    """They have no session of their own that another could take over."""
    proxy = await serve(upstream.url, "--mode", "receiver")
    visitors = [await dial(f"{proxy.url}/room", [("Origin", "https://app.example")]), await dial(f"{proxy.url}/other")]
    server = await upstream.accept()
    await server.send("for all")
    assert [await visitor.recv() for visitor in visitors] == ["for all", "for all"]


async def test_a_sender_cannot_be_resumed(serve: Serve, upstream: RawServer) -> None:
    """In sender mode the client's socket is the session: X-Reconnect-Id finds nothing, and the proxy makes the id."""
    proxy = await serve(upstream.url, "--mode", "sender")
    client = await dial(f"{proxy.url}/", [("X-Connection-Id", CHOSEN)])
    made = client.response.get("x-connection-id") or ""
    assert made != CHOSEN
    assert (await upstream.accept()).request.get("x-connection-id") == made
    assert (await refused(f"{proxy.url}/", [("X-Reconnect-Id", made)])).status == 410


async def test_a_half_spoken_handshake_does_not_stay(serve: Serve, upstream: RawServer) -> None:
    """A head above 16 KiB, and a client that never ends its head, are sent away."""
    proxy = await serve(upstream.url)
    host, port = proxy.base.split(":")
    slow_reader, slow_writer = await asyncio.open_connection(host, int(port))
    slow_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    with pytest.raises((Refused, ConnectionError)) as refusal:
        await dial(f"{proxy.url}/", [("X-Long", "x" * 40_000)])
    if isinstance(refusal.value, Refused):
        assert 400 <= refusal.value.status < 500
    async with asyncio.timeout(9):
        await slow_reader.read()
    slow_writer.close()
    assert not upstream.requests


async def test_a_forged_token_is_no_count(serve: Serve, upstream: RawServer) -> None:
    """A Pong for messages that were never sent confirms nothing: the aware client may still state what it has."""
    proxy = await serve(upstream.url)
    client = await dial(
        f"{proxy.url}/", [("X-Connection-Id", CHOSEN), ("X-Reconnect-Received", "0")], answer_pings=False
    )
    server = await upstream.accept()
    await server.send(*numbered("u2c", 4))
    await client.take(4)
    for forged in (token(3), token(400), token(0), b"", b"hello", b"\xff" * 8):
        if forged not in client.pings:
            await client.send_frame(Opcode.PONG, forged)
    await client.fence()
    client.reset()
    again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", CHOSEN), ("X-Reconnect-Received", "0")])
    assert await again.take(4) == numbered("u2c", 4)
