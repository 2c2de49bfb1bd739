"""GraphQL over WebSocket, protocol graphql-transport-ws: mutations that send, and a subscription that receives."""

from __future__ import annotations

import json
from typing import Any

from reconnect_harness.adapters.adapter import Adapter, Login, Message
from reconnect_harness.history.audience import To
from reconnect_harness.history.message import find_stamp

#: The id of the subscription; those of mutations are numbers.
_SUBSCRIPTION = "subscription"


class GraphQlWsAdapter(Adapter):
    """A message is a mutation with the variables `text` and `room`, and arrives by a subscription with `room`.

    Attributes:
        mutation: the document that sends.
        subscription: the document that receives, with the text anywhere in its data; empty to read the
            answers to the mutations instead.

    """

    to = To.ALL
    path = "/graphql"
    subprotocols = ("graphql-transport-ws",)
    mutation: str = "mutation ($text: String!, $room: String!) { say(text: $text, room: $room) }"
    subscription: str = "subscription ($room: String!) { said(room: $room) }"

    def login(self) -> Login:
        message = yield json.dumps({"type": "connection_init"})
        while json.loads(message).get("type") != "connection_ack":
            message = yield None
        if self.subscription:
            yield [self._subscribe(_SUBSCRIPTION, self.subscription, {"room": self.room})]

    def pack(self, number: int, stamp: str) -> Message:
        return self._subscribe(str(number), self.mutation, {"text": stamp, "room": self.room})

    def unpack(self, message: Message) -> str | None:
        told = json.loads(message)
        if told.get("type") != "next" or (told.get("id") == _SUBSCRIPTION) != bool(self.subscription):
            return None
        return _in(told.get("payload", {}).get("data"))

    def answer(self, message: Message) -> Message | None:
        return json.dumps({"type": "pong"}) if json.loads(message).get("type") == "ping" else None

    def _subscribe(self, name: str, query: str, variables: dict[str, str]) -> str:
        # An unused variable is an error.
        used = {key: value for key, value in variables.items() if f"${key}" in query}
        return json.dumps({"id": name, "type": "subscribe", "payload": {"query": query, "variables": used}})


def _in(value: Any) -> str | None:
    """Return the first stamp in a JSON value."""
    if isinstance(value, str):
        return find_stamp(value)
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_in, values)), None)
