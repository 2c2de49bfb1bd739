"""What an operator sees of all workers together, and the limits that hold for all of them."""

import asyncio
import itertools
import json
from collections import Counter

import psutil
import pytest

from ..conftest import Serve
from ..frames import Refused
from ..rawserver import RawServer
from ..rawsocket import RawSocket, dial
from ..test_admin import ADMIN, admin_of, ask
from ..waiting import eventually
from .group import TWO, Workers, eventually_is, processes_of, residents, sample, samples, shown

MANY = 24


async def test_pages_of_sessions_are_those_of_all_workers(serve: Serve, upstream: RawServer) -> None:
    """The oldest first, each once, with its worker, for any page size."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    admin = await admin_of(proxy)
    async with residents(Workers(proxy), MANY):
        everything = await shown(admin)
        assert Counter(session["worker"] for session in everything) == {0: MANY / 2, 1: MANY / 2}
        ages = [float(str(session["age"])) for session in everything]
        assert all(later <= earlier + 0.05 for earlier, later in itertools.pairwise(ages))
        pages: list[tuple[object, object]] = []
        for offset in range(0, MANY + 5, 5):
            status, text = await ask(f"{admin}/sessions?limit=5&offset={offset}")
            page = json.loads(text)
            assert (status, page["total"], page["offset"], page["limit"]) == (200, MANY, offset, 5)
            pages += [(session["worker"], session["id_short"]) for session in page["sessions"]]
        assert pages == [(session["worker"], session["id_short"]) for session in everything]
        assert len(await shown(admin, "&state=opening")) == 0
        assert (await ask(f"{admin}/sessions?state=none"))[0] == 400


async def test_a_session_is_ended_wherever_it_is(serve: Serve, upstream: RawServer) -> None:
    """By its whole id; what is not there is 404, and what two sessions look like 409."""
    proxy = await serve(upstream.url, *TWO, *ADMIN)
    admin = await admin_of(proxy)
    clients: dict[str, RawSocket] = {}
    while len(clients) < 4 or {session["worker"] for session in await shown(admin)} != {0, 1}:
        identity = f"they-begin-alike-{len(clients)}"
        clients[identity] = await dial(f"{proxy.url}/", [("X-Connection-Id", identity)])
    assert (await ask(f"{admin}/sessions/they-begin-alike-{len(clients)}", "DELETE"))[0] == 404
    assert (await ask(f"{admin}/sessions/they-b", "DELETE"))[0] == 409
    for identity, client in clients.items():
        assert (await ask(f"{admin}/sessions/{identity}", "DELETE"))[0] == 200
        assert (await client.ended()).code == 1008
    assert await shown(admin) == []


async def test_metrics_are_the_sum_of_all_workers(serve: Serve, upstream: RawServer) -> None:
    """Sessions, messages, what is used of limits, and the system's own numbers; what is no sum is none."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--max-sessions", "101", "--max-held", "1MiB")
    admin = await admin_of(proxy)
    async with residents(Workers(proxy), MANY) as clients:
        for client in clients:
            await client.send("one", "two")
            await client.fence()
        expected = {
            'reconnect_proxy_messages_total{direction="c2u"}': 2 * MANY,
            'reconnect_proxy_sessions{state="open"}': MANY,
            'reconnect_proxy_sessions_opened_total{connected="true"}': MANY,
            'reconnect_proxy_limit_used{limit="sessions"}': MANY,
            'reconnect_proxy_limit{limit="sessions"}': 101,
            'reconnect_proxy_limit{limit="handshakes"}': 1000,
            'reconnect_proxy_limit{limit="held"}': 1024**2,
            'reconnect_proxy_worker_sessions{worker="0"}': MANY / 2,
            'reconnect_proxy_worker_sessions{worker="1"}': MANY / 2,
            "reconnect_proxy_worker_up{": 2,
            "reconnect_proxy_upstream_healthy{": 1,
            "reconnect_proxy_info{": 1,
        }
        assert dict(zip(expected, await samples(admin, *expected), strict=True)) == expected
        family = [psutil.Process(proxy.process.pid), *processes_of(proxy)]
        resident = await sample(admin, "process_resident_memory_bytes ")
        assert resident == pytest.approx(sum(process.memory_info().rss for process in family), rel=0.05)
        assert await sample(admin, "process_start_time_seconds ") == pytest.approx(family[0].create_time(), abs=1)


async def refused(workers: Workers) -> set[tuple[int, str]]:
    """Come to each worker a few times and be refused; return the statuses and errors."""
    answers = set()
    for number in (0, 1) * 4:
        with pytest.raises(Refused) as refusal:
            await workers.dial(number)
        answers.add((refusal.value.status, json.loads(refusal.value.body)["error"]))
    return answers


async def test_limits_of_sessions_hold_for_all_workers_together(serve: Serve, upstream: RawServer) -> None:
    """However many come at once, and to whomever: never more than the limit, and as many as it once they ask again."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--max-sessions", "10")
    workers = Workers(proxy)
    came = await asyncio.gather(*(workers.dial(number % 2) for number in range(40)), return_exceptions=True)
    inside = [socket for socket in came if isinstance(socket, RawSocket)]
    turned_away = [error for error in came if isinstance(error, Refused)]
    assert len(turned_away) + len(inside) == 40
    assert {(error.status, json.loads(error.body)["error"]) for error in turned_away} == {(503, "too-many-sessions")}
    assert len(inside) <= 10
    while len(inside) < 10:
        inside.append(await workers.dial(len(inside) % 2))
    assert await refused(workers) == {(503, "too-many-sessions")}
    assert await sample(await admin_of(proxy), "reconnect_proxy_worker_sessions{") == 10


async def test_the_sessions_of_an_address_are_counted_over_all_workers(serve: Serve, upstream: RawServer) -> None:
    """However many come at once, and to whomever; who leaves makes room, and a worker that dies its own."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--max-sessions-per-address", "6", "--grace", "0")
    workers = Workers(proxy)
    admin = await admin_of(proxy)
    too_many = {(503, "too-many-sessions-of-address")}
    came = await asyncio.gather(*(workers.dial(number % 2) for number in range(MANY)), return_exceptions=True)
    inside = [socket for socket in came if isinstance(socket, RawSocket)]
    assert len(inside) <= 6
    turned_away = [error for error in came if isinstance(error, Refused)]
    assert len(turned_away) + len(inside) == MANY
    assert {(error.status, json.loads(error.body)["error"]) for error in turned_away} == too_many
    for client in inside:
        await client.close()
    await eventually_is(admin, "reconnect_proxy_worker_sessions{", 0)
    inside = [await workers.dial(number) for number in (0, 0, 0, 1, 1, 1)]
    assert await refused(workers) == too_many
    for client in inside[1:4]:
        await client.close()
    await eventually_is(admin, "reconnect_proxy_worker_sessions{", 3)
    inside[1:4] = [await workers.dial(number) for number in (1, 0, 1)]
    assert await refused(workers) == too_many
    workers.kill(0)
    await eventually(lambda: "worker returned worker=0" in proxy.log, "another takes its place")
    for client in (inside[0], inside[2]):
        await client.ended()
    assert await sample(admin, "reconnect_proxy_worker_sessions{") == 4
    for number in (0, 1):
        await workers.dial(number)
    assert await refused(workers) == too_many
