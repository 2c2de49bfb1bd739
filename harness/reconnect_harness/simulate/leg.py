"""A connection of a simulated network as the core sees a socket: for the proxy, and for its aware clients."""

from __future__ import annotations

from reconnect_harness.simulate.network import ConnectionEnd, Frame, FrameKind
from reconnect_proxy.core.interfaces import Acceptance, LegListener


class SimulatedLeg:
    """One end of a connection; satisfies `reconnect_proxy.core.interfaces.Leg`."""

    def __init__(self, end: ConnectionEnd) -> None:
        self.writable = True
        # Simulated messages are never compressed.
        self.deflate = False
        # The core's side of this leg; set as soon as the core has made it.
        self.link: LegListener | None = None
        self._end = end
        end.on_frame = self._take
        end.on_room = self._room

    def send(self, opcode: int, payload: bytes, /) -> None:
        """Write a message."""
        self._end.put(Frame(FrameKind.DATA, payload, opcode))
        self.writable = not self._end.blocked

    def ping(self, payload: bytes, /) -> None:
        """Write a Ping."""
        self._end.put(Frame(FrameKind.PING, payload))

    def close(self, code: int, reason: str) -> None:
        """Write a close frame. Frames that still arrive go to the core, which ignores them."""
        self._end.close(Frame(FrameKind.CLOSE, reason.encode(), code), reading=True)

    def abort(self) -> None:
        """Drop the socket."""
        self._end.close(Frame(FrameKind.END))

    def pause_reading(self) -> None:
        """Let arriving frames wait."""
        self._end.pause()

    def resume_reading(self) -> None:
        """Handle the frames that wait, and those that arrive."""
        self._end.resume()

    def progress(self) -> int:
        """Return how many frames have arrived."""
        return self._end.frames

    def acceptance(self) -> Acceptance:
        """Return what the network says of the frames that were written."""
        pipe = self._end.out
        if pipe is None:
            return Acceptance(0, waiting=False, acknowledges=False)
        return Acceptance(pipe.delivered, not pipe.empty, acknowledges=not pipe.gap)

    def _take(self, frame: Frame) -> None:
        link = self.link
        assert link is not None, "frames come when the core has its link"
        if frame.kind is FrameKind.DATA:
            link.on_message(frame.number, frame.payload)
        elif frame.kind is FrameKind.PING:
            link.on_heard()
            self._end.put(Frame(FrameKind.PONG, frame.payload))
        elif frame.kind is FrameKind.PONG:
            link.on_pong(frame.payload)
        else:
            link.on_lost(frame.number or 1006, frame.payload.decode())

    def _room(self) -> None:
        self.writable = True
        if self.link is not None:
            self.link.on_writable()
