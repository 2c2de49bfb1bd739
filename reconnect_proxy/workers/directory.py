"""Sessions that do not live where their id falls: with `--gate first-message` an upstream gives the id, and too late.

    the worker that has the session             the worker that its id falls on (its home)
        claim ─────────────────────────────────────►  is it taken? else: elsewhere[id] = that worker
        granted, or not: then an id is made  ◄───────
        … a client that names the id comes to its home, and is handed on from there …
        gone ──────────────────────────────────────►  forgotten

A client has its 101 only when the claim is decided, so whoever knows an id finds its session. A worker that is started
anew asks the others what of theirs falls on it (`hello`, `lives`) before it takes anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .placement import Homes

__all__ = ["Directory"]

#: Seconds that a home has to decide a claim. Else the session gets an id of its own worker's making.
PATIENCE = 1.0

#: Sends facts and data to a worker's inbox; `then` hears whether they have left.
Send = Callable[[int, dict[str, Any], bytes, Callable[[bool], None]], None]


class Directory:
    """One worker's part of it: what falls on it and lives elsewhere, and what lives here and falls elsewhere."""

    def __init__(self, homes: Homes, count: int, send: Send, lives_here: Callable[[str], bool]) -> None:
        """Make one that knows of nothing.

        Args:
            homes: where ids fall.
            count: how many workers there are.
            send: how letters are sent.
            lives_here: tells whether a session of that id lives in this worker.
        """
        # For each id that falls on this worker, and whose session is not here, where that is.
        self.elsewhere: dict[str, int] = {}
        # The ids of sessions here that fall on other workers, and have been granted.
        self._abroad: set[str] = set()
        self._homes = homes
        self._others = [number for number in range(count) if number != homes.number]
        self._send = send
        self._lives_here = lives_here
        self._claims: dict[int, _Claim] = {}
        self._claimed = 0
        self._unheard: set[int] = set()
        self._complete = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def learn(self) -> None:
        """Ask the others what falls here and lives there; return when all have said it, or have had their time."""
        self._unheard = set(self._others)
        for number in self._others:
            self._tell(number, {"kind": "hello"})
        try:
            async with asyncio.timeout(PATIENCE):
                await self._complete.wait()
        except TimeoutError:
            # Who is not there has no sessions, and who is stuck will say it when it can.
            pass

    def claim(self, session_id: str, then: Callable[[bool], None]) -> None:
        """Ask the home of an id to know that its session lives here; tell `then` whether it does, or had another."""
        if session_id in self._abroad or any(claim.session_id == session_id for claim in self._claims.values()):
            # It is that of another session here, which its home could not tell from this one.
            then(False)
            return
        self._claimed += 1
        number = self._claimed
        home = self._homes.of(session_id)

        def sent(well: bool) -> None:
            if not well:
                self._decide(number, False)

        timer = self._loop.call_later(PATIENCE, self._take_back, number)
        self._claims[number] = _Claim(session_id, then, timer)
        self._send(home, {"kind": "claim", "id": session_id, "by": self._homes.number, "claim": number}, b"", sent)

    def give_up(self, session_id: str) -> None:
        """Let the home of an id forget it: its session here has ended."""
        if session_id in self._abroad:
            self._abroad.discard(session_id)
            self._tell(self._homes.of(session_id), {"kind": "gone", "id": session_id})

    def forget(self, worker: int) -> None:
        """Forget what lived in a worker that has died."""
        self.elsewhere = {id: place for id, place in self.elsewhere.items() if place != worker}

    def take(self, facts: dict[str, Any], data: bytes) -> None:
        """Take a letter."""
        match facts["kind"]:
            case "claim":
                session_id, by = facts["id"], facts["by"]
                granted = not self._lives_here(session_id) and session_id not in self.elsewhere
                if granted:
                    self.elsewhere[session_id] = by
                self._tell(by, {"kind": "decided", "claim": facts["claim"], "granted": granted})
            case "decided":
                self._decide(facts["claim"], facts["granted"])
            case "gone":
                if self.elsewhere.get(facts["id"]) == facts["by"]:
                    del self.elsewhere[facts["id"]]
            case "hello":
                its = [each for each in self._abroad if self._homes.of(each) == facts["by"]]
                self._tell(facts["by"], {"kind": "lives"}, "\n".join(its).encode())
            case "lives":
                self.elsewhere.update(dict.fromkeys(data.decode().split(), facts["by"]))
                self._unheard.discard(facts["by"])
                if not self._unheard:
                    self._complete.set()

    def _decide(self, number: int, granted: bool) -> None:
        claim = self._claims.pop(number, None)
        if claim is None:
            # Its time was over, and it was taken back.
            return
        claim.timer.cancel()
        if granted:
            self._abroad.add(claim.session_id)
        claim.then(granted)

    def _take_back(self, number: int) -> None:
        """Do without an answer to a claim, and have its home forget what it may note when it gets to it."""
        session_id = self._claims[number].session_id
        self._tell(self._homes.of(session_id), {"kind": "gone", "id": session_id})
        self._decide(number, False)

    def _tell(self, number: int, facts: dict[str, Any], data: bytes = b"") -> None:
        self._send(number, {**facts, "by": self._homes.number}, data, lambda well: None)


class _Claim:
    """A claim that is not decided."""

    __slots__ = ("session_id", "then", "timer")

    def __init__(self, session_id: str, then: Callable[[bool], None], timer: asyncio.TimerHandle) -> None:
        self.session_id = session_id
        self.then = then
        self.timer = timer
