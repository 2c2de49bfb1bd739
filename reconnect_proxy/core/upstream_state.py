"""Where the outgoing leg of a session is: the states of `Upstream`, and which may follow which.

IDLE --open--> QUEUED --its turn--> DIALLING --101--> GATED --gate opens--> UP
                 ^ \\                   |               |                    |
                 |  turned away         | failed        | lost               | lost, retryable
                 |    |                 v               v                    v
                 +----+--------------- WAITING <----------------------------+
                 |                      |  no client, nothing owed          |
                 +--a client is back-- RESTING <----------------------------+

TERMINATED follows every state: a final close, the end of the retry budget, or the end of the session.
"""

from __future__ import annotations

from enum import auto

from .transitions import MachineState, Transitions

__all__ = ["TRANSITIONS", "UpstreamState"]


class UpstreamState(MachineState):
    """Where the outgoing leg is; see the picture above."""

    #: Not dialled yet; or the first dial was given up, and the session decides what follows.
    IDLE = auto()
    #: Waiting in the `Pool` for its turn to dial.
    QUEUED = auto()
    #: Dialling: there is no 101 yet.
    DIALLING = auto()
    #: There is a link, which carries no data yet: see `UpstreamGate`.
    GATED = auto()
    #: There is a link, and it carries data.
    UP = auto()
    #: Waiting for the time of the next dial, or for the news that an upstream is back.
    WAITING = auto()
    #: Not dialled: no client is there, and nothing is owed to it.
    RESTING = auto()
    #: Over.
    TERMINATED = auto()


_S = UpstreamState
TRANSITIONS: Transitions[UpstreamState] = {
    # WAITING: the first dial was given up, and the session lets its client wait.
    _S.IDLE: {_S.QUEUED, _S.WAITING, _S.TERMINATED},
    # QUEUED again: turned away. IDLE: the first dial is given up.
    _S.QUEUED: {_S.QUEUED, _S.DIALLING, _S.IDLE, _S.TERMINATED},
    # QUEUED: the first dial tries the next upstream.
    _S.DIALLING: {_S.GATED, _S.QUEUED, _S.IDLE, _S.WAITING, _S.RESTING, _S.TERMINATED},
    _S.GATED: {_S.UP, _S.QUEUED, _S.IDLE, _S.WAITING, _S.RESTING, _S.TERMINATED},
    _S.UP: {_S.WAITING, _S.RESTING, _S.TERMINATED},
    _S.WAITING: {_S.QUEUED, _S.RESTING, _S.TERMINATED},
    _S.RESTING: {_S.QUEUED, _S.TERMINATED},
    _S.TERMINATED: (),
}
