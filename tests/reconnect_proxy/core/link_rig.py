"""A link with everything around it, for the tests of `Link` alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconnect_proxy.core.interfaces import Clock
from reconnect_proxy.core.link import Link, LinkState
from reconnect_proxy.core.message import Message, Opcode
from reconnect_proxy.core.outbox import Outbox
from reconnect_proxy.core.policy import Policy

from .fakes import FakeClock, FakeLeg, say

#: Short enough to be read, long enough to differ: a silent peer is lost after 7 s.
POLICY = Policy(ping_interval=5.0, ping_timeout=2.0)


@dataclass
class LinkRecorder:
    """Writes down what a link reports; satisfies `LinkOwner`."""

    relieved: int = 0
    lost: list[tuple[int, str]] = field(default_factory=list)
    too_big: list[str] = field(default_factory=list)
    mute: int = 0
    answers: int = 0
    uncertain: list[int] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    passes: bool = False

    def link_relieved(self, link: Link) -> None:
        """Count it."""
        self.relieved += 1

    def link_lost(self, link: Link, code: int, reason: str) -> None:
        """Write it down."""
        self.lost.append((code, reason))

    def link_too_big(self, link: Link, reason: str) -> None:
        """Write it down."""
        self.too_big.append(reason)

    def link_mute(self, link: Link) -> None:
        """Count it."""
        self.mute += 1

    def link_answers(self, link: Link) -> None:
        """Count it."""
        self.answers += 1

    def link_uncertain(self, link: Link, count: int) -> None:
        """Write it down."""
        self.uncertain.append(count)

    def link_stuck(self, link: Link, reason: str) -> None:
        """Write it down."""
        self.stuck.append(reason)

    def passes_compressed(self, link: Link) -> bool:
        """Say what the test says."""
        return self.passes


class Rig:
    """A link with everything around it."""

    def __init__(
        self,
        policy: Policy = POLICY,
        outbox: Outbox | None = None,
        clock: FakeClock | None = None,
        state: LinkState = LinkState.OPEN,
        shared: Clock | None = None,
        client: bool = False,
    ) -> None:
        """Make a link whose timers are those of `clock`, or those that `shared` makes of them."""
        self.clock = clock or FakeClock()
        self.leg = FakeLeg()
        self.outbox = Outbox(10_000_000) if outbox is None else outbox
        self.owner = LinkRecorder()
        self.delivered: list[Message] = []
        timers = shared or self.clock
        self.link = Link(self.leg, self.outbox, self.owner, self._deliver, timers, policy, state, client)

    def _deliver(self, opcode: int, payload: bytes, now: float | None) -> None:
        assert now == self.clock.now
        self.delivered.append((opcode, payload))

    def send(self, count: int = 1, size: int = 1) -> None:
        """Push messages and pump, one by one, as a session does."""
        for _ in range(count):
            self.outbox.push((Opcode.BINARY, bytes(size)))
            self.link.pump()

    def keep_hearing(self, seconds: float) -> None:
        """Let time pass while the peer sends data now and then, and answers nothing."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
            say(self.link, b"data")
