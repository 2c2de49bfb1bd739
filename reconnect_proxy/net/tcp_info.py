"""What the system says of the bytes written to a TCP socket: whether the peer's system takes them, and acknowledges.

    write buffer of the process -> send queue of the kernel -> receive buffer of the peer's kernel -> the peer
                      `waiting`, not accepted yet              accepted                               read: unknown

Linux tells this with one system call, `getsockopt(TCP_INFO)`: RFC 4898 has the terms, `tcp(7)` and `linux/tcp.h` the
structure. Elsewhere only the write buffer of the process is known.
"""

from __future__ import annotations

import socket
import struct
import sys

from ..core.interfaces import Acceptance

#: The fields of `struct tcp_info` that are used: how often unacknowledged data has timed out, the probes of a closed
#: window that were not answered, segments not acknowledged, bytes acknowledged, and bytes not sent yet.
_TCP_INFO = struct.Struct("=2xBB20xI92xQ16xI")
assert _TCP_INFO.size == 148

#: A probe of a closed window that is on its way is not answered yet.
_PROBES = 1


def acceptance_of(descriptor: int, waiting: int) -> Acceptance:
    """Return what the system says of a socket; `waiting` bytes are in the write buffer of this process."""
    info = _tcp_info(descriptor)
    if info is None:
        return Acceptance(-waiting, waiting > 0, acknowledges=False)
    timeouts, probes, unacknowledged, acknowledged, not_sent = info
    return Acceptance(
        acknowledged,
        bool(waiting or unacknowledged or not_sent),
        acknowledges=not timeouts and probes <= _PROBES,
    )


def _tcp_info(descriptor: int) -> tuple[int, ...] | None:
    """Return the fields of `_TCP_INFO`; None where the system does not have them, or the socket is no TCP socket."""
    if sys.platform != "linux":
        return None
    try:
        # Family, type and protocol are given, so that the system is not asked for them. They do not matter here.
        borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
        try:
            raw = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        finally:
            borrowed.detach()
    except OSError:
        return None
    # A kernel of before 4.6 tells less.
    return _TCP_INFO.unpack(raw) if len(raw) == _TCP_INFO.size else None
