"""The users of a worker in a run, as locust's events and the messages of its master ask for it."""

from __future__ import annotations

import logging
from typing import Any

from locust.runners import WorkerRunner

from reconnect_harness.load.user_group import UserGroup

logger = logging.getLogger(__name__)

#: Messages between a master and its workers.
DRAIN = "reconnect-drain"
REPORT = "reconnect-report"

#: The key of a worker's report in the reports that locust sends anyway.
REPORT_KEY = "reconnect"

#: Why a run is unknown after a second Ctrl-C.
INTERRUPTED = "it was interrupted again before everything in flight was awaited"


class WorkerUsers:
    """The users of a worker, which reports to its master."""

    def __init__(self, group: UserGroup, runner: WorkerRunner) -> None:
        self.group = group
        self.runner = runner
        self.running = False
        group.listen(runner)
        runner.register_message(DRAIN, lambda **_: self._stopping(), concurrent=True)
        events = group.environment.events
        events.test_start.add_listener(lambda **_: self._start())
        events.test_stopping.add_listener(lambda **_: self._stopping())
        events.report_to_master.add_listener(self._report)
        events.quitting.add_listener(lambda **_: self._quitting())

    def _start(self) -> None:
        self.running = True
        self.group.begin()

    def _report(self, data: dict[str, Any], **_: Any) -> None:
        if self.running:
            data[REPORT_KEY] = self.group.report()

    def _stopping(self) -> None:
        if self.running:
            try:
                self.group.end()
            except KeyboardInterrupt:
                logger.warning(INTERRUPTED)
            self.runner.send_message(REPORT, self.group.report())

    def _quitting(self) -> None:
        # After Ctrl-C and SIGTERM users may still be talking.
        self.runner.stop()
        if self.running and self.group.tally.breaches():
            self.group.environment.process_exit_code = 1
