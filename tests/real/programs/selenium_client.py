"""Selenium over WebDriver BiDi: numbered calls into a page, and numbered console messages out of it.

When the WebSocket is lost the program says so and begins another session, as a user's program would.
"""

from __future__ import annotations

import contextlib

from reporting import SPEC, STOP, got, lost, report, sent
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ChromeOptions, Remote
from selenium.webdriver.common.bidi.log import ConsoleLogEntry
from selenium.webdriver.remote.client_config import ClientConfig
from websocket import WebSocketException

_START = "() => { window.seen = []; window.ticks = 0; window.timer = setInterval(() => console.log(++ticks), 20); }"
_CALL = "n => { seen.push(n); return n; }"
_END = "() => { clearInterval(timer); return [seen, ticks]; }"

called: list[int] = [0]


def heard(entry: ConsoleLogEntry) -> None:
    """Report a console message. Selenium takes a thread for each, so their order is not kept by it."""
    got("ticks", int(entry.text))


def begin() -> tuple[Remote, str]:
    """Begin a session, and let its page tick; return the driver and the id of the page."""
    options = ChromeOptions()
    options.binary_location = SPEC["chromium"]
    options.enable_bidi = True
    for flag in SPEC["flags"]:
        options.add_argument(flag)
    config = ClientConfig(SPEC["url"], websocket_timeout=5, websocket_interval=0.005)
    driver = Remote(command_executor=SPEC["url"], options=options, client_config=config)
    page = driver.current_window_handle
    driver.script.add_console_message_handler(heard)
    driver.script.execute(_START, context_id=page)
    return driver, page


def work(driver: Remote, page: str, n: int) -> int:
    """Call until told to stop; return the number of the last call."""
    while not STOP.is_set():
        n += 1
        called.append(n)
        got("answers", driver.script.execute(_CALL, n, context_id=page)["value"])
    return n


driver, page = begin()
report(ready=True)
n = 0
while True:
    try:
        n = work(driver, page, n)
        break
    except (WebDriverException, WebSocketException, OSError, AttributeError) as error:
        lost(repr(error)[:200])
        with contextlib.suppress(WebDriverException, WebSocketException, OSError, AttributeError):
            driver.quit()
        # What was called and not answered may or may not have been done: it is not called again.
        n = called[-1]
        driver, page = begin()
        report(back=True)
seen, count = driver.script.execute(_END, context_id=page)["value"]
report(called=n)
for number in seen["value"]:
    got("calls", number["value"])
sent("ticks", count["value"])
driver.quit()
report(end=True)
