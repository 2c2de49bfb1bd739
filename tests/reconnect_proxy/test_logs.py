"""The log: one line for each event, safe to read by people and by machines."""

from __future__ import annotations

import io
import json
import logging
import typing
from collections.abc import Iterator

import pytest

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
from reconnect_proxy.logs import LogFormat, LogLevel, log_event, start_logging

ID = "abcdefSECRETSECRET"

#: One of each event, with the text of its line behind the time.
EVENTS: list[tuple[Event, str]] = [
    (SessionOpened(ID, "ws://h:1", True), "INFO session opened session=abcdef… upstream=ws://h:1 connected=True"),
    (SessionOpened(ID, "ws://h:1", False), "WARNING session opened session=abcdef… upstream=ws://h:1 connected=False"),
    (
        LegLost(ID, LegName.UPSTREAM, 1006, "", 12),
        'INFO leg lost session=abcdef… leg=upstream code=1006 reason="" waiting=12',
    ),
    (
        Redial(ID, "ws://h:1", 2, 0.123456),
        "INFO redial session=abcdef… upstream=ws://h:1 attempt=2 delay=0.123",
    ),
    (
        DialFailed(ID, "ws://h:1", "connection refused"),
        'WARNING dial failed session=abcdef… upstream=ws://h:1 detail="connection refused"',
    ),
    (
        Resumed(ID, LegName.CLIENT, 3, 7, 1.5, True),
        "INFO resumed session=abcdef… leg=client resent=3 waiting=7 away=1.5 aware=True",
    ),
    (TakenOver(ID), "INFO taken over session=abcdef…"),
    (LegMute(ID, LegName.CLIENT), "WARNING leg mute session=abcdef… leg=client"),
    (UncertainDropped(ID, LegName.UPSTREAM, 4), "WARNING uncertain dropped session=abcdef… leg=upstream count=4"),
    (SlowClientClosed(ID, 9), "WARNING slow client closed session=abcdef… waiting=9"),
    (
        SessionEnded(ID, 1000, "bye", 2.0, 0, 0),
        "INFO session ended session=abcdef… code=1000 reason=bye age=2.0 undelivered_c2u=0 undelivered_u2c=0",
    ),
    (
        SessionEnded(ID, 1006, "", 2.0, 0, 1),
        'WARNING session ended session=abcdef… code=1006 reason="" age=2.0 undelivered_c2u=0 undelivered_u2c=1',
    ),
    (
        SessionEnded(ID, 1014, "upstream unavailable", 2.0, 0, 0),
        'WARNING session ended session=abcdef… code=1014 reason="upstream unavailable" age=2.0 '
        "undelivered_c2u=0 undelivered_u2c=0",
    ),
    (MessagesDropped(ID, 3, 0), "INFO messages dropped session=abcdef… c2u=3 u2c=0"),
    (
        HookFailed(ID, "on_message", "KeyError: 'x'"),
        "DEBUG hook failed session=abcdef… hook=on_message detail=\"KeyError: 'x'\"",
    ),
    (
        Refused(410, "gone", "no such session"),
        'INFO refused status=410 error=gone detail="no such session"',
    ),
    (
        UpstreamEjected("ws://h:1", "connection refused"),
        'WARNING upstream ejected upstream=ws://h:1 reason="connection refused"',
    ),
    (
        UpstreamReturned("ws://h:1", "it answers again"),
        'INFO upstream returned upstream=ws://h:1 reason="it answers again"',
    ),
    (
        Dialled("ws://h:1", DialOutcome.CONNECTED, 0.0123),
        "DEBUG dialled upstream=ws://h:1 outcome=connected seconds=0.012",
    ),
    (Refused(503, "full", "too many"), 'WARNING refused status=503 error=full detail="too many"'),
    (
        TlsHandshakeFailed("127.0.0.1", "TLS failed: wrong version number"),
        'INFO tls handshake failed peer=127.0.0.1 detail="TLS failed: wrong version number"',
    ),
    (TlsReloaded(LegName.UPSTREAM), "INFO tls reloaded leg=upstream"),
    (TlsReloadFailed(LegName.CLIENT, "x is no key"), 'ERROR tls reload failed leg=client detail="x is no key"'),
]

Log = typing.Callable[..., io.StringIO]


@pytest.fixture
def log() -> Iterator[Log]:
    """Start logging into a string, and undo that in the end."""
    root, proxy = logging.getLogger(), logging.getLogger("reconnect_proxy")
    levels = root.level, proxy.level
    handlers: list[logging.Handler] = []

    def start(style: LogFormat = LogFormat.TEXT, level: LogLevel = LogLevel.INFO) -> io.StringIO:
        stream = io.StringIO()
        handlers.append(start_logging(style, level, stream))
        return stream

    yield start
    for handler in handlers:
        root.removeHandler(handler)
    root.setLevel(levels[0])
    proxy.setLevel(levels[1])


def test_every_event_has_a_line_here() -> None:
    """An event that is added to the core gets a line in this table, or this fails."""
    assert {type(event) for event, _ in EVENTS} == set(typing.get_args(Event))


@pytest.mark.parametrize(("event", "line"), EVENTS)
def test_each_event_is_one_line_of_text(log: Log, event: Event, line: str) -> None:
    """Time, level, the event in words, its fields; the session's id is cut short."""
    stream = log(level=LogLevel.DEBUG)
    log_event(event)
    time, rest = stream.getvalue()[:23], stream.getvalue()[24:]
    assert rest == line + "\n"
    assert time[4] == time[7] == "-"
    assert time[19] == "."


@pytest.mark.parametrize(("event", "line"), EVENTS)
def test_each_event_is_one_object_of_json(log: Log, event: Event, line: str) -> None:
    """The same as in text, with the types kept."""
    stream = log(LogFormat.JSON, LogLevel.DEBUG)
    log_event(event)
    (text,) = stream.getvalue().splitlines()
    written = json.loads(text)
    level, _, rest = line.partition(" ")
    assert written.pop("level") == level.lower()
    assert written.pop("ts").endswith("+00:00")
    assert rest.startswith(written.pop("event"))
    assert list(written) == [part.partition("=")[0] for part in rest.split() if "=" in part]
    assert ID not in text


def test_json_keeps_numbers_and_truth(log: Log) -> None:
    """A machine need not parse numbers out of strings."""
    stream = log(LogFormat.JSON)
    log_event(Resumed(ID, LegName.CLIENT, 3, 7, 1.5, True))
    written = json.loads(stream.getvalue())
    assert [written[key] for key in ("session", "leg", "resent", "away", "aware")] == [
        "abcdef…",
        "client",
        3,
        1.5,
        True,
    ]


@pytest.mark.parametrize("style", list(LogFormat))
@pytest.mark.parametrize(
    "reason", ["a\nINFO forged line", "\x1b[31m", 'say "x"', "a\u2028b", "\x85", "k=v", "tab\there"]
)
def test_what_a_peer_says_cannot_forge_a_line(log: Log, style: LogFormat, reason: str) -> None:
    """A close reason with line ends or control characters is quoted and stays within its one line."""
    stream = log(style)
    log_event(LegLost(ID, LegName.CLIENT, 4001, reason, 0))
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    text = (
        line
        if style is LogFormat.JSON
        else f'{{"reason": {line[line.index("reason=") + 7 : line.rindex(" waiting=")]}}}'
    )
    assert json.loads(text)["reason"] == reason


def test_lines_below_the_level_are_not_written(log: Log) -> None:
    """`--log-level warning` leaves the ordinary life of sessions out."""
    stream = log(level=LogLevel.WARNING)
    log_event(TakenOver(ID))
    log_event(LegMute(ID, LegName.CLIENT))
    assert [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()] == [
        "WARNING leg mute session=abcdef… leg=client"
    ]


@pytest.mark.parametrize("name", ["asyncio", "picows"])
def test_warnings_of_the_libraries_come_the_same_way(log: Log, name: str) -> None:
    """They name their logger; what they say below a warning is left out, whatever our own level is."""
    stream = log(level=LogLevel.DEBUG)
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("something\nodd")
    (line,) = stream.getvalue().splitlines()
    assert line[24:] == rf"WARNING {name}: something\nodd"


def test_a_library_is_named_in_json(log: Log) -> None:
    """`logger` tells the lines of others from the proxy's own."""
    stream = log(LogFormat.JSON)
    logging.getLogger("asyncio").warning("odd")
    written = json.loads(stream.getvalue())
    assert (written["logger"], written["event"], written["level"]) == ("asyncio", "odd", "warning")


@pytest.mark.parametrize("style", list(LogFormat))
def test_an_exception_keeps_its_traceback(log: Log, style: LogFormat) -> None:
    """In text it follows on lines of its own, in JSON it is a field of the one line."""
    stream = log(style)
    try:
        [][0]
    except IndexError:
        logging.getLogger("reconnect_proxy").exception("it broke")
    first, *others = stream.getvalue().splitlines()
    if style is LogFormat.JSON:
        assert "IndexError: list index" in json.loads(first)["exception"]
        assert not others
    else:
        assert first.endswith("ERROR it broke")
        assert others[-1] == "IndexError: list index out of range"
