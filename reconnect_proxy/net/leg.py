"""What both legs have in common: frames in, core events out; core calls in, frames out.

    socket -> picows -> WebSocketLeg -> core Link          on_ws_frame
    socket <- picows <- WebSocketLeg <- core Link          send, ping, close

picows parses and writes frames and calls back for each (its core API: no task, no queue, no await per message). What
RFC 6455 asks beyond single frames is here: fragments become whole messages, text is checked to be UTF-8, Pings are
answered, the closing handshake is made. A leg never decides anything about messages: it hands them to its `Link`.
Compressed ones (RFC 7692) it hands on as they came, or inflates them; see `deflate`.

Nothing that a peer sends makes a leg grow: fragments are joined as they come, so that however small or empty they are
they take no more than their bytes; and of the Pongs that a peer is owed which does not read, only the latest is kept.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import termios
from collections.abc import Callable, MutableSet
from typing import ClassVar, cast

from multidict import CIMultiDict
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from ..close_codes import SENDABLE_CODES, cut_reason
from ..core.link import Link
from ..core.outbox import COMPRESSED
from .burst import LARGE, BurstTransport
from .deflate import Corrupt, TooBig, is_utf8, measure, open_message
from .reader import Reader

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build of websockets without its part in C
    from websockets.utils import apply_mask

#: How long, in seconds, a socket that is being closed may take before it is dropped.
CLOSE_TIMEOUT = 5.0
#: Bytes in a socket's write buffer above which no more is sent.
WRITE_BUFFER = 256 * 1024
#: Frames that carry no data which a peer may send in a second, or any number of seconds if at once; more is a flood.
#: Four Pings a round trip are what this protocol needs. Data needs no such limit: it meets that of a queue.
EMPTY_FRAMES = 10_000

_NO_HEADERS: CIMultiDict[str] = CIMultiDict()
_NO_CODE = 1005
_TEXT = 1
_BINARY = 2
#: What of a message's kind is its opcode: all but COMPRESSED.
_KIND = 0x0F
#: The kinds of a frame that is a data message, and those as which the core knows them: plain ints, which unlike members
#: of an enum cost nothing to compare and combine.
_OPCODES = {WSMsgType.TEXT: _TEXT, WSMsgType.BINARY: _BINARY}
_LOG = logging.getLogger("reconnect_proxy.net")


class WebSocketLeg(WSListener):
    """A socket that carries a leg. `IncomingWebSocket` and `OutgoingWebSocket` add how it comes about."""

    #: Frames are sent masked, as those of a client (RFC 6455 section 5.1).
    masked: ClassVar[bool]

    __slots__ = (
        "_attach",
        "_closing",
        "_empty_frames",
        "_empty_since",
        "_joined",
        "_legs",
        "_opcode",
        "_out",
        "_pong",
        "_settling",
        "_stuck",
        "deflate",
        "link",
        "max_message",
        "protocol",
        "transport",
        "writable",
    )

    def __init__(
        self,
        attach: Callable[[WebSocketLeg], Link | None],
        deflate: bool,
        max_message: int,
        legs: MutableSet[WebSocketLeg],
    ) -> None:
        """Make a leg without a socket; picows brings it.

        Args:
            attach: says to the core that this leg has a socket. Returns its link, or None if nobody wants it any more.
            deflate: whether permessage-deflate is agreed on.
            max_message: bytes that a message may have, inflated.
            legs: the open legs of the proxy; this one is among them for as long as its socket lives.
        """
        self._attach: Callable[[WebSocketLeg], Link | None] | None = attach
        self.link: Link | None = None
        self.protocol: Reader | None = None
        self.transport: WSTransport = None  # type: ignore[assignment]
        # What picows writes to.
        self._out: BurstTransport = None  # type: ignore[assignment]
        # The socket's write buffer is below its high-water mark.
        self.writable = True
        self.deflate = deflate
        # What was to be sent last cannot be, and nothing may overtake it.
        self._stuck = False
        self.max_message = max_message
        self._legs = legs
        # The message under way: its kind, and what has come of it.
        self._opcode = 0
        self._joined: bytearray | None = None
        # What the latest Ping asked for, while the socket takes no more.
        self._pong: bytes | None = None
        # Frames without data since `_empty_since`, up to EMPTY_FRAMES.
        self._empty_frames = 0
        self._empty_since = -math.inf
        # Drops the socket if the closing handshake takes too long.
        self._closing: asyncio.TimerHandle | None = None
        # Not closed yet, but no messages are taken any more.
        self._settling = False

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the socket: its handshake is complete."""
        self.transport = transport
        self._out = cast(BurstTransport, transport.underlying_transport)
        self._legs.add(self)
        self._out.set_write_buffer_limits(high=WRITE_BUFFER)
        # picows keeps both for as long as the socket lives; what they say has been read.
        transport.request.headers = transport.response.headers = _NO_HEADERS
        attach, self._attach = self._attach, None
        assert attach is not None, "a leg has one socket"
        try:
            self.link = attach(self)
        except Exception:  # noqa: BLE001 - picows would log it without its traceback
            _LOG.exception("taking over a connected socket failed; it is dropped")
        if self.link is None:
            self.abort()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame. The path of every message begins here."""
        kind = frame.msg_type
        link = self.link
        if link is None or self._closing is not None:
            if self._settling and link is not None:
                self._on_frame_settling(kind, frame, link)
            elif kind == WSMsgType.CLOSE:
                # The peer's half of the closing handshake that this side began.
                transport.disconnect()
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._on_reserved(kind, frame, link)
        elif (opcode := _OPCODES.get(kind)) is not None and frame.fin and not self._opcode:
            payload = frame.get_payload_as_bytes()
            if opcode == _TEXT and not payload.isascii() and not is_utf8(payload):
                self._break_off(1007, "text that is not UTF-8")
            elif len(payload) > self.max_message:
                # picows has refused this frame already, and read on.
                self._too_big()
            else:
                link.on_message(opcode, payload)
        elif kind == WSMsgType.PONG:
            link.on_pong(frame.get_payload_as_bytes())
            self._note_empty_frame()
        elif kind == WSMsgType.PING:
            link.on_heard()
            if self.writable:
                transport.send_pong(frame.get_payload_as_bytes())
            else:
                # RFC 6455 section 5.5.3: a Pong for the latest of several Pings stands for all of them.
                self._pong = frame.get_payload_as_bytes()
            self._note_empty_frame()
        elif kind == WSMsgType.CLOSE:
            self._on_close(frame)
        else:
            self._on_fragment(kind, frame, link)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Take the end of the socket."""
        self._legs.discard(self)
        # The two refer to each other, and the other one holds a read buffer that has grown with what was read.
        self.protocol = None
        if self._closing is not None:
            self._closing.cancel()
        link = self.link
        if link is not None:
            # A close frame that we sent while the link lived: picows refused a frame.
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
        """Take note that the socket's write buffer is full."""
        self.writable = False

    def resume_writing(self) -> None:
        """Take note that the socket's write buffer has emptied."""
        self.writable = not self._stuck
        if self._pong is not None and self._closing is None:
            pong, self._pong = self._pong, None
            self.transport.send_pong(pong)
        if self.link is not None:
            self.link.on_writable()

    # What the core calls (core.link.Leg).

    def send(self, opcode: int, payload: bytes) -> None:
        """Write a whole data message as one frame.

        picows masks in no time, but copies a large payload; and it would write the head of a large frame that is not
        masked from memory that it uses again at once. uvloop keeps a view of what it cannot send yet, so heads that
        wait in the write buffer would be overwritten by later ones.
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
        try:
            opcode, payload = open_message(opcode, payload, self.max_message)
        except (TooBig, Corrupt) as error:
            # It was not opened when it came, so its sender cannot be blamed. The core is told when it is ready.
            self.writable = False
            self._stuck = True
            asyncio.get_running_loop().call_soon(self._report_stuck, str(error))
        else:
            self.send(opcode, payload)

    def _report_stuck(self, reason: str) -> None:
        if self.link is not None:
            self.link.on_stuck(reason)

    def ping(self, payload: bytes) -> None:
        """Write a Ping, and at once: the messages that it asks about are held until the peer has answered."""
        self.transport.send_ping(payload)
        self._out.flush()

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the socket is dropped if the peer does not answer within CLOSE_TIMEOUT."""
        if self._closing is None or self._settling:
            self._settling = False
            self._await_end()
            self._send_close(code, reason)
            # The peer's answer must be read, whatever comes before it.
            self.resume_reading()

    def abort(self) -> None:
        """Drop the socket and what it has buffered."""
        self.transport.disconnect(graceful=False)

    def pause_reading(self) -> None:
        """Stop reading."""
        # A socket may have failed in a write, and not have said so yet.
        if not self._out.is_closing():
            self._out.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._out.is_closing():
            self._out.resume_reading()

    def progress(self) -> int:
        """Return the room that is left in the read buffer: it changes with every byte of an unfinished frame."""
        return self.protocol.room if self.protocol is not None else 0

    def flushed(self) -> bool:
        """Tell whether the write buffer is empty, and where the system can say so (Linux) the kernel's as well."""
        if self._out.is_closing() or self._out.waiting:
            return False
        try:
            unacknowledged = fcntl.ioctl(self._out.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return True
        return not any(unacknowledged)

    # Compressed messages (RFC 7692).

    def _on_reserved(self, kind: WSMsgType, frame: WSFrame, link: Link) -> None:
        """Take a frame with a reserved bit: RSV1 on the first frame of a message says that it is compressed."""
        if frame.rsv2 or frame.rsv3 or not self.deflate:
            self._break_off(1002, "a reserved bit is set, and no extension was agreed that uses it")
        elif kind not in _OPCODES:
            self._break_off(1002, "RSV1 is set in a frame that does not begin a message")
        elif frame.fin and not self._opcode:
            self._on_compressed(COMPRESSED | _OPCODES[kind], frame.get_payload_as_bytes(), link)
        else:
            self._on_fragment(kind, frame, link)

    def _on_compressed(self, opcode: int, payload: bytes, link: Link) -> None:
        """Take a whole compressed message. It is opened only if its receivers ask for that, or its size is in doubt."""
        if len(payload) > self.max_message:
            # picows has refused this frame already, and read on.
            self._too_big()
            return
        try:
            if link.passes_compressed():
                measure(payload, self.max_message)
            else:
                opcode, payload = open_message(opcode, payload, self.max_message)
        except TooBig:
            self._too_big()
        except Corrupt as error:
            self._break_off(1007, str(error))
        else:
            link.on_message(opcode, payload)

    # The rest of RFC 6455.

    def settle(self) -> None:
        """Take no more messages, so that the last ones can be confirmed before the session is closed.

        What the peer says from now on counts as not received: it gets no Pong, which would promise the opposite. A
        socket that is not closed within CLOSE_TIMEOUT is dropped.
        """
        if self.link is not None and self._closing is None:
            self._settling = True
            self._await_end()
            self.link.settle()

    def _on_frame_settling(self, kind: WSMsgType, frame: WSFrame, link: Link) -> None:
        if kind == WSMsgType.PONG:
            link.on_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.CLOSE:
            self._settling = False
            self._on_close(frame)

    def _on_fragment(self, kind: WSMsgType, frame: WSFrame, link: Link) -> None:
        """Put a fragmented message together (RFC 6455 section 5.4)."""
        if (kind == WSMsgType.CONTINUATION) is not bool(self._opcode):
            self._break_off(1002, "a frame that does not continue the message under way, or continues none")
            return
        if kind != WSMsgType.CONTINUATION:
            self._opcode = COMPRESSED | _OPCODES[kind] if frame.rsv1 else _OPCODES[kind]
        if self._joined is None:
            self._joined = bytearray()
        if len(self._joined) + frame.payload_size > self.max_message:
            self._too_big()
            return
        self._joined += frame.get_payload_as_memoryview()
        if not frame.payload_size and not frame.fin:
            self._note_empty_frame()
            if self._closing is not None:
                return
        if frame.fin:
            opcode, payload = self._opcode, bytes(self._joined)
            self._opcode = 0
            self._joined = None
            if opcode > _BINARY:
                self._on_compressed(opcode, payload, link)
            elif opcode == _TEXT and not is_utf8(payload):
                self._break_off(1007, "text that is not UTF-8")
            else:
                link.on_message(opcode, payload)

    def _on_close(self, frame: WSFrame) -> None:
        """Answer the peer's close frame with the same code and end the socket (RFC 6455 section 5.5.1)."""
        code, reason = _NO_CODE, ""
        if frame.payload_size:
            code, reason = int(frame.get_close_code()), frame.get_close_reason() or ""  # type: ignore[call-overload]
            if code not in SENDABLE_CODES:
                self._break_off(1002, f"close code {code} is not one that a frame may carry")
                return
        self._await_end()
        self._send_close(code, "")
        self.transport.disconnect()
        if self.link is not None:
            self.link.on_lost(code, reason)

    def _too_big(self) -> None:
        self._await_end()
        reason = f"a message above {self.max_message} bytes"
        self._send_close(1009, reason)
        self.transport.disconnect()
        if self.link is not None:
            self.link.on_too_big(reason)

    def _break_off(self, code: int, reason: str) -> None:
        """Fail the connection: the peer broke RFC 6455 (its section 7.1.7)."""
        self._await_end()
        self._send_close(code, reason)
        self.transport.disconnect()
        if self.link is not None:
            self.link.on_lost(code, reason)

    def _note_empty_frame(self) -> None:
        """Count a frame that costs its sender nothing, and break off when they are a flood."""
        self._empty_frames += 1
        if self._empty_frames == EMPTY_FRAMES:
            now = asyncio.get_running_loop().time()
            flooded = now - self._empty_since < 1.0
            self._empty_frames, self._empty_since = 0, now
            if flooded and self._closing is None:
                self._break_off(1008, f"more than {EMPTY_FRAMES} frames a second that carry no data")

    def _await_end(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    def _send_close(self, code: int, reason: str) -> None:
        if code == _NO_CODE:
            self.transport.send(WSMsgType.CLOSE, b"")
        else:
            self.transport.send_close(code, cut_reason(reason))  # type: ignore[arg-type]
