"""Plain text: the application sends the text of a client as it is, or within other text: `ann says: …`."""

from __future__ import annotations

from reconnect_harness.adapters.adapter import Adapter, Message
from reconnect_harness.history.message import find_stamp


class TextAdapter(Adapter):
    """A message is its stamp, and is found anywhere in what arrives."""

    def pack(self, number: int, stamp: str) -> Message:
        return stamp

    def unpack(self, message: Message) -> str | None:
        return find_stamp(message)
