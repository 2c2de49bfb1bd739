"""A Toxiproxy server as a child process.

    this process ==pipe==> /bin/sh +-- toxiproxy-server
                                   +-- watcher: reads the pipe, and at its end stops the server

The shell makes sure that the server ends with this process: the pipe ends when this process is killed, even with
SIGKILL. PR_SET_PDEATHSIG was the alternative; it is Linux only, fires when the *thread* that started the server
ends, and needs Python code between fork and exec of a process that has threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_STOP_SECONDS = 5.0

_SUPERVISE = """
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
{ read -r _ <&3; kill "$server"; } & watcher=$!
exec 3<&-
wait "$server"; status=$?
kill "$watcher" 2>/dev/null; wait "$watcher" 2>/dev/null
exit "$status"
"""


class ServerProcess:
    """A server that is started as `command` with the address of its API.

    Args:
        command: the program and its first arguments.
        log: a file to which its output is appended; a temporary one if not given.
    """

    def __init__(self, command: Sequence[str], log: Path | None = None) -> None:
        self.name = " ".join(command)
        self._command = command
        self._log_path = log
        self._log: IO[bytes] | None = None
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id (and group) of the supervising shell, None when it is not started."""
        return None if self._process is None else self._process.pid

    def launch(self, port: int) -> None:
        """Start it, to listen for its API at this port of 127.0.0.1."""
        if self._log_path is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 (`stop` closes it)
        else:
            self._log = self._log_path.open("ab+")
        self._log_start = os.fstat(self._log.fileno()).st_size
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISE, "toxiproxy", *self._command, "-host", "127.0.0.1", "-port", str(port)],
            env={**os.environ, "LOG_LEVEL": "debug"},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # The Ctrl-C of a terminal goes to its whole process group; the links must be healed first.
            start_new_session=True,
        )

    def last_output(self) -> str:
        """Return the last 4 KiB that the server wrote since it was launched."""
        assert self._log is not None
        # The server writes at the offset that it shares with this process, which must not move it.
        descriptor = self._log.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, 4096, max(self._log_start, size - 4096)).decode(errors="replace").strip()

    def ended(self) -> str | None:
        """Return how it has ended, None while it runs."""
        assert self._process is not None
        return None if self._process.poll() is None else f"ended with status {self._process.returncode}"

    def stop(self) -> None:
        """End it: SIGTERM first, SIGKILL after `_STOP_SECONDS`. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log, self._log = self._log, None
        if log is not None:
            log.close()
