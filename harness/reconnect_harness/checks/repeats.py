"""How old messages are that arrive twice: a sender that learns late what has arrived repeats much after each cut."""

from __future__ import annotations

import math

from reconnect_harness.checks.judged import judged
from reconnect_harness.checks.judgement import Finding, Violation
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction

#: How many of the oldest repeated messages are named.
_OLDEST = 10


def repeat_age(history: History) -> Finding:
    """Find the most seconds that lay between the sending of a message and the fault that had it arrive again.

    That fault is the first one that took hold after the message was sent. The age is infinite if there was none: then
    nothing explains the repeat. It is 0 where no message arrived twice.
    """
    found: list[tuple[float, Violation]] = []
    for direction in Direction:
        for message in judged(history, direction):
            if Flaw.DUPLICATED in message.flaws and message.sending is not None:
                age = _age(history, message.sending.t, message.event.t)
                words = "without a fault" if age == math.inf else f"sent {age:.3f} s before a fault"
                event = message.event
                what = f"{event.direction} {event.stream} number {event.number} arrived again, {words}"
                found.append((age, Violation(event.t, what)))
    found.sort(key=lambda each: each[0], reverse=True)
    return Finding(found[0][0] if found else 0.0, [violation for _, violation in found[:_OLDEST]])


def _age(history: History, sent: float, repeated: float) -> float:
    """Return how old a message was at the fault between its sending and its repeat."""
    for fault in history.faults:
        # It takes effect between the moment at which it is asked for and that at which Toxiproxy confirms it.
        if fault.took_hold is not None and fault.took_hold >= sent and fault.asked <= repeated:
            return max(0.0, fault.asked - sent)
    return math.inf
