"""How messages look in the chat of `chat.py`."""

from __future__ import annotations

import json

from reconnect_harness.adapters import Adapter, To


class ChatAdapter(Adapter):
    """Each client is a user of its room."""

    path = "/chat/{room}/{client}"
    to = To.OTHERS

    def pack(self, number: int, stamp: str) -> str:
        return json.dumps({"type": "say", "text": stamp})

    def unpack(self, message: str | bytes) -> str | None:
        said = json.loads(message)
        return said["text"] if said["type"] == "said" else None
