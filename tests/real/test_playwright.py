"""Playwright (Python), connected over CDP."""

from __future__ import annotations

import pytest

from .chromium import REWRITE, start_chromium
from .network import Fault, cut_and_come_back, cut_while_it_works, told_and_back
from .testbed import Testbed

pytestmark = pytest.mark.needs("Playwright")


async def test_pair(testbed: Testbed) -> None:
    """Every call is made once and in order, every console message is told once and in order."""
    browser = await start_chromium(testbed)
    route = await testbed.pair(browser.netloc, preset="cdp", sender=REWRITE)
    client = await testbed.run("playwright_client.py", url=route.url("", "http"))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert client.numbers("answers") == everything
    assert client.numbers("calls") == everything
    assert client.numbers("ticks") == list(range(1, client.sent("ticks") + 1))
    assert client.count("error") == 0


async def test_one_proxy(testbed: Testbed) -> None:
    """A cut between proxy and browser disconnects the client at once; it can connect again. No call is made twice."""
    browser = await start_chromium(testbed)
    route = await testbed.single(browser.netloc, preset="cdp")
    client = await testbed.run("playwright_client.py", url=route.url("", "http"))
    await cut_and_come_back(route.link, client, "answers")
    await client.finish()
    calls = client.numbers("calls")
    # Those of the last connection.
    assert calls == list(range(calls[0], client.called() + 1))
    # By way of the proxy, although the browser has given its own address.
    assert route.link.accepted > len(Fault)


async def test_restart(testbed: Testbed) -> None:
    """When the browser is started anew the client is told, and connects to the new one by the same URL."""
    browser = await start_chromium(testbed)
    route = await testbed.pair(browser.netloc, preset="cdp", sender=REWRITE)
    client = await testbed.run("playwright_client.py", url=route.url("", "http"))
    await client.further("answers")
    await browser.restart()
    await told_and_back(client, "answers")
    await client.finish()
