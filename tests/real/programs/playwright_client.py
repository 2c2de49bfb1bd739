"""Playwright with a browser that it reaches over CDP: numbered calls into a page, numbered console messages out of it.

Each call appends its number in the page. Now and then another page is opened, filled, read and closed. When the browser
is lost the program says so and connects again, as a user's program would.
"""

from __future__ import annotations

import asyncio
import contextlib

from playwright.async_api import Browser, Error, Page, Playwright, async_playwright
from reporting import SPEC, STOP, got, lost, report, sent

#: Calls made at a time.
AT_A_TIME = 5

_START = "() => { window.seen = []; window.ticks = 0; window.timer = setInterval(() => console.log(++ticks), 20); }"
_CALL = "n => { seen.push(n); return n; }"
_END = "() => { clearInterval(timer); return [seen, ticks]; }"


async def begin(playwright: Playwright) -> tuple[Browser, Page]:
    """Connect, and open a page that ticks."""
    browser = await playwright.chromium.connect_over_cdp(SPEC["url"], timeout=30_000)
    browser.on("disconnected", lambda _: lost("disconnected"))
    page = await (await browser.new_context()).new_page()
    page.on("console", lambda message: got("ticks", int(message.text)))
    await page.evaluate(_START)
    return browser, page


async def begin_again(playwright: Playwright) -> tuple[Browser, Page]:
    """Connect as often as it takes; the test says how long it may take."""
    while True:
        try:
            return await begin(playwright)
        except Error as error:
            report(error=error.message[:200])
            await asyncio.sleep(0.1)


async def look_at_another_page(page: Page, n: int) -> None:
    """Open a second page, fill and read it."""
    other = await page.context.new_page()
    await other.set_content(f"<h1>{n}</h1>")
    assert await other.locator("h1").inner_text() == str(n)
    await other.close()


async def work(page: Page, n: int) -> int:
    """Call until told to stop; return the number of the last call."""
    while not STOP.is_set():
        numbers = range(n + 1, n + 1 + AT_A_TIME)
        for answer in await asyncio.gather(*(page.evaluate(_CALL, number) for number in numbers)):
            got("answers", answer)
        n += AT_A_TIME
        if n % 50 == 0:
            await look_at_another_page(page, n)
    return n


async def main() -> None:
    """Work until told to stop."""
    async with async_playwright() as playwright:
        browser, page = await begin(playwright)
        report(ready=True)
        n = 0
        while True:
            try:
                n = await work(page, n)
                break
            except Error as error:
                report(error=error.message[:200])
                with contextlib.suppress(Error):
                    await browser.close()
                # What was called and not answered may or may not have been done: it is not called again.
                n += AT_A_TIME
                browser, page = await begin_again(playwright)
                report(back=True)
        seen, ticks = await page.evaluate(_END)
        report(called=n)
        for number in seen:
            got("calls", number)
        sent("ticks", ticks)
        await browser.close()
    report(end=True)


asyncio.run(main())
