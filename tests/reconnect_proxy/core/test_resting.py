"""A plain upstream is not redialled while no client is attached and it is owed nothing (PROTOCOL.md section 6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconnect_proxy.core.context import SessionState
from reconnect_proxy.core.link import Link
from reconnect_proxy.core.message import Opcode
from reconnect_proxy.core.policy import Gate, GateKind, Policy
from reconnect_proxy.core.upstream import Upstream
from reconnect_proxy.core.upstream_state import UpstreamState
from reconnect_proxy.events import LegName

from .fakes import CALM, SessionRig, confirm_all, over, say, started


def at_rest(policy: Policy = CALM, aware: bool = False) -> tuple[SessionRig, Link]:
    """Return a session that lost its client and then its upstream, which is owed nothing, 10 s ago."""
    rig, _, client_link, upstream, link = started(policy, upstream_aware=aware)
    say(client_link, "login")
    confirm_all(rig, upstream, link)
    client_link.on_lost(1006, "")
    link.on_lost(1006, "")
    rig.clock.advance(10.0)
    return rig, client_link


def test_an_upstream_that_is_owed_nothing_is_not_redialled_without_a_client() -> None:
    """The client that returns triggers the dial at once, and has the whole retry budget."""
    rig, _ = at_rest(replace(CALM, retry_for=8.0))
    assert len(rig.dialler.dials) == 1
    rig.client()
    assert rig.dialler.under_way is not None
    rig.dialler.fail()
    rig.clock.advance(7.0)
    assert rig.context.state is SessionState.OPEN
    upstream, _ = rig.connect()
    assert upstream.payloads == []
    assert rig.context.upstream.state is UpstreamState.UP


@pytest.mark.parametrize("policy", [replace(CALM, shared=True), replace(CALM, gate=Gate(GateKind.FIRST_MESSAGE))])
def test_a_shared_session_or_one_with_reconnect_data_is_redialled_all_the_same(policy: Policy) -> None:
    """The one belongs to no single client, and the upstream of the other knows that it is the same session."""
    rig = SessionRig(policy)
    rig.open()
    _, link = rig.connect()
    say(link, "id:state")
    _, client_link = rig.client()
    client_link.on_lost(1006, "")
    link.on_lost(1006, "")
    rig.clock.advance(1.0)
    assert len(rig.dialler.dials) == 2


def test_an_aware_upstream_is_redialled_all_the_same() -> None:
    """It has kept the session, and what it sends meanwhile is held for the client."""
    rig, _ = at_rest(aware=True)
    assert len(rig.dialler.dials) > 1


@pytest.mark.parametrize("before", [False, True])
def test_what_is_owed_is_delivered_without_a_client(before: bool) -> None:
    """Whether the client left it behind, or the embedding program adds it later."""
    if before:
        rig, _, client_link, _, link = started(CALM)
        say(client_link, "owed")
        client_link.on_lost(1006, "")
        link.on_lost(1006, "")
    else:
        rig, _ = at_rest()
        rig.context.add(LegName.CLIENT, (Opcode.TEXT, b"kept for the client"))
        assert len(rig.dialler.dials) == 1
        rig.context.add(LegName.UPSTREAM, (Opcode.TEXT, b"owed"))
    upstream, _ = rig.reconnect()
    assert upstream.payloads == [b"owed"]


def test_a_wait_or_a_probe_ends_without_a_dial_once_the_client_has_left() -> None:
    """And the retry budget does not end the session meanwhile: the grace does."""
    rig, _, client_link, upstream, link = started(replace(CALM, retry_for=20.0, grace=60.0))
    say(client_link, "login")
    confirm_all(rig, upstream, link)
    link.on_lost(1006, "")
    rig.clock.advance(0.1)
    client_link.on_lost(1006, "")
    rig.dialler.fail()
    rig.clock.advance(59.0)
    assert (len(rig.dialler.dials), rig.context.state) == (2, SessionState.OPEN)
    rig.clock.advance(2.0)
    assert over(rig)


def test_without_the_rest_each_session_without_a_client_dials_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the tests before."""
    monkeypatch.setattr(Upstream, "_superfluous", False)
    rig, _ = at_rest()
    assert len(rig.dialler.dials) > 1
