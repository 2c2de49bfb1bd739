"""Compressed messages that stand for a thousand times as many bytes: they get a share of the CPU, and no more."""

from __future__ import annotations

import time
import zlib

import pytest

from ..broken import with_harm
from ..conftest import Serve
from ..frames import Opcode
from ..process import Serving, one_process
from ..rawserver import RawServer
from ..rawsocket import RawSocket, dial
from ..test_deflate import IDENTITY, MIB, OFFER, agreeing, compressed, deflated
from ..waiting import eventually, numbered

ATTACKERS, EACH = 8, 3
#: 16 KiB, legal with the default --max-message.
BOMB = deflated(bytes(16 * MIB - 1))


def seconds_of(bombs: int) -> float:
    """Return how many seconds of CPU this machine takes at least to inflate so many bombs."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        work = zlib.decompressobj(-15)
        rest = BOMB
        while rest:
            work.decompress(rest, 64 * 1024)
            rest = work.unconsumed_tail
        times.append(time.thread_time() - began)
    return bombs * min(times)


async def rounds(proxy: Serving, client: RawSocket, server: RawSocket) -> tuple[float, float]:
    """Return how many seconds two round trips of a session take, and how much CPU the proxy uses meanwhile."""
    began, used = time.monotonic(), proxy.cpu()
    for message in numbered("honest", 2):
        await client.send(message)
        assert await server.recv() == message
        await server.send(message)
        assert await client.recv() == message
    return time.monotonic() - began, proxy.cpu() - used


def fair(cost: float, took: float) -> float:
    """Return how many seconds of CPU may be used in that time: some bombs before there is a queue, then the share."""
    return 0.3 * cost + 0.4 * took


@one_process
@pytest.mark.parametrize("harm", [None, "inflate-at-once"])
async def test_bombs_do_not_stop_other_sessions_and_arrive(serve: Serve, upstream: RawServer, harm: str | None) -> None:
    """The round trips of another session fit between them. In the control they wait for all bombs."""
    agreeing(upstream)
    proxy = await serve(upstream.url, prefix=with_harm(harm) if harm else ())
    honest, honest_server = await dial(f"{proxy.url}/"), await upstream.accept()
    pairs = [(await dial(f"{proxy.url}/", OFFER), await upstream.accept()) for _ in range(ATTACKERS)]
    cost = seconds_of(ATTACKERS * EACH)
    for client, _ in pairs:
        for _ in range(EACH):
            await client.send_frame(Opcode.BINARY, BOMB, rsv1=True)
    took, used = await rounds(proxy, honest, honest_server)
    if harm:
        assert used > 0.8 * cost
        return
    assert used < fair(cost, took)
    for _, server in pairs:
        frames = await compressed(server, EACH)
        assert [frame.payload for frame in frames] == [BOMB] * EACH


@one_process
async def test_what_follows_a_bomb_that_waits_follows_it_in_order(serve: Serve, upstream: RawServer) -> None:
    """Messages, Pings and the closing handshake; also on a link that takes over."""
    agreeing(upstream)
    proxy = await serve(upstream.url)
    client, server = await dial(f"{proxy.url}/", [*OFFER, *IDENTITY]), await upstream.accept()
    for number in range(6):
        await client.send_frame(Opcode.BINARY, BOMB, rsv1=True)
        await client.send(f"behind {number}")
    await client.fence()
    await compressed(server, 6)
    assert await server.take(6) == [f"behind {number}" for number in range(6)]
    for _ in range(3):
        await client.send_frame(Opcode.BINARY, BOMB, rsv1=True)
    await client.close(4000, "enough")
    assert (await client.ended()).code == 4000
    again = await dial(f"{proxy.url}/", [*OFFER, *IDENTITY])
    await again.send("again")
    await compressed(server, 9)
    assert await server.recv() == "again"


@one_process
async def test_many_new_connections_get_no_more_than_the_share(serve: Serve, upstream: RawServer) -> None:
    """Each with a bomb, and gone at once; and all sessions end."""
    agreeing(upstream)
    proxy = await serve(upstream.url, "--grace", "0")
    honest, honest_server = await dial(f"{proxy.url}/"), await upstream.accept()
    count = 24
    cost = seconds_of(count)

    clients = [await dial(f"{proxy.url}/", OFFER) for _ in range(count)]
    for client in clients:
        await client.send_frame(Opcode.BINARY, BOMB, rsv1=True)
        client.drop()
    took, used = await rounds(proxy, honest, honest_server)
    assert used < fair(cost, took)
    others = [session for session in upstream.sockets if session is not honest_server]
    await eventually(lambda: all(session.end is not None for session in others), "the sessions have ended", 30)


async def test_a_message_that_is_made_to_be_slow_is_refused(serve: Serve, upstream: RawServer) -> None:
    """Blocks that hold next to nothing take many times as long as text: 1008, and the session goes on."""
    agreeing(upstream)
    proxy = await serve(upstream.url)
    client, server = await dial(f"{proxy.url}/", [*OFFER, *IDENTITY]), await upstream.accept()
    await client.send("before")
    assert await server.recv() == "before"
    await client.send_frame(Opcode.BINARY, slow_message(8 * MIB), rsv1=True)
    end = await client.ended()
    assert (end.code, end.reason) == (1008, "a compressed message takes too long to inflate")
    again = await dial(f"{proxy.url}/", [*OFFER, *IDENTITY])
    await again.send("after")
    assert await server.recv() == "after"


def slow_message(size: int) -> bytes:
    """Return about `size` bytes of deflate that stand for nothing: blocks of codes without data (RFC 1951 3.2.7)."""
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend((value >> place) & 1 for place in range(count))

    # Not the last block, with codes of its own: 257 for literals, 1 for distances, and 18 of those for their lengths.
    for value, count in ((0, 1), (2, 2), (0, 5), (0, 5), (14, 4)):
        put(value, count)
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
        put(symbol in (18, 1), 3)
    # 138 and 118 literals without a code; the end of the block and the one distance have a code of one bit.
    for value, count in ((1, 1), (138 - 11, 7), (1, 1), (118 - 11, 7), (0, 1), (0, 1)):
        put(value, count)
    # The end of the block.
    put(0, 1)
    # Eight blocks are whole bytes.
    whole = sum(bit << place for place, bit in enumerate(8 * bits)).to_bytes(len(bits), "little")
    return whole * (size // len(whole)) + deflated(b"")
