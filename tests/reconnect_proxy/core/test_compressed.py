"""Compressed messages (RFC 7692) in the core: who may get them, and what becomes of one that cannot be sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core.context import Context
from reconnect_proxy.core.message import COMPRESSED, Opcode
from reconnect_proxy.core.policy import DUPLEX, RECEIVER, SENDER, Gate, GateKind, Policy

from .fakes import CALM, FakeLeg, SessionRig, confirm, over, say, started, the_end


def deflating(client: bool, upstream: bool) -> Context:
    """Return a session whose legs have agreed to compressed messages, or not."""
    rig, _, _, upstream_leg, _ = started(CALM, leg=FakeLeg(deflate=client))
    upstream_leg.deflate = upstream
    return rig.context


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("upstream", [False, True])
def test_messages_stay_compressed_for_the_leg_that_takes_them(client: bool, upstream: bool) -> None:
    """What matters is the leg that a message goes to, not the one that it came on."""
    context = deflating(client, upstream)
    [client_link], upstream_link = context.clients.links, context.upstream.link
    assert upstream_link is not None
    assert client_link.passes_compressed() is upstream
    assert upstream_link.passes_compressed() is client


def test_messages_stay_compressed_while_there_is_no_receiver() -> None:
    """While a leg has no link it is not known what the next one will take, and compressed is smaller."""
    context = deflating(client=False, upstream=False)
    [client_link], upstream_link = context.clients.links, context.upstream.link
    assert upstream_link is not None
    client_link.on_lost(1006, "")
    assert upstream_link.passes_compressed()
    context = deflating(client=False, upstream=False)
    [client_link], upstream_link = context.clients.links, context.upstream.link
    assert upstream_link is not None
    upstream_link.on_lost(1006, "")
    assert client_link.passes_compressed()


def test_a_compressed_message_is_one_message() -> None:
    """It is held, counted, resent and confirmed as any other, with its kind."""
    rig, _, client_link, upstream, upstream_link = started(CALM, upstream_aware=True)
    client_link.on_message(COMPRESSED | Opcode.TEXT, b"\x00")
    say(client_link, "plain")
    messages = [(COMPRESSED | Opcode.TEXT, b"\x00"), (Opcode.TEXT, b"plain")]
    assert upstream.sent == messages
    upstream_link.on_lost(1006, "")
    upstream, upstream_link = rig.reconnect()
    assert upstream.sent == messages
    rig.clock.advance(0.2)
    confirm(upstream, upstream_link)
    assert not rig.context.c2u.outbox


def test_a_message_that_cannot_be_sent_ends_the_session_on_both_legs() -> None:
    """1007 to both, and what was not confirmed is counted, the message itself included."""
    rig, client, client_link, upstream, upstream_link = started(CALM)
    say(upstream_link, "corrupt", "behind it")
    client_link.on_stuck("a compressed message is corrupt")
    assert client.closed == (1007, "a compressed message is corrupt")
    assert upstream.closed == (1007, "a compressed message is corrupt; 2 messages uncertain")
    end = the_end(rig)
    assert (end.code, end.uncertain_u2c) == (1007, 2)


def test_a_dead_link_is_not_stuck() -> None:
    """What could not be sent on it is owed again, and the next link may take it as it is."""
    rig, _, client_link, _, upstream_link = started(CALM)
    say(upstream_link, "corrupt")
    client_link.on_lost(1006, "")
    client_link.on_stuck("a compressed message is corrupt")
    assert not over(rig)
    client, _ = rig.client(leg=FakeLeg(deflate=True))
    assert client.payloads == [b"corrupt"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DUPLEX, True),
        (SENDER, True),
        (RECEIVER, True),
        (replace(DUPLEX, compression=False), False),
        (replace(RECEIVER, shared=True), False),
        (replace(DUPLEX, gate=Gate(GateKind.FIRST_MESSAGE)), False),
        (replace(DUPLEX, gate=Gate(GateKind.PREFIX, b"STATE")), False),
    ],
)
def test_compression_is_not_for_where_messages_are_read_or_shared(policy: Policy, expected: bool) -> None:
    """Control messages are looked for in plain ones, and a corrupt message must not cost others their upstream."""
    assert policy.deflate is expected
    assert SessionRig(policy).context.deflate is expected
