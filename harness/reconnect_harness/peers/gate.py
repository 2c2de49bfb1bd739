"""An upstream that announces a state with which it can be reconnected: PROTOCOL.md section 5.

    first-message:  proxy -- handshake ---------------> upstream     prefix:TEXT:  the handshake opens the gate;
                    proxy -- stored state (redial) ---> upstream                   messages that start with TEXT
                    (silence: the gate is closed)                                  may come at any time, and the
                    proxy <-- RECONNECT:state --------- upstream                   newest is stored
                    proxy <=> data                      upstream

It checks what the proxy sends: the stored state first on a redial, under the id of the session; nothing while the gate
is closed. A violation is a `breach` in the history. A control message that reaches a client needs no check: it counts
as a message that was never sent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from websockets.exceptions import ConnectionClosed

from reconnect_harness.history.recorder import Recorder
from reconnect_harness.peers.kinds import GATE_FIRST_MESSAGE, GATE_PREFIX
from reconnect_harness.peers.ordinary import RecordUpstream
from reconnect_harness.peers.upstream_connection import UpstreamConnection
from reconnect_harness.peers.workload import Speaker, Workload

#: How long the gate stays closed, in seconds: no message may arrive during that time.
CLOSED_SECONDS = 0.2

#: How long a redialled upstream waits for its stored state, in seconds. The proxy sends it at once, and waits for the
#: gate to open for connect_timeout, 5 s.
STATE_SECONDS = 2.0

#: Seconds between two control messages of a connection, with a prefix.
CONTROL_SECONDS = 0.2


class GateUpstream(RecordUpstream):
    """An ordinary server that also sends control messages.

    Args:
        name: its name in the history.
        load: what it pushes to each client.
        recorder: where it records messages and links.
        seed: makes the same messages again.
        gate: `first-message`, or `prefix:TEXT`, as the proxy is told.

    """

    def __init__(self, name: str, load: Workload, recorder: Recorder, seed: str, gate: str) -> None:
        super().__init__(name, load, recorder, seed)
        self._gate = gate
        self._random = random.Random(f"{seed} {name} states")
        # By session: the announced states, in order; and how many of them the proxy has confirmed.
        self._announced: dict[str, list[str]] = {}
        self._held: dict[str, int] = {}
        # The session of each connection that is being served.
        self._of: dict[UpstreamConnection, str] = {}

    async def serve(self, connection: UpstreamConnection) -> None:
        """Serve one connection until it ends."""
        try:
            await super().serve(connection)
        finally:
            self._of.pop(connection, None)

    def _session(self, connection: UpstreamConnection) -> str:
        assert connection.request is not None
        headers = connection.request.headers
        session = headers.get("X-Reconnect-Id") or headers.get("X-Connection-Id")
        if "X-Reconnect" in headers and session not in self._announced:
            self._breach("a session was redialled under an id that it never had")
        if session is None:
            # The proxy takes it from the first message.
            session = f"gate-{self._random.getrandbits(96):024x}"
        self._announced.setdefault(session, [])
        self._held.setdefault(session, 0)
        self._of[connection] = session
        return session

    async def _begin(self, connection: UpstreamConnection) -> None:
        session = self._of[connection]
        assert connection.request is not None
        if "X-Reconnect" in connection.request.headers:
            await self._expect_state(connection, session)
        if self._gate == GATE_FIRST_MESSAGE:
            try:
                await asyncio.wait_for(connection.recv(), CLOSED_SECONDS)
            except TimeoutError:
                pass
            else:
                self._breach("a message came before the gate was open")
            await self._announce(connection, session)

    async def _expect_state(self, connection: UpstreamConnection, session: str) -> None:
        announced, held = self._announced[session], self._held[session]
        if not held:
            # The state may have been lost on its way.
            return
        try:
            heard = await asyncio.wait_for(connection.recv(), STATE_SECONDS)
        except TimeoutError:
            self._breach("a session was redialled, and its stored state did not come")
            return
        if heard not in announced[held - 1 :]:
            self._breach(f"a session was redialled with {heard[:40]!r}, and its state was {announced[held - 1]!r}")

    async def _announce(self, connection: UpstreamConnection, session: str) -> None:
        """Send a new state, and return when the proxy has confirmed it, by the Pong to a Ping behind it."""
        announced = self._announced[session]
        # The first state has the session's id, which the proxy may not have yet. Later states need another suffix.
        suffix = f".{len(announced)}" if announced else ""
        head = f"{self._gate.removeprefix(GATE_PREFIX)} " if self._gate != GATE_FIRST_MESSAGE else "RECONNECT:"
        announced.append(f"{head}{session}{suffix}")
        number = len(announced)
        await connection.send(announced[-1])
        await (await connection.ping())
        self._held[session] = max(number, self._held[session])

    def _works(self, connection: UpstreamConnection, speaker: Speaker) -> list[Coroutine[Any, Any, None]]:
        works = super()._works(connection, speaker)
        return works if self._gate == GATE_FIRST_MESSAGE else [*works, self._keep_announcing(connection)]

    async def _keep_announcing(self, connection: UpstreamConnection) -> None:
        try:
            while True:
                await self._announce(connection, self._of[connection])
                await asyncio.sleep(CONTROL_SECONDS)
        except ConnectionClosed:
            # The receiving task gets the same exception, and ends the connection.
            pass

    def _breach(self, what: str) -> None:
        self.recorder.link(self.name, "breach", asked=False, reason=what)
