"""A worker, as a process: `python -m reconnect_proxy.workers.worker DESCRIPTOR`, started by the supervisor only.

The descriptor is that of its channel. The first notice on the channel says what the worker has to know: its number, its
options, and the descriptors of everything else that it was given. It ends when the supervisor tells it to, and when the
channel ends, because then the supervisor has died.

It ignores the signals that the supervisor gets. A terminal sends SIGINT to all processes of a program, and systemd
sends SIGTERM to all processes of a unit: a worker that reacted would count one stop as two.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import uvloop

from ..admin.view import ProxyView
from ..config.model import Config
from ..draining import Stopped
from ..observe.logs import start_logging
from ..observe.observers import Observers
from ..proxy import GOODBYE
from ..serving import HANDLED_SIGNALS, first_of, tune_gc
from .addresses import AddressTable
from .channel import Channel, ChannelClosed, receive_now
from .merged_metrics import families_of
from .placement import Placement
from .shared_counters import SharedCounters
from .worker_proxy import WorkerProxy, WorkerResources

#: Linux: the system kills this process when its parent dies, in any way.
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run a worker, and return the exit code."""
    for number in HANDLED_SIGNALS:
        # The supervisor has started it with SIG_IGN, which programs that hooks start would inherit; a handler is not.
        signal.signal(number, _ignore_signal)
    # The supervisor has blocked them until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        given = receive_now(channel)
    except ChannelClosed:
        return 1
    _restore(given["python_path"])
    # Hooks may be in the working directory; installed packages go before it.
    sys.path.append("")
    config = Config(**given["options"])
    handler = start_logging(config.log_format, config.log_level)
    handler.addFilter(_Numbered(given["number"]))
    tune_gc()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(config, given, channel))


def _ignore_signal(number: int, frame: FrameType | None) -> None:
    """Ignore a signal."""


def _restore(python_path: str | None) -> None:
    """Set PYTHONPATH, which programs that hooks start inherit, to the supervisor's value."""
    os.environ.pop("PYTHONPATH", None)
    if python_path is not None:
        os.environ["PYTHONPATH"] = python_path


class _Numbered(logging.Filter):
    """Adds the number of the worker to each log line."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the number to the fields of `record`."""
        record.fields = {**getattr(record, "fields", {}), "worker": self._number}
        return True


async def _work(config: Config, given: dict[str, Any], end: socket.socket) -> int:
    """Serve until the supervisor tells this worker to stop, or has died."""
    channel = await Channel.open(end)
    with Observers() as observe:
        worker = WorkerProxy(config, observe, _resources_of(given))
        supervised = _Supervised(worker, observe)
        talk = asyncio.create_task(channel.run(supervised.on_notice, supervised.answer))
        try:
            await worker.start()
            observe.watch(worker.proxy)
            channel.tell(ready=True)
            stop = asyncio.create_task(supervised.stop_when_told())
            await asyncio.wait([talk, stop], return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                # The supervisor has died.
                return 1
            channel.tell(stopped=stop.result()._asdict())
            await worker.relays_ended(config.drain + GOODBYE)
        finally:
            talk.cancel()
            with suppress(asyncio.CancelledError):
                await talk
    return 0


def _resources_of(given: dict[str, Any]) -> WorkerResources:
    number, count, key = given["number"], given["count"], bytes.fromhex(given["key"])
    return WorkerResources(
        Placement(number, count, key),
        SharedCounters(given["counters"], count),
        [socket.socket(fileno=descriptor) for descriptor in given["listeners"]],
        socket.socket(fileno=given["reading"]),
        [socket.socket(fileno=descriptor) for descriptor in given["writing"]],
        None if given["addresses"] is None else AddressTable(given["addresses"], number, count, key),
        given["is_replacement"],
    )


class _Supervised:
    """What a worker does when the supervisor tells or asks it something."""

    def __init__(self, worker: WorkerProxy, observers: Observers) -> None:
        self._worker = worker
        self._proxy = worker.proxy
        self._view = ProxyView(worker.proxy)
        self._observers = observers
        # Drain, then stop; stop at once.
        self._drain = asyncio.Event()
        self._stop_now = asyncio.Event()

    def on_notice(self, told: dict[str, Any]) -> None:
        """Do what the supervisor tells."""
        match told["tell"]:
            case "reload":
                self._proxy.reload_tls()
            case "stop":
                self._drain.set()
            case "stop-now":
                self._stop_now.set()
            case "lost":
                self._worker.directory.forget(told["worker"])

    async def stop_when_told(self) -> Stopped:
        """Wait until the supervisor says so, and stop."""
        await self._drain.wait()
        await first_of(self._proxy.drain(self._proxy.config.drain), self._told_to_stop_now())
        return await self._worker.stop()

    async def _told_to_stop_now(self) -> None:
        await self._stop_now.wait()

    async def answer(self, kind: str, details: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the supervisor."""
        match kind:
            case "alive":
                return {}
            case "ready":
                return {"reason": await self._proxy.ready()}
            case "metrics":
                return {"families": await self._observers.metrics.scrape(families_of)}
            case "ages":
                chosen = self._view.chosen(details["state"])
                return {"total": len(chosen), "opened": [each.opened_at for each in chosen[: details["most"]]]}
            case "page":
                page = await self._view.page(details["state"], details["offset"], details["limit"])
                return {"sessions": page.sessions}
            case "find":
                return {"found": len(self._proxy.find(details["name"]))}
            case "end":
                found, id_short = await self._view.end(details["name"], details["operator"])
                return {"found": found, "id_short": id_short}
        raise ValueError(f"there is no question {kind!r}")


if __name__ == "__main__":
    sys.exit(main())
