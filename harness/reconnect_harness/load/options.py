"""The options of a load run, in addition to locust's own. Each may also be a LOCUST_… variable or in locust's files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from locust.argument_parser import LocustArgumentParser

from reconnect_harness.load.settings import adapter, addresses, authority, positive_rate, size
from reconnect_harness.load.shapes import SHAPES
from reconnect_harness.values import rate, seconds


def _text(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Return a type of argument whose value stays the text that was typed, after a check that it can be parsed."""

    def checked(given: str) -> str:
        try:
            parse(given)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return given

    return checked


#: The options of each user: the name, and the arguments for argparse.
_USERS: Mapping[str, dict[str, Any]] = {
    "--rate": {
        "type": _text(positive_rate),
        "default": "1/s",
        "metavar": "<rate>",
        "help": "How many messages each user sends: 1/s, 30/m. Default: 1/s.",
    },
    "--size": {
        "type": _text(size),
        "default": "128",
        "metavar": "<size>",
        "help": "The size of messages in bytes: 128, 4KiB, 16..4KiB. Default: 128.",
    },
    "--settle": {
        "type": _text(seconds),
        "default": "10s",
        "metavar": "<time>",
        "help": "How long no answer may arrive at the end before messages in flight count as lost. Default: 10s.",
    },
    "--retry-for": {
        "type": _text(seconds),
        "default": "60s",
        "metavar": "<time>",
        "help": "How long a user whose link is lost tries to reconnect. Default: 60s.",
    },
}

#: How this process connects, and what a run without --host starts; the web UI does not show these.
_PROCESS: Mapping[str, dict[str, Any]] = {
    "--source-address": {
        "type": _text(addresses),
        "metavar": "<address,…>",
        "help": "Own addresses to connect from, in turn. One pair of addresses has some 28,000 ports.",
    },
    "--ca": {
        "type": _text(authority),
        "metavar": "<file>",
        "help": "Certificates to trust with a wss:// host. Default: those of the system.",
    },
    "--adapter": {
        "type": _text(adapter),
        "metavar": "<name|module:class>",
        "help": "With --host: how messages look in the protocol of an application: text, json, socketio, graphql-ws, "
        "stomp, a class of your own, or with attributes '{json: {field: body, to: others}}'.",
    },
    "--sut": {
        "metavar": "<name|command>",
        "help": "Without --host: the system under test, which is started between the users and a mock upstream: "
        "reconnect-proxy (the default), nginx, haproxy, fastify, websockets, direct, or 'COMMAND {listen} {upstream}'.",
    },
    "--scenario": {
        "metavar": "<name|file>",
        "help": "Do the faults of this scenario during the load, from the moment when all users have started.",
    },
    "--scenario-every": {
        "type": _text(seconds),
        "metavar": "<time>",
        "help": "Repeat the faults; the time from one start to the next. Default: once.",
    },
    "--scenario-seed": {
        "type": int,
        "default": 1,
        "metavar": "<n>",
        "help": "The seed for the random parts of the faults. Default: 1.",
    },
    "--toxiproxy": {
        "metavar": "<url|binary|docker[:image]|embedded>",
        "help": "Which Toxiproxy to use for the faults. Default: the first one that is found.",
    },
    "--push": {
        "type": _text(rate),
        "default": "0.5/s",
        "metavar": "<rate>",
        "help": "Without --host: how many messages the mock upstream pushes to each user. Default: 0.5/s.",
    },
}

#: How the load changes over time.
_SHAPE: Mapping[str, dict[str, Any]] = {
    "--shape": {
        "choices": ["steady", *SHAPES],
        "default": "steady",
        "help": "How the load changes over time: steady, ramp (grows for two thirds of the run), spike (a fifth of the "
        "users, and all of them for a while), reconnect-storm (all links are dropped at once, again and again). "
        "Default: steady.",
    },
    "--storm-every": {
        "type": _text(seconds),
        "default": "15s",
        "metavar": "<time>",
        "help": "The time from one reconnect storm to the next. Default: 15s.",
    },
}


def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    group = parser.add_argument_group("WebSocket load (reconnect-proxy)")
    for options, shown in ((_USERS, True), (_SHAPE, True), (_PROCESS, False)):
        for flag, told in options.items():
            variable = f"LOCUST_{flag[2:].replace('-', '_').upper()}"
            action = group.add_argument(flag, env_var=variable, **told)
            # locust's parser sets these attributes, but argparse's groups do not.
            action.include_in_web_ui = shown
            action.is_secret = action.is_required = action.is_multiple = False
