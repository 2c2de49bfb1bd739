"""A worker, as a process: `python -m reconnect_proxy.workers.worker DESCRIPTOR`, started by the supervisor only.

The descriptor is that of its channel. What it is to be comes through it: its number, its options, and the descriptors
of all else that it has been given. It leaves when it is told to, and when the channel ends, since then nobody would.

It ignores the signals that the supervisor is sent. A terminal sends SIGINT to all processes of a program, and systemd
SIGTERM to all of a unit: a worker that heeded them would hear of one stop twice, and take it for two.
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

from ..admin.view import OneProxy
from ..config.model import Config
from ..draining import Stopped
from ..observe.logs import start_logging
from ..observe.observers import Observers
from ..proxy import GOODBYE
from ..serving import HEEDED, first_of, tune_gc
from .addresses import AddressTable
from .channel import Channel, ChannelClosed, receive_now
from .merged_metrics import families_of
from .placement import Homes
from .shared_counters import Tallies
from .worker_proxy import Colleague, Place

__all__ = ["main"]

#: Linux: have the system kill this process when its parent dies, however that goes.
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Be a worker, and return the exit code."""
    for number in HEEDED:
        # It was started with SIG_IGN. That would be handed down to programs that hooks start, and this is not.
        signal.signal(number, _take_no_notice)
    # The supervisor has held them back until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        given = receive_now(channel)
    except ChannelClosed:
        return 1
    _restore(given["python_path"])
    # Hooks may lie in the working directory; what is installed goes before it.
    sys.path.append("")
    config = Config(**given["options"])
    handler = start_logging(config.log_format, config.log_level)
    handler.addFilter(_Numbered(given["number"]))
    tune_gc()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(config, given, channel))


def _take_no_notice(number: int, frame: FrameType | None) -> None:
    """Ignore a signal."""


def _restore(python_path: str | None) -> None:
    """Have the environment, which programs that hooks start inherit, say again what it said to the supervisor."""
    os.environ.pop("PYTHONPATH", None)
    if python_path is not None:
        os.environ["PYTHONPATH"] = python_path


class _Numbered(logging.Filter):
    """Writes into each line which worker it comes from."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the number to the fields of `record`."""
        record.fields = {**getattr(record, "fields", {}), "worker": self._number}
        return True


async def _work(config: Config, given: dict[str, Any], end: socket.socket) -> int:
    """Serve until the supervisor says that it is enough, or is gone."""
    homes = Homes(given["number"], given["count"], bytes.fromhex(given["key"]))
    tallies = Tallies(given["tallies"], given["count"])
    place = Place(
        homes,
        tallies,
        socket.socket(fileno=given["listener"]),
        socket.socket(fileno=given["reading"]),
        [socket.socket(fileno=number) for number in given["writing"]],
        _addresses_of(given),
        given["anew"],
    )
    channel = await Channel.open(end)
    with Observers() as observe:
        proxy = Colleague(config, observe, place)
        desk = _Desk(proxy, observe)
        talk = asyncio.create_task(channel.run(desk.hear, desk.answer))
        try:
            await proxy.start()
            observe.watch(proxy)
            channel.tell(ready=True)
            stop = asyncio.create_task(desk.stop_when_told())
            await asyncio.wait([talk, stop], return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                # The supervisor is gone: nothing can be counted on any more.
                return 1
            channel.tell(stopped=stop.result()._asdict())
            await proxy.see_off(config.drain + GOODBYE)
        finally:
            talk.cancel()
            with suppress(asyncio.CancelledError):
                await talk
    return 0


def _addresses_of(given: dict[str, Any]) -> AddressTable | None:
    if given["addresses"] is None:
        return None
    return AddressTable(given["addresses"], given["number"], given["count"], bytes.fromhex(given["key"]))


class _Desk:
    """What a worker does when the supervisor tells or asks it something."""

    def __init__(self, proxy: Colleague, observers: Observers) -> None:
        self._proxy = proxy
        self._view = OneProxy(proxy)
        self._observers = observers
        # Stop in good order; at once.
        self._drain = asyncio.Event()
        self._hurry = asyncio.Event()

    def hear(self, told: dict[str, Any]) -> None:
        """Take what the supervisor tells."""
        match told["tell"]:
            case "reload":
                self._proxy.reload_tls()
            case "stop":
                self._drain.set()
            case "hurry":
                self._hurry.set()
            case "lost":
                self._proxy.directory.forget(told["worker"])

    async def stop_when_told(self) -> Stopped:
        """Wait until there is a stop, and stop."""
        await self._drain.wait()
        await first_of(self._proxy.drain(self._proxy.config.drain), self._told_to_hurry())
        return await self._proxy.stop()

    async def _told_to_hurry(self) -> None:
        await self._hurry.wait()

    async def answer(self, kind: str, details: dict[str, Any]) -> dict[str, Any]:
        """Answer what the supervisor asks."""
        match kind:
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
