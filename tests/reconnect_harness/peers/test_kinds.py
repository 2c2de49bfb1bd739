"""The kinds of peers: each name has its class."""

from __future__ import annotations

from reconnect_harness.peers import clients, upstreams
from reconnect_harness.peers.contenders import AbsentClient
from reconnect_harness.peers.kinds import ABSENT_CLIENTS, MISBEHAVIOURS, ClientKind, UpstreamKind
from reconnect_harness.peers.misbehaviour import Misbehaviour


def test_every_kind_has_a_class() -> None:
    """A scenario that is accepted can be run."""
    assert set(clients.KINDS) == set(ClientKind)
    assert set(upstreams.KINDS) == set(UpstreamKind)


def test_the_absent_kinds_are_those_whose_class_takes_an_absence() -> None:
    """The names and the classes agree."""
    assert {kind for kind, made in clients.KINDS.items() if issubclass(made, AbsentClient)} == set(ABSENT_CLIENTS)


def test_every_misbehaviour_is_a_field() -> None:
    """The names and the dataclass agree; `after` is when they happen."""
    assert {*MISBEHAVIOURS, "after"} == set(Misbehaviour.__dataclass_fields__)
