"""A load run, driven by locust's events: what is started for it, what it waits for, and its result.

    init            start the testbed, if no host is given
    test_start      an empty tally
    all have joined the faults begin
    test_stopping   the faults end; no user sends any more; what is in flight is awaited; all users leave
    test_stop       the result of the run
    quitting        the same if locust ends in the middle of a run; then the testbed is stopped

`LoadRun` is in the process that sums up: that of the local runner or of the master. `load.worker_users` drives the
users of a worker.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from argparse import Namespace
from typing import Any, NoReturn

import gevent
import psutil
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, Runner

from reconnect_harness.load.link import LinkFailed, LinkMaker
from reconnect_harness.load.settings import UserSettings
from reconnect_harness.load.shapes import LoadShape, shape_of
from reconnect_harness.load.summary import LoadResult
from reconnect_harness.load.tally import Tally, WorkerReports
from reconnect_harness.load.testbed import FaultTimes, LoadTestbed, TestbedError
from reconnect_harness.load.user_group import FAULT_OVER, REQUEST_TYPE, UserGroup
from reconnect_harness.load.worker_users import DRAIN, INTERRUPTED, REPORT, REPORT_KEY
from reconnect_harness.values import rate, seconds

logger = logging.getLogger(__name__)

#: How much longer than `--settle` a worker may take for its final report, in seconds.
PATIENCE_SECONDS = 30.0
#: In which a host that was given must accept a connection, before the run begins.
REACHED_WITHIN = 5.0

_POLL_SECONDS = 0.05


class LoadRun:
    """The runs of a local runner or a master: several, one after the other, in the web UI."""

    def __init__(self, environment: Environment, group: UserGroup, runner: Runner) -> None:
        assert environment.parsed_options is not None
        self.environment = environment
        self.group = group
        self.runner = runner
        self.options: Namespace = environment.parsed_options
        self.reports = WorkerReports()
        # The faults of this run so far, what keeps its verdict from being known, one sentence each, and its result.
        self.faults: list[FaultTimes] = []
        self.troubles: list[str] = []
        self.result: LoadResult | None = None
        # The shape of the locustfile, which `steady` leaves in place.
        self._own_shape = environment.shape_class
        self._running = False
        self._faults_begun = False
        self._ending = False
        self._awaiting = False
        # Whether any run of this process, in the web UI, has broken a guarantee.
        self._breached = False
        self._testbed: LoadTestbed | None = None
        # Whether the users are in this process.
        self._local = not isinstance(runner, MasterRunner)
        if self._local:
            group.listen(runner)
        self._listen()

    @property
    def target(self) -> str:
        """What the users talk to, in a line."""
        if self._testbed is None:
            return str(self.environment.host or "the hosts of the user classes")
        through = f", links through {self._testbed.toxiproxy}" if self._testbed.toxiproxy else ""
        return f"{self._testbed.system} at {self._testbed.url}{through}"

    @property
    def tally(self) -> Tally:
        """What the users have sent and received in this run, as far as it is known here."""
        return self.group.tally if self._local else self.reports.tally

    def choose_shape(self, shape: str) -> None:
        """Use this shape in the next run: the web UI's form may change it."""
        if not self._running:
            self.options.shape = shape
            self.environment.shape_class = shape_of(self.options, self.runner) or self._own_shape

    # Set-up.

    def _listen(self) -> None:
        events = self.environment.events
        events.test_start.add_listener(lambda **_: self._start())
        events.spawning_complete.add_listener(lambda user_count, **_: self._complete(user_count))
        events.test_stopping.add_listener(lambda **_: self._stopping())
        events.test_stop.add_listener(lambda **_: self._stop())
        events.quitting.add_listener(lambda **_: self._quitting())
        events.quit.add_listener(lambda **_: self._quit())
        if isinstance(self.runner, MasterRunner):
            events.worker_report.add_listener(lambda client_id, data, **_: self._take(client_id, data.get(REPORT_KEY)))
            events.worker_connect.add_listener(lambda client_id, **_: self._on_worker(client_id))
            self.runner.register_message(REPORT, lambda environment, msg: self._take(msg.node_id, msg.data))

    def set_up(self) -> None:
        """Start what the users talk to, if no host is given, or tell why that cannot be and exit."""
        options = self.options
        self.choose_shape(options.shape)
        given = self.environment.host
        if not self._needs_testbed(given):
            return
        spec = {
            "sut": options.sut,
            "toxiproxy": options.toxiproxy,
            "scenario": options.scenario,
            "every": seconds(options.scenario_every) if options.scenario_every else None,
            "seed": options.scenario_seed,
            "push": rate(options.push),
            "host": given,
        }
        try:
            self._testbed = LoadTestbed(spec, self._on_fault, self._on_trouble)
        except TestbedError as error:
            self._refuse(str(error), error.code)
        self.environment.host = self._testbed.url
        logger.info("users talk to %s", self.target)

    def _needs_testbed(self, given: str | None) -> bool:
        """Check that the options fit together; return whether something has to be started here."""
        options = self.options
        if given and options.sut is not None:
            self._refuse("--host and --sut exclude each other: give the one that the users are to talk to")
        if not given and all(users.host for users in self.environment.user_classes):
            if options.sut is not None or options.scenario is not None:
                self._refuse(
                    "the user classes have a host of their own: --sut and --scenario need one that is started here"
                )
            return False
        if given:
            try:
                settings = UserSettings.of(options)
                host = LinkMaker(given, settings.source_address, settings.ca)
                # In a distributed run the workers connect, and they may be elsewhere.
                if self._local:
                    host.reach(REACHED_WITHIN)
            except ValueError as error:
                self._refuse(str(error))
            except LinkFailed as error:
                self._refuse(f"the host {given!r} cannot be reached: {error}")
        return not given or options.scenario is not None

    def _refuse(self, message: str, code: int = 2) -> NoReturn:
        sys.stderr.write(f"locust: error: {message}\n")
        if self.options.processes:
            # locust stops its workers only at the end of a run; they would wait for their master for a minute.
            for worker in psutil.Process().children():
                worker.terminate()
        sys.exit(code)

    # The run.

    def _start(self) -> None:
        self.faults, self.troubles, self.result = [], [], None
        self._running, self._faults_begun, self._ending = True, False, False
        if self._local:
            self.group.begin()
        else:
            self.reports.begin(self._present_workers())

    def _complete(self, users: int) -> None:
        """Begin the faults, once in a run and when all users have joined: a shape completes spawning several times."""
        if not self._running or self._faults_begun or self._testbed is None or self._testbed.scenario is None:
            return
        shape = self.environment.shape_class
        if not isinstance(shape, LoadShape) or users >= shape.users:
            self._faults_begun = True
            self._ask("faults")

    def _stopping(self) -> None:
        if not self._running:
            return
        self._ending = self._awaiting = True
        try:
            self._end_faults()
            if self._local:
                self.group.end()
            else:
                self._await_workers()
        except KeyboardInterrupt:
            self.troubles.append(INTERRUPTED)
        finally:
            self._awaiting = False

    def _end_faults(self) -> None:
        """End the faults, and check that what the users talk to still runs."""
        if self._testbed is not None:
            if self._faults_begun:
                self._ask("heal")
            elif self._testbed.scenario is not None:
                self.troubles.append(
                    f"the faults of {self._testbed.scenario} have not begun: the run ended before all users were there"
                )
            self.troubles += self._ask("ends").get("ends", [])

    def _await_workers(self) -> None:
        """Ask all workers for their final reports, and wait for those of the workers that still exist."""
        assert isinstance(self.runner, MasterRunner)
        self.runner.send_message(DRAIN)
        # A worker waits until nothing new has come for `settle`, and then reports.
        deadline = time.monotonic() + UserSettings.of(self.options).settle + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if not self._present_workers().intersection(self.reports.unfinished):
                return
            gevent.sleep(_POLL_SECONDS)

    def _present_workers(self) -> set[str]:
        assert isinstance(self.runner, MasterRunner)
        return {client.id for client in self.runner.clients.values() if client.state != STATE_MISSING}

    def _stop(self) -> None:
        if not self._running:
            return
        self._running = False
        self.result = self._sum_up()
        self._breached |= bool(self.tally.breaches())
        if not self.options.headless:
            self.result.print()

    def _sum_up(self) -> LoadResult:
        if self._local:
            readings, unfinished = {"this process": self.group.generator.reading}, {}
        else:
            readings = self.reports.readings
            unfinished = {worker: self.reports.users_of(worker) for worker in self.reports.unfinished}
        return LoadResult(self.target, self.tally, readings, unfinished, list(self.faults), list(self.troubles))

    def _quitting(self) -> None:
        # After Ctrl-C and SIGTERM users may still be talking.
        signal.signal(signal.SIGINT, self._on_second_interrupt)
        self.runner.stop()
        if self._testbed is not None:
            self._testbed.stop()
        if self.result is not None:
            self.environment.process_exit_code = self._exit_code(self.result)

    def _on_second_interrupt(self, *_: object) -> None:
        """End the wait for what is in flight. The testbed is still stopped, and the summary printed."""
        if self._awaiting:
            raise KeyboardInterrupt

    def _exit_code(self, result: LoadResult) -> int | None:
        """Return 1 if something was lost or is unknown; else None, which leaves it to locust and its other failures.

        A message that arrives twice at an ordinary user is a failure in the statistics, but breaks no guarantee: if
        there are no other failures, return 0.
        """
        if result.wrong or self._breached:
            return 1
        others = [
            error for error in self.runner.errors.values() if (error.method, error.name) != (REQUEST_TYPE, "repeated")
        ]
        return None if others or self.runner.exceptions else 0

    def _quit(self) -> None:
        if self.result is not None and self.options.headless:
            self.result.print()

    # Events of workers and of the testbed.

    def _on_worker(self, worker: str) -> None:
        # A worker that joins while the run is ending is given no users.
        if self._running and not self._ending:
            self.reports.expect(worker)

    def _take(self, worker: str, report: Any) -> None:
        if report is not None:
            self.reports.take(worker, report)

    def _on_fault(self, fault: FaultTimes) -> None:
        self.faults.append(fault)
        if fault.cleared is not None:
            self.runner.send_message(FAULT_OVER)

    def _on_trouble(self, trouble: str) -> None:
        logger.error("%s", trouble)
        self.troubles.append(trouble)

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._testbed is not None
        try:
            return self._testbed.ask(command)
        except TestbedError as error:
            self._on_trouble(str(error))
            return {}
