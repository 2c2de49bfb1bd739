"""Takes part in a locust process, as a listener of its events: imported by each locustfile with WebSocket users."""

from __future__ import annotations

import resource
import signal
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import Runner, WorkerRunner
from locust.web import WebUI

from reconnect_harness.load import web
from reconnect_harness.load.options import add_options
from reconnect_harness.load.run import LoadRun
from reconnect_harness.load.user_group import UserGroup
from reconnect_harness.load.worker_users import WorkerUsers


def begin(environment: Environment, runner: Runner | None, web_ui: WebUI | None, **_: Any) -> None:
    """Begin when locust has begun; a listener of its `init` event."""
    assert runner is not None
    # Each user needs a descriptor; locust asks for 10,000.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Python raises KeyboardInterrupt in the greenlet that runs just then, and ends that one. In a master it may be
        # the greenlet that hears the workers, and the run is lost. So it is raised in locust's main greenlet.
        gevent.signal_handler(signal.SIGINT, gevent.kill, gevent.getcurrent(), KeyboardInterrupt)
    group = UserGroup.of(environment)
    if isinstance(runner, WorkerRunner):
        WorkerUsers(group, runner)
    else:
        run = LoadRun(environment, group, runner)
        environment.events.quit.add_listener(lambda **_: web.mark_report(run))
        if web_ui is not None:
            # Before the first request, which may come while everything is started.
            web.extend(web_ui, run)
        run.set_up()


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(begin)
