"""How a session ends: the close code and the reason that its peers are told.

A reason that one peer has said is passed on to the other as it is. One that the proxy gives itself also says how many
messages of the peer that hears it may have arrived or not: `upstream unavailable; 12 messages uncertain`.
"""

from __future__ import annotations

from typing import NamedTuple

from ..close_codes import REASON_LIMIT, cut_reason


class Ending(NamedTuple):
    """A close code and a reason; `by_proxy`: neither peer has said them, so the proxy may say more."""

    code: int
    reason: str
    by_proxy: bool = False

    def told(self, uncertain: int) -> str:
        """Return the reason for a peer that has sent `uncertain` messages that may have arrived or not."""
        if not self.by_proxy or not uncertain:
            return self.reason
        more = f"; {uncertain} message{'' if uncertain == 1 else 's'} uncertain"
        return cut_reason(self.reason, REASON_LIMIT - len(more)) + more
