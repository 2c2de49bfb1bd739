"""`reconnect-proxy serve` with several workers: the process that the user has started.

It carries no messages. It has the port, says when all are ready, passes signals on, answers the admin listener for all,
and starts a worker again that has died. When it dies itself, however that goes, its workers go with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

from ..admin.routes import Admin
from ..config.model import Config
from ..draining import Stopped
from ..observe.observers import Observers
from ..proxy import GOODBYE, SETTLE
from ..serving import Signals, first_of, listening_on, say_nothing_to_reload, say_ready, say_stopped, say_stopping
from .listeners import listen
from .merged_metrics import Families, families_of
from .worker_group import Crew

__all__ = ["supervise"]

#: Seconds that workers may take to leave once they have stopped.
LEAVING = 2.0
#: Seconds that workers may take to stop beyond what a stop takes.
PATIENCE = 3.0


async def supervise(config: Config, options: Mapping[str, object]) -> int:
    """Run workers with `config`, which was made of `options`, until a stop signal arrives; return the exit code.

    Raises:
        CannotServe: an address cannot be had, or a worker does not start.

    """
    with Signals() as signals, Observers() as observe:
        async with AsyncExitStack() as stack:
            with listening_on(config.listen, "--listen"):
                listeners = listen(config.listen, config.workers)

            def own() -> Families:
                return families_of(observe.metrics.registry)

            crew = Crew(config, options, listeners, observe, own)
            stack.push_async_callback(crew.close)
            admin = Admin(config.admin, crew, crew, observe, config.bearer) if config.admin else None
            if admin and config.admin:
                with listening_on(config.admin, "--admin"):
                    await stack.enter_async_context(admin)
            if await _until_stop(crew.start(), signals):
                scheme = "ws" if config.tls_cert is None else "wss"
                address = config.listen._replace(port=listeners[0].getsockname()[1])
                say_ready(f"{scheme}://{address}", config, admin.url if admin else None)
                signals.on_hangup = lambda: _reload(config, crew)
                await _until_stop(crew.broken(), signals)
            say_stopping(config, crew.sessions)
            say_stopped(await _stop(config, crew, signals))
            await crew.left(LEAVING)
    return 0


async def _until_stop(work: Coroutine[None, None, None], signals: Signals) -> bool:
    """Work until it is done or a stop signal arrives, and tell whether it is done. Raises what the work raises."""
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


async def _stop(config: Config, crew: Crew, signals: Signals) -> Stopped:
    """Have all workers stop, in good order, at once if a second signal says so, and by force if they do neither."""
    crew.begin_to_stop()
    stopping = asyncio.create_task(crew.stopped())
    in_order = config.drain + SETTLE + GOODBYE + PATIENCE
    await first_of(_done(stopping), signals.stop(), asyncio.sleep(in_order))
    if not stopping.done():
        crew.hurry()
        await first_of(_done(stopping), asyncio.sleep(GOODBYE + PATIENCE))
    if not stopping.done():
        crew.kill()
    return await stopping


def _reload(config: Config, crew: Crew) -> None:
    """Read anew what SIGHUP stands for, in every worker."""
    if config.tls_files.cert is None and not config.tls_files.upstreams:
        say_nothing_to_reload()
    else:
        crew.reload()
