"""A run as locust's events tell it: what begins with it, what it has to wait for, and what it comes to.

    init            start what the users talk to, if no host is given
    test_start      an empty tally
    all are there   the faults begin
    test_stopping   the faults end; nobody sends any more; what is in flight is awaited; everybody leaves
    test_stop       what the run came to
    quitting        the same where locust ends in the middle of a run; then everything is stopped

`Side` does a process's own users, `Run` is the one that sums up: the local runner, or the master.
"""

from __future__ import annotations

import logging
import resource
import signal
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, NoReturn

import gevent
import psutil
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, Runner, WorkerRunner
from locust.web import WebUI

from reconnect_harness.load import web
from reconnect_harness.load.link import Dialler
from reconnect_harness.load.settings import Settings
from reconnect_harness.load.shapes import STORM, Shape, shape_of
from reconnect_harness.load.summary import Outcome
from reconnect_harness.load.tally import Tally
from reconnect_harness.load.testbed import Fault, Scene, SceneError
from reconnect_harness.load.user_group import REQUEST_TYPE, Crew
from reconnect_harness.load.worker_reports import Roll
from reconnect_harness.values import rate, seconds

logger = logging.getLogger(__name__)

#: Messages between a master and its workers.
DRAIN = "reconnect-drain"
FAULT_OVER = "reconnect-fault-over"
REPORT = "reconnect-report"

#: The key of a worker's tally in the reports that locust sends anyway.
_KEY = "reconnect"

#: How much longer than its settings allow a worker may take for its last word, in seconds.
PATIENCE_SECONDS = 30.0

_POLL_SECONDS = 0.05

#: What comes of a second Ctrl-C.
INTERRUPTED = "it was interrupted again before everything in flight was awaited"


def begin(environment: Environment, runner: Runner | None, web_ui: WebUI | None, **_: Any) -> None:
    """Take part in what locust has begun; a listener of its `init` event."""
    assert runner is not None
    # Each user takes a descriptor; locust asks for 10,000.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C is for locust's main greenlet. Without this it is raised in whichever greenlet runs just then, and ends
        # that one: in a master it may be the one that hears the workers, and a sound run comes to nothing.
        gevent.signal_handler(signal.SIGINT, gevent.kill, gevent.getcurrent(), KeyboardInterrupt)
    crew = Crew.of(environment)
    if isinstance(runner, WorkerRunner):
        WorkerSide(crew, runner)
    else:
        Run(environment, crew, runner, web_ui)


class Side:
    """The users of this process, told by locust's events."""

    def __init__(self, crew: Crew, runner: Runner) -> None:
        self.crew = crew
        self.runner = runner
        self.running = False
        runner.register_message(STORM, self._on_storm)
        runner.register_message(FAULT_OVER, self._on_fault_over)

    def begin(self) -> None:
        """Begin a run."""
        self.running = True
        self.crew.begin()

    def end(self) -> None:
        """Wait for what is in flight, and have everybody leave."""
        self.crew.drain()
        self.crew.leave()

    def _on_storm(self, **_: Any) -> None:
        self.crew.drop_links()

    def _on_fault_over(self, **_: Any) -> None:
        self.crew.fault_over()


class WorkerSide(Side):
    """The same in a worker, which reports to its master."""

    def __init__(self, crew: Crew, runner: WorkerRunner) -> None:
        super().__init__(crew, runner)
        runner.register_message(DRAIN, self._on_drain, concurrent=True)
        events = crew.environment.events
        events.test_start.add_listener(lambda **_: self.begin())
        events.test_stopping.add_listener(lambda **_: self._stopping())
        events.report_to_master.add_listener(self._report)
        events.quitting.add_listener(lambda **_: self._quitting())

    def _report(self, data: dict[str, Any], **_: Any) -> None:
        if self.running:
            data[_KEY] = self.crew.report()

    def _on_drain(self, **_: Any) -> None:
        self._stopping()

    def _stopping(self) -> None:
        if self.running:
            try:
                self.end()
            except KeyboardInterrupt:
                logger.warning(INTERRUPTED)
            self.runner.send_message(REPORT, self.crew.report())

    def _quitting(self) -> None:
        # Ctrl-C and SIGTERM come here while users are still talking.
        self.runner.stop()
        if self.running and self.crew.tally.breaches():
            self.crew.environment.process_exit_code = 1


class Run:
    """The run of a local runner or a master: one after the other, in the web UI."""

    def __init__(self, environment: Environment, crew: Crew, runner: Runner, web_ui: WebUI | None) -> None:
        assert environment.parsed_options is not None
        self.environment = environment
        self.crew = crew
        self.runner = runner
        self.options: Namespace = environment.parsed_options
        self.roll = Roll()
        self.faults: list[Fault] = []
        self.troubles: list[str] = []
        self.outcome: Outcome | None = None
        # What a locustfile brings; `steady` leaves it alone.
        self._own_shape = environment.shape_class
        self._running = False
        self._suffering = False
        self._ending = False
        self._awaiting = False
        # Whether any run, of those that the web UI has started, has broken a promise.
        self._breached = False
        self._scene: Scene | None = None
        self._side = None if isinstance(runner, MasterRunner) else Side(crew, runner)
        self._listen()
        if web_ui is not None:
            web.extend(web_ui, self, self.options.web_base_path)
        self._set_up()

    @property
    def target(self) -> str:
        """What the users talk to, in a line."""
        if self._scene is None:
            return str(self.environment.host or "the hosts of the user classes")
        through = f", links through {self._scene.toxiproxy}" if self._scene.toxiproxy else ""
        return f"{self._scene.system} at {self._scene.url}{through}"

    @property
    def tally(self) -> Tally:
        """What the users did and got in this run, as far as it is known here."""
        return self.crew.tally if self._side is not None else self.roll.tally

    def choose_shape(self, shape: str) -> None:
        """Let the load of the next run go on in this shape: the web UI's form may change it."""
        if not self._running:
            self.options.shape = shape
            self.environment.shape_class = shape_of(self.options, self.runner) or self._own_shape

    # Set-up and the end of it.

    def _listen(self) -> None:
        events = self.environment.events
        events.test_start.add_listener(lambda **_: self._start())
        events.spawning_complete.add_listener(lambda user_count, **_: self._complete(user_count))
        events.test_stopping.add_listener(lambda **_: self._stopping())
        events.test_stop.add_listener(lambda **_: self._stop())
        events.quitting.add_listener(lambda **_: self._quitting())
        events.quit.add_listener(lambda **_: self._last_word())
        if isinstance(self.runner, MasterRunner):
            events.worker_report.add_listener(lambda client_id, data, **_: self._take(client_id, data.get(_KEY)))
            events.worker_connect.add_listener(lambda client_id, **_: self._on_worker(client_id))
            self.runner.register_message(REPORT, lambda environment, msg: self._take(msg.node_id, msg.data))

    def _set_up(self) -> None:
        options = self.options
        self.choose_shape(options.shape)
        given = self.environment.host
        if given and (options.sut is not None):
            self._refuse("there are --host and --sut: give the one that the users are to talk to")
        if not given and all(users.host for users in self.environment.user_classes):
            if options.sut is not None or options.scenario is not None:
                self._refuse(
                    "the user classes have a host of their own: --sut and --scenario need one that is started here"
                )
            return
        if given:
            try:
                Dialler(given)
            except ValueError as error:
                self._refuse(str(error))
            if options.scenario is None:
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
            self._scene = Scene(spec, self._on_fault, self._on_trouble)
        except SceneError as error:
            self._refuse(str(error), error.code)
        self.environment.host = self._scene.url
        logger.info("users talk to %s", self.target)

    def _refuse(self, message: str, code: int = 2) -> NoReturn:
        sys.stderr.write(f"locust: error: {message}\n")
        if self.options.processes:
            # locust tells its workers at the end of a run only; they would wait for their master for a minute.
            for worker in psutil.Process().children():
                worker.terminate()
        sys.exit(code)

    # The run.

    def _start(self) -> None:
        self.faults, self.troubles, self.outcome = [], [], None
        self._running, self._suffering, self._ending = True, False, False
        if self._side is not None:
            self._side.begin()
        elif isinstance(self.runner, MasterRunner):
            self.roll.begin(self._workers_there())

    def _complete(self, users: int) -> None:
        """Begin the faults, once in a run and when all are there: a shape completes spawning again and again."""
        if not self._running or self._suffering or self._scene is None or self._scene.scenario is None:
            return
        shape = self.environment.shape_class
        if not isinstance(shape, Shape) or users >= shape.users:
            self._suffering = True
            self._ask("faults")

    def _stopping(self) -> None:
        if not self._running:
            return
        self._ending = self._awaiting = True
        try:
            self._part()
            if self._side is not None:
                self._side.end()
            else:
                self._await_workers()
        except KeyboardInterrupt:
            self.troubles.append(INTERRUPTED)
        finally:
            self._awaiting = False

    def _part(self) -> None:
        """End the faults, and see whether what the users talk to is still there."""
        if self._scene is not None:
            if self._suffering:
                self._ask("heal")
            elif self._scene.scenario is not None:
                self.troubles.append(
                    f"the faults of {self._scene.scenario} have not begun: the run ended before all users were there"
                )
            self.troubles += self._ask("ends").get("ends", [])

    def _await_workers(self) -> None:
        """Have all workers say their last word, and wait for it; those that are gone have said it or never will."""
        assert isinstance(self.runner, MasterRunner)
        self.runner.send_message(DRAIN)
        # Nothing new may come for `settle` again and again; so the patience is for silence of the workers.
        deadline = time.monotonic() + Settings.of(self.options).settle + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if not self._workers_there().intersection(self.roll.silent):
                return
            gevent.sleep(_POLL_SECONDS)

    def _workers_there(self) -> set[str]:
        assert isinstance(self.runner, MasterRunner)
        return {client.id for client in self.runner.clients.values() if client.state != STATE_MISSING}

    def _stop(self) -> None:
        if not self._running:
            return
        self._running = False
        self.outcome = self._come_to()
        self._breached |= bool(self.tally.breaches())
        if not self.options.headless:
            self.outcome.tell()

    def _come_to(self) -> Outcome:
        if self._side is not None:
            readings, silent = {"this process": self.crew.meter.reading}, {}
        else:
            readings = self.roll.readings
            silent = {worker: self.roll.users_of(worker) for worker in self.roll.silent}
        return Outcome(self.target, self.tally, readings, silent, list(self.faults), list(self.troubles))

    def _quitting(self) -> None:
        # Ctrl-C and SIGTERM come here while users are still talking.
        signal.signal(signal.SIGINT, self._on_another)
        self.runner.stop()
        if self._scene is not None:
            self._scene.stop()
        if self.outcome is not None:
            self.environment.process_exit_code = self._exit_code(self.outcome)

    def _on_another(self, *_: object) -> None:
        """End the wait for what is in flight; what was started is stopped, and the summary told, all the same."""
        if self._awaiting:
            raise KeyboardInterrupt

    def _exit_code(self, outcome: Outcome) -> int | None:
        """Return 1 where something was lost or nobody knows, and else leave it to locust and its other failures.

        That an ordinary user gets a message twice is a failure in the statistics, and within what it is promised.
        """
        if outcome.wrong or self._breached:
            return 1
        others = [
            error for error in self.runner.errors.values() if (error.method, error.name) != (REQUEST_TYPE, "repeated")
        ]
        return None if others or self.runner.exceptions else 0

    def _last_word(self) -> None:
        if self.outcome is not None and self.options.headless:
            self.outcome.tell()
        if self.options.html_file and self.faults:
            report = Path(self.options.html_file)
            report.write_text(web.with_marks(report.read_text(encoding="utf-8"), self.faults), encoding="utf-8")

    # What others say.

    def _on_worker(self, worker: str) -> None:
        # Who comes when the run is ending is given no users any more.
        if self._running and not self._ending:
            self.roll.expect(worker)

    def _take(self, worker: str, report: Any) -> None:
        if report is not None:
            self.roll.take(worker, report)

    def _on_fault(self, fault: Fault) -> None:
        self.faults.append(fault)
        if fault.cleared is not None:
            self.runner.send_message(FAULT_OVER)

    def _on_trouble(self, trouble: str) -> None:
        logger.error("%s", trouble)
        self.troubles.append(trouble)

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._scene is not None
        try:
            return self._scene.ask(command)
        except SceneError as error:
            self._on_trouble(str(error))
            return {}
