"""`reconnect-proxy serve` with several workers: the process that the user has started.

It carries no messages. It has the port, says when all are ready, passes signals on, answers the admin listener for all,
and starts a worker again that has died. When it dies itself, however that goes, its workers go with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from ..admin import Admin
from ..config import Config
from ..instruments import Instruments
from ..listening import listening_on
from ..serving import Signals, say_nothing_to_reload, say_ready, say_stopped, say_stopping
from .crew import Crew
from .families import Families, families_of
from .listeners import listen

__all__ = ["supervise"]

#: Seconds that workers may take to leave once they have stopped.
LEAVING = 2.0


async def supervise(config: Config, options: Mapping[str, object]) -> int:
    """Run workers with `config`, which was made of `options`, until a stop signal arrives; return the exit code.

    Raises:
        CannotServe: an address cannot be had, or a worker does not start.

    """
    with Signals() as signals, Instruments() as observe:
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
            stop = asyncio.create_task(signals.stop())
            start = asyncio.create_task(crew.start())
            await asyncio.wait([start, stop], return_when=asyncio.FIRST_COMPLETED)
            if not stop.done() or start.done():
                await start
                scheme = "ws" if config.tls_cert is None else "wss"
                address = config.listen._replace(port=listeners[0].getsockname()[1])
                say_ready(f"{scheme}://{address}", config, admin.url if admin else None)
                signals.on_hangup = lambda: _reload(config, crew)
                await stop
            start.cancel()
            await asyncio.wait([start])
            say_stopping(config, crew.sessions)
            crew.begin_to_stop()
            stopping = asyncio.create_task(crew.stop())
            again = asyncio.create_task(signals.stop())
            await asyncio.wait([stopping, again], return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                crew.hurry()
            say_stopped(await stopping)
            again.cancel()
            await crew.left(LEAVING)
    return 0


def _reload(config: Config, crew: Crew) -> None:
    """Read anew what SIGHUP stands for, in every worker."""
    if config.tls_files.cert is None and not config.tls_files.upstreams:
        say_nothing_to_reload()
    else:
        crew.reload()
