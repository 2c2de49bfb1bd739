"""Checkers of how links and conversations end: close codes, reasons, refusals.

| in `expect` | what has to hold |
| --- | --- |
| `client_close: 1014` | every client is closed by the other side, with this code |
| `upstream_close: 4321` | the last connection of every session at an upstream ends with this code |
| `handshake: 401` | clients are refused with this status, and with no other |
| `closed_after: 1s..8s` | clients are closed within this time after the first fault took hold |
| `passed_on: [1000, 4001]` | each close of an upstream with such a code reaches a client, and no other close does |
| `passed_up: [1000, 4001]` | each close of a client with such a code reaches an upstream |

A code may be followed by a reason (`1014 upstream lost the session`). In a list any of the codes is right; of
`handshake` each has to occur. `client_close` and `handshake` may be a mapping, `{thief: 403}`: it then applies to all
links that clients made under that label (`peers.contenders`), and there has to be one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reconnect_harness.checks.judgement import Expectation, Finding, Violation
from reconnect_harness.history.history import History
from reconnect_harness.history.record import End, LinkEvent
from reconnect_harness.values import seconds, value_or_range


class Ending(NamedTuple):
    """A close code (RFC 6455 section 7.4) or HTTP status, and a reason if it matters."""

    code: int
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()

    def fits(self, event: LinkEvent) -> bool:
        """Return whether a link ended like this. The reason may be a part of what was recorded, as of an HTTP body."""
        return event.code == self.code and self.reason in event.reason


Find = Callable[[History], Finding]


def client_close(given: object) -> Find:
    """Return a checker: clients, or their links with a label, are closed like this."""
    by_label = _by_label(given, range(1000, 5000))

    def find(history: History) -> Finding:
        violations: list[Violation] = []
        for label, allowed in by_label.items():
            closed: dict[str, LinkEvent] = {}
            for event in _clients(history, label):
                # A client closes a link with a label on purpose.
                if event.event == "disconnected" and (label or not event.asked):
                    closed[event.name] = event
            names = {event.name for event in _clients(history, label)}
            for name in sorted(names - closed.keys()):
                violations.append(
                    Violation(_end(history), f"client {name} was never closed, rather than with {_any(allowed)}")
                )
            violations += _others(closed.values(), allowed, "client {name} was closed with {ending}")
            violations += _missing(history, label, names)
        return Finding.counted(violations)

    return find


def upstream_close(given: object) -> Find:
    """Return a checker: the last connection of every session ends like this at its upstream."""
    allowed = _endings(given, range(1000, 5000))

    def find(history: History) -> Finding:
        last: dict[str, LinkEvent] = {}
        for event in history.links:
            if event.end is End.UPSTREAM and event.event in ("connected", "disconnected"):
                last[event.name] = event
        violations = [
            Violation(event.t, f"upstream connection {event.name} was never closed, rather than with {_any(allowed)}")
            for event in last.values()
            if event.event == "connected"
        ]
        ended = [event for event in last.values() if event.event == "disconnected"]
        violations += _others(ended, allowed, "upstream connection {name} was closed with {ending}")
        if not last:
            violations.append(Violation(_end(history), "there was no upstream connection that could have been closed"))
        return Finding.counted(violations)

    return find


def handshake(given: object) -> Find:
    """Return a checker: handshakes of clients, all or those with a label, are refused like this."""
    by_label = _by_label(given, range(300, 600))

    def find(history: History) -> Finding:
        violations: list[Violation] = []
        for label, allowed in by_label.items():
            events = list(_clients(history, label))
            refused = [event for event in events if event.event == "unreachable"]
            violations += _others(refused, allowed, "the handshake of client {name} was answered with {ending}")
            if label:
                violations += [
                    Violation(event.t, f"client {event.name} was let in, rather than refused with {_any(allowed)}")
                    for event in events
                    if event.event == "connected"
                ]
                violations += _missing(history, label, events)
            violations += [
                Violation(_end(history), f"no handshake{f' of {label}' * bool(label)} was refused with {ending}")
                for ending in allowed
                if not any(ending.fits(event) for event in refused)
            ]
        return Finding.counted(violations)

    return find


def closed_after(given: object) -> Find:
    """Return a checker: clients are closed within a span of time after the first fault took hold."""
    spanned = value_or_range(seconds, given)
    if not isinstance(spanned, tuple) or spanned[0] > spanned[1]:
        raise ValueError(f"{given!r} is not a span of time: write least..most, such as 1s..8s")
    least, most = spanned

    def find(history: History) -> Finding:
        began = next((fault.took_hold for fault in history.faults if fault.took_hold is not None), None)
        closed = [e for e in _clients(history, "") if e.event == "disconnected" and not e.asked]
        if began is None or not closed:
            return Finding(None)
        return Finding.counted(
            [
                Violation(event.t, f"client {event.name} was closed {event.t - began:.3f} s after the fault")
                for event in closed
                if not least <= event.t - began <= most
            ]
        )

    return find


def passed_on(given: object) -> Find:
    """Return a checker: closes by upstreams with these codes, and no others, reach their clients."""
    codes = {ending.code for ending in _endings(given, range(1000, 5000))}

    def find(history: History) -> Finding:
        ends = [event for event in history.links if event.event == "disconnected"]
        said = [event for event in ends if event.end is End.UPSTREAM and event.asked and event.code in codes]
        by_upstream = [event for event in ends if event.end is End.UPSTREAM and event.asked]
        passing = {(event.code, event.reason) for event in by_upstream}
        heard = [
            event
            for event in ends
            # A fault of a link ends connections too, and what a client is told then is for the proxy to say.
            if event.end is End.CLIENT
            and not event.asked
            and ((event.code, event.reason) in passing or not history.faults_on(event.t))
        ]
        violations = list(
            _unmatched(said, heard, "upstream connection {name} was closed with {ending}, which reached no client")
        )
        passing -= {(event.code, event.reason) for event in said}
        codes_said = {event.code for event in said}
        for why, chosen in (
            ("is not to be passed on", [event for event in heard if (event.code, event.reason) in passing]),
            ("is the code of its upstream, and the reason was dropped", [e for e in heard if _is_bare(e, codes_said)]),
            (
                "no upstream has said",
                [e for e in heard if (e.code, e.reason) not in passing and not _is_bare(e, codes_said)],
            ),
        ):
            violations += _unmatched(chosen, said, f"client {{name}} was closed with {{ending}}, which {why}")
        violations += [
            Violation(_end(history), f"no upstream has closed a connection with {code}")
            for code in sorted(codes - {event.code for event in said})
        ]
        return Finding.counted(violations)

    return find


def _is_bare(event: LinkEvent, codes: set[int | None]) -> bool:
    """Return whether a link was closed with one of these codes, and without a reason."""
    return event.code in codes and not event.reason


def passed_up(given: object) -> Find:
    """Return a checker: closes by clients with these codes reach their upstreams, with their reasons."""
    codes = {ending.code for ending in _endings(given, range(1000, 5000))}

    def find(history: History) -> Finding:
        said = [event for event in history.links if event.event == "left" and event.code in codes]
        heard = [
            event
            for event in history.links
            if event.end is End.UPSTREAM and event.event == "disconnected" and not event.asked
        ]
        bare = {event.code for event in heard if not event.reason}
        violations: list[Violation] = []
        for why, chosen in (
            ("reached an upstream, but the reason was dropped", [event for event in said if event.code in bare]),
            ("reached no upstream", [event for event in said if event.code not in bare]),
        ):
            violations += _unmatched(chosen, heard, f"client {{name}} has closed with {{ending}}, which {why}")
        violations += [
            Violation(_end(history), f"no client has closed its connection with {code}")
            for code in sorted(codes - {event.code for event in said})
        ]
        return Finding.counted(violations)

    return find


#: The functions that make these checkers, by their keys in `expect`.
ENDINGS: Mapping[str, Callable[[object], Find]] = {
    "client_close": client_close,
    "upstream_close": upstream_close,
    "handshake": handshake,
    "closed_after": closed_after,
    "passed_on": passed_on,
    "passed_up": passed_up,
}


def expectation(check: str, given: object) -> Expectation:
    """Return the expectation of an entry of `ENDINGS`; ValueError says what is not valid."""
    try:
        return Expectation(check, None, 0.0, ENDINGS[check](given), _said(given))
    except ValueError as error:
        raise ValueError(f"{check}: {error}") from None


def _said(given: Any) -> str:
    if isinstance(given, dict):
        return ", ".join(f"{label}: {_said(value)}" for label, value in given.items())
    return " or ".join(map(str, given)) if isinstance(given, list) else str(given)


def _by_label(given: object, codes: range) -> dict[str, list[Ending]]:
    """Return the allowed endings by label; "" stands for the clients' own conversations."""
    if isinstance(given, dict):
        return {str(label): _endings(value, codes) for label, value in given.items()}
    return {"": _endings(given, codes)}


def _endings(given: object, codes: range) -> list[Ending]:
    values: Sequence[object] = given if isinstance(given, list) else [given]
    endings = []
    for value in values:
        found = None if isinstance(value, bool) else re.fullmatch(r"(\d{3,4})(?: (.+))?", str(value))
        if found is None or int(found[1]) not in codes:
            allowed = f"{codes.start} to {codes.stop - 1}"
            raise ValueError(
                f"{value!r} is not an ending: write a code from {allowed}, and a reason after it if it matters"
            )
        endings.append(Ending(int(found[1]), found[2] or ""))
    if not endings:
        raise ValueError("the list is empty: write a code")
    return endings


def _clients(history: History, label: str) -> Iterator[LinkEvent]:
    """Yield the link events of the clients' own conversations, or of their links with a label."""
    for event in history.links:
        if event.end is End.CLIENT and event.name.partition(".")[2] == label:
            yield event


def _others(events: Any, allowed: Sequence[Ending], words: str) -> Iterator[Violation]:
    for event in events:
        if not any(ending.fits(event) for ending in allowed):
            what = words.format(name=event.name, ending=_ending_of(event))
            yield Violation(event.t, f"{what}, rather than with {_any(allowed)}")


def _missing(history: History, label: str, found: Any) -> Iterator[Violation]:
    if not found:
        yield Violation(_end(history), f"there was no link {label!r} of any client" if label else "there was no client")


def _unmatched(events: Sequence[LinkEvent], others: Sequence[LinkEvent], words: str) -> Iterator[Violation]:
    """Yield the events that have no counterpart with the same code and reason among the others."""
    left = Counter((event.code, event.reason) for event in others)
    for event in events:
        if left[event.code, event.reason]:
            left[event.code, event.reason] -= 1
        else:
            yield Violation(event.t, words.format(name=event.name, ending=_ending_of(event)))


def _ending_of(event: LinkEvent) -> str:
    return f"{event.code or 'no code'} {event.reason}".rstrip()


def _any(allowed: Sequence[Ending]) -> str:
    return " or ".join(map(str, allowed))


def _end(history: History) -> float:
    """Return the moment of the last recorded event."""
    return max([event.t for event in history.messages[-1:]] + [event.t for event in history.links[-1:]], default=0.0)
