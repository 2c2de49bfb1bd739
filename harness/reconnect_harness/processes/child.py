"""The processes of a run, seen from the run: started in a session of their own, stopped on every path.

A `Child` is any command. An `Actor` is a program of the harness (`peers.upstreams`, `peers.clients`) with which the run
talks in JSON lines; `processes.actor` is its other side. The `Warden` kills the processes that are left if the run
itself is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

#: How long a process is given to end by itself, in seconds, before it is killed.
STOP_SECONDS = 5.0

#: How long an actor may take to start or to answer, in seconds. Generous: the machine may be busy.
ANSWER_SECONDS = 30.0

_KEEP_WATCH = """
groups=
while read -r group; do
    if [ "$group" = none ]; then groups=; else groups="$groups $group"; fi
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
exit 0
"""


class ProcessFailed(Exception):
    """A process of the run did not start, died, or does not answer. The message ends with its last lines of output."""


class Warden:
    """Kills the process groups that it watches when this process has ended. A context manager.

    It is a shell at the other end of a pipe: the pipe ends even when this process is killed with SIGKILL. (The same is
    done for Toxiproxy, `toxiproxy.process`; PR_SET_PDEATHSIG is Linux only, and fires when the thread that started a
    process ends.)
    """

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(["/bin/sh", "-c", _KEEP_WATCH], stdin=subprocess.PIPE, start_new_session=True)
        return self

    def __exit__(self, *exception: object) -> None:
        # Everything has been stopped by now, and the numbers may soon be those of other processes.
        self._tell("none")
        self._pipe.close()
        self._process.wait()

    def watch(self, child: Child) -> None:
        """Kill the group of `child` when this process dies."""
        self._tell(str(child.pid))

    def _tell(self, line: str) -> None:
        self._pipe.write(f"{line}\n".encode())
        self._pipe.flush()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


class Child:
    """One started command, in a session and process group of its own. Make it with `start`.

    Attributes:
        name: what it is called in messages.
        log: the file of its output.

    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        log: Path,
        warden: Warden,
        *,
        environ: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> Self:
        """Start `command`.

        Args:
            name: what it is called in messages.
            command: the program and its arguments.
            log: a file to which its stderr, and its stdout where that is no pipe, is appended.
            warden: ends it if this process dies.
            environ: its environment, that of this process if not given.
            piped: whether its stdin and stdout are pipes to this process.

        Raises:
            ProcessFailed: there is no such program.

        """
        pipe = asyncio.subprocess.PIPE
        with log.open("ab") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=pipe if piped else asyncio.subprocess.DEVNULL,
                    stdout=pipe if piped else output,
                    stderr=output,
                    env=environ,
                    start_new_session=True,
                )
            except OSError as failure:
                raise ProcessFailed(f"{name} cannot be started: {command[0]}: {failure.strerror}") from failure
        child = cls(name, process, log)
        warden.watch(child)
        return child

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group as well."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative where a signal ended it; None while it runs."""
        return self._process.returncode

    def last_lines(self, count: int = 15) -> str:
        """Return the last lines of its output, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-count:] if self.log.exists() else []
        return "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"

    def failure(self, what: str) -> ProcessFailed:
        """Return the error that says `what` of this process, with its last lines."""
        return ProcessFailed(f"{self.name} {what}. Its last lines of output:\n{self.last_lines()}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all its descendants in its group, if any of them still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def stop(self) -> None:
        """End it: SIGTERM first, SIGKILL after `STOP_SECONDS` or when cancelled. May be called twice."""
        try:
            # A process that a fault has stopped reacts to no other signal.
            self.send_signal(signal.SIGCONT)
            self.send_signal(signal.SIGTERM)
            await self.wait()
        finally:
            self.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def wait(self, within: float = STOP_SECONDS) -> int | None:
        """Wait until it has ended; return its exit status, or None if it still runs after `within` seconds."""
        # Not wait_for, which loses a cancellation when the process ends at the same time (Python 3.11).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._process.wait()
        return self.returncode


class Actor(Child):
    """A program of the harness that runs in a process of its own: see `processes.actor`."""

    @classmethod
    async def launch(cls, name: str, module: str, spec: Mapping[str, Any], log: Path, warden: Warden) -> Self:
        """Start `python -P -m MODULE SPEC`, with the mapping `spec` as JSON."""
        # -P: modules in the user's folder are not imported, even if they have names of the harness.
        command = [sys.executable, "-P", "-m", module, json.dumps(spec)]
        return await cls.start(name, command, log, warden, piped=True)

    async def ask(self, command: str, within: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Send a one-word command and return the answer, or raise ProcessFailed after `within` seconds."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{command}\n".encode())
            await self._process.stdin.drain()
        except OSError:
            raise self.failure(f"had ended before the command {command}") from None
        return await self.hear(within)

    async def hear(self, within: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Return the next line that it writes, or raise ProcessFailed after `within` seconds."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.failure(f"has not answered for {within:g} s") from None
        if not line:
            await self.wait()
            raise self.failure(f"ended with status {self.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> None:
        """End it by the end of its stdin, and by SIGKILL if that does not end it in `STOP_SECONDS`."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await self.wait()
        finally:
            self.send_signal(signal.SIGKILL)
        await self._process.wait()
