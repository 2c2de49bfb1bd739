"""The counters: each event moves the right one, and a scrape adds up what the living sessions hold."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from importlib.metadata import version

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from reconnect_proxy.core.context import Context, SessionState
from reconnect_proxy.core.outbox import MESSAGE_COST
from reconnect_proxy.core.policy import Mode
from reconnect_proxy.core.target import UpstreamInfo
from reconnect_proxy.events import Event, LegLost, Resumed, SessionEnded
from reconnect_proxy.introspection import Usage
from reconnect_proxy.observe.event_table import code_label
from reconnect_proxy.observe.gauges import SESSIONS_A_TURN
from reconnect_proxy.observe.metrics import Metrics

from ..core.fakes import SessionRig
from .every_event import CASES, CLIENT, ID


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


@pytest.mark.parametrize(("event", "effect"), [(case.event, case.effect) for case in CASES])
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
    for direction in ("c2u", "u2c"):
        name = "reconnect_proxy_messages_dropped_by_hook_total"
        assert registry.get_sample_value(name, {"direction": direction}) == 0


def test_peers_cannot_make_series_without_end() -> None:
    """1000 to 1015 and 4000 have labels of their own; all other codes share five."""
    metrics = Metrics(CollectorRegistry())
    for code in range(6000):
        metrics.count(LegLost(ID, CLIENT, code, "", 0))
    assert len(values(metrics.registry)) == 22
    assert [code_label(code) for code in (1000, 1014, 1016, 3000, 4000, 4001, 0)] == [
        "1000", "1014", "1xxx", "3xxx", "4000", "4xxx", "other",
    ]  # fmt: skip


# The sessions that are alive.


def living(count: int) -> list[Context]:
    """Return open sessions without links, each with three messages of ten bytes for its upstream."""
    sessions = [SessionRig().context for _ in range(count)]
    for context in sessions:
        context.state = SessionState.OPEN
        for _ in range(3):
            context.c2u.outbox.push((1, bytes(10)))
    return sessions


def watched(sessions: Collection[Context]) -> Metrics:
    """Return metrics that watch these sessions."""
    metrics = Metrics(CollectorRegistry())
    metrics.watch(Mode.DUPLEX, lambda: sessions)
    return metrics


def ended(context: Context) -> SessionEnded:
    """Return the end of a session, with its account."""
    return SessionEnded(ID, 1000, "", 1.0, 0, 0, *context.c2u.volume, *context.u2c.volume)


def test_the_sessions_of_the_moment_are_added_up() -> None:
    """States, messages and bytes received, and what is queued of them, with its bookkeeping."""
    found = values(watched(living(2)).registry)
    del found[f'info{{mode="duplex",version="{version("reconnect-proxy")}"}}']
    assert found == {
        'sessions{state="open"}': 2,
        'messages_total{direction="c2u"}': 6,
        'message_bytes_total{direction="c2u"}': 60,
        'queue_messages{direction="c2u"}': 6,
        'queue_bytes{direction="c2u"}': 60 + 6 * MESSAGE_COST,
    }


async def test_what_a_session_received_stays_counted_when_it_ends() -> None:
    """The counter does not fall: the session's account is taken over in the turn in which it leaves."""
    sessions = living(2)
    metrics = watched(sessions)
    before = await metrics.scrape(generate_latest)
    metrics.count(ended(sessions.pop()))
    after = await metrics.scrape(generate_latest)
    for text in (before, after):
        assert b'reconnect_proxy_messages_total{direction="c2u"} 6.0' in text
        assert b'reconnect_proxy_message_bytes_total{direction="c2u"} 60.0' in text
    assert b'reconnect_proxy_sessions{state="open"} 1.0' in after


async def test_a_session_that_ends_in_the_middle_of_a_scrape_counts_once() -> None:
    """A scrape of many sessions takes several turns of the loop; one that ends meanwhile is not lost nor doubled."""
    sessions = dict.fromkeys(living(4 * SESSIONS_A_TURN))
    metrics = watched(sessions.keys())
    scrape = asyncio.create_task(metrics.scrape(generate_latest))
    await asyncio.sleep(0)
    # One that was counted already, and one that was not.
    for context in (next(iter(sessions)), next(reversed(sessions))):
        del sessions[context]
        context.state = SessionState.ENDED
        metrics.count(ended(context))
    assert not scrape.done()
    total = f'reconnect_proxy_messages_total{{direction="c2u"}} {4 * SESSIONS_A_TURN * 3:.1f}'.encode()
    assert total in await scrape
    assert total in await metrics.scrape(generate_latest)


# The names that Prometheus, and authors of rules, expect.


def exposed(metrics: Metrics) -> list[Metric]:
    """Return the families as a scraper reads them from the text."""
    return list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))


def test_names_follow_the_conventions_of_prometheus() -> None:
    """One prefix; counters end in _total and nothing else does; base units; help is a sentence; labels are few."""
    for family in exposed(watched(living(1))):
        name = family.name
        assert re.fullmatch(r"reconnect_proxy_[a-z0-9]+(_[a-z0-9]+)*", name), name
        assert not re.search(r"_(ms|millis\w*|seconds_total|kib|kb|percent|count|sum|bucket)$", name), name
        assert family.documentation[0].isupper(), name
        assert family.documentation.endswith("."), name
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_bytes")), name
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter"), sample
            assert set(sample.labels) <= {
                *(
                    "leg",
                    "direction",
                    "state",
                    "code",
                    "outcome",
                    "upstream",
                    "hook",
                    "connected",
                    "status",
                    "error",
                    "le",
                ),
                *("error", "le", "limit", "version", "mode", "relayed"),
            }, sample


def test_no_session_makes_a_series_of_its_own() -> None:
    """Ten times the sessions are as many series, and no label tells of one."""
    few, many = exposed(watched(living(1))), exposed(watched(living(10)))
    assert [len(family.samples) for family in few] == [len(family.samples) for family in many]
    assert not any(ID[:6] in str(sample.labels) for family in many for sample in family.samples)


def test_a_scrape_asks_how_the_upstreams_are() -> None:
    """Whether each is used, what it carries, and who dials it or waits for a turn."""
    metrics = Metrics(CollectorRegistry())
    up = UpstreamInfo("ws://h:1", 1, True, "", sessions=3, dials_running=2, dials_waiting=7)
    down = UpstreamInfo("ws://h:2", 1, False, "refused", sessions=0, dials_running=1, dials_waiting=0)
    metrics.watch_upstreams(lambda: [up, down])
    assert values(metrics.registry) == {
        'upstream_healthy{upstream="ws://h:1"}': 1,
        'upstream_sessions{upstream="ws://h:1"}': 3,
        'dials{state="running",upstream="ws://h:1"}': 2,
        'dials{state="waiting",upstream="ws://h:1"}': 7,
        'dials{state="running",upstream="ws://h:2"}': 1,
    }
    healthy = metrics.registry.get_sample_value("reconnect_proxy_upstream_healthy", {"upstream": "ws://h:2"})
    assert healthy == 0


def test_what_is_used_of_a_limit_stands_beside_it() -> None:
    """A limit that is not set has no series, so that nothing is divided by it."""
    metrics = Metrics(CollectorRegistry())
    metrics.watch_limits(lambda: [Usage("held", 5, 10), Usage("sessions", 3, None)])
    found = values(metrics.registry)
    assert {name: value for name, value in found.items() if name.startswith("limit{") or "limit_used" in name} == {
        'limit_used{limit="held"}': 5,
        'limit_used{limit="sessions"}': 3,
        'limit{limit="held"}': 10,
    }
