"""JSON objects with the text of a client in one field: `{"type": "say", "text": "…"}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reconnect_harness.adapters.adapter import Adapter, Message
from reconnect_harness.history.message import find_stamp


class JsonAdapter(Adapter):
    """A message is an object whose `field` is the stamp.

    Attributes:
        field: the field; `payload.text` is a field of an object in the object.
        fields: the other fields of what is sent; `{client}` and `{room}` in their text become the names.

    """

    field: str = "text"
    fields: Mapping[str, Any] = {}

    def pack(self, number: int, stamp: str) -> Message:
        *outer, inner = self.field.split(".")
        whole = {name: self.filled(text) if isinstance(text, str) else text for name, text in self.fields.items()}
        place: dict[str, Any] = whole
        for name in outer:
            place = place.setdefault(name, {})
        place[inner] = stamp
        return json.dumps(whole)

    def unpack(self, message: Message) -> str | None:
        try:
            found = json.loads(message)
        except ValueError:
            return None
        for name in self.field.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return find_stamp(found) if isinstance(found, str) else None
