"""`--workers`: several processes that are one proxy to whoever looks at it, and say so when they lose something."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from ..certificates import Authority
from .absence import have_gone
from .aware import AwareClient, AwareServer
from .conftest import Serve
from .frames import Frame, Head, Opcode, Refused, encode, read_head
from .ordinary import echo, ordinary_client, ordinary_server
from .process import Serving, failed_start
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .test_admin import ADMIN, admin_of, ask
from .waiting import PATIENCE, eventually, numbered

TWO = ("--workers", "2")
#: Enough connections for each of two workers to be given some: that one gets all has a chance of 2 to the -23rd.
MANY = 24


def chosen(number: int) -> str:
    """Return an id that a client may have chosen."""
    return f"an-id-that-a-client-chose-{number}"


EVERYBODY = [chosen(number) for number in range(MANY)]


def workers(proxy: Serving) -> list[psutil.Process]:
    """Return the processes of the workers, in the order of their numbers."""
    return sorted(psutil.Process(proxy.process.pid).children(), key=lambda process: process.create_time())


async def sample(admin: str, name: str) -> float:
    """Return the sum of the samples of a metric, by its name or by the beginning of a series."""
    _, text = await ask(f"{admin}/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


async def shown(admin: str, query: str = "") -> list[dict[str, object]]:
    """Return what `/sessions` shows."""
    status, text = await ask(f"{admin}/sessions?limit=1000{query}")
    assert status == 200, text
    sessions: list[dict[str, object]] = json.loads(text)["sessions"]
    return sessions


@asynccontextmanager
async def residents(proxy: Serving, count: int) -> AsyncIterator[list[RawSocket]]:
    """So many clients, each with a session under an id of its own making, that stay until the block is left."""
    sockets = [await dial(f"{proxy.url}/", [("X-Connection-Id", chosen(number))]) for number in range(count)]
    yield sockets
    for each in sockets:
        await each.detach()


# Which worker a session is in.


async def test_a_client_comes_back_to_its_session_whichever_worker_it_is_given_to(serve: Serve) -> None:
    """Its new connection is as likely to be the other's; what waited for it, and what it says, goes on."""
    async with AwareServer() as upstream, contextlib.AsyncExitStack() as stack:
        proxy = await serve(upstream.url, *TWO, *ADMIN)
        clients = [AwareClient(f"{proxy.url}/", chosen=chosen(number)) for number in range(MANY)]
        for client in clients:
            await stack.enter_async_context(client)
        for turn in range(4):
            await eventually(lambda: {client.links for client in clients} == {turn + 1}, "all are back")  # noqa: B023
            for client in clients:
                client.push(*numbered("c2u", 5, 1 + 5 * turn))
                assert client.session_id is not None
                upstream.sessions[client.session_id].push(*numbered("u2c", 5, 1 + 5 * turn))
                if turn < 3:
                    assert client.socket is not None
                    client.socket.reset()
        for client in clients:
            assert client.session_id is not None
            assert await client.received.reaches(20) == numbered("u2c", 20)
            assert await upstream.sessions[client.session_id].received.reaches(20) == numbered("c2u", 20)
            assert not client.complaints
        admin = await admin_of(proxy)
        assert {session["worker"] for session in await shown(admin)} == {0, 1}
        assert await sample(admin, "reconnect_proxy_clients_handed_on_total") > MANY
        assert await sample(admin, "reconnect_proxy_sessions_opened_total") == MANY


async def test_under_tls_a_client_is_relayed_to_its_session(serve: Serve, authority: Authority) -> None:
    """What it says is decrypted where it came to; small and large messages come back whole, and so do close codes."""
    cert, key = authority.issue()
    large = "x" * 3_000_000
    async with ordinary_server(echo) as port:
        tls = ("--tls-cert", str(cert), "--tls-key", str(key))
        proxy = await serve(f"ws://127.0.0.1:{port}", *TWO, *ADMIN, *tls)
        for number in range(MANY):
            headers = {"X-Connection-Id": chosen(number)}
            async with ordinary_client(proxy.url, ssl=authority.client(), additional_headers=headers) as client:
                for message in ("small", large, "small again"):
                    await client.send(message)
                    assert await client.recv() == message
                await (await client.ping())
                await client.close(3999, "enough")
            assert (client.close_code, client.close_reason) == (3999, "")
        admin = await admin_of(proxy)
        assert await sample(admin, 'reconnect_proxy_clients_handed_on_total{relayed="true"}') > 0
        await eventually(lambda: proxy.log.count("code=3999") >= MANY, "each session has heard how its client left")
        peers = {session["client_address"] for session in await shown(admin)}
        assert peers == {None}
        async with ordinary_client(
            proxy.url, ssl=authority.client(), additional_headers={"X-Connection-Id": chosen(0)}
        ) as client:
            await (await client.ping())
            peers = {session["client_address"] for session in await shown(admin)}
            assert peers == {None, "127.0.0.1"}


async def test_under_tls_what_a_client_does_not_read_is_held_back(serve: Serve, authority: Authority) -> None:
    """The upstream is stopped when the queue is full, however many processes are in between; then all arrives."""
    cert, key = authority.issue()
    async with RawServer() as upstream:
        tls = ("--tls-cert", str(cert), "--tls-key", str(key))
        proxy = await serve(upstream.url, *TWO, *ADMIN, *tls, "--max-queue", "256KiB")
        admin = await admin_of(proxy)
        for number in range(MANY):
            headers = {"X-Connection-Id": chosen(number)}
            before = await sample(admin, 'reconnect_proxy_clients_handed_on_total{relayed="true"}')
            async with ordinary_client(
                proxy.url, ssl=authority.client(), additional_headers=headers, max_queue=1
            ) as client:
                server = await upstream.accept()
                if await sample(admin, 'reconnect_proxy_clients_handed_on_total{relayed="true"}') == before:
                    continue
                messages = numbered("u2c", 400, pad=100_000)
                saying = asyncio.create_task(server.send(*messages))
                await eventually_is(admin, "reconnect_proxy_queues_full", 1)
                for message in messages:
                    assert await client.recv() == message
                await saying
                return
    pytest.fail("no client was relayed")


async def test_an_id_that_a_worker_makes_falls_on_that_worker(serve: Serve, upstream: RawServer) -> None:
    """So a client that brings no id is never handed on."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    clients = [await dial(f"{proxy.url}/") for _ in range(MANY)]
    admin = await admin_of(proxy)
    assert {session["worker"] for session in await shown(admin)} == {0, 1}
    assert await sample(admin, "reconnect_proxy_clients_handed_on_total") == 0
    for client in clients:
        identity = client.response.get("x-connection-id")
        assert identity is not None
        again = await dial(f"{proxy.url}/?reconnect-id={identity}")
        assert (await client.ended()).code == 4000
        assert again.response.get("x-connection-id") == identity
    assert await sample(admin, "reconnect_proxy_clients_handed_on_total") > 0


async def test_what_comes_behind_the_head_goes_with_the_client(serve: Serve, upstream: RawServer) -> None:
    """A client that does not wait for its 101 has its first messages delivered, be they in a letter or in a file."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    admin = await admin_of(proxy)
    for number in range(MANY):
        sent = numbered("c2u", 3, pad=60_000)
        client = await dial_and_talk(proxy, chosen(number), sent)
        server = await upstream.accept()
        assert await server.take(3) == sent
        await client.detach()
    assert await sample(admin, "reconnect_proxy_clients_handed_on_total") > 0


async def dial_and_talk(proxy: Serving, identity: str, messages: list[str | bytes]) -> RawSocket:
    """Connect, and send messages in the same write as the handshake."""
    host, _, port = proxy.base.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"GET / HTTP/1.1\r\nHost: {proxy.base}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        f"X-Connection-Id: {identity}\r\n\r\n"
    )
    frames = b"".join(
        encode(
            Frame(Opcode.TEXT, message.encode()) if isinstance(message, str) else Frame(Opcode.BINARY, message),
            mask=True,
        )
        for message in messages
    )
    writer.write(head.encode() + frames)
    response = await read_head(reader)
    assert response.status == 101
    return RawSocket((reader, writer), Head("GET / HTTP/1.1", []), response, client=True)


async def test_receiver_clients_share_one_session_over_all_workers(serve: Serve, upstream: RawServer) -> None:
    """Whichever worker they come to: there is one upstream connection, and all hear what it says."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--mode", "receiver")
    clients = [await dial(f"{proxy.url}/") for _ in range(MANY)]
    server = await upstream.accept()
    await server.send("to all")
    for client in clients:
        assert await client.recv() == "to all"
    assert len(upstream.sockets) == 1
    assert [session["clients"] for session in await shown(await admin_of(proxy))] == [MANY]


async def test_a_receiver_that_dials_at_its_start_has_one_upstream(serve: Serve, upstream: RawServer) -> None:
    """Not one for each worker."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--mode", "receiver", "--dial", "start")
    server = await upstream.accept()
    await server.send("said before anybody was there")
    client = await dial(f"{proxy.url}/")
    assert await client.recv() == "said before anybody was there"
    assert len(upstream.sockets) == 1


# What an operator sees.


async def test_pages_of_sessions_are_those_of_all_workers(serve: Serve, upstream: RawServer) -> None:
    """The oldest first, each once, with its worker; whatever the size of a page."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    admin = await admin_of(proxy)
    async with residents(proxy, MANY):
        everything = await shown(admin)
        assert len(everything) == MANY
        ages = [float(str(session["age"])) for session in everything]
        assert all(later <= earlier + 0.05 for earlier, later in itertools.pairwise(ages))
        pages: list[tuple[object, object]] = []
        for offset in range(0, MANY + 5, 5):
            status, text = await ask(f"{admin}/sessions?limit=5&offset={offset}")
            page = json.loads(text)
            assert (status, page["total"], page["offset"], page["limit"]) == (200, MANY, offset, 5)
            pages += [(session["worker"], session["upstream_link_age"]) for session in page["sessions"]]
        assert [worker for worker, _ in pages] == [session["worker"] for session in everything]
        assert len(await shown(admin, "&state=opening")) == 0
        assert (await ask(f"{admin}/sessions?state=none"))[0] == 400


async def test_a_session_is_ended_wherever_it_is(serve: Serve, upstream: RawServer) -> None:
    """By its whole id; what is not there is 404, and what two sessions look like 409."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    admin = await admin_of(proxy)
    async with residents(proxy, 6) as clients:
        assert (await ask(f"{admin}/sessions/{chosen(6)}", "DELETE"))[0] == 404
        assert (await ask(f"{admin}/sessions/{chosen(0)[:6]}", "DELETE"))[0] == 409
        for number, client in enumerate(clients):
            assert (await ask(f"{admin}/sessions/{chosen(number)}", "DELETE"))[0] == 200
            assert (await client.ended()).code == 1008
        assert await shown(admin) == []


async def test_metrics_are_the_sum_of_all_workers(serve: Serve, upstream: RawServer) -> None:
    """Sessions, messages, what is used of limits, and the system's own numbers; what is no sum is none."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--max-sessions", "101", "--max-held", "1MiB")
    admin = await admin_of(proxy)
    async with residents(proxy, MANY) as clients:
        for client in clients:
            await client.send("one", "two")
            await client.fence()
        for name, value in {
            'reconnect_proxy_messages_total{direction="c2u"}': 2 * MANY,
            'reconnect_proxy_sessions{state="open"}': MANY,
            'reconnect_proxy_sessions_opened_total{connected="true"}': MANY,
            'reconnect_proxy_limit_used{limit="sessions"}': MANY,
            'reconnect_proxy_limit{limit="sessions"}': 101,
            'reconnect_proxy_limit{limit="handshakes"}': 1000,
            'reconnect_proxy_limit{limit="held"}': 1024**2,
            "reconnect_proxy_worker_sessions{": MANY,
            "reconnect_proxy_worker_up{": 2,
            "reconnect_proxy_upstream_healthy{": 1,
            "reconnect_proxy_info{": 1,
        }.items():
            assert await sample(admin, name) == value, name
        family = [psutil.Process(proxy.process.pid), *workers(proxy)]
        resident = await sample(admin, "process_resident_memory_bytes ")
        assert resident == pytest.approx(sum(process.memory_info().rss for process in family), rel=0.05)
        assert await sample(admin, "process_start_time_seconds ") == pytest.approx(family[0].create_time(), abs=1)


async def test_limits_of_sessions_hold_for_all_workers_together(serve: Serve, upstream: RawServer) -> None:
    """However many come at once, and to whomever: never more than the limit, and as many as it once they ask again."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--max-sessions", "10")
    came = await asyncio.gather(*(dial(f"{proxy.url}/") for _ in range(40)), return_exceptions=True)
    refused = [error for error in came if isinstance(error, Refused)]
    inside = [socket for socket in came if isinstance(socket, RawSocket)]
    assert len(refused) + len(inside) == 40
    assert {(error.status, json.loads(error.body)["error"]) for error in refused} == {(503, "too-many-sessions")}
    assert len(inside) <= 10
    while len(inside) < 10:
        inside.append(await dial(f"{proxy.url}/"))
    for _ in range(8):
        with pytest.raises(Refused):
            await dial(f"{proxy.url}/")
    assert await sample(await admin_of(proxy), "reconnect_proxy_worker_sessions{") == 10


async def test_the_sessions_of_an_address_are_counted_over_all_workers(serve: Serve, upstream: RawServer) -> None:
    """However many come at once, and to whomever; who leaves makes room, and a worker that dies its own."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--max-sessions-per-address", "6", "--grace", "0")
    admin = await admin_of(proxy)
    came = await asyncio.gather(*(dial(f"{proxy.url}/") for _ in range(MANY)), return_exceptions=True)
    inside = [socket for socket in came if isinstance(socket, RawSocket)]
    assert len(inside) <= 6
    refused = [error for error in came if isinstance(error, Refused)]
    assert {json.loads(error.body)["error"] for error in refused} == {"too-many-sessions-of-address"}

    async def fill() -> None:
        while len(inside) < 6:
            inside.append(await dial(f"{proxy.url}/"))
        for _ in range(8):
            with pytest.raises(Refused):
                await dial(f"{proxy.url}/")

    await fill()
    for client in inside[:3]:
        await client.close()
    del inside[:3]
    await eventually_is(admin, "reconnect_proxy_worker_sessions{", 3)
    await fill()
    workers(proxy)[0].kill()
    await eventually(lambda: "worker returned worker=0" in proxy.log, "another takes its place")
    inside = [client for client in inside if client.end is None]
    await fill()


# Ids that an upstream gives.


def given(number: int) -> str:
    """Return an id that an upstream gives."""
    return f"an-id-that-an-upstream-gave-{number}"


class GivingServer(RawServer):
    """An upstream whose first message to each new session is an id: one after the other, or always `always`."""

    def __init__(self, always: str | None = None) -> None:
        super().__init__(answer=self._give)
        self._always = always
        self._given = 0

    def _give(self, request: Head) -> Answer:
        identity = self._always or given(self._given)
        self._given += 1
        return Answer(tail=encode(Frame(Opcode.TEXT, f"RECONNECT:{identity}".encode()), mask=False))


async def test_a_session_is_found_by_an_id_that_its_upstream_gave(serve: Serve) -> None:
    """It lives where its client had come, and its id falls anywhere; whoever is asked for it leads there."""
    async with GivingServer() as upstream:
        proxy = await serve(upstream.url, "--workers", "3", *ADMIN, "--gate", "first-message", "--grace", "1h")
        for number in range(MANY):
            client = await dial(f"{proxy.url}/")
            server = await upstream.accept()
            assert client.response.get("x-connection-id") == given(number)
            client.reset()
            await server.send("kept")
            again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", given(number))])
            assert again.response.get("x-connection-id") == given(number)
            assert "kept" in await again.take(2)
            await again.send("heard")
            assert await server.recv() == "heard"
        assert await sample(await admin_of(proxy), "reconnect_proxy_clients_handed_on_total") > 0


async def test_an_id_that_an_upstream_gives_twice_is_that_of_the_first(serve: Serve) -> None:
    """In whichever workers the two live: the second has one of the proxy's making, and its client is told."""
    async with GivingServer(always=given(0)) as upstream:
        proxy = await serve(upstream.url, *TWO, *ADMIN, "--gate", "first-message", "--grace", "1h")
        clients = [await dial(f"{proxy.url}/") for _ in range(8)]
        identities = [client.response.get("x-connection-id") for client in clients]
        assert identities.count(given(0)) == 1
        assert identities[0] == given(0)
        assert len(set(identities)) == len(identities)
        for client, identity in zip(clients, identities, strict=True):
            assert identity is not None
            again = await dial(f"{proxy.url}/", [("X-Reconnect-Id", identity)])
            assert (await client.ended()).code == 4000
            await again.detach()


async def test_an_id_that_an_upstream_gave_is_free_when_its_session_has_ended(serve: Serve) -> None:
    """Wherever it lived, and wherever it falls: who names it is told 410, and who is given it has it."""
    async with GivingServer(always=given(0)) as upstream:
        proxy = await serve(upstream.url, *TWO, "--gate", "first-message", "--grace", "0")
        for turn in range(6):
            client = await dial(f"{proxy.url}/")
            assert client.response.get("x-connection-id") == given(0)
            await client.close()
            await eventually(lambda: proxy.log.count("session ended") == turn + 1, "it has ended")  # noqa: B023
            for _ in range(3):
                with pytest.raises(Refused) as refused:
                    await dial(f"{proxy.url}/", [("X-Reconnect-Id", given(0))])
                assert refused.value.status == 410


async def test_a_worker_that_is_started_anew_learns_what_falls_on_it(serve: Serve) -> None:
    """Sessions that live in others, under ids whose home has died, are found as before."""
    async with GivingServer() as upstream:
        proxy = await serve(upstream.url, *TWO, *ADMIN, "--gate", "first-message", "--grace", "1h")
        admin = await admin_of(proxy)
        clients = [await dial(f"{proxy.url}/") for _ in range(MANY)]
        victim = workers(proxy)[0]
        victim.kill()
        await eventually(lambda: "worker lost" in proxy.log, "the loss is in the log")
        found = await asyncio.gather(
            *(dial(f"{proxy.url}/", [("X-Reconnect-Id", given(number))]) for number in range(MANY)),
            return_exceptions=True,
        )
        lost = sum(isinstance(each, Refused) and each.status == 410 for each in found)
        assert lost == await sample(admin, "reconnect_proxy_sessions_lost_total")
        assert sum(isinstance(each, RawSocket) for each in found) == MANY - lost
        assert 0 < lost < MANY
        for client in clients:
            await client.ended()


async def test_under_tls_a_relayed_client_is_handed_on_from_home(serve: Serve, authority: Authority) -> None:
    """From where its id falls to where its session is, with the relay's end of it."""
    cert, key = authority.issue()
    async with GivingServer() as upstream:
        tls = ("--tls-cert", str(cert), "--tls-key", str(key))
        proxy = await serve(upstream.url, "--workers", "3", *ADMIN, *tls, "--gate", "first-message", "--grace", "1h")
        for number in range(MANY):
            async with ordinary_client(proxy.url, ssl=authority.client()):
                server = await upstream.accept()
            headers = {"X-Reconnect-Id": given(number)}
            async with ordinary_client(proxy.url, ssl=authority.client(), additional_headers=headers) as client:
                await client.send("x" * 200_000)
                assert await server.recv() == "x" * 200_000
                await server.send("y" * 200_000)
                assert "y" * 200_000 in (await client.recv(), await client.recv())


# What is lost, and what is not.


async def test_a_worker_that_dies_is_replaced_and_its_loss_is_said(serve: Serve) -> None:
    """Its clients are told 410 and start again; those of the other notice nothing, and counters do not fall."""
    async with AwareServer() as upstream, contextlib.AsyncExitStack() as stack:
        proxy = await serve(upstream.url, *TWO, *ADMIN)
        admin = await admin_of(proxy)
        clients = [AwareClient(f"{proxy.url}/", chosen=chosen(number)) for number in range(MANY)]
        for client in clients:
            await stack.enter_async_context(client)
            client.push(*numbered("c2u", 3))
        for server in upstream.sessions.values():
            await server.received.reaches(3)
        places = Counter(session["worker"] for session in await shown(admin))
        opened = await sample(admin, "reconnect_proxy_sessions_opened_total")
        links = [client.links for client in clients]
        victim = workers(proxy)[0]
        victim.kill()
        line = rf"ERROR worker lost worker=0 detail=\"it was killed by SIGKILL\" sessions={places[0]}"
        await eventually(lambda: re.search(line, proxy.log) is not None, "the loss is in the log")
        await eventually(lambda: sum(client.lost is not None for client in clients) == places[0], "410 for whom it had")
        await eventually(lambda: "worker returned worker=0" in proxy.log, "another takes its place")
        for client, before in zip(clients, links, strict=True):
            assert client.lost is None or client.lost.status == 410
            assert client.lost is not None or client.links == before
        assert (await ask(f"{admin}/readyz"))[0] == 200
        assert victim.pid not in {process.pid for process in workers(proxy)}
        assert await sample(admin, "reconnect_proxy_workers_lost_total") == 1
        assert await sample(admin, "reconnect_proxy_sessions_lost_total") == places[0]
        assert await sample(admin, "reconnect_proxy_worker_up{") == 2
        assert await sample(admin, "reconnect_proxy_sessions_opened_total") >= opened
        assert await sample(admin, "reconnect_proxy_worker_sessions{") == places[1]
        for number, client in enumerate(clients):
            if client.lost is not None:
                await stack.enter_async_context(AwareClient(f"{proxy.url}/", chosen=chosen(MANY + number)))


async def test_clients_that_come_while_a_worker_is_away_are_served_by_the_next(
    serve: Serve, upstream: RawServer
) -> None:
    """They wait in its queue for as long as that takes, be it that of the port or its inbox; none is reset."""
    proxy = await serve(upstream.url, *TWO)
    victim = workers(proxy)[1]
    victim.suspend()
    coming = [
        asyncio.create_task(dial(f"{proxy.url}/", [("X-Connection-Id", chosen(number))])) for number in range(MANY)
    ]
    await eventually(lambda: sum(task.done() for task in coming) > 2, "some came to the other")
    victim.kill()
    await asyncio.gather(*coming)


async def test_nobody_waits_for_a_worker_that_dies_over_and_over(serve: Serve, upstream: RawServer) -> None:
    """It is started less and less often; meanwhile those who come to it are served elsewhere, or told to ask again."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--grace", "0")
    admin = await admin_of(proxy)
    _, steady = workers(proxy)
    for deaths in range(1, 7):
        (victim,) = [process for process in workers(proxy) if process != steady]
        victim.kill()
        await eventually(lambda: proxy.log.count("worker lost worker=0") == deaths, "its loss is said")  # noqa: B023
        if deaths < 6:
            await eventually(lambda: proxy.log.count("worker returned worker=0") == deaths, "it is back")  # noqa: B023
    answers: Counter[object] = Counter()
    for number in range(MANY):
        try:
            client = await dial(f"{proxy.url}/", [("X-Connection-Id", chosen(number))])
            await client.close()
            answers["served"] += 1
        except Refused as refused:
            assert refused.head.get("retry-after") == "1"
            answers[json.loads(refused.body)["error"]] += 1
    assert set(answers) == {"served", "worker-unavailable"}
    await eventually(lambda: proxy.log.count("worker returned worker=0") == 6, "it is back once more")
    async with residents(proxy, MANY):
        assert {session["worker"] for session in await shown(admin)} == {0, 1}


async def test_a_worker_that_is_stuck_holds_nobody_up(serve: Serve, upstream: RawServer) -> None:
    """The metrics come without it and say so, as does the probe; sessions in the other go on."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--connect-timeout", "500ms")
    admin = await admin_of(proxy)
    async with residents(proxy, MANY):
        opened = await sample(admin, "reconnect_proxy_sessions_opened_total")
        stuck = workers(proxy)[1]
        stuck.suspend()
        try:
            assert await sample(admin, 'reconnect_proxy_worker_up{worker="1"}') == 0
            assert await sample(admin, 'reconnect_proxy_worker_up{worker="0"}') == 1
            # What it said last.
            assert await sample(admin, "reconnect_proxy_sessions_opened_total") == opened
            status, text = await ask(f"{admin}/readyz")
            assert (status, json.loads(text)["reason"]) == (503, "worker 1: it does not answer")
            assert (await ask(f"{admin}/sessions"))[0] == 503
            assert (await ask(f"{admin}/healthz"))[0] == 200
        finally:
            stuck.resume()
        await eventually_is(admin, "reconnect_proxy_worker_up{", 2)
        assert (await ask(f"{admin}/readyz"))[0] == 200


async def eventually_is(admin: str, name: str, value: float) -> None:
    """Wait until a metric has a value."""
    found = -1.0
    for _ in range(int(PATIENCE / 0.05)):
        found = await sample(admin, name)
        if found == value:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} is {found} and not {value}")


async def test_a_worker_that_is_stuck_does_not_keep_a_stop_from_ending(serve: Serve, upstream: RawServer) -> None:
    """It has its time, and is killed; what that loses is said."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, drain="0")
    admin = await admin_of(proxy)
    async with residents(proxy, MANY):
        places = Counter(session["worker"] for session in await shown(admin))
        workers(proxy)[1].suspend()
        proxy.signal()
        proxy.signal()
        assert await proxy.exit_code() == 0
    assert f'worker lost worker=1 detail="it was killed by SIGKILL" sessions={places[1]}' in proxy.log
    assert f"stopped sessions={MANY} " in proxy.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_no_worker_outlives_its_supervisor(upstream: RawServer, number: signal.Signals) -> None:
    """However it dies, they go with it, and the port is free."""
    proxy = await Serving.started("--upstream", upstream.url, *TWO, drain="1s")
    family = workers(proxy)
    assert len(family) == 2
    proxy.signal(number)
    await proxy.exit_code()
    await eventually(lambda: not any(process.is_running() for process in family), "the workers are gone")
    again = await Serving.started("--upstream", upstream.url, *TWO, "--listen", proxy.base, drain="1s")
    await again.stop()


async def test_a_supervisor_that_breaks_down_takes_stuck_workers_along(upstream: RawServer) -> None:
    """A worker that hears nothing cannot be told to leave."""
    proxy = await Serving.started("--upstream", upstream.url, *TWO, drain="1s")
    family = workers(proxy)
    for process in family:
        process.suspend()
    await proxy.kill()
    await eventually(lambda: not any(process.is_running() for process in family), "the workers are gone")


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_all_processes_is_one_stop(serve: Serve, upstream: RawServer, number: signal.Signals) -> None:
    """As a terminal's Ctrl-C, or a service manager's stop: what is owed is delivered first, then clients get 1012."""
    proxy = await serve(upstream.url, *TWO, drain="1h")
    await have_gone(proxy, upstream, EVERYBODY, *numbered("u2c", 3))
    for process in (*workers(proxy), psutil.Process(proxy.process.pid)):
        process.send_signal(number)
    await eventually(lambda: " stopping " in proxy.log, "the proxy drains")
    with pytest.raises(Refused) as refused:
        await dial(f"{proxy.url}/")
    assert json.loads(refused.value.body)["error"] == "stopping"
    again = [await dial(f"{proxy.url}/", [("X-Reconnect-Id", identity)]) for identity in EVERYBODY]
    for client in again:
        assert await client.take(3) == numbered("u2c", 3)
        assert (await client.ended()).code == 1012
    assert await proxy.exit_code() == 0
    assert f"INFO stopped sessions={MANY} undelivered_c2u=0 undelivered_u2c=0" in proxy.log


async def test_a_second_signal_ends_all_workers_at_once(serve: Serve, upstream: RawServer) -> None:
    """What is kept for clients that are away is given up, and counted."""
    proxy = await serve(upstream.url, *TWO, drain="1h")
    await have_gone(proxy, upstream, EVERYBODY, "kept")
    proxy.signal()
    await eventually(lambda: " stopping " in proxy.log, "the proxy drains")
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert f"WARNING stopped sessions={MANY} undelivered_c2u=0 undelivered_u2c={MANY}" in proxy.log


async def test_sighup_renews_the_certificates_of_all_workers(
    serve: Serve, upstream: RawServer, authority: Authority, tmp_path: Path
) -> None:
    """Whoever is asked shows the new one."""
    from .test_tls import Files, served

    files = Files(tmp_path, authority)
    first = files.renew()
    proxy = await serve(upstream.url, *TWO, *files.options)
    assert {await served(proxy, authority) for _ in range(MANY)} == {first}
    second = files.renew()
    proxy.signal(signal.SIGHUP)
    await eventually(lambda: proxy.log.count("tls reloaded leg=client") == 2, "both have read it")
    assert {await served(proxy, authority) for _ in range(MANY)} == {second}


async def test_a_worker_hears_no_signal_but_those_that_end_it(serve: Serve, upstream: RawServer) -> None:
    """It is the supervisor that says when to stop."""
    proxy = await serve(upstream.url, *TWO)
    before = {process.pid for process in workers(proxy)}
    for process in workers(proxy):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
    async with residents(proxy, MANY) as clients:
        for client in clients:
            await client.fence()
    assert {process.pid for process in workers(proxy)} == before


# Starting.


async def test_a_port_in_use_is_one_line(upstream: RawServer) -> None:
    """Also where it is in use by a proxy that shares it among its own workers."""
    proxy = await Serving.started("--upstream", upstream.url, *TWO, drain="1s")
    try:
        line = await failed_start("--upstream", upstream.url, *TWO, "--listen", proxy.base)
    finally:
        await proxy.stop()
    assert line == (
        1,
        f"reconnect-proxy: cannot listen on {proxy.base}: the port is in use; choose another with --listen",
    )


async def test_hooks_that_cannot_be_made_twice_are_one_line(
    upstream: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker makes its own; where that fails at the start, nothing claims to listen, and nothing is left."""
    (tmp_path / "shy.py").write_text(
        "import os, reconnect_proxy\n"
        "class Shy(reconnect_proxy.Hooks):\n"
        "    def __init__(self):\n"
        f"        os.mkdir({str(tmp_path / 'once')!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    code, text = await failed_start("--upstream", upstream.url, *TWO, "--hooks", "shy:Shy")
    assert code == 1
    assert text.splitlines()[-1].startswith("reconnect-proxy: worker ")
    assert "did not start" in text.splitlines()[-1]


async def test_hooks_work_in_every_worker(
    serve: Serve, upstream: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do in one; what a hook starts has the environment and the signals that it would have had from there."""
    (tmp_path / "picky.py").write_text(
        "import os, re, subprocess, reconnect_proxy\n"
        "class Picky(reconnect_proxy.Hooks):\n"
        "    def on_session(self, session):\n"
        "        session.upstream_headers['X-Path'] = os.environ['PYTHONPATH']\n"
        "        status = subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout\n"
        "        (ignored,) = re.findall('SigIgn:.*', status)\n"
        "        session.upstream_headers['X-Ignored'] = ignored\n"
    )
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    monkeypatch.setenv("PYTHONPATH", path)
    proxy = await serve(upstream.url, *TWO, "--hooks", "picky:Picky")
    async with residents(proxy, MANY):
        assert {request.get("x-path") for request in upstream.requests} == {path}
        (ignored,) = {request.get("x-ignored") for request in upstream.requests}
        assert ignored is not None
        mask = int(ignored.removeprefix("SigIgn:"), 16)
        assert not mask & (1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1 | 1 << signal.SIGHUP - 1)
