"""How far a scenario is, said while pytest runs it: a live line on a terminal, or a line now and then with `-v`.

A live line stands behind what pytest has written of the item, on the same line of the screen, and is gone when the item
ends:

    scenario .F.  upstream-flap:  3.1 s, 2 faults, c2u 6,120 sent 6,098 arrived, …
"""

from __future__ import annotations

import contextlib
import time
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


class Progress:
    """Writes the progress of items; silent where there is nobody to read it, as in a process of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        self._reporter: pytest.TerminalReporter | None = reporter
        self._captured: CaptureManager | None = config.pluginmanager.get_plugin("capturemanager")
        self._writer = config.get_terminal_writer()
        self._live = reporter is not None and reporter.isatty() and reporter.hasmarkup
        self._lasting = reporter is not None and not self._live and reporter.verbosity > 0
        self._next = 0.0

    def begin(self) -> None:
        """Begin with an item."""
        self._next = time.monotonic() + (LIVE_SECONDS if self._live else LASTING_SECONDS)

    def say(self, line: str) -> None:
        """Say how far the item is, if it is time to."""
        if self._reporter is None or time.monotonic() < self._next:
            return
        if self._live:
            self._next = time.monotonic() + LIVE_SECONDS
            self._behind(line)
        elif self._lasting:
            self._next = time.monotonic() + LASTING_SECONDS
            with self._heard():
                self._reporter.ensure_newline()
                self._reporter.write_line(f"    {line}")

    def end(self) -> None:
        """Take the live line away."""
        if self._live:
            self._behind("")

    def _behind(self, line: str) -> None:
        """Write `line` behind the cursor, cut to what is left of the screen, and leave the cursor where it is."""
        with self._heard():
            room = self._writer.fullwidth - self._writer.width_of_current_line - _GAP - 1
            shown = f"{' ' * _GAP}{line[:room]}" if line and room > 0 else ""
            # To the file itself: the writer would count it to what pytest has written of the line.
            self._writer._file.write(f"{_SAVE}{_ERASE}{shown}{_RESTORE}")
            self._writer.flush()

    def _heard(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which pytest does not capture what is written."""
        return self._captured.global_and_fixture_disabled() if self._captured else contextlib.nullcontext()
