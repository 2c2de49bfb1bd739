"""A session with a filter, and messages of the embedding program's own: what each peer is sent, and what is counted."""

from __future__ import annotations

from reconnect_proxy.core.context import Context
from reconnect_proxy.core.dial import DialAnswer
from reconnect_proxy.core.message import Direction, Message, Opcode
from reconnect_proxy.core.policy import Gate, GateKind, Policy
from reconnect_proxy.core.wire import Claim
from reconnect_proxy.events import LegName, MessagesDropped

from .fakes import CALM, SESSION_ID, SHARED, FakeLeg, Stage, confirm, confirm_all, over, say, started

CLIENT, UPSTREAM = LegName.CLIENT, LegName.UPSTREAM


class FilteredStage(Stage):
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


def test_what_is_dropped_and_replaced_reaches_nobody() -> None:
    """Each message is shown once, with its direction; what the filter returns is what is sent."""
    stage = FilteredStage()
    stage.open()
    upstream_leg, upstream = stage.connect()
    client_leg, client = stage.client()
    say(client, b"a", b"drop", b"text")
    say(upstream, b"drop", b"text", b"b")
    assert upstream_leg.sent == [(Opcode.BINARY, b"a"), (Opcode.TEXT, b"replaced")]
    assert client_leg.sent == [(Opcode.TEXT, b"replaced"), (Opcode.BINARY, b"b")]
    c2u, u2c = Direction.C2U, Direction.U2C
    assert stage.shown == [(c2u, b"a"), (c2u, b"drop"), (c2u, b"text"), (u2c, b"drop"), (u2c, b"text"), (u2c, b"b")]


def test_the_counts_that_peers_are_told_include_what_was_dropped() -> None:
    """Towards its sender a dropped message was received; towards the other peer it never was."""
    stage = FilteredStage()
    stage.open()
    _, upstream = stage.connect(DialAnswer(received=0))
    _, client = stage.client(received=0)
    say(client, b"drop", b"a", b"drop")
    say(upstream, b"a", b"drop")
    upstream.on_lost(1006, "")
    assert stage.context.admit(Claim(received=1)) == 3
    # One message was sent to it: more than that it cannot have.
    leg, _ = stage.reconnect(DialAnswer(received=1))
    assert stage.dialler.dials[-1].received == 2
    assert leg.sent == []


def test_a_resend_is_what_was_sent_before_and_is_shown_to_nobody() -> None:
    """The filter has had its say when the message came."""
    stage = FilteredStage()
    stage.open()
    _, upstream = stage.connect()
    _, client = stage.client()
    say(client, b"text")
    upstream.on_lost(1006, "")
    leg, _ = stage.reconnect()
    assert leg.sent == [(Opcode.TEXT, b"replaced")]
    assert len(stage.shown) == 1


def test_control_messages_are_no_data_and_are_not_shown() -> None:
    """They belong to the protocol between the upstream and the proxy."""
    stage = FilteredStage(Policy(gate=Gate(GateKind.PREFIX, b"R:")))
    stage.open()
    _, upstream = stage.connect()
    say(upstream, b"R:1", b"a")
    assert stage.shown == [(Direction.U2C, b"a")]


def test_what_comes_in_vain_is_not_shown() -> None:
    """An upstream that talks on while its client's last words are delivered talks to nobody."""
    stage = FilteredStage(Policy(grace=0.0))
    stage.open()
    upstream_leg, upstream = stage.connect()
    _, client = stage.client()
    say(client, b"last", b"drop")
    client.on_lost(1000, "")
    say(upstream, b"a")
    assert stage.shown == [(Direction.C2U, b"last"), (Direction.C2U, b"drop")]
    confirm_all(stage, upstream_leg, upstream)
    assert over(stage)
    assert stage.context.u2c.undelivered == 1
    assert stage.seen(MessagesDropped) == [MessagesDropped(SESSION_ID, 1, 0)]


def test_a_dropped_message_for_several_clients_is_asked_for_once() -> None:
    """In a shared session the filter stands in front of all clients."""
    stage = FilteredStage(SHARED)
    stage.open()
    _, upstream = stage.connect()
    legs = [stage.client()[0] for _ in range(3)]
    say(upstream, b"drop", b"a")
    assert [leg.payloads for leg in legs] == [[b"a"]] * 3
    assert len(stage.shown) == 2


def test_a_message_of_the_programs_own_is_kept_and_resent_like_any_other() -> None:
    """It is in the count of what its receiver was sent, and in nobody's count of what was received."""
    stage, client_leg, client, _, upstream = started(CALM, client_aware=True, upstream_aware=True)
    say(client, b"a")
    upstream.on_lost(1006, "")
    assert stage.context.add(UPSTREAM, (Opcode.TEXT, b"own"))
    assert stage.context.add(CLIENT, (Opcode.TEXT, b"own too"))
    leg, _ = stage.reconnect(DialAnswer(received=1))
    assert leg.payloads == [b"own"]
    assert client_leg.payloads == [b"own too"]
    assert stage.dialler.dials[-1].received == 0
    again = FakeLeg()
    assert stage.context.admit(Claim(received=0)) == 1
    stage.context.attach(again, Claim(received=0))
    assert again.payloads == [b"own too"]


def test_nothing_is_added_for_a_side_that_is_being_closed() -> None:
    """While the upstream gets the rest it may get more; the client, and later both, can be told nothing."""
    stage, _, client, upstream_leg, upstream = started(Policy(grace=0.0))
    say(client, b"last")
    client.on_lost(1000, "")
    assert not stage.context.add(CLIENT, (Opcode.TEXT, b"x"))
    assert stage.context.add(UPSTREAM, (Opcode.TEXT, b"goodbye"))
    # One Ping was for the first of them; its Pong brings the next.
    confirm(upstream_leg, upstream)
    confirm(upstream_leg, upstream)
    assert upstream_leg.payloads == [b"last", b"goodbye"]
    assert over(stage)
    assert not stage.context.add(UPSTREAM, (Opcode.TEXT, b"x"))
