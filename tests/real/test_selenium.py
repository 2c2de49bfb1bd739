"""Selenium (Python) over WebDriver BiDi, with Debian's ChromeDriver."""

from __future__ import annotations

import pytest

from .chromium import FLAGS
from .install import command_path
from .network import cut_while_it_works
from .testbed import Server, Testbed

pytestmark = pytest.mark.needs("Selenium")


async def start_chromedriver(testbed: Testbed) -> Server:
    """Start the driver, which starts browsers."""
    driver = command_path("chromedriver")
    assert driver is not None
    port = testbed.port()
    return await testbed.serve("chromedriver", [driver, f"--port={port}", "--allowed-origins=*"], port)


async def test_pair(testbed: Testbed) -> None:
    """Every call is made once and in order, and every console message is told once."""
    server = await start_chromedriver(testbed)
    route = await testbed.pair(server.netloc)
    client = await testbed.run(
        "selenium_client.py",
        netloc=route.netloc,
        direct=server.url("", "http"),
        chromium=command_path("chromium"),
        flags=FLAGS,
    )
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert client.numbers("answers") == everything
    assert client.numbers("calls") == everything
    # Selenium takes a thread for each event.
    assert sorted(client.numbers("ticks")) == list(range(1, client.sent("ticks") + 1))
    assert client.count("lost") == 0
