"""A headless Chromium: started with a profile of its own, and stopped with all its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

#: Its names on the systems that we know, the first that there is.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--remote-debugging-port=0"),
)


@contextlib.asynccontextmanager
async def devtools(profile: Path, *flags: str) -> AsyncIterator[str]:
    """Start a browser with a profile of its own and these flags, and give the URL of its DevTools endpoint."""
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert browser.stderr is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(60):
            while b"DevTools listening on " not in (line := await browser.stderr.readline()):
                assert line, "the browser ended before it was ready"
        # What it says after that is read, so that it never waits for us to do so.
        reading = asyncio.create_task(browser.stderr.read())
        yield line.split(b"DevTools listening on ")[1].decode().strip()
    finally:
        # The whole of it: a browser is many processes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()
        if reading is not None:
            await reading
