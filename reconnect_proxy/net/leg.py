"""A WebSocket as a leg of a session: frames in, core events out; core calls in, frames out.

    socket -> picows -> WebSocketLeg -> core Link          on_ws_frame
    socket <- picows <- WebSocketLeg <- core Link          send, ping, close

picows parses and writes frames and calls back for each one, without a task or an await. The rules of RFC 6455 beyond
single frames are here: fragments become whole messages, text is checked to be UTF-8, Pings are answered, the closing
handshake is made. A leg passes messages to its `Link`, and compressed ones (RFC 7692) as they came, or inflated; see
`deflate`. What it does with a frame depends on its `LegState`.

A peer cannot make a leg grow without limit. Fragments are joined as they come, so small or empty ones take only their
bytes. If a peer does not read, only the latest of the Pongs that it is owed is kept.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable, MutableSet
from typing import ClassVar, cast

from multidict import CIMultiDict
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from ..close_codes import SENDABLE_CODES, cut_reason
from ..core.interfaces import Acceptance, LegListener
from ..core.message import COMPRESSED
from .burst import LARGE, BurstTransport
from .compressed_input import CompressedInput
from .deflate import is_utf8
from .inflating import InflatedMessages
from .leg_state import LegState
from .reader import Reader
from .tcp_info import acceptance_of

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build of websockets without its part in C
    from websockets.utils import apply_mask

#: Seconds that a closing handshake may take. After that the socket is dropped.
CLOSE_TIMEOUT = 5.0
#: Bytes in a socket's write buffer above which no more is sent.
WRITE_BUFFER = 256 * 1024
#: Frames without data that a peer may send in a second; more is a flood. This protocol needs four Pings a round trip.
#: Data frames need no such limit, because the queues have one.
EMPTY_FRAMES = 10_000

_NO_HEADERS: CIMultiDict[str] = CIMultiDict()
_NO_CODE = 1005
# The opcodes of data messages: plain ints, which unlike members of an enum cost nothing to compare and combine.
_TEXT, _BINARY = 1, 2
#: The bits of a message's kind that are its opcode: all but COMPRESSED.
_KIND = 0x0F
_LOG = logging.getLogger("reconnect_proxy.net")


# These are read with each frame, and members of an enum are slow to look up.
_OPEN = LegState.OPEN
_TEXT_FRAME, _BINARY_FRAME = WSMsgType.TEXT, WSMsgType.BINARY
_LINKED = (_OPEN, LegState.HELD, LegState.SETTLING)
_PING, _PONG, _CLOSE = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE


class WebSocketLeg(WSListener):
    """A socket that carries a leg. `IncomingWebSocket` and `OutgoingWebSocket` are the two kinds."""

    #: Whether frames are sent masked, as a client must (RFC 6455 section 5.1).
    masked: ClassVar[bool]

    __slots__ = (
        "_attach",
        "_deadline",
        "_empty_frames",
        "_empty_since",
        "_inflating",
        "_input",
        "_joined",
        "_legs",
        "_opcode",
        "_out",
        "_pong",
        "_state",
        "deflate",
        "link",
        "max_message",
        "protocol",
        "transport",
        "writable",
    )

    def __init__(
        self,
        attach: Callable[[WebSocketLeg], LegListener | None],
        deflate: bool,
        max_message: int,
        legs: MutableSet[WebSocketLeg],
    ) -> None:
        """Make a leg without a socket; picows brings it.

        Args:
            attach: tells the core that this leg has a socket. Returns its link, or None if it is not wanted any more.
            deflate: whether permessage-deflate is agreed on.
            max_message: the largest message, in bytes after inflating.
            legs: the open legs of the proxy. This one is among them while its socket lives.
        """
        self._attach = attach
        self.link: LegListener | None = None
        self.protocol: Reader | None = None
        self.transport: WSTransport = None  # type: ignore[assignment]
        # What picows writes to.
        self._out: BurstTransport = None  # type: ignore[assignment]
        # The socket's write buffer is below its high-water mark.
        self.writable = True
        self.deflate = deflate
        # Made for the first compressed message for a peer that has not agreed to that.
        self._inflating: InflatedMessages | None = None
        # Made for the first compressed message that comes.
        self._input: CompressedInput | None = None
        self.max_message = max_message
        self._legs = legs
        # A fragmented message that is not complete: its kind, and what has come of it.
        self._opcode = 0
        self._joined: bytearray | None = None
        # The payload of the latest Ping, while the socket takes no more.
        self._pong: bytes | None = None
        # Frames without data since `_empty_since`, up to EMPTY_FRAMES.
        self._empty_frames = 0
        self._empty_since = -math.inf
        self._state = LegState.CONNECTING
        # Drops the socket if it is settling or closing for too long.
        self._deadline: asyncio.TimerHandle | None = None

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the socket: its handshake is complete."""
        self.transport = transport
        self._out = cast(BurstTransport, transport.underlying_transport)
        self._legs.add(self)
        self._out.set_write_buffer_limits(high=WRITE_BUFFER)
        # picows keeps both while the socket lives, and the headers have been read.
        transport.request.headers = transport.response.headers = _NO_HEADERS
        self._state = _OPEN
        attach, self._attach = self._attach, _no_link
        try:
            self.link = attach(self)
        except Exception:  # noqa: BLE001 - picows would log it without its traceback
            _LOG.exception("taking over a connected socket failed; it is dropped")
        if self.link is None:
            self._state = LegState.CLOSING
            self.abort()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame. The path of every message begins here."""
        kind = frame.msg_type
        if self._state is not _OPEN:
            self._on_frame_not_open(kind, frame)
            return
        link: LegListener = self.link  # type: ignore[assignment]  # an open leg has one
        opcode = _BINARY if kind is _BINARY_FRAME else _TEXT if kind is _TEXT_FRAME else 0
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._on_reserved(opcode, frame, link)
        elif opcode and frame.fin and not self._opcode:
            payload = frame.get_payload_as_bytes()
            if opcode == _TEXT and not payload.isascii() and not is_utf8(payload):
                self.fail(1007, "text that is not UTF-8")
            elif len(payload) > self.max_message:
                # picows has refused this frame already, and read on.
                self._fail_too_big()
            else:
                link.on_message(opcode, payload)
        elif kind is _PONG:
            link.on_pong(frame.get_payload_as_bytes())
            self._count_empty_frame(link)
        elif kind is _PING:
            link.on_heard()
            if self.writable:
                transport.send_pong(frame.get_payload_as_bytes())
            else:
                # RFC 6455 section 5.5.3: a Pong for the latest of several Pings answers all of them.
                self._pong = frame.get_payload_as_bytes()
            self._count_empty_frame(link)
        elif kind is _CLOSE:
            self._on_close(frame, link)
        else:
            self._on_fragment(opcode, frame, link)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Take the end of the socket."""
        self._legs.discard(self)
        if self._input is not None:
            self._input.drop()
        self._state = LegState.CLOSED
        # They and the leg refer to each other, and the protocol holds a read buffer that has grown with what was read.
        self.protocol = self._inflating = self._input = None
        if self._deadline is not None:
            self._deadline.cancel()
        link = self.link
        if link is not None:
            # A close frame that picows sent by itself: it refused a frame.
            handshake = transport.close_handshake
            sent = handshake.sent if handshake is not None else None
            if sent is None:
                link.on_lost(1006, "")
            elif sent.code == WSCloseCode.MESSAGE_TOO_BIG:
                link.on_too_big(f"a message above {self.max_message} bytes")
            else:
                link.on_lost(int(sent.code), sent.reason or "")  # type: ignore[call-overload]
            # These two refer to each other as well.
            self.link = None

    def pause_writing(self) -> None:
        """Send nothing more: the socket's write buffer is full."""
        self.writable = False
        if self._inflating is not None:
            self._inflating.waits = False

    def resume_writing(self) -> None:
        """Send again: the socket's write buffer has emptied."""
        self.writable = self._inflating is None or not self._inflating.stuck
        if self._pong is not None and self._state is _OPEN:
            pong, self._pong = self._pong, None
            self.transport.send_pong(pong)
        if self.link is not None:
            self.link.on_writable()

    # What the core calls (core.interfaces.Leg).

    def send(self, opcode: int, payload: bytes) -> None:
        """Write a whole data message as one frame.

        picows masks fast, but copies a large payload. It would write the head of a large unmasked frame from memory
        that it uses again at once, and uvloop keeps a view of what it cannot send yet: heads that wait in the write
        buffer would be overwritten by later ones.
        """
        if opcode > _BINARY and not self.deflate:
            self._send_inflated(opcode, payload)
        elif self.masked and len(payload) < LARGE:
            self.transport.send(opcode & _KIND, payload, True, opcode > _BINARY)  # type: ignore[arg-type]
        elif not self.transport.is_close_frame_sent:
            if self.masked:
                mask = os.urandom(4)
                self._out.write_frame(opcode, apply_mask(payload, mask), mask)
            else:
                self._out.write_frame(opcode, payload)

    def _send_inflated(self, opcode: int, payload: bytes) -> None:
        """Write a message that came compressed for a peer that has not agreed to that."""
        if self._inflating is None:
            self._inflating = InflatedMessages(self.resume_writing, self._on_stuck)
        message = self._inflating.open(opcode, payload, self.max_message)
        if message is not None:
            self.send(*message)
        if self._inflating.full and self.writable:
            self.writable = False
            self._inflating.waits = message is not None

    def _on_stuck(self, reason: str) -> None:
        if self.link is not None:
            self.link.on_stuck(reason)

    def ping(self, payload: bytes) -> None:
        """Write a Ping at once: the messages that it asks about are held until the peer has answered."""
        self.transport.send_ping(payload)
        self._out.flush()

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake. The socket is dropped if the peer does not answer within CLOSE_TIMEOUT."""
        if self._state in _LINKED:
            self._start_closing(code, reason)
            self._drop_held()
            # The peer's answer must be read, and everything before it.
            self.resume_reading()

    def abort(self) -> None:
        """Drop the socket and what it has buffered."""
        self.transport.disconnect(graceful=False)

    def pause_reading(self) -> None:
        """Stop reading."""
        if not self._out.is_closing():
            self._out.pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless a message waits to be inflated."""
        if not self.held and not self._out.is_closing():
            self._out.resume_reading()

    def progress(self) -> int:
        """Return the space that is left in the read buffer. It changes with every byte of an unfinished frame."""
        return self.protocol.room if self.protocol is not None else 0

    def acceptance(self) -> Acceptance:
        """Return what the system says of the bytes that were written."""
        if self._out.is_closing():
            return Acceptance(0, waiting=True, acknowledges=False)
        return acceptance_of(self._out.fileno(), self._out.waiting)

    # Compressed messages (RFC 7692).

    def _on_reserved(self, opcode: int, frame: WSFrame, link: LegListener) -> None:
        """Take a frame with a reserved bit: RSV1 on the first frame of a message says that it is compressed."""
        if frame.rsv2 or frame.rsv3 or not self.deflate:
            self.fail(1002, "a reserved bit is set, and no extension was agreed that uses it")
        elif not opcode:
            self.fail(1002, "RSV1 is set in a frame that does not begin a message")
        elif frame.fin and not self._opcode:
            self._on_compressed(COMPRESSED | opcode, frame.get_payload_as_bytes())
        else:
            self._on_fragment(opcode, frame, link)

    def _on_compressed(self, opcode: int, payload: bytes) -> None:
        """Take a whole compressed message."""
        if self._input is None:
            self._input = CompressedInput(self)
        self._input.take(opcode, payload)

    @property
    def held(self) -> bool:
        """Whether frames are kept behind a message that waits to be inflated."""
        return self._state is LegState.HELD

    def hold(self) -> None:
        """Keep all frames from now on."""
        self._state = LegState.HELD
        self.pause_reading()

    def go_on(self) -> None:
        """Take frames again."""
        if self.held:
            self._state = _OPEN
            if self.link is not None and not self.link.paused:
                self.resume_reading()

    def _drop_held(self) -> None:
        """Take the control frames among what is held: the leg is not open any more."""
        if self._input is not None:
            self._input.drop()
            self._input.replay()

    # The rest of RFC 6455.

    def settle(self) -> None:
        """Take no more messages, so that the last ones can be confirmed before the session is closed.

        What the peer sends from now on gets no Pong, which would confirm it. After CLOSE_TIMEOUT the socket is dropped.
        """
        if self.link is not None and self._state in (_OPEN, LegState.HELD):
            self._state = LegState.SETTLING
            self._start_deadline()
            self.link.settle()
            self._drop_held()

    def _on_frame_not_open(self, kind: WSMsgType, frame: WSFrame) -> None:
        """Take a frame while the leg is held, settles or closes."""
        if self.held and self._input is not None:
            self._input.keep(frame)
        elif self._state is LegState.SETTLING and self.link is not None:
            if kind is _PONG:
                self.link.on_pong(frame.get_payload_as_bytes())
            elif kind is _CLOSE:
                self._on_close(frame, self.link)
        elif kind is _CLOSE:
            # The peer's half of the closing handshake that this side began.
            self.transport.disconnect()

    def _on_fragment(self, opcode: int, frame: WSFrame, link: LegListener) -> None:
        """Put a fragmented message together (RFC 6455 section 5.4). Without an `opcode` the frame continues one."""
        if bool(opcode) is bool(self._opcode):
            self.fail(1002, "a frame that does not continue the message under way, or continues none")
            return
        if opcode:
            self._opcode = COMPRESSED | opcode if frame.rsv1 else opcode
        if self._joined is None:
            self._joined = bytearray()
        if len(self._joined) + frame.payload_size > self.max_message:
            self._fail_too_big()
            return
        self._joined += frame.get_payload_as_memoryview()
        if not frame.payload_size and not frame.fin:
            self._count_empty_frame(link)
        if frame.fin:
            opcode, payload = self._opcode, bytes(self._joined)
            self._opcode = 0
            self._joined = None
            if opcode > _BINARY:
                self._on_compressed(opcode, payload)
            elif opcode == _TEXT and not is_utf8(payload):
                self.fail(1007, "text that is not UTF-8")
            else:
                link.on_message(opcode, payload)

    def _on_close(self, frame: WSFrame, link: LegListener) -> None:
        """Answer the peer's close frame with the same code and end the socket (RFC 6455 section 5.5.1)."""
        code, reason = _NO_CODE, ""
        if frame.payload_size:
            code, reason = int(frame.get_close_code()), frame.get_close_reason() or ""  # type: ignore[call-overload]
            if code not in SENDABLE_CODES:
                self.fail(1002, f"close code {code} is not one that a frame may carry")
                return
        self._start_closing(code, "")
        self.transport.disconnect()
        link.on_lost(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection: the peer broke RFC 6455 (its section 7.1.7), or sent too large a message (1009)."""
        self._start_closing(code, reason)
        self.transport.disconnect()
        if self.link is not None and code == 1009:
            self.link.on_too_big(reason)
        elif self.link is not None:
            self.link.on_lost(code, reason)

    def _fail_too_big(self) -> None:
        self.fail(1009, f"a message above {self.max_message} bytes")

    def _count_empty_frame(self, link: LegListener) -> None:
        """Count a frame that costs its sender nothing, and fail the connection when they are a flood."""
        self._empty_frames += 1
        if self._empty_frames == EMPTY_FRAMES:
            now = asyncio.get_running_loop().time()
            flooded = now - self._empty_since < 1.0
            self._empty_frames, self._empty_since = 0, now
            if flooded and self._state is _OPEN:
                self.fail(1008, f"more than {EMPTY_FRAMES} frames a second that carry no data")

    def _start_closing(self, code: int, reason: str) -> None:
        """Send a close frame, the last frame of this side."""
        self._state = LegState.CLOSING
        self._start_deadline()
        if code == _NO_CODE:
            self.transport.send(_CLOSE, b"")
        else:
            self.transport.send_close(code, cut_reason(reason))  # type: ignore[arg-type]

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)


def _no_link(leg: WebSocketLeg) -> None:
    """Attach nothing: a leg has one socket."""
