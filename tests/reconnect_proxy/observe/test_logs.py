"""The log: one line for each event, safe to read by people and by machines."""

from __future__ import annotations

import io
import json
import logging
import typing
from collections.abc import Iterator

import pytest

from reconnect_proxy.events import (
    Event,
    LegLost,
    LegMute,
    LegName,
    Limit,
    LimitReached,
    Refused,
    Resumed,
    SessionEnded,
    TakenOver,
)
from reconnect_proxy.observe.event_table import EVENTS, FEW_LINES, MANY_LINES, PERIOD
from reconnect_proxy.observe.logs import (
    EventLog,
    LogFormat,
    LogLevel,
    start_logging,
)

from ..core.fakes import FakeClock
from .every_event import CASES, ID

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


def write_line(event: Event) -> None:
    """Write the line of one event, as the first of its period."""
    EventLog(FakeClock())(event)


def test_every_event_has_a_row_and_a_case() -> None:
    """A new event class fails here until it is in the table of events and in these tests."""
    assert set(EVENTS) == {type(case.event) for case in CASES} == set(typing.get_args(Event))


@pytest.mark.parametrize(("event", "line"), [(case.event, case.line) for case in CASES])
def test_each_event_is_one_line_of_text(log: Log, event: Event, line: str) -> None:
    """Time, level, the event in words, its fields; the session's id is cut short."""
    stream = log(level=LogLevel.DEBUG)
    write_line(event)
    time, rest = stream.getvalue()[:23], stream.getvalue()[24:]
    assert rest == line + "\n"
    assert time[4] == time[7] == "-"
    assert time[19] == "."


@pytest.mark.parametrize(("event", "line"), [(case.event, case.line) for case in CASES])
def test_each_event_is_one_object_of_json(log: Log, event: Event, line: str) -> None:
    """The same as in text, with the types kept."""
    stream = log(LogFormat.JSON, LogLevel.DEBUG)
    write_line(event)
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
    write_line(Resumed(ID, LegName.CLIENT, 3, 7, 1.5, True))
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
    write_line(LegLost(ID, LegName.CLIENT, 4001, reason, 0))
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    text = (
        line
        if style is LogFormat.JSON
        else f'{{"reason": {line[line.index("reason=") + 7 : line.rindex(" waiting=")]}}}'
    )
    assert json.loads(text)["reason"] == reason


def drained(stream: io.StringIO) -> list[str]:
    """Take the lines written so far, without their times."""
    lines = [line[24:] for line in stream.getvalue().splitlines()]
    stream.seek(0)
    stream.truncate()
    return lines


def test_refusals_without_end_are_a_few_lines_and_a_sum(log: Log) -> None:
    """Each reason for itself, the first ones at once."""
    stream, clock = log(), FakeClock()
    write = EventLog(clock)
    for n in range(1000):
        write(Refused(503, "too-many-sessions", f"{n}"))
    write(Refused(410, "session-gone", "x"))
    lines = drained(stream)
    assert len(lines) == FEW_LINES + 1
    assert lines[-1] == "INFO refused status=410 error=session-gone detail=x"
    clock.advance(PERIOD)
    assert drained(stream) == [f"WARNING refused error=too-many-sessions more={1000 - FEW_LINES} seconds=10.0"]
    write(Refused(503, "too-many-sessions", "again"))
    assert drained(stream) == ["WARNING refused status=503 error=too-many-sessions detail=again"]


def test_takeovers_and_limits_are_summed_up_as_well(log: Log) -> None:
    """A client that knows one id can cause them at any rate."""
    stream, clock = log(), FakeClock()
    write = EventLog(clock)
    for _ in range(FEW_LINES + 5):
        write(TakenOver(ID))
        write(LimitReached(ID, Limit.RATE, "too fast"))
    drained(stream)
    clock.advance(PERIOD)
    assert drained(stream) == [
        "INFO taken over more=5 seconds=10.0",
        "WARNING limit reached limit=message-rate more=5 seconds=10.0",
    ]


@pytest.mark.parametrize(
    ("missing", "left", "level"),
    [((0, 1), False, "WARNING"), ((0, 1), True, "INFO"), ((1, 0), True, "WARNING"), ((0, 0), False, "INFO")],
)
@pytest.mark.parametrize("sent", [False, True])
def test_what_a_client_that_has_closed_did_not_confirm_is_no_warning(
    log: Log, missing: tuple[int, int], left: bool, level: str, sent: bool
) -> None:
    """An ordinary client that closes behind its last message has that one, and did not come to say so.

    It makes no difference whether a message that may be lost was sent.
    """
    stream = log()
    undelivered, uncertain = ((0, 0), missing) if sent else (missing, (0, 0))
    write_line(SessionEnded(ID, 1000, "", 2.0, *undelivered, 1, 0, 1, 0, left, *uncertain))
    assert drained(stream)[0].startswith(f"{level} session ended")


def test_sessions_have_a_line_each_up_to_a_number_that_a_disk_can_bear(log: Log) -> None:
    """Those that lost messages are not crowded out by those that did not."""
    stream, clock = log(), FakeClock()
    write = EventLog(clock)
    for _ in range(MANY_LINES + 1):
        write(SessionEnded(ID, 1000, "", 2.0, 0, 0, 0, 0, 0, 0))
    write(SessionEnded(ID, 1000, "", 2.0, 0, 1, 0, 0, 1, 0))
    lines = drained(stream)
    assert len(lines) == MANY_LINES + 1
    assert lines[-1].startswith("WARNING session ended")
    clock.advance(PERIOD)
    assert drained(stream) == ["INFO session ended more=1 seconds=10.0"]


def test_a_log_that_is_closed_says_what_it_has_kept_back(log: Log) -> None:
    """And leaves no timer."""
    stream, clock = log(), FakeClock()
    write = EventLog(clock)
    for _ in range(FEW_LINES + 5):
        write(TakenOver(ID))
    drained(stream)
    write.close()
    assert drained(stream) == ["INFO taken over more=5 seconds=10.0"]
    assert clock.live == 0


def test_lines_below_the_level_are_not_written(log: Log) -> None:
    """`--log-level warning` leaves the ordinary life of sessions out."""
    stream = log(level=LogLevel.WARNING)
    write = EventLog(FakeClock())
    for event in (TakenOver(ID), LegMute(ID, LegName.CLIENT)):
        write(event)
    assert drained(stream) == ["WARNING leg mute session=abcdef… leg=client"]


@pytest.mark.parametrize("name", ["asyncio", "picows"])
def test_warnings_of_the_libraries_come_the_same_way(log: Log, name: str) -> None:
    """They name their logger. Their lines below a warning are left out at every level of ours."""
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


@pytest.mark.parametrize("style", list(LogFormat))
def test_an_id_that_a_peer_repeats_is_cut_short_too(log: Log, style: LogFormat) -> None:
    """An upstream may name the session in its close reason; the log must not have the secret."""
    stream = log(style)
    write_line(LegLost(ID, LegName.UPSTREAM, 4001, f"{ID} is over, {ID}!", 0))
    assert ID not in stream.getvalue()
    assert "abcdef… is over, abcdef…!" in stream.getvalue()
