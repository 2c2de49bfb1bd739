"""Whether any upstream can be reached: a TCP connection, closed as soon as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .connector import Connector


async def reach(urls: Sequence[str], seconds: float, connector: Connector) -> str | None:
    """Return None as soon as one of `urls` accepts a TCP connection, or why none does within `seconds`."""
    tries = [asyncio.ensure_future(_connect(url, seconds, connector)) for url in urls]
    reasons: list[str] = []
    try:
        for outcome in asyncio.as_completed(tries):
            reason = await outcome
            if reason is None:
                return None
            reasons.append(reason)
    finally:
        for each in tries:
            each.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    return f"no upstream can be reached: {'; '.join(reasons)}"


async def _connect(url: str, seconds: float, connector: Connector) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            transport = await connector.connect(url, asyncio.Protocol())
    except TimeoutError:
        return f"{url} does not answer within {seconds:g} s"
    except OSError as error:
        return f"{url}: {str(error) or type(error).__name__}"
    transport.abort()
    return None
