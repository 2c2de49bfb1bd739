"""More than anybody asked for, less than anybody needs: floods, and peers that do not read."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ..frames import Opcode
from ..rawsocket import RawSocket, dial
from ..waiting import PATIENCE, Message
from .attack import masked
from .siege import Siege

#: How long, in seconds, a flood goes on.
LASTS = 1.5

#: Bytes of memory that the proxy may take for thirty peers that do not read. Ten of them talk on: each is read for its
#: Pongs alone, and may send 16 MiB in front of one (`Policy.slack`); the others have queues of 1 MiB; all have buffers.
HELD = 512 * 2**20

#: Of frames that carry no data: no queue holds them up.
FLOODS_OF_NOTHING = {
    "pings": masked(b"\x89\x04ping") * 2000,
    "pongs": masked(b"\x8a\x08" + b"\xff" * 8) * 2000,
    "pongs that look right": masked(b"\x8a\x08" + bytes(7) + b"\x01") * 2000,
    "empty fragments": masked(b"\x00\x00") * 4000,
}
#: Of data: it waits in queues, and is held back where they are full.
FLOODS = {
    "fragments of a byte": masked(b"\x00\x01x") * 4000,
    "empty messages": masked(b"\x82\x00") * 4000,
}


async def pour(link: RawSocket, raw: bytes, lasts: float = LASTS) -> None:
    """Write `raw` over and over, as fast as it is taken, until the time is over or the peer ends the connection."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(lasts):
            while link.end is None:
                link.writer.write(raw)
                await link.writer.drain()
                await asyncio.sleep(0)


@pytest.mark.parametrize("flood", [*FLOODS, *FLOODS_OF_NOTHING])
async def test_floods_from_clients_drown_nobody(flood: str, siege: Siege) -> None:
    """Three clients pour frames that cost them nothing. Those without data may end with 1008."""
    links = [await dial(f"{siege.url}/echo") for _ in range(3)]
    for link in links:
        # What comes back is dropped by the test, not kept.
        link.on_message = lambda message: None
        if "fragments" in flood:
            await link.send_frame(Opcode.BINARY, b"x", fin=False)
    await asyncio.gather(*(pour(link, {**FLOODS, **FLOODS_OF_NOTHING}[flood]) for link in links))
    if flood in FLOODS_OF_NOTHING:
        # A slow machine may not make a flood of it; and the reset for what was not read may overtake the Close.
        assert {link.end.code for link in links if link.end is not None} <= {1008, 1006}
    for link in links:
        await link.detach()


@pytest.mark.parametrize("path", ["/ping-flood", "/pong-flood", "/fragment-flood"])
async def test_floods_of_nothing_from_upstreams_end_their_sessions(path: str, siege: Siege) -> None:
    """Three upstreams pour frames without data: their clients are closed with 1008, and no other session notices."""
    links = [await dial(f"{siege.url}{path}") for _ in range(3)]
    assert {(await link.ended()).code for link in links} == {1008}


async def test_floods_from_upstreams_drown_nobody(siege: Siege) -> None:
    """Three upstreams pour data as fast as it is taken, for a while."""
    links = [await dial(f"{siege.url}/flood") for _ in range(3)]
    flooded = asyncio.Event()
    heard = 0

    def hear(message: Message) -> None:
        nonlocal heard
        heard += len(message)
        if heard > 100 * 2**20:
            flooded.set()

    for link in links:
        link.on_message = hear
    await asyncio.wait_for(flooded.wait(), PATIENCE)
    for link in links:
        await link.detach()


async def test_peers_that_never_read_hold_up_nobody(siege: Siege) -> None:
    """Clients that read nothing of a flood, or of the echo of their own; upstreams that read nothing they are sent.

    Each is held back where its queue is full, and given up when it has confirmed nothing for long enough.
    """
    deaf = [await dial(f"{siege.url}/flood", receive_buffer=4096) for _ in range(10)]
    talking = [await dial(f"{siege.url}/echo", receive_buffer=4096) for _ in range(10)]
    for link in (*deaf, *talking):
        link.pause()
    to_the_deaf = [await dial(f"{siege.url}/never-read") for _ in range(10)]
    message = b"\x82\xfe\x40\x00" + bytes(4) + bytes(16384)
    await asyncio.gather(*(pour(link, message * 16) for link in (*talking, *to_the_deaf)))
    grown = siege.grown()
    for link in (*deaf, *talking, *to_the_deaf):
        await link.detach()
    assert grown < HELD


async def test_unfinished_messages_in_masses_are_bounded(siege: Siege) -> None:
    """A hundred clients announce a megabyte each, send half of it, and leave."""
    links = [await dial(f"{siege.url}/echo") for _ in range(100)]
    half = b"\x82\xff" + (2**20).to_bytes(8, "big") + bytes(4) + bytes(2**19)
    for link in links:
        link.writer.write(half)
    await asyncio.gather(*(link.writer.drain() for link in links))
    assert siege.grown() < HELD
    for link in links:
        await link.detach()
