"""Signals to a proxy with workers: a stop, a renewal of certificates, and those that workers ignore."""

import json
import signal
from pathlib import Path

import psutil
import pytest

from ...certificates import Authority
from ..absence import have_gone
from ..conftest import Serve
from ..frames import Refused
from ..rawserver import RawServer
from ..rawsocket import dial
from ..test_admin import ADMIN, admin_of
from ..test_stopping import ALL_DELIVERED, NONE_UNCERTAIN
from ..test_tls import Files, served
from ..waiting import eventually, numbered
from .group import TWO, Workers, processes_of, residents, shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_all_processes_is_one_stop(serve: Serve, upstream: RawServer, number: signal.Signals) -> None:
    """As a terminal's Ctrl-C, or a service manager's stop: what is owed is delivered first, then clients get 1012."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, drain="1h")
    workers = Workers(proxy)
    ids = [await workers.id_on(place) for place in (0, 1, 0, 1)]
    upstream.skip()
    await have_gone(proxy, upstream, ids, *numbered("u2c", 3))
    for process in (*workers.processes, psutil.Process(proxy.process.pid)):
        process.send_signal(number)
    await eventually(lambda: " stopping " in proxy.log, "the proxy drains")
    # Each worker has answered, and has been told to stop before it was asked.
    assert len(await shown(await admin_of(proxy))) == len(ids)
    with pytest.raises(Refused) as refused:
        await dial(f"{proxy.url}/")
    assert json.loads(refused.value.body)["error"] == "stopping"
    again = [await dial(f"{proxy.url}/", [("X-Reconnect-Id", identity)]) for identity in ids]
    for client in again:
        assert await client.take(3) == numbered("u2c", 3)
        assert (await client.ended()).code == 1012
    assert await proxy.exit_code() == 0
    await proxy.logged(f"INFO stopped sessions={len(ids)} {ALL_DELIVERED}")


async def test_a_second_signal_ends_all_workers_at_once(serve: Serve, upstream: RawServer) -> None:
    """What is kept for clients that are away is given up, and counted."""
    proxy = await serve(upstream.url, *TWO, *ADMIN, drain="1h")
    workers = Workers(proxy)
    ids = [await workers.id_on(place) for place in (0, 1, 0, 1)]
    upstream.skip()
    await have_gone(proxy, upstream, ids, "kept")
    proxy.signal()
    await eventually(lambda: " stopping " in proxy.log, "the proxy drains")
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert (
        f"WARNING stopped sessions={len(ids)} undelivered_c2u=0 undelivered_u2c={len(ids)} {NONE_UNCERTAIN}"
        in proxy.log
    )


async def test_sighup_renews_the_certificates_of_all_workers(
    serve: Serve, upstream: RawServer, authority: Authority, tmp_path: Path
) -> None:
    """Every worker shows the new one."""
    files = Files(tmp_path, authority)
    first = files.renew()
    proxy = await serve(upstream.url, *TWO, *files.options)
    workers = Workers(proxy)
    assert [await served(proxy, authority, await workers.connect(number)) for number in (0, 1)] == [first, first]
    second = files.renew()
    proxy.signal(signal.SIGHUP)
    await eventually(lambda: proxy.log.count("tls reloaded leg=client") == 2, "both have read it")
    assert [await served(proxy, authority, await workers.connect(number)) for number in (0, 1)] == [second, second]


async def test_a_worker_hears_no_signal_but_those_that_end_it(serve: Serve, upstream: RawServer) -> None:
    """It is the supervisor that says when to stop."""
    proxy = await serve(upstream.url, *TWO)
    workers = Workers(proxy)
    for process in workers.processes:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
    async with residents(workers, 4) as clients:
        for client in clients:
            await client.fence()
    assert processes_of(proxy) == workers.processes
