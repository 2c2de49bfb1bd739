"""Chunked bodies are read strictly, in pieces of any size."""

from __future__ import annotations

import pytest

from reconnect_proxy.net.chunked import ChunkedFraming, ChunkedState

GOOD = b"5;name=value\r\nhello\r\n1 \r\n\n\r\n0\r\nX-Sum: 1\r\nX-End:\t2\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_correct_body_passes(size: int) -> None:
    """Extensions, padded sizes and trailers are allowed; what follows behind the body is not looked at."""
    framing = ChunkedFraming()
    sent = GOOD + b"GET \n"
    for at in range(0, len(sent), size):
        piece = sent[at : at + size]
        assert framing.feed(piece) == len(piece)
    assert (framing.state, framing.error) == (ChunkedState.OVER, None)


#: Bodies whose end other programs could find somewhere else, and the correct bytes at their beginnings.
WRONG = [
    (b"1\na\r\n0\r\n\r\n", 0),
    (b"1;a\nb\r\na\r\n0\r\n\r\n", 0),
    (b"1;a\rb\r\na\r\n0\r\n\r\n", 0),
    (b"1;\0\r\na\r\n0\r\n\r\n", 0),
    (b"\r\na\r\n0\r\n\r\n", 0),
    (b" 1\r\na\r\n0\r\n\r\n", 0),
    (b"+1\r\na\r\n0\r\n\r\n", 0),
    (b"0x1\r\na\r\n0\r\n\r\n", 0),
    (b"1_0\r\na\r\n0\r\n\r\n", 0),
    (b"1 1\r\na\r\n0\r\n\r\n", 0),
    (b"\xb2\r\na\r\n0\r\n\r\n", 0),
    (b"1000000000000000\r\na", 0),
    (b"-1\r\na\r\n0\r\n\r\n", 0),
    (b"1\r\na\n0\r\n\r\n", 3),
    (b"1\r\nab\r\n0\r\n\r\n", 3),
    (b"1\r\na\r\r\n0\r\n\r\n", 3),
    (b"1\r\na\r\n0\n\r\n", 6),
    (b"0\r\n\n", 3),
    (b"0\r\nX: a\n\r\n", 3),
    (b"0\r\nX: a\r\n b\r\n\r\n", 9),
    (b"0\r\nX: a\rb\r\n\r\n", 3),
    (b"0\r\nX: a\0b\r\n\r\n", 3),
    (b"0\r\nX : a\r\n\r\n", 3),
    (b"0\r\nX\r\n\r\n", 3),
    (b"0\r\n: a\r\n\r\n", 3),
    (b"5;" + b"a" * 20_000, 0),
]


@pytest.mark.parametrize(("body", "correct"), WRONG)
def test_what_other_programs_could_read_in_another_way_is_an_error(body: bytes, correct: int) -> None:
    """What came before it is correct."""
    framing = ChunkedFraming()
    assert framing.feed(body) == correct
    assert framing.error is not None


@pytest.mark.parametrize(("body", "correct"), WRONG)
def test_an_error_is_found_byte_by_byte_too(body: bytes, correct: int) -> None:
    """Wherever the pieces end."""
    framing = ChunkedFraming()
    passed = 0
    for at in range(len(body)):
        passed += framing.feed(body[at : at + 1])
        if framing.error is not None:
            break
    assert framing.error is not None
    assert passed >= correct
