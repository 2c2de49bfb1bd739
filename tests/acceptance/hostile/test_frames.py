"""Clients whose frames break RFC 6455."""

from __future__ import annotations

import asyncio
import struct

import pytest

from ..frames import Frame, Opcode, encode
from ..rawsocket import dial
from .attack import masked, provoke
from .siege import Siege

#: Frames, and the close code that they get.
BROKEN = {
    "not masked": (1002, encode(Frame(Opcode.TEXT, b"x"), mask=False)),
    "reserved bit 1": (1002, masked(b"\xc1\x01x")),
    "reserved bit 2": (1002, masked(b"\xa1\x01x")),
    "reserved bit 3": (1002, masked(b"\x91\x01x")),
    "reserved bits of a ping": (1002, masked(b"\xf9\x01x")),
    "opcode 3": (1002, masked(b"\x83\x00")),
    "opcode 7": (1002, masked(b"\x87\x01x")),
    "opcode 11": (1002, masked(b"\x8b\x00")),
    "opcode 15": (1002, masked(b"\x8f\x01x")),
    "a fragmented ping": (1002, masked(b"\x09\x01x")),
    "a fragmented close": (1002, masked(b"\x08\x02\x03\xe8")),
    "a ping of 126 bytes": (1002, masked(b"\x89\x7e\x00\x7e" + bytes(126))),
    "a pong of 64 KiB": (1002, masked(b"\x8a\x7f" + struct.pack("!Q", 65536) + bytes(65536))),
    "a continuation of nothing": (1002, masked(b"\x80\x01x")),
    "a message inside a message": (1002, masked(b"\x01\x01x", b"\x81\x01y")),
    "a fragment inside a message": (1002, masked(b"\x02\x01x", b"\x02\x01y")),
    "the top bit of a length": (1002, masked(b"\x82\x7f" + struct.pack("!Q", 1 << 63))),
    "a length of 5 in 16 bits": (1002, masked(b"\x82\x7e\x00\x05hello")),
    "a length of 5 in 64 bits": (1002, masked(b"\x82\x7f" + struct.pack("!Q", 5) + b"hello")),
    "an announced petabyte": (1009, masked(b"\x82\x7f" + struct.pack("!Q", 1 << 50))),
    "a byte too much": (1009, masked(b"\x82\x7f" + struct.pack("!Q", (1 << 20) + 1))),
    "fragments that add up": (1009, masked(b"\x02\x7f" + struct.pack("!Q", 1 << 20) + bytes(1 << 20), b"\x80\x01x")),
    "bad UTF-8": (1007, masked(b"\x81\x02\xc3\x28")),
    "a surrogate": (1007, masked(b"\x81\x03\xed\xa0\x80")),
    "UTF-8 that ends too soon": (1007, masked(b"\x01\x01\xc3", b"\x80\x00")),
    "a close of one byte": (1002, masked(b"\x88\x01\x03")),
    "close code 0": (1002, masked(b"\x88\x02\x00\x00")),
    "close code 999": (1002, masked(b"\x88\x02\x03\xe7")),
    "close code 1004": (1002, masked(b"\x88\x02\x03\xec")),
    "close code 1005": (1002, masked(b"\x88\x02\x03\xed")),
    "close code 1006": (1002, masked(b"\x88\x02\x03\xee")),
    "close code 1015": (1002, masked(b"\x88\x02\x03\xf7")),
    "close code 2999": (1002, masked(b"\x88\x02\x0b\xb7")),
    "close code 5000": (1002, masked(b"\x88\x02\x13\x88")),
    "close code 65535": (1002, masked(b"\x88\x02\xff\xff")),
    "a close reason of bad UTF-8": (1007, masked(b"\x88\x04\x03\xe8\xc3\x28")),
}


@pytest.mark.parametrize("behind", [b"", masked(b"\x82\x01x") * 1000], ids=["alone", "with more behind"])
async def test_a_broken_frame_is_answered_with_the_right_code(behind: bytes, siege: Siege) -> None:
    """Each ends its own connection with the code of RFC 6455 section 7.4, and another client is echoed meanwhile."""

    async def break_rules(raw: bytes) -> int:
        link = await dial(f"{siege.url}/echo")
        return (await provoke(link, raw + behind)).code

    other = await dial(f"{siege.url}/echo")
    codes = await asyncio.gather(*(break_rules(raw) for _, raw in BROKEN.values()))
    wrong = {name: code for name, code in zip(BROKEN, codes, strict=True) if code != BROKEN[name][0]}
    if behind:
        # What was not read when the socket was shut makes the system send RST, which may overtake the Close.
        wrong = {name: code for name, code in wrong.items() if code != 1006}
    assert wrong == {}
    await other.send("unharmed")
    assert await other.recv() == "unharmed"
    await other.close()


async def test_what_came_before_a_broken_frame_is_delivered(siege: Siege) -> None:
    """The messages in front of it have reached the upstream once, in order; who returns hears their echo."""
    link = await dial(f"{siege.url}/echo", [("X-Reconnect-Received", "0")])
    identity = link.response.get("x-connection-id") or ""
    link.on_message = lambda message: None
    await provoke(link, masked(b"\x81\x01a", b"\x81\x01b", b"\x81\x01c", b"\xc1\x01d", b"\x81\x01e"))
    again = await dial(f"{siege.url}/echo", [("X-Reconnect-Id", identity), ("X-Reconnect-Received", "0")])
    assert again.response.get("x-reconnect-received") == "3"
    assert await again.take(3) == ["a", "b", "c"]
    await again.close()
