"""A real Chromium behind the proxy, driven over its DevTools protocol while links are cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from reconnect_proxy import connect

from ..chromium import CHROMIUM, devtools
from .chromium import Driver
from .conftest import Serve
from .ordinary import ordinary_client
from .relay import Cut, Relay
from .waiting import eventually

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

#: Counting calls in a script.
CALLS = 300
PAGE = "data:text/html,<title>one</title><script>var n = 0</script>"


@contextlib.asynccontextmanager
async def cuts(relay: Relay, every: float) -> AsyncIterator[list[Cut]]:
    """Cut all links of `relay` again and again, with RST and FIN by turns, each time when they are there again."""
    made: list[Cut] = []

    async def cut() -> None:
        while True:
            await asyncio.sleep(every)
            made.append(Cut.FINISH if len(made) % 2 else Cut.RESET)
            carried = relay.accepted
            relay.cut(made[-1])
            await relay.reaches(carried + 1)

    cutting = asyncio.create_task(cut())
    try:
        yield made
    finally:
        cutting.cancel()
        await asyncio.wait([cutting])


async def ask_json(base: str, path: str, host: str | None = None) -> Any:
    """Ask a plain HTTP endpoint of the browser, by this Host."""

    def ask() -> Any:
        request = urllib.request.Request(f"http://{base}{path}", headers={"Host": host or base})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    return await asyncio.to_thread(ask)


async def browser_path(base: str) -> str:
    """Ask /json/version where the browser's DevTools are."""
    address: str = (await ask_json(base, "/json/version"))["webSocketDebuggerUrl"]
    return "/" + address.split("/", 3)[3]


async def script(driver: Driver) -> None:
    """Open a tab, count in it with a call for each step, navigate, and check that every step was made once."""
    target = (await driver.call("Target.createTarget", url=PAGE))["targetId"]
    session = (await driver.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    for domain in ("Page", "Runtime"):
        await driver.call(f"{domain}.enable", session)
    await eventually_true(driver, "typeof n === 'number'", session)
    seen = [await driver.value("console.log(++n), n", session) for _ in range(CALLS)]
    assert seen == list(range(1, CALLS + 1))
    for number in range(10):
        await driver.call("Page.navigate", session, url=f"data:text/html,<title>{number}</title>")
        await eventually_true(driver, f"document.title === '{number}'", session)
    await driver.call("Target.closeTarget", targetId=target)
    await eventually(lambda: "Target.detachedFromTarget" in [each["method"] for each in driver.events], "detached")
    assert driver.logged() == list(range(1, CALLS + 1))
    assert driver.answers == sorted(set(driver.answers)), "an answer came twice, or out of order"


async def eventually_true(driver: Driver, expression: str, session: str) -> None:
    """Wait until an expression holds in a page."""
    await driver.value(
        f"new Promise(done => {{ const look = () => ({expression}) ? done(true) : setTimeout(look, 10); look() }})",
        session,
    )


async def test_an_aware_client_drives_a_browser_through_cuts_of_its_link(serve: Serve, tmp_path: Path) -> None:
    """Three hundred counted calls, their answers, and the events: each once and in order, over a dozen links."""
    async with devtools(tmp_path) as endpoint:
        address = urlsplit(endpoint).netloc
        proxy = await serve(f"ws://{address}")
        path = await browser_path(proxy.base)
        async with (
            Relay(int(proxy.base.rpartition(":")[2])) as relay,
            connect(f"{relay.url}{path}", max_size=None) as ws,
        ):
            driver = Driver(ws)
            async with cuts(relay, every=0.15) as made:
                await script(driver)
            await driver.stop()
            assert len(made) >= 3
            assert ws.resumes >= 3


async def test_an_ordinary_client_outlives_cuts_of_the_browsers_link(serve: Serve, tmp_path: Path) -> None:
    """It stays connected and the page lives on; a call is made at least once, and again if its answer is gone.

    Chromium is an ordinary upstream: an answer that it wrote into a dying socket is lost, and it forgets with a
    connection what was enabled and attached on it. So this script needs neither, and looks at the page itself.
    """
    async with devtools(tmp_path) as endpoint, Relay(urlsplit(endpoint).port or 0) as relay:
        proxy = await serve(relay.url)
        path = await page_path(proxy.base)
        async with ordinary_client(f"{proxy.url}{path}") as ws:
            driver = Driver(ws)
            assert await driver.value("var made = []; made.length") == 0
            async with cuts(relay, every=0.06) as cut:
                for number in range(CALLS):
                    await insist(driver, f"made.push({number})")
            made = json.loads(await insist(driver, "JSON.stringify(made)"))
            await driver.stop()
            assert len(cut) >= 3
    # In order, each once or more: with `--uncertain resend` a burst of calls may come again.
    assert list(dict.fromkeys(made)) == list(range(CALLS))


async def insist(driver: Driver, expression: str) -> Any:
    """Evaluate an expression, and once more if no answer comes."""
    for _ in range(20):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                return await driver.value(expression)
    raise AssertionError(f"there was no answer to {expression}")


async def page_path(base: str) -> str:
    """Ask /json/list where the DevTools of the browser's page are."""
    pages = [each for each in await ask_json(base, "/json/list") if each["type"] == "page"]
    return f"/devtools/page/{pages[0]['id']}"


async def test_plain_http_of_the_browser_passes(serve: Serve, tmp_path: Path) -> None:
    """/json/list and /json/version are the browser's own."""
    async with devtools(tmp_path) as endpoint:
        address = urlsplit(endpoint).netloc
        proxy = await serve(f"ws://{address}")
        assert (await browser_path(proxy.base)).startswith("/devtools/browser/")
        assert await browser_path(proxy.base) == await browser_path(address)


async def test_the_browsers_addresses_lead_through_the_pair(serve: Serve, tmp_path: Path) -> None:
    """A client takes them as they are: from a sender that it knows by another name than the browser would accept."""
    async with devtools(tmp_path) as endpoint:
        receiver = await serve(f"ws://{urlsplit(endpoint).netloc}", "--mode", "receiver", "--preset", "cdp")
        sender = await serve(receiver.url, "--mode", "sender", "--rewrite-debugger-url")
        version = await ask_json(sender.base, "/json/version")
        assert version["webSocketDebuggerUrl"].startswith(f"ws://{sender.base}/devtools/browser/")
        targets = await ask_json(sender.base, "/json/list", "proxy.example")
        page = next(each for each in targets if each["type"] == "page")
        assert page["webSocketDebuggerUrl"] == f"ws://proxy.example/devtools/page/{page['id']}"
        assert f"?ws=proxy.example/devtools/page/{page['id']}" in page["devtoolsFrontendUrl"]
        async with ordinary_client(version["webSocketDebuggerUrl"]) as ws:
            driver = Driver(ws)
            assert "Chrom" in (await driver.call("Browser.getVersion"))["product"]
            await driver.stop()


async def test_an_address_that_leads_past_the_proxy_is_in_the_log(serve: Serve, tmp_path: Path) -> None:
    """Without the option the browser's answer passes as it is."""
    async with devtools(tmp_path) as endpoint:
        address = urlsplit(endpoint).netloc
        proxy = await serve(f"ws://{address}")
        assert await ask_json(proxy.base, "/json/version") == await ask_json(address, "/json/version")
        warning = f"WARNING debugger url passed upstream=ws://{address} address=ws://{address}"
        await eventually(lambda: warning in proxy.log, "a warning")
