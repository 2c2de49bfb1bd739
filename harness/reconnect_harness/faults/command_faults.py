"""The fault of a command: a program of the user's own does it, such as kubectl, and another one undoes it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from reconnect_harness.faults.fault import (
    Extent,
    FaultAction,
    FaultError,
    FaultKind,
    FaultTarget,
    Occurrence,
    TargetKind,
    table,
)

#: How long a command may take, in seconds.
COMMAND_SECONDS = 120.0


class CommandTarget:
    """Runs the commands of one fault, one at a time. What `undone` has is to be run before the run ends."""

    def __init__(self) -> None:
        self.undone: list[Sequence[str]] = []
        self._running: subprocess.Popen[str] | None = None

    def run(self, command: Sequence[str]) -> None:
        """Run a command; raise FaultError, with its last line, if it cannot be run or does not end with 0 in time."""
        try:
            # A session of its own: Ctrl-C ends the run, which has to undo its faults.
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            ) as self._running:
                try:
                    said, _ = self._running.communicate(timeout=COMMAND_SECONDS)
                except subprocess.TimeoutExpired:
                    self._running.kill()
                    raise FaultError(f"{command[0]} has not ended after {COMMAND_SECONDS:.0f} s") from None
        except OSError as error:
            raise FaultError(f"{command[0]} cannot be started: {error.strerror}") from None
        if status := self._running.returncode:
            raise FaultError(f"{command[0]} ended with status {status}: {said.strip().rpartition(chr(10))[2]}")

    def hurry(self) -> None:
        """Kill a command that runs."""
        if self._running is not None and self._running.poll() is None:
            self._running.kill()

    def heal(self) -> None:
        """Undo what is not undone yet."""
        while self.undone:
            self.run(self.undone.pop())


def _heal(target: FaultTarget[CommandTarget]) -> None:
    target.handle.heal()
    target.holds.clear()


COMMAND = TargetKind("command", _heal, hurry=lambda handle: handle.hurry())


def _command(occurrence: Occurrence, target: FaultTarget[CommandTarget]) -> FaultAction:
    handle, commands = target.handle, occurrence.fault.commands
    heal = commands.get("heal")

    def begin() -> None:
        # First: a command that fails may have done a part of it.
        if heal is not None:
            handle.undone.append(heal)
        handle.run(commands["command"])

    def end() -> None:
        if heal in handle.undone:
            handle.undone.remove(heal)
            handle.run(heal)

    return FaultAction(begin, end if occurrence.lasts is not None else None)


COMMAND_FAULTS: Mapping[str, FaultKind] = table(
    FaultKind(
        "command",
        COMMAND,
        "`command` is run, and `heal` when it is over, or at the end of the run. It has taken effect when the command "
        "has ended with status 0",
        _command,
        Extent.EITHER,
        commands=("command", "heal"),
    ),
)
"""Every fault that a command does, by name."""
