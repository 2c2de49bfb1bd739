"""A headless Chromium of a test's own, reached over CDP."""

from __future__ import annotations

from .install import command_path
from .testbed import Server, Testbed

#: How it is started, whoever starts it.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


async def start_chromium(testbed: Testbed) -> Server:
    """Start a browser with a profile of its own; `devtools` says where it is controlled."""
    chromium = command_path("chromium")
    assert chromium is not None
    port = testbed.port()
    profile = testbed.folder / "profile"
    command = [chromium, *FLAGS, f"--remote-debugging-port={port}", f"--user-data-dir={profile}", "about:blank"]
    return await testbed.serve("chromium", command, port)


async def devtools(browser: Server) -> str:
    """Return the path of the browser's own target, which is another one after a restart."""
    found = await browser.said(r"(?s).*DevTools listening on ws://[^/]+(/devtools/browser/\S+)")
    return found[1]
