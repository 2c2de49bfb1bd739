"""HTTP heads that are slow, too long, ambiguous, or none at all."""

from __future__ import annotations

import asyncio

import pytest

from .attack import connect_and_reset, head, shout, statuses
from .siege import Siege

SMUGGLED = head()

#: What two programs could read in two ways, or no program should read at all. Some carry a second request behind.
AMBIGUOUS = {
    "bare line feeds": SMUGGLED.replace(b"\r\n", b"\n"),
    "one bare line feed": head("X-A: b\nX-C: d"),
    "a bare carriage return": head("X-A: b\rX-C: d"),
    "a folded line": head("X-A: b", " c"),
    "a folded first line": b"GET /smuggled HTTP/1.1\r\n Host: x\r\n\r\n",
    "two lengths": head("Content-Length: 0", "Content-Length: 50") + SMUGGLED,
    "two lengths in one": head("Content-Length: 0, 50") + SMUGGLED,
    "a length with a sign": head("Content-Length: +0") + SMUGGLED,
    "length and chunks": head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
    "chunks": head("Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED,
    "chunks in disguise": head("Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED,
    "chunks with a tab": head("Transfer-Encoding:\tchunked") + b"0\r\n\r\n" + SMUGGLED,
    "a space before the colon": head("Transfer-Encoding : chunked") + b"0\r\n\r\n" + SMUGGLED,
    "a name with a NUL": head("X-\0A: b"),
    "a value with a NUL": head("X-A: b\0c"),
    "no colon": head("X-A"),
    "no name": head(": b"),
    "two hosts": head("Host: y"),
    "no host": SMUGGLED.replace(b"Host: x\r\n", b""),
    "absolute form with a user": head(first="GET http://a@x/smuggled HTTP/1.1"),
    "absolute form of another scheme": head(first="GET ftp://x/smuggled HTTP/1.1"),
    "an older version": head().replace(b"Version: 13", b"Version: 8"),
    "authority form": head(first="CONNECT x:80 HTTP/1.1"),
    "authority form with GET": head(first="GET x:80 HTTP/1.1"),
    "asterisk form": head(first="OPTIONS * HTTP/1.1"),
    "HTTP/1.2": head(first="GET /smuggled HTTP/1.2"),
    "HTTP/0.9": b"GET /smuggled\r\n\r\n" + SMUGGLED,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "two spaces": head(first="GET  /smuggled HTTP/1.1"),
    "a tab for a space": head(first="GET\t/smuggled HTTP/1.1"),
    "a space in the target": head(first="GET /smug gled HTTP/1.1"),
    "a target beyond ASCII": head(first="GET /smuggled\xe9 HTTP/1.1"),
    "a fragment": head(first="GET /smuggled#x HTTP/1.1"),
    "nothing but empty lines": b"\r\n" * 4,
    "garbage": bytes(range(256)) + b"\r\n\r\n",
    "a TLS ClientHello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(502),
    "a lonely end": b"\r\n\r\n",
    "a WebSocket frame": b"\x81\x85\0\0\0\0hello" + b"\r\n\r\n",
    "two keys": head("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    "a long key": SMUGGLED.replace(b"AAAA==", b"AAAAAAAA=="),
    "another version": head("Sec-WebSocket-Version: 14"),
}


async def test_an_ambiguous_head_is_refused_once_and_reaches_nobody(siege: Siege) -> None:
    """Each gets one answer from 400 on, or none, and the end of its connection; what is behind it is no request."""
    heard = await asyncio.gather(*(shout(siege.address, raw) for raw in AMBIGUOUS.values()))
    answers = {name: statuses(answer) for name, answer in zip(AMBIGUOUS, heard, strict=True)}
    assert {name: found for name, found in answers.items() if len(found) > 1 or any(n < 400 for n in found)} == {}
    await siege.judge()
    assert siege.asked_for("/smuggled") == 0


async def test_slow_heads_are_cut_off(siege: Siege) -> None:
    """Five hundred clients that send a head byte by byte, and as many that send nothing, are gone within seconds."""
    slow = (shout(siege.address, *(b"%c" % byte for byte in SMUGGLED), pause=0.25) for _ in range(500))
    silent = (shout(siege.address) for _ in range(500))
    heard = await asyncio.gather(*slow, *silent)
    assert {status for answer in heard for status in statuses(answer)} <= {408, 503}
    await siege.judge()
    assert siege.asked_for("/smuggled") == 0


@pytest.mark.parametrize(
    "line",
    ["X-Evil: " + "x" * 20_000, "\r\n".join(f"X-{n}: y" for n in range(4000))],
    ids=["one long line", "many lines"],
)
async def test_oversized_heads_are_refused(line: str, siege: Siege) -> None:
    """A head of more than 16 KiB is answered with 431, whether it ends or not."""
    whole = head(line)
    endless = whole[:-2] + b"X-More: x\r\n" * 100_000
    heard = await asyncio.gather(*(shout(siege.address, raw) for raw in (whole, endless) for _ in range(20)))
    # An answer may be overtaken by the reset that tells of what was not read.
    assert {status for answer in heard for status in statuses(answer)} <= {431}
    assert any(statuses(answer) for answer in heard)


async def test_connections_that_are_reset_at_once_cost_nothing(siege: Siege) -> None:
    """Five thousand connections come and go with RST: before, in and behind their heads."""
    kinds = (b"", SMUGGLED[:40], head(first="GET /echo HTTP/1.1"), head(first="GET /head/silence HTTP/1.1"))
    for _ in range(50):
        await asyncio.gather(*(connect_and_reset(siege.address, kinds[n % len(kinds)]) for n in range(100)))


async def test_half_open_connections_in_masses_do_not_keep_others_out(siege: Siege) -> None:
    """While eight hundred connections send nothing, another client is served at once."""
    links = [await asyncio.open_connection(*siege.address) for _ in range(800)]
    try:
        answer = await shout(siege.address, head("Content-Length: 1", first="GET /nowhere HTTP/1.1"))
        assert statuses(answer) == [400]
        assert statuses(await shout(siege.address, head(first="GET /nowhere HTTP/1.1"))) == [404]
    finally:
        for _, writer in links:
            writer.transport.abort()
