"""Ids of sessions in several workers: new ones, and those that an upstream gives (`--gate first-message`).

An id that a worker makes is placed on that worker. An id that an upstream gives comes when the session exists already,
in the worker that its client connected to. So that worker claims the id at the worker that it is placed on:

    the worker with the session                 the worker that the id is placed on
        claim ─────────────────────────────────────►  is it in use? if not: elsewhere[id] = that worker
        decided: granted, or the session gets a new id  ◄──
        … a client that names the id comes to the worker that it is placed on, and is handed over from there …
        released ──────────────────────────────────►  elsewhere[id] is deleted

A client gets its 101 when the claim is decided, so every client that knows an id finds its session. A worker that
replaces one that has died asks the others which of their ids are placed on it (`query`, `report`) before it serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .placement import Placement

#: Seconds within which a claim has to be decided. After that the session gets an id that its own worker makes.
PATIENCE = 1.0

#: Sends facts and data to the mailbox of a worker; `then` is told whether they were sent.
Send = Callable[[int, dict[str, Any], bytes, Callable[[bool], None]], None]


class Directory:
    """The `core.registry.SessionIds` of one worker."""

    def __init__(self, placement: Placement, send: Send, lives_here: Callable[[str], bool]) -> None:
        """Begin without ids.

        Args:
            placement: on which worker each id is placed.
            send: sends messages to the other workers.
            lives_here: tells whether a session of this worker has an id.
        """
        # For ids that are placed on this worker, and whose session lives in another: in which.
        self.elsewhere: dict[str, int] = {}
        # The ids of sessions of this worker that are placed on others, and were granted.
        self._granted: set[str] = set()
        self._placement = placement
        self._number = placement.number
        self._others = [number for number in range(placement.count) if number != placement.number]
        self._send = send
        self._lives_here = lives_here
        self._claims: dict[int, _Claim] = {}
        self._claimed = 0
        # The workers that have not answered a query yet.
        self._silent: set[int] = set()
        self._all_answered = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # Sessions of this worker (core.registry.SessionIds).

    def new_id(self) -> str:
        """Return an unguessable id that is placed on this worker."""
        return self._placement.new_id()

    def claim(self, session_id: str, then: Callable[[bool], None]) -> None:
        """Claim an id for a session of this worker, and tell `then` whether no other session has it."""
        worker = self._placement.worker_of(session_id)
        if worker == self._number:
            then(session_id not in self.elsewhere)
            return
        if session_id in self._granted or any(claim.session_id == session_id for claim in self._claims.values()):
            # Another session of this worker has it. The other worker could not tell the two apart.
            then(False)
            return
        self._claimed += 1
        number = self._claimed

        def sent(well: bool) -> None:
            if not well:
                self._decide(number, False)

        timer = self._loop.call_later(PATIENCE, self._withdraw, number)
        self._claims[number] = _Claim(session_id, then, timer)
        self._send(worker, {"kind": "claim", "id": session_id, "by": self._number, "claim": number}, b"", sent)

    def release(self, session_id: str) -> None:
        """Release an id: its session has ended."""
        if session_id in self._granted:
            self._granted.discard(session_id)
            self._tell(self._placement.worker_of(session_id), {"kind": "released", "id": session_id})

    # Sessions of other workers.

    def worker_of(self, session_id: str) -> int:
        """Return the number of the worker to ask for an id: where its session lives, or else where it is placed."""
        worker = self._placement.worker_of(session_id)
        return self.elsewhere.get(session_id, worker) if worker == self._number else worker

    def forget(self, worker: int) -> None:
        """Delete the ids of sessions that lived in a worker that has died."""
        self.elsewhere = {id: number for id, number in self.elsewhere.items() if number != worker}

    async def learn(self) -> None:
        """Ask the others which of their ids are placed here; wait until all have answered, PATIENCE seconds at most."""
        self._silent = set(self._others)
        for number in self._others:
            self._tell(number, {"kind": "query"})
        try:
            async with asyncio.timeout(PATIENCE):
                await self._all_answered.wait()
        except TimeoutError:
            # A worker that is not running has no sessions, and one that is stuck will answer later.
            pass

    def take(self, facts: dict[str, Any], data: bytes) -> None:
        """Take a message of another worker."""
        match facts["kind"]:
            case "claim":
                session_id, by = facts["id"], facts["by"]
                granted = not self._lives_here(session_id) and session_id not in self.elsewhere
                if granted:
                    self.elsewhere[session_id] = by
                self._tell(by, {"kind": "decided", "claim": facts["claim"], "granted": granted})
            case "decided":
                self._decide(facts["claim"], facts["granted"])
            case "released":
                if self.elsewhere.get(facts["id"]) == facts["by"]:
                    del self.elsewhere[facts["id"]]
            case "query":
                its = [each for each in self._granted if self._placement.worker_of(each) == facts["by"]]
                self._tell(facts["by"], {"kind": "report"}, "\n".join(its).encode())
            case "report":
                self.elsewhere.update(dict.fromkeys(data.decode().split(), facts["by"]))
                self._silent.discard(facts["by"])
                if not self._silent:
                    self._all_answered.set()

    def _decide(self, number: int, granted: bool) -> None:
        claim = self._claims.pop(number, None)
        if claim is None:
            # It was withdrawn.
            return
        claim.timer.cancel()
        if granted:
            self._granted.add(claim.session_id)
        claim.then(granted)

    def _withdraw(self, number: int) -> None:
        """Do without an answer to a claim, and have the other worker delete what it writes down when it gets to it."""
        session_id = self._claims[number].session_id
        self._tell(self._placement.worker_of(session_id), {"kind": "released", "id": session_id})
        self._decide(number, False)

    def _tell(self, number: int, facts: dict[str, Any], data: bytes = b"") -> None:
        self._send(number, {**facts, "by": self._number}, data, lambda well: None)


@dataclass(slots=True)
class _Claim:
    """A claim that is not decided."""

    session_id: str
    then: Callable[[bool], None]
    timer: asyncio.TimerHandle
