"""Inflating has a share of the CPU: messages wait for it, and one that waits for a leg that is gone costs nothing."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from reconnect_proxy.core.message import COMPRESSED, Opcode
from reconnect_proxy.net import compressed_input
from reconnect_proxy.net.compressed_input import BURST, LONGEST_WAIT, SHARE, SMALL, CompressedInput

BINARY = COMPRESSED | Opcode.BINARY
MIB = 1024 * 1024


def deflated(size: int) -> bytes:
    """Return a compressed message of zeros."""
    work = zlib.compressobj(9, wbits=-15)
    return (work.compress(bytes(size)) + work.flush(zlib.Z_SYNC_FLUSH))[:-4]


#: It could be too large, so it is inflated.
LARGE = deflated(16 * MIB - 1)
#: It could not, so it passes as it came.
MEDIUM = deflated(12 * MIB)


class Link:
    """Takes messages."""

    def __init__(self) -> None:
        self.passes = True
        self.messages: list[bytes] = []

    def passes_compressed(self) -> bool:
        """Say whether messages pass as they are."""
        return self.passes

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Take a message."""
        self.messages.append(payload)


class Leg:
    """A leg without a socket."""

    def __init__(self) -> None:
        self.link: Any = Link()
        self.transport: Any = None
        self.max_message = 16 * MIB
        self.held = False
        self.failed: tuple[int, str] | None = None
        self.frames: list[Any] = []
        self.input = CompressedInput(self)

    def hold(self) -> None:
        """Take no frames."""
        self.held = True

    def go_on(self) -> None:
        """Take frames again."""
        self.held = False

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        """Take a frame that was held."""
        self.frames.append(frame)

    def fail(self, code: int, reason: str) -> None:
        """Fail."""
        self.failed = (code, reason)


@pytest.fixture(autouse=True)
def nothing_owed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin each test with nothing that was used."""
    monkeypatch.setattr(CompressedInput, "owed", 0.0)
    monkeypatch.setattr(CompressedInput, "_owed_at", 0.0)
    yield


def owe(seconds: float) -> None:
    """Let others have used so much more than their share."""
    CompressedInput.owed = seconds
    CompressedInput._owed_at = asyncio.get_running_loop().time()


async def test_messages_wait_while_more_than_the_share_was_used() -> None:
    """For as long as it takes until it is the share again."""
    owe(BURST + 0.1 * SHARE)
    leg = Leg()
    began = asyncio.get_running_loop().time()
    leg.input.take(BINARY, LARGE)
    assert (leg.held, leg.link.messages) == (True, [])
    while leg.held:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert leg.link.messages == [LARGE]
    assert asyncio.get_running_loop().time() >= began + 0.1


async def test_what_takes_no_time_and_legs_that_use_little_never_wait() -> None:
    """However much others use. A message that is inflated for its receiver takes time, if it is not small."""
    owe(1.0)
    leg = Leg()
    small = deflated(SMALL)
    for _ in range(1000):
        leg.input.take(BINARY, small)
    leg.input.take(BINARY, MEDIUM)
    leg.input._at -= 10
    leg.input.take(BINARY, LARGE)
    assert not leg.held
    assert leg.link.messages == [small] * 1000 + [MEDIUM, LARGE]
    # Until it has used what it had saved.
    for _ in range(100):
        if not leg.held:
            leg.input.take(BINARY, LARGE)
    assert leg.held
    leg.input.drop()
    other = Leg()
    other.link.passes = False
    other.input.take(BINARY, small)
    assert not other.held
    other.input.take(BINARY, MEDIUM)
    assert other.held
    other.input.drop()


async def test_each_message_that_waits_is_counted_until_it_is_inflated_or_dropped() -> None:
    """So later ones wait longer, and a leg that is gone costs nothing."""
    owe(BURST + SHARE)
    before = CompressedInput.owed
    legs = [Leg() for _ in range(10)]
    for leg in legs:
        leg.input.take(BINARY, LARGE)
    assert all(leg.held for leg in legs)
    assert CompressedInput.owed > before + 0.05
    for leg in legs:
        leg.input.drop()
    assert CompressedInput.owed <= before + 1e-6


async def test_a_message_that_would_wait_for_too_long_fails_its_leg() -> None:
    """1013: its peer may try again later."""
    owe(BURST + 1.1 * LONGEST_WAIT * SHARE)
    leg = Leg()
    leg.input.take(BINARY, LARGE)
    assert leg.failed == (1013, "too many compressed messages wait to be inflated")
    assert not leg.held


async def test_bad_messages_fail_their_leg_with_the_code_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrupt, too large, too slow."""
    leg = Leg()
    leg.input.take(BINARY, b"\xff" * 20_000)
    assert leg.failed == (1007, "a compressed message is corrupt")
    leg.input.take(BINARY, deflated(17 * MIB))
    assert leg.failed == (1009, f"a message above {16 * MIB} bytes")
    monkeypatch.setattr("reconnect_proxy.net.deflate.COST_FLOOR", -1.0)
    leg.input.take(BINARY, deflated(16 * MIB - 1))
    assert leg.failed == (1008, "a compressed message takes too long to inflate")
    assert leg.link.messages == []


async def test_without_a_share_no_message_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(compressed_input, "BURST", 1e9)
    owe(1000.0)
    leg = Leg()
    leg.input.take(BINARY, LARGE)
    assert leg.link.messages == [LARGE]
