"""A headless Chromium of a test's own, reached over CDP."""

from __future__ import annotations

from .install import command_path
from .testbed import Server, Testbed

#: Its flags, for tests and for clients that start it themselves.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


#: For the sender of a pair: Chromium tells clients to connect to the Host that it was asked for. The receiver has the
#: preset `cdp`, which sets this too.
REWRITE = {"rewrite_debugger_url": True}


async def start_chromium(testbed: Testbed) -> Server:
    """Start a browser with a profile of its own. It says at /json/version where it is controlled."""
    chromium = command_path("chromium")
    assert chromium is not None
    port = testbed.port()
    profile = testbed.folder / "profile"
    command = [chromium, *FLAGS, f"--remote-debugging-port={port}", f"--user-data-dir={profile}", "about:blank"]
    return await testbed.serve("chromium", command, port)
