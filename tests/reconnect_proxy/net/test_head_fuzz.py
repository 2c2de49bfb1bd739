"""Fuzz target for HTTP heads: real ones, mutated, and bytes of any kind.

For all bytes, `parse_request` refuses them cleanly or reads them as other programs do: what is sent on, written from
what was parsed, means the same to h11 and to us, and its body has one end. For longer runs:
`FUZZ_EXAMPLES=1000000 pytest tests/reconnect_proxy/net/test_head_fuzz.py`.
"""

from __future__ import annotations

import os
import re
import time

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconnect_proxy.core.wire import Refusal
from reconnect_proxy.net.allow import check_origin, check_path
from reconnect_proxy.net.chunked import ChunkedFraming, ChunkedState
from reconnect_proxy.net.forwarding import encode_fields, end_to_end, forwarded
from reconnect_proxy.net.handshake import check_handshake
from reconnect_proxy.net.head import (
    HEAD_LIMIT,
    HeadReader,
    MalformedHead,
    RequestHead,
    parse_request,
    parse_request_line,
    parse_response,
)

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: Heads as programs send them: browsers, curl, load balancers, and the attacks that the tests of `head` know by name.
HEADS = [
    b"GET /chat?x=1 HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://a.example\r\n"
    b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Reconnect-Received: 0",
    b"POST /api/v1/items?q=%20 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    b"Content-Length: 17\r\nExpect: 100-continue\r\nCookie: a=b; c=d\r\nAccept-Encoding: gzip, br",
    b"PUT /up HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nTE: trailers",
    b"GET / HTTP/1.0\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.9",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\tfolded",
]

#: What mutations put in: the pieces that parsers disagree about.
PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"\t",
        b" ",
        b":",
        b",",
        b";",
        b"\x0b",
        b"\x7f",
        b"\x80",
        b"\xc3\xa4",
        b"/..",
        b"%2e",
    ),
    *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"CONNECT ", b"http://a/", b"ws://b:1?", b"*", b"#", b"@", b"?"),
    *(b"%c0%ae", b"..%20", b"%ef%bc%8e", b"%u002e", b"..;", b"%25"),
    *(b"\r\nHost: b", b"\r\nContent-Length: 5", b"\r\nContent-Length: +5", b"\r\nTransfer-Encoding: chunked"),
    *(
        b"\r\nTransfer-Encoding : chunked",
        b"\r\n chunked",
        b"\r\nConnection: host",
        b"\r\nX_Reconnect_Id: a",
        b"\r\n\r\n",
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a real head in which some places were cut out, doubled, or filled with something else."""
    head = bytearray(draw(st.sampled_from(HEADS)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(head)))
        end = min(len(head), start + draw(st.integers(0, 12)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), st.just(bytes(head[start:end]) * 2)))
        head[start:end] = piece
    return bytes(head)


def understood(head: bytes) -> RequestHead | None:
    """Return what we make of a head, None where it is refused. Any other exception fails the test."""
    try:
        return parse_request(head)
    except MalformedHead as error:
        assert error.refusal.status in (400, 414, 431, 501, 505)
        return None


def as_h11_reads(head: bytes) -> h11.Request:
    """Return a head as h11 reads it; it must be able to."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT * 2)
    http.receive_data(head + b"\r\n\r\n")
    event = http.next_event()
    assert isinstance(event, h11.Request)
    return event


def in_origin_form(request: h11.Request) -> tuple[str, dict[bytes, bytes]]:
    """Return path and query of a request's target, and the host in it, as RFC 3986 appendix B splits a URL."""
    match = re.fullmatch(r"([^:/?#]+):(?://([^/?#]*))?([^?#]*)(\?[^#]*)?", request.target.decode())
    if match is None or request.target.startswith(b"/"):
        return request.target.decode(), {}
    _, host, path, query = match.groups("")
    whole_server = request.method == b"OPTIONS" and not path and not query
    return "*" if whole_server else (path or "/") + query, {b"host": host.encode()}


def serialised(head: RequestHead, fields: list[tuple[str, str]]) -> bytes:
    """Return a request head as h11 writes it."""
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(method=head.method, target=head.target, headers=encode_fields(fields))
    written = http.send(request)
    assert written is not None
    return written.removesuffix(b"\r\n\r\n")


@FUZZ
@given(st.one_of(mutated(), st.binary(max_size=300)))
def test_a_head_is_refused_or_means_the_same_to_everybody(raw: bytes) -> None:
    """To h11, to us, and again to us after it was parsed and written."""
    head = understood(raw)
    if head is None:
        return
    theirs = as_h11_reads(raw)
    target, host = in_origin_form(theirs)
    assert (theirs.method.decode(), target) == (head.method, head.target)
    assert theirs.http_version.decode() == head.version
    ours = {b"transfer-encoding": head.headers.get("Transfer-Encoding", "").encode(), **host}
    read = [(name, ours.get(name, value)) for name, value in theirs.headers]
    assert [(name.lower(), value) for name, value in encode_fields(head.headers.items())] in (
        read,
        # HTTP/1.0 does not need a Host header, but the URL has one.
        [*read, *host.items()],
    )
    framing = [(name, head.headers[name]) for name in ("Content-Length", "Transfer-Encoding") if name in head.headers]
    assert len(framing) < 2
    fields = [("Host", "upstream"), *forwarded(head, "127.0.0.1", "http", False), *framing]
    again = parse_request(serialised(head, fields))
    assert (again.method, again.target) == (head.method, head.target)
    assert [(name.lower(), value) for name, value in again.headers.items()] == [
        (name.lower(), value.lower() if name == "Transfer-Encoding" else value) for name, value in fields
    ]
    assert not [name for name in again.headers if name.lower().replace("_", "-").startswith("x-reconnect")]


@FUZZ
@given(st.one_of(mutated(), st.binary(max_size=300)))
def test_all_that_judges_a_head_refuses_cleanly(raw: bytes) -> None:
    """The checks of handshakes, origins and paths know no other end than a refusal."""
    head = understood(raw)
    if head is None:
        return
    for check in (
        lambda: check_handshake(head),
        lambda: check_path(head, ()),
        lambda: check_path(head, ("/chat*",)),
        lambda: check_origin(head, ("https://*.example",)),
    ):
        try:
            check()
        except Refusal as refusal:
            assert refusal.status in (400, 403, 426)


@pytest.mark.parametrize("cut", range(41))
def test_a_bare_cr_at_the_end_is_refused_wherever_reads_end(cut: int) -> None:
    """Found by the fuzzer: it was refused only where the read ended behind the CR after it."""
    stream = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax: 1\r\r\n\r\n"
    reader = HeadReader(check_line=parse_request_line)
    with pytest.raises(MalformedHead):
        for piece in (stream[:cut], stream[cut:]):
            reader.feed(piece)


@FUZZ
@given(st.one_of(mutated(), st.binary(max_size=300)), st.data())
def test_where_reads_end_makes_no_difference(raw: bytes, data: st.DataObject) -> None:
    """A head in pieces is the head at once, or is refused as it is."""
    stream = raw + b"\r\n\r\n" + b"rest\n\x00"

    def gathered(pieces: list[bytes]) -> tuple[bytes, bytes] | None:
        reader = HeadReader(check_line=parse_request_line)
        found: tuple[bytes, bytes] | None = None
        rest = b""
        try:
            for piece in pieces:
                if found is None:
                    found = reader.feed(piece)
                else:
                    rest += piece
        except MalformedHead:
            return None
        return found and (found[0], found[1] + rest)

    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert gathered(pieces) == gathered([stream])


#: What chunked bodies are made of, and what they are not.
CHUNKS = [
    *(b"5\r\nhello\r\n", b"1;a=b\r\nx\r\n", b"A \r\n0123456789\r\n", b"0\r\n\r\n", b"0\r\nX-T: a\r\n\r\n", b"0\r\n"),
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b";",
        b":",
        b"0",
        b"5",
        b"a",
        b"X: y\r\n",
        b" fold\r\n",
        b"\xff",
        b"GET / HTTP/1.1",
    ),
]


#: A chunked body as RFC 9112 section 7.1 has it, except that sizes do not count here.
STRICT = re.compile(
    rb"(?:[0-9A-Fa-f]+[ \t]*(?:;[^\r\n\0]*)?\r\n[\s\S]*?\r\n)*?"
    rb"0+[ \t]*(?:;[^\r\n\0]*)?\r\n(?:[^ \t\r\n:]+:[^\r\n\0]*\r\n)*\r\n"
)


@FUZZ
@given(st.lists(st.one_of(st.sampled_from(CHUNKS), st.binary(max_size=3)), max_size=8), st.data())
def test_a_chunked_body_is_refused_or_ends_where_h11_finds_its_end(pieces: list[bytes], data: st.DataObject) -> None:
    """Wherever reads end; and each line of it is one that every program reads in the same way."""
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    framing, correct = ChunkedFraming(), 0
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if framing.error is None:
            correct += framing.feed(stream[start:end])
    rest = behind_chunks(stream[:correct] if framing.error else stream)
    if framing.state is ChunkedState.OVER:
        assert rest is not None
        assert STRICT.fullmatch(stream[: len(stream) - len(rest)])
    else:
        assert rest is None


def behind_chunks(stream: bytes) -> bytes | None:
    """Return what follows a chunked body, as h11 reads it; None: it has not ended."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)
    while (event := http.next_event()) is not h11.NEED_DATA:
        if isinstance(event, h11.EndOfMessage):
            return http.trailing_data[0]
    return None


@FUZZ
@given(st.one_of(st.binary(max_size=200), st.sampled_from(PIECES)), st.sampled_from(PIECES))
def test_an_answers_head_is_refused_or_says_one_thing(middle: bytes, piece: bytes) -> None:
    """What passes of an upstream's answer has no line end, and none of the proxy's own names, in it."""
    raw = b"HTTP/1.1 200 OK\r\nX: a" + middle + piece + b"b\r\nX-Connection-Id: c"
    try:
        head = parse_response(raw)
    except MalformedHead:
        return
    for name, value in encode_fields(end_to_end(head.headers)):
        assert not set(b"\r\n\x00") & set(name + value)
        assert not name.lower().startswith((b"x-reconnect", b"x-connection-id"))


@pytest.mark.parametrize(
    "unit", [b"a: b\r\n", b"\r\n\r", b"a", b" ", b"\r", b"a:\r\n", b"X: " + b"\t" * 50 + b"\r\n", b"%25"]
)
def test_time_grows_no_faster_than_the_head(unit: bytes) -> None:
    """Eight times the head takes far less than 64 times the processor's time, also where it comes byte by byte."""

    def spent(size: int) -> float:
        stream = b"GET / HTTP/1.1\r\nX: " + unit * (size // len(unit))
        best = float("inf")
        for _ in range(3):
            reader = HeadReader(limit=10 * size, check_line=parse_request_line)
            began = time.process_time()
            try:
                for position in range(len(stream)):
                    reader.feed(stream[position : position + 1])
                parse_request(stream)
            except MalformedHead:
                pass
            best = min(best, time.process_time() - began)
        return best

    assert spent(64 * 1024) < 32 * max(spent(8 * 1024), 0.001)
