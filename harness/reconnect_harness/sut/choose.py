"""Which system under test an option stands for.

| `--sut` | what it is |
| --- | --- |
| (nothing), `reconnect-proxy` | this project's proxy, with the options of the scenario |
| `reconnect-proxy --workers 2` | the same with further options, which take precedence over the scenario's |
| `nginx`, `haproxy`, `fastify`, `websockets` | a preset: the real program, configured for WebSockets (`sut.presets`) |
| `COMMAND {listen} {upstream}` | any proxy; `{listen_port}` and `{upstream_port}` are the ports alone |
| `ws://HOST:PORT/path` | a service that runs already, on any machine (`wss://` too): it brings its own upstream |
| `compose:FILE#SERVICE` | a service of a Docker Compose project, which is started if it does not run |
| `direct` | nothing: the clients talk to the upstream, to measure a run without a proxy |
"""

from __future__ import annotations

import re
import shlex
import zlib
from collections.abc import Mapping

from reconnect_harness.scenario.model import ScenarioError
from reconnect_harness.sut.base import DIRECT, OWN, Command, Direct, GivenUrl, ListeningSystem, SystemUnderTest
from reconnect_harness.sut.compose import ComposeService
from reconnect_harness.sut.own_proxy import OwnProxy
from reconnect_harness.sut.presets.fastify import Fastify
from reconnect_harness.sut.presets.haproxy import Haproxy
from reconnect_harness.sut.presets.nginx import Nginx
from reconnect_harness.sut.presets.websockets import Websockets
from reconnect_proxy.suggestions import did_you_mean

#: The presets by the name that `--sut` takes. A new one is a module in `sut.presets`, and an entry here.
PRESETS: Mapping[str, type[ListeningSystem]] = {
    "nginx": Nginx,
    "haproxy": Haproxy,
    "fastify": Fastify,
    "websockets": Websockets,
}

#: The longest name of a system in the name of a folder.
_NAME_LENGTH = 40


def folder_name(option: str | None) -> str:
    """Return what the folders of runs with a system are called after it."""
    option = option or OWN
    words = [option] if "://" in option else [word.rpartition("/")[2] for word in option.split() if "{" not in word]
    name = re.sub(r"[^A-Za-z0-9._]+", "-", " ".join(words)).strip("-")
    # Two long commands may have the same beginning.
    return name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH].strip('-')}-{zlib.crc32(name.encode()):08x}"


def system_under_test(option: str | None) -> SystemUnderTest:
    """Return the system under test that an option stands for.

    Raises:
        ScenarioError: the option is none of those in the table above.

    """
    if option is None or (option.split()[:1] == [OWN] and "{" not in option):
        return OwnProxy(shlex.split(option or "")[1:])
    if option == DIRECT:
        return Direct()
    if option in PRESETS:
        return PRESETS[option]()
    if option.startswith("compose:"):
        return ComposeService(option)
    if re.match(r"[a-z]+://", option):
        return GivenUrl(option)
    if re.fullmatch(r"[\w-]+", option):
        names = [OWN, *PRESETS, DIRECT]
        raise ScenarioError(
            f"there is no system under test {option!r}: {did_you_mean(option, names)}It is one of {', '.join(names)}, "
            "a command with {listen} and {upstream}, or a URL, ws://HOST:PORT, or compose:FILE#SERVICE"
        )
    return Command(option)
