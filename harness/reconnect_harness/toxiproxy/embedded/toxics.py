"""What each toxic does, by the name of its type; `toxiproxy.toxics` says which attributes it has.

A toxic is given its stub and its attributes. It is run again after every change of it, and cancelled before: what was
read and not written then is passed on at once, so that nothing is lost. Times are milliseconds if nothing else is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Iterator, Mapping

from reconnect_harness.toxiproxy.embedded.stub import ToxicKind, ToxicStub, pass_through

_SLICE_SECONDS = 0.1


async def _latency(stub: ToxicStub, latency: int, jitter: int) -> None:
    """Pass on each chunk `latency` +- `jitter` after it arrived at the link.

    Order is kept: a chunk with a short delay waits for the one before it. Latency costs no throughput, because many
    chunks may be on their way.
    """
    while (chunk := await stub.read()) is not None:
        delay = latency + (random.randrange(-jitter, jitter) if jitter > 0 else 0)
        wait = delay / 1000 - (time.monotonic() - chunk.at)
        await _sleep(wait)
        # The next latency in the chain must not count this delay as part of its own.
        stub.held = chunk._replace(at=chunk.at + wait)
        await stub.write()


async def _bandwidth(stub: ToxicStub, rate: int) -> None:
    """Pass on `rate` kB (1000 bytes) a second; with a rate of 0 nothing, until it is changed or removed.

    The time that a chunk costs is waited for before it is passed on, for large chunks in slices of 100 ms. (The
    original crashes at a rate below 0; here that is 0.)
    """
    debt = 0.0
    size = max(0, rate) * 100
    while (chunk := await stub.read()) is not None:
        left = len(chunk.data)
        debt = debt + left / (rate * 1000) if size else 0.0
        while left > size:
            await _sleep(_SLICE_SECONDS)
            await stub.write(size)
            left -= size
            debt -= _SLICE_SECONDS
        begun = time.monotonic()
        await _sleep(debt)
        # Timers are late; the time by which this one was late is not waited for again.
        debt -= time.monotonic() - begun
        await stub.write()


async def _slow_close(stub: ToxicStub, delay: int) -> None:
    """Pass on data unchanged, and the end `delay` after it came. A change of the toxic starts the delay again."""
    await pass_through(stub)
    await _sleep(delay / 1000)


async def _timeout(stub: ToxicStub, milliseconds: int) -> None:
    """Drop all data, and close the connection after a time without any; with 0 never. The end is passed on."""
    within = milliseconds / 1000 if milliseconds > 0 else None
    with contextlib.suppress(TimeoutError):
        chunk: object = ...
        while chunk is not None:
            async with asyncio.timeout(within):
                chunk = await stub.read()
            stub.held = None


async def _reset_peer(stub: ToxicStub, milliseconds: int) -> None:
    """Drop the first data (or end) that comes, and so many milliseconds later close the connection.

    After the data no change or removal saves the connection. Connections that began while the toxic was there, with any
    toxicity, are closed with an RST; older ones with a FIN, as in the original. (In the original the request that
    changes or removes the toxic waits for the reset; here it does not.)
    """
    await stub.read()
    stub.held = None
    stub.committed = True
    await _sleep(milliseconds / 1000)


async def _slicer(stub: ToxicStub, average_size: int, size_variation: int, delay: int) -> None:
    """Cut chunks into pieces of `average_size` +- `size_variation` bytes, `delay` microseconds apart.

    The original crashes at sizes that make no sense (no average, a variation above the average); here each piece has
    at least one byte.
    """
    while (chunk := await stub.read()) is not None:
        for size in _pieces(len(chunk.data), average_size, size_variation):
            await stub.write(size)
            await _sleep(delay / 1_000_000)


def _pieces(size: int, average: int, variation: int) -> Iterator[int]:
    """Yield the sizes of the pieces of `size` bytes, by halving it, unevenly, until the pieces are small.

    So the pieces at both ends have the same distribution of sizes, which cutting one by one would not give.
    """
    rest = [size]
    while rest:
        size = rest.pop()
        if size <= max(1, average + variation):
            yield size
        else:
            middle = size // 2 + (random.randrange(-variation, variation) if variation > 0 else 0)
            middle = min(max(middle, 1), size - 1)
            rest += [size - middle, middle]


async def _limit_data(stub: ToxicStub, limit: int) -> None:
    """Close the connection when `limit` bytes have passed, counted from when the toxic was added to the link.

    With 0 the first data closes it, and none of that data passes. The count is kept when the limit is changed.
    """
    while not stub.committed and (chunk := await stub.read()) is not None:
        data = chunk.data[: max(0, limit - stub.passed)]
        stub.held = chunk._replace(data=data)
        stub.passed += len(data)
        stub.committed = stub.passed >= limit
        await stub.write()


async def _sleep(seconds: float) -> None:
    """Wait at least so long: the timers of uvloop count whole milliseconds, and may be early by one."""
    due = time.monotonic() + seconds
    while (left := due - time.monotonic()) > 0:  # noqa: ASYNC110  # there is no event
        # A very short rest takes one turn of the loop.
        await asyncio.sleep(0 if left < 0.0003 else math.ceil(left * 1000) / 1000)


TOXIC_KINDS: Mapping[str, ToxicKind] = {
    "bandwidth": ToxicKind(_bandwidth),
    "latency": ToxicKind(_latency, buffer=1024),
    "limit_data": ToxicKind(_limit_data),
    "noop": ToxicKind(pass_through),
    "reset_peer": ToxicKind(_reset_peer, lingers=True),
    "slicer": ToxicKind(_slicer),
    "slow_close": ToxicKind(_slow_close),
    # They have lost bytes.
    "timeout": ToxicKind(_timeout, closes_when_removed=True),
}
"""The toxics by the name of their type. A new one is a function, its row here, and one in `toxiproxy.toxics.TOXICS`."""
