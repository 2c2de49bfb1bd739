"""One direction of a session: its receivers, its counts, its filter, and messages of the embedding program's own."""

from __future__ import annotations

import pytest

from reconnect_proxy.core.budget import MemoryBudget
from reconnect_proxy.core.context import Context
from reconnect_proxy.core.dial import DialAnswer
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.message import Direction, Message, Opcode
from reconnect_proxy.core.outbox import MESSAGE_COST
from reconnect_proxy.core.policy import Gate, GateKind, Policy
from reconnect_proxy.core.stream import Stream
from reconnect_proxy.core.wire import Claim
from reconnect_proxy.events import LegName, MessagesDropped

from .fakes import CALM, SESSION_ID, SHARED, FakeClock, FakeLeg, SessionRig, confirm, confirm_all, over, say, started
from .link_rig import LinkRecorder

CLIENT, UPSTREAM = LegName.CLIENT, LegName.UPSTREAM


class StreamRig:
    """A stream without a session: links are attached to it as tests ask for them."""

    def __init__(self, high_water: int = 10_000) -> None:
        self.clock = FakeClock()
        self.budget = MemoryBudget()
        self.regulated = 0
        self.stream = Stream(Direction.U2C, self, high_water, self.budget)

    def regulate(self) -> None:
        """Count it; satisfies `OutboxOwner`."""
        self.regulated += 1

    def receiver(self) -> tuple[FakeLeg, Link]:
        """Attach a receiver."""
        leg = FakeLeg()
        link = Link(leg, self.stream.next_outbox(), LinkRecorder(), lambda *message: None, self.clock, CALM)
        self.stream.attach(link)
        return leg, link

    def take(self, *payloads: bytes) -> None:
        """Let the sender send messages."""
        for payload in payloads:
            self.stream.intake(Opcode.BINARY, payload, self.clock.now)


def test_a_receiver_gets_what_waited_and_what_comes() -> None:
    """In order."""
    rig = StreamRig()
    rig.take(b"1", b"2")
    leg, link = rig.receiver()
    link.pump()
    rig.take(b"3")
    assert leg.payloads == [b"1", b"2", b"3"]
    assert rig.stream.outboxes == [link.outbox]


def test_each_of_several_receivers_has_the_stream_from_when_it_attached() -> None:
    """And confirms for itself. The outbox of the last one to leave waits for the next one."""
    rig = StreamRig()
    first_leg, first = rig.receiver()
    rig.take(b"1")
    second_leg, second = rig.receiver()
    rig.take(b"2")
    assert (first_leg.payloads, second_leg.payloads) == ([b"1", b"2"], [b"2"])
    first.outbox.confirm(2)
    assert (len(first.outbox), len(second.outbox)) == (0, 1)
    rig.stream.detach(first)
    second.die()
    rig.stream.detach(second)
    rig.take(b"3")
    leg, link = rig.receiver()
    link.pump()
    assert leg.payloads == [b"2", b"3"]


def test_a_message_to_several_receivers_counts_once() -> None:
    """In what was received. In the bytes held it counts for each: the sum says what is owed."""
    rig = StreamRig()
    rig.receiver()
    rig.receiver()
    rig.take(b"12345")
    assert (rig.stream.received, rig.stream.volume) == (1, (1, 5))
    assert rig.budget.held == 2 * (5 + MESSAGE_COST)


def test_what_a_receiver_is_owed_leaves_the_budget_with_it_if_others_stay() -> None:
    """That of the last one stays: the next one gets it."""
    rig = StreamRig()
    _, first = rig.receiver()
    _, second = rig.receiver()
    rig.take(b"12345")
    rig.stream.detach(first)
    assert rig.budget.held == 5 + MESSAGE_COST
    rig.stream.detach(second)
    assert rig.budget.held == 5 + MESSAGE_COST
    rig.stream.end()
    assert rig.budget.held == 0


def test_the_sender_is_held_back_for_the_fullest_outbox() -> None:
    """Its owner is asked to decide that with each message from then on."""
    rig = StreamRig(high_water=500)
    _, first = rig.receiver()
    _, second = rig.receiver()
    rig.take(b"1", b"2", b"3", b"4")
    assert (rig.stream.holds_back, rig.regulated) == (False, 0)
    first.outbox.confirm(4)
    rig.take(b"5")
    assert (rig.stream.holds_back, rig.regulated) == (True, 1)
    second.outbox.confirm(5)
    assert not rig.stream.holds_back


@pytest.mark.parametrize("receivers", [0, 1, 2])
def test_what_comes_to_a_closed_stream_is_late(receivers: int) -> None:
    """It was received, and cannot be delivered; nothing is held back for it."""
    rig = StreamRig(high_water=100)
    legs = [rig.receiver()[0] for _ in range(receivers)]
    rig.take(b"1")
    rig.stream.close()
    rig.take(b"22", b"333")
    assert (rig.stream.received, rig.stream.volume, rig.stream.undelivered) == (3, (3, 6), 2)
    assert not rig.stream.holds_back
    assert not rig.stream.add((Opcode.BINARY, b"own"))
    assert all(leg.payloads == [b"1"] for leg in legs)
    rig.stream.end()
    # What was sent is uncertain, and with several receivers it counts once.
    assert (rig.stream.undelivered, rig.stream.uncertain) == ((2, 1) if receivers else (3, 0))


class FilteredRig(SessionRig):
    """A session whose filter drops `drop`, turns `text` into text, and writes down what it was shown."""

    def __init__(self, policy: Policy | None = None) -> None:
        super().__init__(policy)
        self.shown: list[tuple[Direction, bytes]] = []
        around = (self.dialler, self.clock, self.policy, self.events.append, self._on_ended)
        self.context = Context(SESSION_ID, self.pool, *around, message_filter=self._filter)

    def _filter(self, direction: Direction, message: Message) -> Message | None:
        self.shown.append((direction, message[1]))
        if message[1] == b"drop":
            return None
        return (Opcode.TEXT, b"replaced") if message[1] == b"text" else message


def test_what_is_dropped_or_replaced_is_not_sent() -> None:
    """Each message is shown once, with its direction; what the filter returns is what is sent."""
    rig = FilteredRig()
    rig.open()
    upstream_leg, upstream = rig.connect()
    client_leg, client = rig.client()
    say(client, b"a", b"drop", b"text")
    say(upstream, b"drop", b"text", b"b")
    assert upstream_leg.sent == [(Opcode.BINARY, b"a"), (Opcode.TEXT, b"replaced")]
    assert client_leg.sent == [(Opcode.TEXT, b"replaced"), (Opcode.BINARY, b"b")]
    c2u, u2c = Direction.C2U, Direction.U2C
    assert rig.shown == [(c2u, b"a"), (c2u, b"drop"), (c2u, b"text"), (u2c, b"drop"), (u2c, b"text"), (u2c, b"b")]


def test_the_counts_that_peers_are_told_include_what_was_dropped() -> None:
    """Towards its sender a dropped message was received; towards the other peer it never was."""
    rig = FilteredRig()
    rig.open()
    _, upstream = rig.connect(DialAnswer(received=0))
    _, client = rig.client(received=0)
    say(client, b"drop", b"a", b"drop")
    say(upstream, b"a", b"drop")
    upstream.on_lost(1006, "")
    assert rig.context.admit(Claim(received=1)) == 3
    # One message was sent to it: more than that it cannot have.
    leg, _ = rig.reconnect(DialAnswer(received=1))
    assert rig.dialler.dials[-1].received == 2
    assert leg.sent == []


def test_a_resend_is_what_was_sent_before_and_is_not_shown_again() -> None:
    """The filter has had its say when the message came."""
    rig = FilteredRig()
    rig.open()
    _, upstream = rig.connect()
    _, client = rig.client()
    say(client, b"text")
    upstream.on_lost(1006, "")
    leg, _ = rig.reconnect()
    assert leg.sent == [(Opcode.TEXT, b"replaced")]
    assert len(rig.shown) == 1


def test_control_messages_are_no_data_and_are_not_shown() -> None:
    """They belong to the protocol between the upstream and the proxy."""
    rig = FilteredRig(Policy(gate=Gate(GateKind.PREFIX, b"R:")))
    rig.open()
    _, upstream = rig.connect()
    say(upstream, b"R:1", b"a")
    assert rig.shown == [(Direction.U2C, b"a")]


def test_what_comes_too_late_is_not_shown() -> None:
    """What an upstream sends while its client's last messages are delivered has no receiver."""
    rig = FilteredRig(Policy(grace=0.0))
    rig.open()
    upstream_leg, upstream = rig.connect()
    _, client = rig.client()
    say(client, b"last", b"drop")
    client.on_lost(1000, "")
    say(upstream, b"a")
    assert rig.shown == [(Direction.C2U, b"last"), (Direction.C2U, b"drop")]
    confirm_all(rig, upstream_leg, upstream)
    assert over(rig)
    assert rig.context.u2c.undelivered == 1
    assert rig.seen(MessagesDropped) == [MessagesDropped(SESSION_ID, 1, 0)]


def test_a_dropped_message_for_several_clients_is_asked_for_once() -> None:
    """In a shared session the filter stands in front of all clients."""
    rig = FilteredRig(SHARED)
    rig.open()
    _, upstream = rig.connect()
    legs = [rig.client()[0] for _ in range(3)]
    say(upstream, b"drop", b"a")
    assert [leg.payloads for leg in legs] == [[b"a"]] * 3
    assert len(rig.shown) == 2


def test_a_message_of_the_programs_own_is_kept_and_resent_like_any_other() -> None:
    """It is in the count of what its receiver was sent, and in no count of what was received."""
    rig, client_leg, client, _, upstream = started(CALM, client_aware=True, upstream_aware=True)
    say(client, b"a")
    upstream.on_lost(1006, "")
    assert rig.context.add(UPSTREAM, (Opcode.TEXT, b"own"))
    assert rig.context.add(CLIENT, (Opcode.TEXT, b"own too"))
    leg, _ = rig.reconnect(DialAnswer(received=1))
    assert leg.payloads == [b"own"]
    assert client_leg.payloads == [b"own too"]
    assert rig.dialler.dials[-1].received == 0
    again = FakeLeg()
    assert rig.context.admit(Claim(received=0)) == 1
    rig.context.attach(again, Claim(received=0))
    assert again.payloads == [b"own too"]


def test_nothing_is_added_for_a_side_that_is_being_closed() -> None:
    """While the upstream gets the rest it may get more; the client, and later both, can be told nothing."""
    rig, _, client, upstream_leg, upstream = started(Policy(grace=0.0))
    say(client, b"last")
    client.on_lost(1000, "")
    assert not rig.context.add(CLIENT, (Opcode.TEXT, b"x"))
    assert rig.context.add(UPSTREAM, (Opcode.TEXT, b"goodbye"))
    # One Ping was for the first of them; its Pong brings the next.
    confirm(upstream_leg, upstream)
    confirm(upstream_leg, upstream)
    assert upstream_leg.payloads == [b"last", b"goodbye"]
    assert over(rig)
    assert not rig.context.add(UPSTREAM, (Opcode.TEXT, b"x"))
