"""The counters: each event moves the right one, and a scrape adds up what the living sessions hold."""

from __future__ import annotations

import typing

import pytest
from prometheus_client import CollectorRegistry

from reconnect_proxy.core.events import (
    DialFailed,
    Dialled,
    DialOutcome,
    Event,
    HookFailed,
    LegLost,
    LegMute,
    LegName,
    MessagesDropped,
    Redial,
    Refused,
    Resumed,
    SessionEnded,
    SessionOpened,
    SlowClientClosed,
    TakenOver,
    TlsHandshakeFailed,
    TlsReloaded,
    TlsReloadFailed,
    UncertainDropped,
    UpstreamEjected,
    UpstreamReturned,
)
from reconnect_proxy.metrics import Metrics, code_label

ID = "abcdefSECRETSECRET"
CLIENT, UPSTREAM = LegName.CLIENT, LegName.UPSTREAM

#: One of each event, with all that it adds to the metrics.
EFFECTS: list[tuple[Event, dict[str, float]]] = [
    (SessionOpened(ID, "ws://h:1", True), {'sessions_opened_total{connected="true"}': 1}),
    (SessionOpened(ID, "ws://h:1", False), {'sessions_opened_total{connected="false"}': 1}),
    (
        SessionEnded(ID, 1014, "", 2.0, 3, 4),
        {
            'sessions_ended_total{code="1014"}': 1,
            'messages_undelivered_total{direction="c2u"}': 3,
            'messages_undelivered_total{direction="u2c"}': 4,
        },
    ),
    (LegLost(ID, UPSTREAM, 1006, "", 12), {'legs_lost_total{code="1006",leg="upstream"}': 1}),
    (
        Resumed(ID, UPSTREAM, 5, 7, 0.3, True),
        {
            'legs_resumed_total{leg="upstream"}': 1,
            'messages_resent_total{leg="upstream"}': 5,
            'recovery_seconds_sum{leg="upstream"}': 0.3,
            'recovery_seconds_count{leg="upstream"}': 1,
        },
    ),
    (UncertainDropped(ID, CLIENT, 6), {'messages_uncertain_dropped_total{leg="client"}': 6}),
    (
        MessagesDropped(ID, 3, 4),
        {
            'messages_dropped_by_hook_total{direction="c2u"}': 3,
            'messages_dropped_by_hook_total{direction="u2c"}': 4,
        },
    ),
    (HookFailed(ID, "on_message", "KeyError: 'x'"), {'hook_errors_total{hook="on_message"}': 1}),
    (LegMute(ID, CLIENT), {'legs_mute_total{leg="client"}': 1}),
    (Refused(503, "full", "too many sessions"), {'refusals_total{error="full",status="503"}': 1}),
    (TakenOver(ID), {"takeovers_total": 1}),
    (TlsHandshakeFailed("127.0.0.1", "no"), {"tls_handshake_failures_total": 1}),
    (TlsReloaded(CLIENT), {'tls_reloads_total{leg="client",outcome="ok"}': 1}),
    (TlsReloadFailed(UPSTREAM, "no"), {'tls_reloads_total{leg="upstream",outcome="failed"}': 1}),
    (SlowClientClosed(ID, 9), {"slow_clients_closed_total": 1}),
    (Redial(ID, "ws://h:1", 1, 0.1), {"redials_total": 1}),
    (DialFailed(ID, "ws://h:1", "refused"), {"dial_failures_total": 1}),
    (
        Dialled("ws://h:1", DialOutcome.FAILED, 0.25),
        {
            'dial_seconds_sum{outcome="failed",upstream="ws://h:1"}': 0.25,
            'dial_seconds_count{outcome="failed",upstream="ws://h:1"}': 1,
        },
    ),
    (UpstreamEjected("ws://h:1", "refused"), {'upstream_ejections_total{upstream="ws://h:1"}': 1}),
    (UpstreamReturned("ws://h:1", "it answers"), {'upstream_returns_total{upstream="ws://h:1"}': 1}),
]


def values(registry: CollectorRegistry) -> dict[str, float]:
    """Return every series that is not zero, without the common prefix, creation times and single buckets."""
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            name = sample.name.removeprefix("reconnect_proxy_") + (f"{{{labels}}}" if labels else "")
            if sample.value and not sample.name.endswith(("_created", "_bucket")):
                found[name] = sample.value
    return found


def test_every_event_has_an_effect_here() -> None:
    """An event that is added to the core is counted, or this fails."""
    assert {type(event) for event, _ in EFFECTS} == set(typing.get_args(Event))


@pytest.mark.parametrize(("event", "effect"), EFFECTS)
def test_each_event_is_counted_and_nothing_else(event: Event, effect: dict[str, float]) -> None:
    """The event adds what it says to its series and leaves all others alone."""
    metrics = Metrics(CollectorRegistry())
    metrics.count(event)
    assert values(metrics.registry) == effect
    metrics.count(event)
    assert values(metrics.registry) == pytest.approx({series: 2 * value for series, value in effect.items()})


def test_a_recovery_falls_into_its_bucket() -> None:
    """A leg that was away for 0.3 s is in the buckets from 0.5 s on."""
    metrics = Metrics(CollectorRegistry())
    metrics.count(Resumed(ID, CLIENT, 0, 0, 0.3, False))
    bucket = {
        le: metrics.registry.get_sample_value("reconnect_proxy_recovery_seconds_bucket", {"leg": "client", "le": le})
        for le in ("0.25", "0.5", "+Inf")
    }
    assert bucket == {"0.25": 0, "0.5": 1, "+Inf": 1}


def test_series_without_an_event_yet_are_there() -> None:
    """A rule over lost messages must see a zero before the first loss."""
    registry = Metrics(CollectorRegistry()).registry
    assert registry.get_sample_value("reconnect_proxy_messages_undelivered_total", {"direction": "u2c"}) == 0
    assert registry.get_sample_value("reconnect_proxy_legs_resumed_total", {"leg": "client"}) == 0


def test_peers_cannot_make_series_without_end() -> None:
    """1000 to 1015 and 4000 have labels of their own; all other codes share five."""
    metrics = Metrics(CollectorRegistry())
    for code in range(6000):
        metrics.count(LegLost(ID, CLIENT, code, "", 0))
    assert len(values(metrics.registry)) == 22
    assert [code_label(code) for code in (1000, 1014, 1016, 3000, 4000, 4001, 0)] == [
        "1000", "1014", "1xxx", "3xxx", "4000", "4xxx", "other",
    ]  # fmt: skip
