"""Playwright (Python), connected over CDP."""

from __future__ import annotations

import pytest

from .chromium import devtools, start_chromium
from .network import cut_while_it_works
from .testbed import Testbed

pytestmark = pytest.mark.needs("Playwright")


async def test_pair(testbed: Testbed) -> None:
    """Every call is made once and in order, every console message is told once and in order."""
    browser = await start_chromium(testbed)
    route = await testbed.pair(browser.netloc)
    client = await testbed.run("playwright_client.py", url=route.url(await devtools(browser)))
    await cut_while_it_works(route.link, client, "answers")
    await client.finish()
    everything = list(range(1, client.called() + 1))
    assert client.numbers("answers") == everything
    assert client.numbers("calls") == everything
    assert client.numbers("ticks") == list(range(1, client.sent("ticks") + 1))
    assert client.count("error") == 0
