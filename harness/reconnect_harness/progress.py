"""How far a scenario is, said while pytest runs it: a live line on a terminal, or a line now and then with `-v`.

A live line stands behind what pytest has written of the item, on the same line of the screen, and is gone when the item
ends:

    scenario .F.  upstream-flap:  3.1 s, 2 faults, c2u 6,120 sent 6,098 arrived, …
"""

from __future__ import annotations

import contextlib
import time
from enum import Enum, auto
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.capture import CaptureManager

#: How often a live line changes, and how often a lasting one is written, in seconds.
LIVE_SECONDS = 0.2
LASTING_SECONDS = 10.0

# VT100: save the cursor, restore it, erase from it to the end of the line.
_SAVE, _RESTORE, _ERASE = "\x1b7", "\x1b8", "\x1b[K"

_GAP = 2


class _Output(Enum):
    """Where the progress of an item is shown."""

    NOWHERE = auto()
    LIVE_LINE = auto()
    LINES = auto()


class Progress:
    """Writes the progress of items, and nothing where pytest has no terminal reporter, as with `-p no:terminal`."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
        self._captured: CaptureManager | None = config.pluginmanager.get_plugin("capturemanager")
        self._output = _output(self._reporter)
        self._next = 0.0

    def begin(self) -> None:
        """Begin with an item."""
        self._next = time.monotonic() + (LIVE_SECONDS if self._output is _Output.LIVE_LINE else LASTING_SECONDS)

    def say(self, line: str) -> None:
        """Say how far the item is, if it is time to."""
        if self._reporter is None or time.monotonic() < self._next:
            return
        if self._output is _Output.LIVE_LINE:
            self._next = time.monotonic() + LIVE_SECONDS
            self._behind(self._reporter, line)
        elif self._output is _Output.LINES:
            self._next = time.monotonic() + LASTING_SECONDS
            with self._heard():
                self._reporter.ensure_newline()
                self._reporter.write_line(f"    {line}")

    def end(self) -> None:
        """Take the live line away."""
        if self._reporter is not None and self._output is _Output.LIVE_LINE:
            self._behind(self._reporter, "")

    def _behind(self, reporter: pytest.TerminalReporter, line: str) -> None:
        """Write `line` behind the cursor, cut to what is left of the screen, and leave the cursor where it is."""
        writer = reporter.config.get_terminal_writer()
        with self._heard():
            room = writer.fullwidth - writer.width_of_current_line - _GAP - 1
            shown = f"{' ' * _GAP}{line[:room]}" if line and room > 0 else ""
            # To the file itself: the writer would count it to what pytest has written of the line.
            writer._file.write(f"{_SAVE}{_ERASE}{shown}{_RESTORE}")
            writer.flush()

    def _heard(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which pytest does not capture what is written."""
        return self._captured.global_and_fixture_disabled() if self._captured else contextlib.nullcontext()


def _output(reporter: pytest.TerminalReporter | None) -> _Output:
    """Return where the progress of an item is shown, as pytest shows its own."""
    if reporter is None:
        return _Output.NOWHERE
    # In older versions of pytest this is an attribute, not a method.
    terminal = reporter.isatty() if callable(reporter.isatty) else reporter.isatty
    if terminal and reporter.hasmarkup:
        return _Output.LIVE_LINE
    return _Output.LINES if reporter.verbosity > 0 else _Output.NOWHERE
