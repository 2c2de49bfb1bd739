"""permessage-deflate (RFC 7692): what is agreed on with each peer, and how a compressed message is opened.

    client's offers --accept--> its 101              OFFER --> upstream --agreed--> whether it takes them
    compressed payload --measure--> as it came       compressed payload --inflate--> plain

The proxy never compresses. A compressed message is held as it came, and sent on like that to a peer that has agreed on
the extension too. Both legs are without context takeover, in both directions: each message is compressed by itself. So
a message can be sent again, also on another link. No session keeps a zlib object, which takes 15 KiB to 47 KiB: one is
made for each message that is inflated, in a tenth of a microsecond, and is freed after it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

from multidict import CIMultiDict

from ..core.message import COMPRESSED, Message, Opcode
from .head import BLANKS, MalformedHead, tokens

#: The header of offers and answers (RFC 6455 section 9.1).
EXTENSIONS = "Sec-WebSocket-Extensions"
#: What an upstream is offered, and a client is answered.
OFFER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
#: The most bytes that one byte of deflate can stand for: two bits stand for 258 bytes.
EXPANSION = 1032

#: Seconds of CPU that inflating a message may take in any case, and for each byte read or made: that is four times what
#: text takes. Blocks that hold next to nothing can take thirty times as much.
COST_FLOOR = 0.1
COST = 0.02 / 2**20

#: A message is opened in pieces: bytes that are given to zlib at once, and that it gives at once.
_CHUNK = 16 * 1024
_PIECE = 64 * 1024
#: What a sender cuts off (RFC 7692 section 7.2.1), and an empty final block, which shows that nothing else is missing.
_END = b"\x00\x00\xff\xff" + b"\x01\x00\x00\xff\xff"
#: Final blocks within a message, which RFC 7692 section 7.2.3.4 allows. Each costs a zlib object, so there is a limit.
_FINAL_BLOCKS = 64
#: A window of another size than zlib's largest could not read what the other leg brings.
_LARGEST_WINDOW = "15"
_WINDOWS = {str(bits) for bits in range(8, 16)}


class TooBig(Exception):
    """A message that would be above the limit when inflated."""


class Corrupt(Exception):
    """A compressed message that cannot be read; the message says why. `code` is the close code for its sender."""

    code = 1007


class Costly(Corrupt):
    """A compressed message that takes far more time than any that a compressor makes."""

    code = 1008


# The handshake. Extension parameters are tokens, quoted or not (RFC 6455 section 9.1), so splitting at `;` is safe.


def accept(headers: CIMultiDict[str]) -> str | None:
    """Return the answer to the first of a client's offers that can be accepted, or None (RFC 7692 section 7.1).

    An offer is declined that is malformed, or asks for a smaller window than the upstream will use.
    """
    for offer in tokens(headers, EXTENSIONS):
        try:
            parameters = _parameters(offer)
        except ValueError:
            continue
        if parameters is None:
            continue
        if "server_max_window_bits" not in parameters:
            return OFFER
        if parameters["server_max_window_bits"] == _LARGEST_WINDOW:
            # Accepted by being repeated (RFC 7692 section 7.1.2.1).
            return f"{OFFER}; server_max_window_bits={_LARGEST_WINDOW}"
    return None


def agreed(headers: CIMultiDict[str], offered: bool) -> bool:
    """Tell whether an upstream's 101 accepts OFFER.

    Raises:
        MalformedHead: it accepts what was not offered, or not as it was offered.
    """
    answers = tokens(headers, EXTENSIONS)
    if not answers:
        return False
    try:
        parameters = _parameters(answers[0])
    except ValueError as error:
        raise MalformedHead(f"its answer to permessage-deflate is malformed: {error}") from None
    if not offered or parameters is None or len(answers) > 1:
        raise MalformedHead("it has chosen an extension that was not offered")
    if "server_no_context_takeover" not in parameters:
        raise MalformedHead("its answer to permessage-deflate lacks server_no_context_takeover")
    if "client_max_window_bits" in parameters:
        raise MalformedHead("its answer to permessage-deflate has client_max_window_bits, which was not offered")
    if parameters.get("server_max_window_bits", _LARGEST_WINDOW) not in _WINDOWS:
        raise MalformedHead("its answer to permessage-deflate has a server_max_window_bits that is not 8 to 15")
    return True


def _parameters(extension: str) -> dict[str, str | None] | None:
    """Return the parameters of one offer or answer, or None if it is another extension's. Raises ValueError."""
    name, *parts = (part.strip(BLANKS) for part in extension.split(";"))
    if name != "permessage-deflate":
        return None
    parameters: dict[str, str | None] = {}
    for part in parts:
        key, equals, value = (word.strip(BLANKS) for word in part.partition("="))
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if key in parameters:
            raise ValueError(f"{key} is there twice")
        if key in ("server_no_context_takeover", "client_no_context_takeover"):
            valid = not equals
        elif key == "client_max_window_bits":
            valid = not equals or value in _WINDOWS
        else:
            valid = key == "server_max_window_bits" and value in _WINDOWS
        if not valid:
            raise ValueError(f"{part[:40]!r} is no parameter of it")
        parameters[key] = value if equals else None
    return parameters


# The messages.


def measure(payload: bytes, limit: int) -> None:
    """Check that a message has at most `limit` bytes when inflated.

    One that is so small that it cannot have more is not opened; whether it can be read is then its receiver's to find.

    Raises:
        TooBig: it has more.
        Corrupt: it cannot be inflated.
    """
    if may_exceed(len(payload), limit):
        for _ in _pieces(payload, limit):
            pass


def may_exceed(size: int, limit: int) -> bool:
    """Tell whether a compressed message of `size` bytes can have more than `limit` when inflated."""
    # What the sender cut off counts: a message that ends in mid-block makes zlib take it for codes.
    return (size + len(_END)) * EXPANSION > limit


def open_message(kind: int, payload: bytes, limit: int) -> Message:
    """Return the message that a compressed one was made of.

    Raises:
        TooBig: it has more than `limit` bytes.
        Corrupt: it cannot be inflated, or is text that is not UTF-8.
    """
    kind &= ~COMPRESSED
    plain = inflate(payload, limit)
    if kind == Opcode.TEXT and not is_utf8(plain):
        raise Corrupt("text that is not UTF-8")
    return kind, plain


def is_utf8(payload: bytes) -> bool:
    """Tell whether a text message's payload is what it must be (RFC 6455 section 8.1)."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def inflate(payload: bytes, limit: int) -> bytes:
    """Return what a compressed payload holds. Raises TooBig, Corrupt."""
    return b"".join(_pieces(payload, limit))


def _pieces(payload: bytes, limit: int) -> Iterator[bytes]:
    """Yield what `payload` inflates to, without ever holding more of it than one piece."""
    if not payload:
        # Nothing at all is no deflate, but some peers send an empty message like that.
        return
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    final_blocks = size = read = 0
    began = time.thread_time()
    for chunk in _chunks(payload):
        if time.thread_time() - began > COST_FLOOR + COST * (size + read):
            raise Costly("a compressed message takes too long to inflate")
        read += len(chunk)
        while True:
            if stream.eof:
                if chunk == _END:
                    # It ended with a final block, and without the empty one that should be behind it.
                    return
                final_blocks += 1
                if final_blocks > _FINAL_BLOCKS:
                    raise Corrupt(f"a compressed message has more than {_FINAL_BLOCKS} final blocks")
                stream = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                piece = stream.decompress(chunk, _PIECE)
            except zlib.error:
                raise Corrupt("a compressed message is corrupt") from None
            size += len(piece)
            if size > limit:
                raise TooBig(f"a message above {limit} bytes")
            yield piece
            chunk = stream.unused_data if stream.eof else stream.unconsumed_tail
            # A full piece may have left something behind in zlib.
            if not chunk and (stream.eof or len(piece) < _PIECE):
                break
    if not stream.eof:
        raise Corrupt("a compressed message is cut off")


def _chunks(payload: bytes) -> Iterator[bytes]:
    if len(payload) <= _CHUNK:
        yield payload + _END
        return
    for start in range(0, len(payload), _CHUNK):
        yield payload[start : start + _CHUNK]
    yield _END
