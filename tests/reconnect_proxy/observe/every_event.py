"""One of each event, with the line that the log writes of it and all that it adds to the metrics.

The one place where a new event is described for the tests: the log's and the metrics' both walk this table.
"""

from __future__ import annotations

from typing import NamedTuple

from reconnect_proxy.events import (
    AdminRefused,
    DebuggerUrlPassed,
    DialFailed,
    Dialled,
    DialOutcome,
    EndedByOperator,
    Event,
    HandedOn,
    HeaderDropped,
    HeldLimitReached,
    HeldLimitRelieved,
    HookFailed,
    HttpFailed,
    HttpRelayed,
    LegLost,
    LegMute,
    LegName,
    Limit,
    LimitReached,
    MessagesDropped,
    MessagesUncertain,
    MuteEnded,
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
    WorkerLost,
    WorkerReturned,
)

ID = "abcdefSECRETSECRET"
URL = "ws://h:1"
CLIENT, UPSTREAM = LegName.CLIENT, LegName.UPSTREAM


class Case(NamedTuple):
    """An event, its line of text behind the time, and its effect: what it adds to which series."""

    event: Event
    line: str
    effect: dict[str, float]


CASES = [
    Case(
        SessionOpened(ID, URL, True),
        "INFO session opened session=abcdef… upstream=ws://h:1 connected=True",
        {'sessions_opened_total{connected="true"}': 1},
    ),
    Case(
        SessionOpened(ID, URL, False),
        "WARNING session opened session=abcdef… upstream=ws://h:1 connected=False",
        {'sessions_opened_total{connected="false"}': 1},
    ),
    Case(
        LegLost(ID, UPSTREAM, 1006, "", 12),
        'INFO leg lost session=abcdef… leg=upstream code=1006 reason="" waiting=12',
        {'legs_lost_total{code="1006",leg="upstream"}': 1},
    ),
    Case(
        Redial(ID, URL, 2, 0.123456),
        "INFO redial session=abcdef… upstream=ws://h:1 attempt=2 delay=0.123",
        {"redials_total": 1},
    ),
    Case(
        DialFailed(ID, URL, "connection refused"),
        'WARNING dial failed session=abcdef… upstream=ws://h:1 detail="connection refused"',
        {"dial_failures_total": 1},
    ),
    Case(
        Dialled(URL, DialOutcome.CONNECTED, 0.0123),
        "DEBUG dialled upstream=ws://h:1 outcome=connected seconds=0.012",
        {
            'dial_seconds_sum{outcome="connected",upstream="ws://h:1"}': 0.0123,
            'dial_seconds_count{outcome="connected",upstream="ws://h:1"}': 1,
        },
    ),
    Case(
        UpstreamEjected(URL, "connection refused"),
        'WARNING upstream ejected upstream=ws://h:1 reason="connection refused"',
        {'upstream_ejections_total{upstream="ws://h:1"}': 1},
    ),
    Case(
        UpstreamReturned(URL, "it answers again"),
        'INFO upstream returned upstream=ws://h:1 reason="it answers again"',
        {'upstream_returns_total{upstream="ws://h:1"}': 1},
    ),
    Case(
        Resumed(ID, CLIENT, 3, 7, 1.5, True),
        "INFO resumed session=abcdef… leg=client resent=3 waiting=7 away=1.5 aware=True",
        {
            'legs_resumed_total{leg="client"}': 1,
            'messages_resent_total{leg="client"}': 3,
            'recovery_seconds_sum{leg="client"}': 1.5,
            'recovery_seconds_count{leg="client"}': 1,
        },
    ),
    Case(
        # What an unaware peer is sent again it may have got before.
        Resumed(ID, UPSTREAM, 5, 7, 0.3, False),
        "INFO resumed session=abcdef… leg=upstream resent=5 waiting=7 away=0.3 aware=False",
        {
            'legs_resumed_total{leg="upstream"}': 1,
            'messages_resent_total{leg="upstream"}': 5,
            'messages_uncertain_total{leg="upstream",outcome="resent"}': 5,
            'recovery_seconds_sum{leg="upstream"}': 0.3,
            'recovery_seconds_count{leg="upstream"}': 1,
        },
    ),
    Case(TakenOver(ID), "INFO taken over session=abcdef…", {"takeovers_total": 1}),
    Case(LegMute(ID, CLIENT), "WARNING leg mute session=abcdef… leg=client", {'legs_mute_total{leg="client"}': 1}),
    Case(MuteEnded(ID, UPSTREAM, 3), "INFO mute ended session=abcdef… leg=upstream unproven=3", {}),
    Case(
        MessagesUncertain(ID, UPSTREAM, 47),
        "WARNING messages uncertain session=abcdef… leg=upstream count=47",
        {'messages_uncertain_total{leg="upstream",outcome="mute"}': 47},
    ),
    Case(
        UncertainDropped(ID, UPSTREAM, 4),
        "WARNING uncertain dropped session=abcdef… leg=upstream count=4",
        {'messages_uncertain_total{leg="upstream",outcome="dropped"}': 4},
    ),
    Case(
        SlowClientClosed(ID, 9),
        "WARNING slow client closed session=abcdef… waiting=9",
        {"slow_clients_closed_total": 1},
    ),
    Case(
        SessionEnded(ID, 1000, "bye", 2.0, 0, 0, 3, 30, 4, 40),
        "INFO session ended session=abcdef… code=1000 reason=bye age=2.0 undelivered_c2u=0 undelivered_u2c=0 "
        "c2u_messages=3 c2u_bytes=30 u2c_messages=4 u2c_bytes=40 left=False uncertain_c2u=0 uncertain_u2c=0",
        {
            'sessions_ended_total{code="1000"}': 1,
            'messages_total{direction="c2u"}': 3,
            'message_bytes_total{direction="c2u"}': 30,
            'messages_total{direction="u2c"}': 4,
            'message_bytes_total{direction="u2c"}': 40,
        },
    ),
    Case(
        SessionEnded(ID, 1001, "", 2.0, 1, 2, 1, 0, 2, 0, False, 3, 4),
        'WARNING session ended session=abcdef… code=1001 reason="" age=2.0 undelivered_c2u=1 undelivered_u2c=2 '
        "c2u_messages=1 c2u_bytes=0 u2c_messages=2 u2c_bytes=0 left=False uncertain_c2u=3 uncertain_u2c=4",
        {
            'sessions_ended_total{code="1001"}': 1,
            'messages_total{direction="c2u"}': 1,
            'messages_total{direction="u2c"}': 2,
            'messages_undelivered_total{direction="c2u"}': 1,
            'messages_undelivered_total{direction="u2c"}': 2,
            'messages_unproven_total{direction="c2u"}': 3,
            'messages_unproven_total{direction="u2c"}': 4,
        },
    ),
    Case(
        SessionEnded(ID, 1014, "upstream unavailable", 2.0, 0, 0, 0, 0, 0, 0),
        'WARNING session ended session=abcdef… code=1014 reason="upstream unavailable" age=2.0 '
        "undelivered_c2u=0 undelivered_u2c=0 c2u_messages=0 c2u_bytes=0 u2c_messages=0 u2c_bytes=0 left=False "
        "uncertain_c2u=0 uncertain_u2c=0",
        {'sessions_ended_total{code="1014"}': 1},
    ),
    Case(
        MessagesDropped(ID, 3, 0),
        "INFO messages dropped session=abcdef… c2u=3 u2c=0",
        {'messages_dropped_by_hook_total{direction="c2u"}': 3},
    ),
    Case(
        HookFailed(ID, "on_message", "KeyError: 'x'"),
        "DEBUG hook failed session=abcdef… hook=on_message detail=\"KeyError: 'x'\"",
        {'hook_errors_total{hook="on_message"}': 1},
    ),
    Case(
        TlsHandshakeFailed("127.0.0.1", "TLS failed: wrong version number"),
        'INFO tls handshake failed peer=127.0.0.1 detail="TLS failed: wrong version number"',
        {"tls_handshake_failures_total": 1},
    ),
    Case(
        TlsReloaded(UPSTREAM),
        "INFO tls reloaded leg=upstream",
        {'tls_reloads_total{leg="upstream",outcome="ok"}': 1},
    ),
    Case(
        TlsReloadFailed(CLIENT, "x is no key"),
        'ERROR tls reload failed leg=client detail="x is no key"',
        {'tls_reloads_total{leg="client",outcome="failed"}': 1},
    ),
    Case(
        HttpRelayed("ws://h:1", "GET", "/json/version", 204, 0.00251),
        "DEBUG http relayed upstream=ws://h:1 method=GET path=/json/version status=204 seconds=0.003",
        {'http_requests_total{status="2xx"}': 1},
    ),
    Case(
        HttpFailed("ws://h:1", 504, "it was late"),
        'WARNING http failed upstream=ws://h:1 status=504 detail="it was late"',
        {'http_failures_total{status="504"}': 1},
    ),
    Case(
        HttpFailed("ws://h:1", 0, "it was reset"),
        'WARNING http failed upstream=ws://h:1 status=0 detail="it was reset"',
        {'http_failures_total{status="cut"}': 1},
    ),
    Case(
        DebuggerUrlPassed("ws://h:1", "ws://h:1"),
        "WARNING debugger url passed upstream=ws://h:1 address=ws://h:1",
        {},
    ),
    Case(HeaderDropped("X_User"), "WARNING header dropped name=X_User", {}),
    Case(
        EndedByOperator(ID, "127.0.0.1"),
        "INFO ended by operator session=abcdef… operator=127.0.0.1",
        {"sessions_ended_by_operator_total": 1},
    ),
    Case(
        AdminRefused(401, "/metrics", "192.0.2.7"),
        "WARNING admin refused status=401 path=/metrics address=192.0.2.7",
        {'admin_refusals_total{status="401"}': 1},
    ),
    Case(
        LimitReached(ID, Limit.RATE, "too fast"),
        'WARNING limit reached session=abcdef… limit=message-rate detail="too fast"',
        {'limits_reached_total{limit="message-rate"}': 1},
    ),
    Case(
        HeldLimitReached(12, 10),
        "WARNING held limit reached held=12 limit=10",
        {'limits_reached_total{limit="held"}': 1},
    ),
    Case(HeldLimitRelieved(8, 1.5), "INFO held limit relieved held=8 seconds=1.5", {}),
    Case(
        Refused(410, "gone", "no such session"),
        'INFO refused status=410 error=gone detail="no such session"',
        {'refusals_total{error="gone",status="410"}': 1},
    ),
    Case(
        HandedOn(ID, 1, True),
        "DEBUG handed on session=abcdef… to=1 relayed=True",
        {'clients_handed_on_total{relayed="true"}': 1},
    ),
    Case(
        WorkerLost(1, "it was killed by SIGKILL", 40),
        'ERROR worker lost worker=1 detail="it was killed by SIGKILL" sessions=40',
        {"workers_lost_total": 1, "sessions_lost_total": 40},
    ),
    Case(WorkerReturned(1, 0.6), "INFO worker returned worker=1 away=0.6", {}),
    Case(
        Refused(503, "full", "too many"),
        'WARNING refused status=503 error=full detail="too many"',
        {'refusals_total{error="full",status="503"}': 1},
    ),
]
