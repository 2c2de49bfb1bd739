"""Listens to locust's events. It is imported once, by every locustfile that uses WebSocket users."""

from locust import events

from reconnect_harness.load.options import add_options
from reconnect_harness.load.run import begin

events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(begin)
