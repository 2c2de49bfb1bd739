"""The testbed of a load run, `load.testbed_process`, as seen from locust. It ends when this process does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import gevent
from gevent.queue import Empty, Queue

from reconnect_harness.history.record import FaultRecord

#: How long everything may take to start, to answer and to stop, in seconds. A Toxiproxy may have to be built first.
START_SECONDS = 300.0
ANSWER_SECONDS = 60.0
STOP_SECONDS = 30.0


class TestbedError(Exception):
    """The testbed could not be started, or has ended. `code` is the exit code for locust."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class FaultTimes(FaultRecord):
    """A fault, with moments in seconds since 1970."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.target}: {self.name}"


class LoadTestbed:
    """What is started for a run that is given no host: see `load.testbed_process.play` for `spec`.

    `on_fault` is called with each fault, when it is over or has failed, and `on_trouble` with a sentence when something
    in the testbed has failed.

    Raises:
        TestbedError: it could not be started.

    """

    def __init__(
        self, spec: Mapping[str, Any], on_fault: Callable[[FaultTimes], None], on_trouble: Callable[[str], None]
    ) -> None:
        self._on_fault = on_fault
        self._on_trouble = on_trouble
        self._answers: Queue[dict[str, Any] | None] = Queue()
        self._stopping = False
        command = [sys.executable, "-P", "-m", "reconnect_harness.load.testbed_process", json.dumps(spec)]
        # In a session of its own: Ctrl-C is for locust, which stops the testbed when the users have left.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        self._reading = gevent.spawn(self._read)
        try:
            ready = self._ready()
        except BaseException:
            self.stop()
            raise
        # Where users are to connect.
        self.url: str = ready["ready"]
        # The system under test, and the Toxiproxy that the links are led through, if they are, in a line each.
        self.system: str = ready["system"]
        self.toxiproxy: str | None = ready["toxiproxy"]
        # The name of the scenario whose faults are to be done, if any.
        self.scenario: str | None = ready["scenario"]

    def ask(self, command: str) -> dict[str, Any]:
        """Give a command and return the answer, or raise TestbedError."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as failure:
            raise TestbedError(f"what the users talk to is gone: {failure}") from failure
        return self._next(ANSWER_SECONDS)

    def stop(self) -> None:
        """Stop it with all that it has started. May be called twice."""
        self._stopping = True
        assert self._process.stdin is not None
        # It may have ended already.
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reading.join()

    def _ready(self) -> dict[str, Any]:
        ready = self._next(START_SECONDS)
        if "error" in ready:
            raise TestbedError(ready["error"], ready["code"])
        return ready

    def _next(self, within: float) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=within)
        except Empty:
            raise TestbedError(f"what the users talk to has not answered for {within:g} s") from None
        if answer is None:
            # Put back, for later questions.
            self._answers.put(None)
            raise TestbedError("what the users talk to has ended")
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "fault" in message:
                self._on_fault(FaultTimes(**message["fault"]))
            elif "trouble" in message:
                self._on_trouble(message["trouble"])
            else:
                self._answers.put(message)
        self._answers.put(None)
        if not self._stopping:
            self._on_trouble("what the users talk to has ended in the middle of the run")
