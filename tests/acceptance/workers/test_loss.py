"""Workers that die or hang: what is lost with them is said, and what is not goes on."""

import asyncio
import contextlib
import json
import signal

import psutil
import pytest

from ..aware import AwareClient, AwareServer
from ..conftest import Serve
from ..frames import Refused
from ..process import Serving
from ..rawserver import RawServer
from ..rawsocket import dial
from ..test_admin import ADMIN, admin_of, ask
from ..waiting import eventually, numbered
from .group import TWO, Workers, eventually_is, processes_of, queues, residents, sample, samples, shown


async def test_a_worker_that_dies_is_replaced_and_its_loss_is_said(serve: Serve) -> None:
    """Its clients are told 410 and start again; those of the other notice nothing, and counters do not fall."""
    async with AwareServer() as upstream, contextlib.AsyncExitStack() as stack:
        proxy = await serve(upstream.url, *TWO, *ADMIN)
        admin = await admin_of(proxy)
        workers = Workers(proxy)
        # Where each comes to, and so where its session lives.
        places = (0, 1, 0, 1, 0)
        clients = [AwareClient(f"{proxy.url}/", connect=lambda place=place: workers.connect(place)) for place in places]
        for client in clients:
            await stack.enter_async_context(client)
            client.push(*numbered("c2u", 3))
        for server in upstream.sessions.values():
            await server.received.reaches(3)
        opened = await sample(admin, "reconnect_proxy_sessions_opened_total")
        links = [client.links for client in clients]
        workers.kill(0)
        line = 'ERROR worker lost worker=0 detail="it was killed by SIGKILL" sessions=3'
        await eventually(lambda: line in proxy.log, "the loss is in the log")
        await eventually(lambda: sum(client.lost is not None for client in clients) == 3, "410 for whom it had")
        await eventually(lambda: "worker returned worker=0" in proxy.log, "another takes its place")
        for client, place, before in zip(clients, places, links, strict=True):
            if place == 0:
                assert client.lost is not None
                assert client.lost.status == 410
            else:
                assert (client.lost, client.links) == (None, before)
        assert (await ask(f"{admin}/readyz"))[0] == 200
        assert workers.processes[0].pid not in {process.pid for process in processes_of(proxy)}
        expected = {
            "reconnect_proxy_workers_lost_total": 1,
            "reconnect_proxy_sessions_lost_total": 3,
            "reconnect_proxy_worker_up{": 2,
            'reconnect_proxy_worker_sessions{worker="0"}': 0,
            'reconnect_proxy_worker_sessions{worker="1"}': 2,
        }
        assert dict(zip(expected, await samples(admin, *expected), strict=True)) == expected
        assert await sample(admin, "reconnect_proxy_sessions_opened_total") >= opened
        for place in places[:2]:
            await stack.enter_async_context(
                AwareClient(f"{proxy.url}/", connect=lambda place=place: workers.connect(place))
            )


async def test_clients_that_come_while_a_worker_is_away_are_served_by_the_next(
    serve: Serve, upstream: RawServer
) -> None:
    """They wait in its queue for as long as that takes, be it that of the port or its mailbox; none is reset."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--log-level", "debug")
    workers = Workers(proxy)
    ids = [await workers.id_on(number) for number in (0, 1, 0, 1)]
    handed_on = proxy.log.count("handed on")
    await workers.suspend(1)
    served, mailed, *queued = (
        asyncio.create_task(workers.dial(came_to, ("X-Connection-Id", identity)))
        for came_to, identity in zip((0, 0, 1, 1), ids, strict=True)
    )
    await served
    await eventually(lambda: proxy.log.count("handed on") == handed_on + 1, "one is in the mailbox")
    await eventually(lambda: sum(queues(proxy)) == len(queued), "the others are in the queue of the port")
    assert not any(task.done() for task in (mailed, *queued))
    workers.kill(1)
    await asyncio.gather(mailed, *queued)


async def test_nobody_waits_for_a_worker_that_dies_over_and_over(serve: Serve, upstream: RawServer) -> None:
    """It is started less and less often; meanwhile those who come to it are served elsewhere, or told to ask again."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--grace", "0")
    admin = await admin_of(proxy)
    workers = Workers(proxy)
    its, others = [await workers.id_on(number) for number in (0, 1)]
    steady = workers.processes[1]
    for deaths in range(1, 7):
        (victim,) = [process for process in processes_of(proxy) if process != steady]
        victim.kill()
        await eventually(lambda: proxy.log.count("worker lost worker=0") == deaths, "its loss is said")  # noqa: B023
        if deaths < 6:
            await eventually(lambda: proxy.log.count("worker returned worker=0") == deaths, "it is back")  # noqa: B023
    await eventually(lambda: len(queues(proxy)) == 1, "its listener is closed, and all come to the other")
    with pytest.raises(Refused) as refused:
        await dial(f"{proxy.url}/", [("X-Connection-Id", its)])
    assert refused.value.head.get("retry-after") == "1"
    assert json.loads(refused.value.body)["error"] == "worker-unavailable"
    for headers in ([], [("X-Connection-Id", others)]):
        await (await dial(f"{proxy.url}/", headers)).close()
    assert proxy.log.count("worker returned worker=0") == 5, "it was away all the while"
    await eventually(lambda: proxy.log.count("worker returned worker=0") == 6, "it is back once more")
    async with residents(workers, 4):
        assert sorted(str(session["worker"]) for session in await shown(admin)) == ["0", "0", "1", "1"]


async def test_a_worker_that_is_stuck_holds_nobody_up(serve: Serve, upstream: RawServer) -> None:
    """The metrics come without it and say so, as does the probe; sessions in the other go on."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--connect-timeout", "500ms")
    admin = await admin_of(proxy)
    workers = Workers(proxy)
    async with residents(workers, 4) as clients:
        assert await sample(admin, "reconnect_proxy_sessions_opened_total") == 4
        await workers.suspend(1)
        try:
            # Each takes as long as it is waited for.
            found, ready, sessions, alive, _ = await asyncio.gather(
                samples(
                    admin,
                    'reconnect_proxy_worker_up{worker="0"}',
                    'reconnect_proxy_worker_up{worker="1"}',
                    "reconnect_proxy_sessions_opened_total",
                ),
                ask(f"{admin}/readyz"),
                ask(f"{admin}/sessions"),
                ask(f"{admin}/healthz"),
                clients[0].fence(),
            )
        finally:
            workers.resume(1)
        # What the one that does not answer had counted when it was asked last is in the sum.
        assert found == [1, 0, 4]
        assert (ready[0], json.loads(ready[1])["reason"]) == (503, "worker 1: it does not answer")
        assert sessions[0] == 503
        assert alive[0] == 200
        await eventually_is(admin, "reconnect_proxy_worker_up{", 2)
        assert (await ask(f"{admin}/readyz"))[0] == 200


async def test_a_worker_that_is_stuck_does_not_keep_a_stop_from_ending(serve: Serve, upstream: RawServer) -> None:
    """It has its time, and is killed; what that loses is said."""
    proxy = await serve(upstream.url, *TWO, drain="0")
    workers = Workers(proxy)
    async with residents(workers, 5):
        await workers.suspend(1)
        proxy.signal()
        proxy.signal()
        assert await proxy.exit_code() == 0
    await proxy.logged('worker lost worker=1 detail="it was killed by SIGKILL" sessions=2')
    await proxy.logged("stopped sessions=5 ")


async def test_a_worker_that_hangs_is_killed_and_replaced(serve: Serve, upstream: RawServer) -> None:
    """The log and the metrics say so, the probe answers in time, and clients that wait for it are served."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--worker-timeout", "2s")
    admin = await admin_of(proxy)
    workers = Workers(proxy)
    async with residents(workers, 4) as clients:
        await workers.suspend(1)
        waiting = asyncio.create_task(workers.dial(1))
        began = asyncio.get_running_loop().time()
        status, text = await ask(f"{admin}/readyz")
        assert asyncio.get_running_loop().time() < began + 2.0
        assert (status, json.loads(text)["reason"]) == (503, "worker 1: it does not answer")
        line = 'ERROR worker lost worker=1 detail="it did not respond for 2 s, and was killed" sessions=2'
        await eventually(lambda: line in proxy.log, "the loss is in the log")
        await waiting
        await clients[0].fence()
        assert await samples(admin, "reconnect_proxy_workers_lost_total", "reconnect_proxy_worker_up{") == [1, 2]
        assert (await ask(f"{admin}/readyz"))[0] == 200


async def test_without_a_timeout_a_worker_that_hangs_stays(serve: Serve, upstream: RawServer) -> None:
    """The control of the test before. Admin requests do not wait for it."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--worker-timeout", "off")
    admin = await admin_of(proxy)
    workers = Workers(proxy)
    async with residents(workers, 2):
        await workers.suspend(1)
        try:
            for _ in range(4):
                # Each is answered when the worker has been silent for a second.
                assert (await ask(f"{admin}/readyz"))[0] == 503
                await eventually_is(admin, "reconnect_proxy_worker_up{", 1)
        finally:
            workers.resume(1)
        await eventually_is(admin, "reconnect_proxy_worker_up{", 2)
    assert "worker lost" not in proxy.log


async def test_a_program_that_is_frozen_as_a_whole_loses_no_worker(serve: Serve, upstream: RawServer) -> None:
    """For longer than the timeout: the supervisor did not run either."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, "--worker-timeout", "400ms")
    family = [psutil.Process(proxy.process.pid), *processes_of(proxy)]
    async with residents(Workers(proxy), 2) as clients:
        for process in family:
            process.suspend()
        await asyncio.sleep(2.0)  # The time that passes is what this test is about.
        # The supervisor runs first, and has judged before a worker can answer.
        for process in family:
            process.resume()
        for client in clients:
            await client.fence()
        await eventually_is(await admin_of(proxy), "reconnect_proxy_worker_up{", 2)
    assert "worker lost" not in proxy.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_no_worker_outlives_its_supervisor(upstream: RawServer, number: signal.Signals) -> None:
    """However it dies, they go with it, and the port is free."""
    proxy = await Serving.started("--upstream", upstream.url, *TWO, drain="1s")
    family = processes_of(proxy)
    assert len(family) == 2
    proxy.signal(number)
    await proxy.exit_code()
    await eventually(lambda: not any(process.is_running() for process in family), "the workers are gone")
    again = await Serving.started("--upstream", upstream.url, *TWO, "--listen", proxy.base, drain="1s")
    await again.stop()


async def test_a_supervisor_that_breaks_down_takes_stuck_workers_along(upstream: RawServer) -> None:
    """A worker that hears nothing cannot be told to leave."""
    proxy = await Serving.started("--upstream", upstream.url, *TWO, drain="1s")
    workers = Workers(proxy)
    for number in (0, 1):
        await workers.suspend(number)
    await proxy.kill()
    await eventually(lambda: not any(process.is_running() for process in workers.processes), "the workers are gone")
