"""The options that a load run has beside locust's own; each may be a LOCUST_… variable, or stand in locust's files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from locust.argument_parser import LocustArgumentParser

from reconnect_harness.load.settings import addresses, authority, size, talkative
from reconnect_harness.load.shapes import SHAPES
from reconnect_harness.values import rate, seconds


def _text(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Return a type of argument that is kept as it was typed, if it can be parsed."""

    def checked(given: str) -> str:
        try:
            parse(given)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return given

    return checked


#: What each user is told: name, then what argparse is told of it.
_USERS: Mapping[str, dict[str, Any]] = {
    "--rate": {
        "type": _text(talkative),
        "default": "1/s",
        "metavar": "<rate>",
        "help": "How much each user sends: 1/s, 30/m. Default: 1/s.",
    },
    "--size": {
        "type": _text(size),
        "default": "128",
        "metavar": "<size>",
        "help": "How large messages are, in bytes: 128, 4KiB, 16..4KiB. Default: 128.",
    },
    "--settle": {
        "type": _text(seconds),
        "default": "10s",
        "metavar": "<time>",
        "help": "How long nothing new may come at the end until what is in flight is lost. Default: 10s.",
    },
    "--retry-for": {
        "type": _text(seconds),
        "default": "60s",
        "metavar": "<time>",
        "help": "How long a user whose link is lost tries to come back. Default: 60s.",
    },
}

#: How this process connects, and what a run without --host talks to; none of it is for the web UI.
_PROCESS: Mapping[str, dict[str, Any]] = {
    "--source-address": {
        "type": _text(addresses),
        "metavar": "<address,…>",
        "help": "Own addresses to connect from, in turn; each pair of addresses has some 28,000 ports.",
    },
    "--ca": {
        "type": _text(authority),
        "metavar": "<file>",
        "help": "Certificates to trust at a wss:// host. Default: the system's.",
    },
    "--sut": {
        "metavar": "<name|command>",
        "help": "Without --host: the system under test to start between the users and a mock upstream. reconnect-proxy "
        "(the default), nginx, haproxy, fastify, websockets, direct, or 'COMMAND {listen} {upstream}'.",
    },
    "--scenario": {
        "metavar": "<name|file>",
        "help": "Do the faults of this scenario to the links while the load goes on, from when all users are there.",
    },
    "--scenario-every": {
        "type": _text(seconds),
        "metavar": "<time>",
        "help": "Do them again and again, so long from one begin to the next. Default: once.",
    },
    "--scenario-seed": {
        "type": int,
        "default": 1,
        "metavar": "<n>",
        "help": "What random parts of the faults are drawn from. Default: 1.",
    },
    "--toxiproxy": {
        "metavar": "<url|binary|docker[:image]|embedded>",
        "help": "Which Toxiproxy to use for the faults. Default: the first that is found.",
    },
    "--push": {
        "type": _text(rate),
        "default": "0.5/s",
        "metavar": "<rate>",
        "help": "Without --host: what the mock upstream sends each user beside its echoes. Default: 0.5/s.",
    },
}

#: How the load goes on over time.
_SHAPE: Mapping[str, dict[str, Any]] = {
    "--shape": {
        "choices": ["steady", *SHAPES],
        "default": "steady",
        "help": "How the load goes on: steady, ramp (grows for two thirds of the run), spike (a fifth of the users, "
        "and all for a while), reconnect-storm (all links are dropped at once, again and again). Default: steady.",
    },
    "--storm-every": {
        "type": _text(seconds),
        "default": "15s",
        "metavar": "<time>",
        "help": "How long it is from one reconnect storm to the next. Default: 15s.",
    },
}


def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    """Add the options to locust's parser."""
    group = parser.add_argument_group("WebSocket load (reconnect-proxy)")
    for options, shown in ((_USERS, True), (_SHAPE, True), (_PROCESS, False)):
        for flag, told in options.items():
            variable = f"LOCUST_{flag[2:].replace('-', '_').upper()}"
            action = group.add_argument(flag, env_var=variable, **told)
            # argparse's groups know nothing of what locust's parser adds to an argument.
            action.include_in_web_ui = shown
            action.is_secret = action.is_required = action.is_multiple = False
