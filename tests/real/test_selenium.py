"""Selenium (Python) over WebDriver BiDi, with Debian's ChromeDriver."""

from __future__ import annotations

import pytest

from .chromium import FLAGS, REWRITE
from .install import command_path
from .network import Fault, cut_and_come_back, cut_while_it_works, told_and_back
from .program import Program
from .testbed import Route, Server, Testbed

pytestmark = pytest.mark.needs("Selenium")


async def start_chromedriver(testbed: Testbed) -> Server:
    """Start the driver, which starts browsers."""
    driver = command_path("chromedriver")
    assert driver is not None
    port = testbed.port()
    return await testbed.serve("chromedriver", [driver, f"--port={port}", "--allowed-origins=*"], port)


async def start_client(testbed: Testbed, route: Route) -> Program:
    """Start a client that asks for its session by `route`, and connects to the address in the answer."""
    chromium = command_path("chromium")
    return await testbed.run("selenium_client.py", url=route.url("", "http"), chromium=chromium, flags=FLAGS)


async def test_pair(testbed: Testbed) -> None:
    """Every call is made once and in order, and every console message is told once."""
    server = await start_chromedriver(testbed)
    route = await testbed.pair(server.netloc, preset="cdp", sender=REWRITE)
    client = await start_client(testbed, route)
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert client.numbers("answers") == everything
    assert client.numbers("calls") == everything
    # Selenium takes a thread for each event.
    assert sorted(client.numbers("ticks")) == list(range(1, client.sent("ticks") + 1))
    assert client.count("lost") == 0


async def test_one_proxy(testbed: Testbed) -> None:
    """A cut between proxy and driver fails the call that waits; a new session can be begun. No call is made twice."""
    server = await start_chromedriver(testbed)
    route = await testbed.single(server.netloc, preset="cdp")
    client = await start_client(testbed, route)
    await cut_and_come_back(route.link, client, "answers")
    await client.finish()
    calls = client.numbers("calls")
    # Those of the last session.
    assert calls == list(range(calls[0], client.called() + 1))
    # By way of the proxy, although the driver has given its own address.
    assert route.link.accepted > len(Fault)


async def test_restart(testbed: Testbed) -> None:
    """When the driver is started anew the client is told, and begins a session with the new one."""
    server = await start_chromedriver(testbed)
    route = await testbed.pair(server.netloc, preset="cdp", sender=REWRITE)
    client = await start_client(testbed, route)
    await client.further("answers")
    await server.restart()
    await told_and_back(client, "answers")
    await client.finish()
