"""The clients of a run, all in one process. Each sends a stream of its own: `c01`, `c02` …

`peers.kinds` says what each kind does. A kind is a class with `talk`, which returns when the client's conversation has
ended; a new one is a name in `peers.kinds` and its class in `KINDS`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconnect_harness.history.audience import client_names
from reconnect_harness.history.record import End
from reconnect_harness.history.recorder import Recorder
from reconnect_harness.peers.client import AwareClient, PlainClient, ReconnectingClient, VisitingClient
from reconnect_harness.peers.contenders import (
    HalfOpenClient,
    RobbedClient,
    StaleCountsClient,
    VanishingClient,
    WrongIdsClient,
)
from reconnect_harness.peers.handshake import ClientHandshake
from reconnect_harness.peers.kinds import ABSENT_CLIENTS, ClientKind
from reconnect_harness.peers.program import ProgramClient
from reconnect_harness.peers.workload import Workload
from reconnect_harness.processes.actor import obey, run, say

#: How many handshakes are open at a time.
OPENING = 64

#: The class of each kind of client.
KINDS: Mapping[ClientKind, type[PlainClient]] = {
    ClientKind.PLAIN: PlainClient,
    ClientKind.RECONNECTING: ReconnectingClient,
    ClientKind.VISITING: VisitingClient,
    ClientKind.AWARE: AwareClient,
    ClientKind.HALF_OPEN: HalfOpenClient,
    ClientKind.VANISHING: VanishingClient,
    ClientKind.WRONG_IDS: WrongIdsClient,
    ClientKind.ROBBED: RobbedClient,
    ClientKind.STALE_COUNTS: StaleCountsClient,
}


def _visits(spec: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return the visits of one client: all visit equally often, one after the other."""
    if (visits := spec.get("visits")) is None:
        return {}
    return {"visits": {**visits, "first": (index - 1) * (visits["stay"] + visits["away"]) / spec["count"]}}


def _leaves(spec: Mapping[str, Any], name: str, index: int) -> dict[str, Any]:
    """Return the code and reason with which one client leaves: the next of the codes, if some are given."""
    codes = spec.get("leaves")
    return {"leaves": (codes[(index - 1) % len(codes)], f"client {name} leaves")} if codes else {}


async def play(spec: dict[str, Any]) -> None:
    """Run the clients until stdin ends.

    `spec`: kind, url, own_url (None, or the URL that clients ask for there), count, load, lasts (seconds), ping
    (seconds or None), slow (None, or count and takes), visits (None, or for the visiting kind stay and away), compress
    (whether they offer permessage-deflate), ca (None, or the path of the authority to trust at a wss:// URL), history
    (a path), seed, handshake (None, or path, subprotocols and headers), leaves (close codes with which they leave; 1000
    if there are none), adapter (None, or what `AdapterChoice.to_spec` returns), command (None, or the words of the
    program that each client is).
    """
    recorder = Recorder(Path(spec["history"]), End.CLIENT)
    kind = ClientKind(spec["kind"])
    load = Workload.from_spec(spec["load"])
    command = {"command": spec["command"]} if spec.get("command") else {}
    url, through = spec["url"], None
    if spec.get("own_url") and kind is not ClientKind.AWARE and not command:
        url, through = spec["own_url"], urlsplit(url)
    choice = None
    if spec.get("adapter"):
        # Imported here: other clients do not need it, and start faster without.
        from reconnect_harness.adapters.find import AdapterChoice

        choice = AdapterChoice.from_spec(spec["adapter"])
    slow = spec.get("slow") or {"count": 0, "takes": 0.0}
    tls = ssl.create_default_context(cafile=spec["ca"]) if spec.get("ca") else None
    clients = [
        (ProgramClient if command else KINDS[kind])(
            name,
            url,
            load,
            recorder,
            spec["seed"],
            ping=spec.get("ping"),
            takes=slow["takes"] if index <= slow["count"] else 0.0,
            compress=spec.get("compress", False),
            tls=tls,
            through=through,
            adapter=None if choice is None else choice.for_client(name, index),
            handshake=ClientHandshake.from_spec(spec.get("handshake"), name),
            **_leaves(spec, name, index),
            **command,
            **_visits(spec, index),
            **({"absence": spec["absence"]} if kind in ABSENT_CLIENTS else {}),
        )
        for index, name in enumerate(client_names(spec["count"]), 1)
    ]
    opening = asyncio.Semaphore(OPENING)
    talks = [asyncio.create_task(client.talk(opening)) for client in clients]
    sending = False

    async def go() -> dict[str, Any]:
        nonlocal sending
        sending = True
        for client in clients:
            client.may_talk.set()
        asyncio.get_running_loop().call_later(spec["lasts"], stop_sending)
        return {}

    def stop_sending() -> None:
        nonlocal sending
        sending = False
        for client in clients:
            client.may_talk.clear()

    async def count() -> dict[str, Any]:
        running = [talk for talk in talks if not talk.done()]
        await asyncio.gather(*(talk for talk in talks if talk.done()))
        return {**recorder.counts(), "sending": sending and bool(running)}

    async def close() -> dict[str, Any]:
        for client in clients:
            client.leaving.set()
        await asyncio.gather(*talks)
        return {}

    try:
        await asyncio.gather(*(client.tried.wait() for client in clients))
        say({"ready": len(clients)})
        await obey({"go": go, "count": count, "close": close})
    finally:
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        recorder.close()


if __name__ == "__main__":
    run(play)
