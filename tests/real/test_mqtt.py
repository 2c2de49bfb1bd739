"""MQTT over WebSocket: mosquitto, with clients in Python (paho) and in Node (mqtt.js)."""

from __future__ import annotations

import pytest

from .install import command_path
from .network import cut_and_come_back, cut_while_it_works, told_and_back
from .testbed import Server, Testbed

CLIENTS = [
    pytest.param(
        "mqtt_client.py",
        marks=pytest.mark.xfail(
            strict=True,
            reason="paho-mqtt 2.2.0 takes X-Connection-Id in a 101 for Connection, and does not mask its Pongs",
        ),
    ),
    "mqtt_client.js",
]
pytestmark = [pytest.mark.needs("MQTT"), pytest.mark.parametrize("script", CLIENTS)]


async def start_mosquitto(testbed: Testbed) -> Server:
    """Start a broker that speaks WebSocket. Without an ordinary listener mosquitto 2.0.11 does not start."""
    port = testbed.port()
    file = testbed.folder / "mosquitto.conf"
    # Without socket_domain it would listen on all addresses.
    speaks = f"listener {port} 127.0.0.1\nprotocol websockets\nsocket_domain ipv4\n"
    file.write_text(f"allow_anonymous true\nlistener {testbed.port()} 127.0.0.1\n{speaks}")
    mosquitto = command_path("mosquitto")
    assert mosquitto is not None
    return await testbed.serve("mosquitto", [mosquitto, "-c", str(file)], port)


async def test_pair(testbed: Testbed, script: str) -> None:
    """Publications of QoS 0 and 1 arrive once and in order, both ways; the client is not disconnected."""
    server = await start_mosquitto(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run(script, url=route.url("/mqtt"), direct=server.url("/mqtt"))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    for stream in ("calls0", "calls", "answers0", "answers", "ticks"):
        assert client.numbers(stream) == everything, stream
    assert (client.count("lost"), client.count("error")) == (0, 0)


async def test_one_proxy(testbed: Testbed, script: str) -> None:
    """A cut between proxy and broker disconnects the client at once; it connects again and repeats what is of QoS 1."""
    server = await start_mosquitto(testbed)
    route = await testbed.single(server.netloc, preset="stateful")
    client = await testbed.run(script, url=route.url("/mqtt"), direct=server.url("/mqtt"), owed=["calls"])
    await cut_and_come_back(route.link, client, "answers")
    await client.finish()
    # What was not acknowledged, and what was published meanwhile, the client sends after what is new.
    assert set(client.numbers("calls")) == set(range(1, client.called() + 1))
    assert len(client.numbers("calls0")) == len(set(client.numbers("calls0")))


async def test_restart(testbed: Testbed, script: str) -> None:
    """When the broker is killed the client is told, and connects to the next one by itself."""
    server = await start_mosquitto(testbed)
    route = await testbed.pair(server.netloc, preset="stateful")
    client = await testbed.run(script, url=route.url("/mqtt"), direct=server.url("/mqtt"), owed=[])
    await client.further("answers")
    await server.restart()
    await told_and_back(client, "answers")
    await client.finish()
