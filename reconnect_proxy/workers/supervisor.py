"""`reconnect-proxy serve` with several workers: the process that the user has started.

It carries no messages. It opens the port, says when all workers are ready, passes signals on, answers the admin
listener for all, and replaces workers that die. If it dies itself, in any way, its workers end too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

from ..admin.routes import Admin
from ..config.model import Config
from ..draining import Stopped
from ..net.listeners import listen
from ..observe.observers import Observers
from ..proxy import GOODBYE, SETTLE
from ..serving import Signals, first_of, listening_on, say_nothing_to_reload, say_ready, say_stopped, say_stopping
from .merged_metrics import MetricFamilies, families_of
from .worker_group import WorkerGroup

#: Seconds that the processes of workers have to end once they have stopped.
EXIT_TIMEOUT = 2.0
#: Seconds that workers have to stop, in addition to what a stop takes.
PATIENCE = 3.0


async def supervise(config: Config, options: Mapping[str, object]) -> int:
    """Run workers with `config`, which was made of `options`, until a stop signal arrives; return the exit code.

    Raises:
        CannotServe: an address cannot be opened, or a worker does not start.

    """
    with Signals() as signals, Observers() as observe:
        async with AsyncExitStack() as stack:
            with listening_on(config.listen, "--listen"):
                listeners = listen(*config.listen, config.workers)

            def own() -> MetricFamilies:
                return families_of(observe.metrics.registry)

            workers = WorkerGroup(config, options, listeners, observe, own)
            stack.push_async_callback(workers.close)
            admin = Admin(config.admin, workers, workers, observe, config.bearer) if config.admin else None
            if admin and config.admin:
                with listening_on(config.admin, "--admin"):
                    await stack.enter_async_context(admin)
            if await _until_stop(workers.start(), signals):
                scheme = "ws" if config.tls_cert is None else "wss"
                address = config.listen._replace(port=listeners[0][0].getsockname()[1])
                say_ready(f"{scheme}://{address}", config, admin.url if admin else None)
                signals.on_hangup = lambda: _reload(config, workers)
                await _until_stop(workers.broken(), signals)
            say_stopping(config, workers.sessions)
            say_stopped(await _stop(config, workers, signals))
            await workers.wait_ended(EXIT_TIMEOUT)
    return 0


async def _until_stop(work: Coroutine[None, None, None], signals: Signals) -> bool:
    """Run `work` until it is done or a stop signal arrives; return whether it is done. Raises what `work` raises."""
    working = asyncio.create_task(work)
    await first_of(_done(working), signals.stop())
    if working.done():
        await working
        return True
    working.cancel()
    await asyncio.wait([working])
    return False


async def _done(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.wait(tasks)


async def _stop(config: Config, workers: WorkerGroup, signals: Signals) -> Stopped:
    """Let all workers drain and stop. After a second signal they stop at once, and those that do neither are killed."""
    workers.begin_to_stop()
    stopping = asyncio.create_task(workers.stopped())
    in_order = config.drain + SETTLE + GOODBYE + PATIENCE
    await first_of(_done(stopping), signals.stop(), asyncio.sleep(in_order))
    if not stopping.done():
        workers.stop_now()
        await first_of(_done(stopping), asyncio.sleep(GOODBYE + PATIENCE))
    if not stopping.done():
        workers.kill()
    return await stopping


def _reload(config: Config, workers: WorkerGroup) -> None:
    """Let every worker read again what SIGHUP is for: certificates."""
    if config.tls_files.cert is None and not config.tls_files.upstreams:
        say_nothing_to_reload()
    else:
        workers.reload()
