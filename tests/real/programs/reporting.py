"""What the Python programs have in common: their spec, their reports, and being told to stop. See `program.py`."""

from __future__ import annotations

import json
import sys
import threading

SPEC = json.loads(sys.argv[1])
"""What the test has given."""

EVERY = SPEC.get("every", 0.02)
"""Seconds between two messages."""

STOP = threading.Event()
"""Whether no further messages are to be sent."""

_lock = threading.Lock()


def report(**line: object) -> None:
    """Write one line of the report."""
    with _lock:
        print(json.dumps(line), flush=True)


def got(stream: str, n: int) -> None:
    """Report a numbered message."""
    report(got=stream, n=n)


def sent(stream: str, n: int) -> None:
    """Report at the end how many messages were sent."""
    report(sent=stream, n=n)


def lost(why: object) -> None:
    """Report that the connection has ended."""
    report(lost=str(why))


def _listen() -> None:
    sys.stdin.readline()
    STOP.set()


threading.Thread(target=_listen, daemon=True).start()
