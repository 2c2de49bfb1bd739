"""README.md: its commands for one proxy and for a pair, with free ports in place of those that it names."""

import shlex
from pathlib import Path

import pytest

from .conftest import Serve
from .ordinary import Talker, conversation, ordinary_server
from .relay import Relay
from .waiting import numbered, without_repeats

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[2:] for line in README.splitlines() if line.startswith("reconnect-proxy serve")]


def options(mode: str | None) -> list[str]:
    """Return the options of the one command with this `--mode`, without its addresses."""
    modes = [command[command.index("--mode") + 1] if "--mode" in command else None for command in COMMANDS]
    found = list(COMMANDS[modes.index(mode)])
    assert modes.count(mode) == 1
    for flag in ("--upstream", "--listen"):
        position = found.index(flag)
        del found[position : position + 2]
    return found


@pytest.mark.parametrize("pair", [False, True], ids=["one proxy", "pair"])
async def test_the_client_notices_no_cut(serve: Serve, pair: bool) -> None:
    """Between proxy and server, or between the two proxies; through the pair each message arrives once."""
    server, client = Talker(numbered("u2c", 100), 100), Talker(numbered("c2u", 100), 100)
    async with ordinary_server(server.converse) as port:
        if pair:
            receiver = await serve(f"ws://127.0.0.1:{port}", *options("receiver"))
            port = int(receiver.url.rpartition(":")[2])
        async with Relay(port) as network:
            proxy = await serve(network.url, *options("sender" if pair else None))
            async with conversation(proxy.url, client) as connection:
                for connections in (2, 3):
                    await client.heard.reaches(20 * connections)
                    network.cut()
                    await network.reaches(connections)
                await server.heard.until(lambda heard: client.to_say[-1] in heard)
                if pair:
                    await client.heard.reaches(100)
                assert connection.close_code is None
    assert without_repeats(server.heard.items) == client.to_say
    if pair:
        assert server.heard.items == client.to_say
        assert client.heard.items == server.to_say
        assert server.connections == 1
