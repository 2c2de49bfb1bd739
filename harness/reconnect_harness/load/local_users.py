"""The users of a process in a run, as locust's events and the messages of other processes ask for it."""

from __future__ import annotations

import logging
from typing import Any

from locust.runners import Runner, WorkerRunner

from reconnect_harness.load.shapes import STORM
from reconnect_harness.load.user_group import UserGroup

logger = logging.getLogger(__name__)

#: Messages between a master and its workers.
DRAIN = "reconnect-drain"
FAULT_OVER = "reconnect-fault-over"
REPORT = "reconnect-report"

#: The key of a worker's report in the reports that locust sends anyway.
REPORT_KEY = "reconnect"

#: Why a run is unknown after a second Ctrl-C.
INTERRUPTED = "it was interrupted again before everything in flight was awaited"


class LocalUsers:
    """The users of this process, as locust's events ask for it."""

    def __init__(self, group: UserGroup, runner: Runner) -> None:
        self.group = group
        self.runner = runner
        self.running = False
        runner.register_message(STORM, self._on_storm)
        runner.register_message(FAULT_OVER, self._on_fault_over)

    def begin(self) -> None:
        self.running = True
        self.group.begin()

    def end(self) -> None:
        """Wait for what is in flight, and have all users leave."""
        self.group.drain()
        self.group.leave()

    def _on_storm(self, **_: Any) -> None:
        self.group.drop_links()

    def _on_fault_over(self, **_: Any) -> None:
        self.group.fault_over()


class WorkerUsers(LocalUsers):
    """The users of a worker, which reports to its master."""

    def __init__(self, group: UserGroup, runner: WorkerRunner) -> None:
        super().__init__(group, runner)
        runner.register_message(DRAIN, self._on_drain, concurrent=True)
        events = group.environment.events
        events.test_start.add_listener(lambda **_: self.begin())
        events.test_stopping.add_listener(lambda **_: self._stopping())
        events.report_to_master.add_listener(self._report)
        events.quitting.add_listener(lambda **_: self._quitting())

    def _report(self, data: dict[str, Any], **_: Any) -> None:
        if self.running:
            data[REPORT_KEY] = self.group.report()

    def _on_drain(self, **_: Any) -> None:
        self._stopping()

    def _stopping(self) -> None:
        if self.running:
            try:
                self.end()
            except KeyboardInterrupt:
                logger.warning(INTERRUPTED)
            self.runner.send_message(REPORT, self.group.report())

    def _quitting(self) -> None:
        # After Ctrl-C and SIGTERM users may still be talking.
        self.runner.stop()
        if self.running and self.group.tally.breaches():
            self.group.environment.process_exit_code = 1
