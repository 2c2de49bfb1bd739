"""Presets: what a user would pick instead of this project's proxy, really started, each as its documentation advises.

| name | what it is | what it needs |
| --- | --- | --- |
| nginx | `proxy_pass` with the Upgrade headers passed on | `nginx` on PATH |
| haproxy | HTTP mode with a long `timeout tunnel` | `haproxy` on PATH |
| fastify | `@fastify/http-proxy` with `wsReconnect` | `node` on PATH; `npm` once, to install it into the user's cache |
| websockets | an ordinary relay on the library of that name | nothing |

A preset is a class with `describe`, `check` and `command`; a new one is an entry in `PRESETS`. What it is told to do is
a file in the run's folder, so that a reader can check that it was treated fairly.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconnect_harness.sut.base import Listening
from reconnect_harness.sut.presets.fastify import Fastify
from reconnect_harness.sut.presets.haproxy import Haproxy
from reconnect_harness.sut.presets.nginx import Nginx
from reconnect_harness.sut.presets.websockets import Websockets

#: The presets, by the name that `--sut` calls them.
PRESETS: Mapping[str, type[Listening]] = {
    "nginx": Nginx,
    "haproxy": Haproxy,
    "fastify": Fastify,
    "websockets": Websockets,
}
