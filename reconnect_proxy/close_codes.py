"""What a close frame may carry: its code and its reason (RFC 6455 sections 5.5 and 7.4)."""

from __future__ import annotations

#: The codes that an endpoint may send: those of RFC 6455, 1012 to 1014 of IANA's registry, and those of applications.
#: 1004 is reserved; 1005, 1006 and 1015 say that there was no close frame.
SENDABLE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))

#: The largest reason, in bytes of UTF-8: a control frame has 125 bytes, and two of them are the code.
REASON_LIMIT = 123


def check_close_code(code: int) -> int:
    """Return `code` if an endpoint may send it. Raises ValueError if not."""
    if code not in SENDABLE_CODES:
        raise ValueError(f"{code!r} is not a close code that may be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999")
    return code


def cut_reason(reason: str, limit: int = REASON_LIMIT) -> str:
    """Return as much of `reason` as fits in `limit` bytes, in whole characters: by default what a close frame takes."""
    return reason.encode()[:limit].decode(errors="ignore")
