"""The compressed messages that a leg receives: how much CPU time inflating them may take, and what waits meanwhile.

    WebSocketLeg --compressed--> CompressedInput.take --as it came, or inflated--> Link.on_message

A few bytes of deflate can stand for a thousand times as many (RFC 7692), so peers could keep the event loop busy with
little traffic. Therefore inflating for all peers together gets SHARE of a core as soon as it has taken BURST more than
that. Then the messages queue up: each waits until there is time for it, and its leg takes no frame meanwhile. Messages
that are passed on as they came and cannot be too large never wait, nor do those of at most SMALL bytes, nor a leg that
has used less than FREE_SHARE of the time.

picows hands over frames that it has read already, even if reading is paused. They are kept as `HeldFrame`.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from typing import ClassVar, Protocol

from picows import WSFrame, WSMsgType, WSTransport

from ..core.interfaces import LegListener
from ..core.message import Message
from .deflate import EXPANSION, Corrupt, TooBig, may_exceed, measure, open_message

#: The share of a core that inflating for all peers gets together, and how many seconds of it may be used at once.
SHARE = 0.25
BURST = 0.05
#: The share of the time that each leg may use in any case, and how many seconds of it it may save.
FREE_SHARE = 0.01
FREE_SECONDS = 0.02
#: Bytes of a compressed message that cannot take long: a quarter of a millisecond.
SMALL = 256
#: The longest time, in seconds, that a message may have to wait. A peer that is not read must not count as silent.
LONGEST_WAIT = 15.0
#: Seconds that inflating takes for each byte that is made.
_SECONDS_PER_BYTE = 2e-9


class InputLeg(Protocol):
    """What the input asks of its leg."""

    link: LegListener | None
    transport: WSTransport
    max_message: int

    @property
    def held(self) -> bool:
        """Whether frames are to be kept."""

    def hold(self) -> None:
        """Hand over all frames to `CompressedInput.keep`, until `go_on` is called."""

    def go_on(self) -> None:
        """Take frames again."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame."""

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection with this close code."""


class CompressedInput:
    """Takes the compressed messages of one leg."""

    __slots__ = ("_at", "_frames", "_free", "_leg", "_message", "_reserved")

    #: What inflating for all peers of this process has taken more than its share, in seconds, and when that was so.
    owed: ClassVar[float] = 0.0
    _owed_at: ClassVar[float] = 0.0

    def __init__(self, leg: InputLeg) -> None:
        self._leg = leg
        # The time that this leg may use in any case, in seconds, and when that was so.
        self._free = 0.0
        self._at = asyncio.get_running_loop().time()
        # While the leg is held: the message that waits, the time that was set aside for it, and the frames behind it.
        self._message: Message | None = None
        self._reserved = 0.0
        self._frames: deque[HeldFrame] | None = None

    def take(self, opcode: int, payload: bytes) -> None:
        """Take a whole message: now, or when there is time for it."""
        if len(payload) > self._leg.max_message:
            # picows has refused this frame already, and read on.
            self._fail_too_big()
            return
        wait = self._wait(len(payload)) if self._takes_time(len(payload)) else 0.0
        if not wait:
            self._open(opcode, payload)
        elif wait > LONGEST_WAIT:
            self._leg.fail(1013, "too many compressed messages wait to be inflated")
        else:
            self._message = (opcode, payload)
            self._reserved = self._estimate(len(payload))
            CompressedInput.owed += self._reserved
            self._leg.hold()
            asyncio.get_running_loop().call_later(wait, self._go_on)

    def keep(self, frame: WSFrame) -> None:
        """Keep a frame that follows the message that waits."""
        if self._frames is None:
            self._frames = deque()
        self._frames.append(HeldFrame(frame))

    def _takes_time(self, size: int) -> bool:
        """Tell whether a message of `size` bytes is inflated, and that may take long."""
        link = self._leg.link
        passes = link is not None and link.passes_compressed()
        return size > SMALL and not (passes and not may_exceed(size, self._leg.max_message))

    def _wait(self, size: int) -> float:
        """Return for how many seconds a message of `size` bytes has to wait."""
        now = asyncio.get_running_loop().time()
        CompressedInput.owed = max(0.0, CompressedInput.owed - (now - CompressedInput._owed_at) * SHARE)
        CompressedInput._owed_at = now
        self._free = min(FREE_SECONDS, self._free + (now - self._at) * FREE_SHARE)
        self._at = now
        if self._free >= min(FREE_SECONDS, self._estimate(size)):
            return 0.0
        return max(0.0, CompressedInput.owed - BURST) / SHARE

    def _estimate(self, size: int) -> float:
        """Return how many seconds inflating a message of `size` bytes may take."""
        return min(size * EXPANSION, self._leg.max_message) * _SECONDS_PER_BYTE

    def _open(self, opcode: int, payload: bytes) -> None:
        """Pass a message on. It is inflated only if a receiver needs that, or to check its size."""
        leg, link = self._leg, self._leg.link
        if link is None:
            return
        began = time.thread_time()
        try:
            if link.passes_compressed():
                measure(payload, leg.max_message)
            else:
                opcode, payload = open_message(opcode, payload, leg.max_message)
        except TooBig:
            self._fail_too_big()
        except Corrupt as error:
            leg.fail(error.code, str(error))
        else:
            link.on_message(opcode, payload)
        finally:
            self._charge(time.thread_time() - began)

    def _charge(self, spent: float) -> None:
        free = min(self._free, spent)
        self._free -= free
        CompressedInput.owed += spent - free - self._reserved
        self._reserved = 0.0

    def _fail_too_big(self) -> None:
        self._leg.fail(1009, f"a message above {self._leg.max_message} bytes")

    def _go_on(self) -> None:
        """Take the message that has waited, and the frames behind it up to the next one that has to wait."""
        message, self._message = self._message, None
        if message is not None:
            self._leg.go_on()
            self._open(*message)
            self.replay()

    def replay(self) -> None:
        """Give the frames that were kept to the leg, while it takes them."""
        while self._frames and not self._leg.held:
            self._leg.on_ws_frame(self._leg.transport, self._frames.popleft())  # type: ignore[arg-type]

    def drop(self) -> None:
        """Drop the message that waits: it was not received. The frames behind it are still there."""
        self._message = None
        CompressedInput.owed -= self._reserved
        self._reserved = 0.0


class HeldFrame:
    """A copy of a `picows.WSFrame`, which itself is valid only while picows hands it over."""

    __slots__ = ("_payload", "fin", "msg_type", "rsv1", "rsv2", "rsv3")

    def __init__(self, frame: WSFrame) -> None:
        self.msg_type: WSMsgType = frame.msg_type
        self.fin, self.rsv1, self.rsv2, self.rsv3 = frame.fin, frame.rsv1, frame.rsv2, frame.rsv3
        self._payload = frame.get_payload_as_bytes()

    @property
    def payload_size(self) -> int:
        return len(self._payload)

    def get_payload_as_bytes(self) -> bytes:
        """Return the payload."""
        return self._payload

    def get_payload_as_memoryview(self) -> memoryview:
        """Return the payload."""
        return memoryview(self._payload)

    def get_close_code(self) -> int:
        """Return the code of a close frame that has one."""
        (code,) = struct.unpack_from("!H", self._payload)
        return int(code)

    def get_close_reason(self) -> str:
        """Return the reason of a close frame. picows has checked that it is UTF-8."""
        return self._payload[2:].decode()
