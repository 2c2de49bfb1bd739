"""Socket.IO 3 and later (protocol 5, Engine.IO 4) over WebSocket only: events with the text as their argument."""

from __future__ import annotations

import json
from typing import Any

from reconnect_harness.adapters.adapter import Adapter, Login, Message
from reconnect_harness.history.message import find_stamp

#: Packets of Engine.IO; those of Socket.IO are messages of it: a digit more.
_PING, _PONG = "2", "3"
_CONNECT, _EVENT = "40", "42"


class SocketIoAdapter(Adapter):
    """A message is an event whose argument is the stamp, or an object with the stamp in a field.

    Attributes:
        event: the name of the events that are sent; what arrives is found in events of any name.
        field: the field of the argument that is sent; the argument itself is the stamp if it is empty.
        join: an event with the name of the room that is sent after connecting; none if it is empty.

    """

    path = "/socket.io/?EIO=4&transport=websocket"
    event: str = "message"
    field: str = ""
    join: str = ""

    def login(self) -> Login:
        opened = yield None
        if not str(opened).startswith("0"):
            raise ValueError(f"the server does not speak Engine.IO: {opened[:60]!r}")
        message = yield _CONNECT
        while not str(message).startswith(_CONNECT):
            message = yield None
        if self.join:
            yield [_event(self.join, self.room)]

    def pack(self, number: int, stamp: str) -> Message:
        return _event(self.event, {self.field: stamp} if self.field else stamp)

    def unpack(self, message: Message) -> str | None:
        if not isinstance(message, str) or not message.startswith(_EVENT):
            return None
        try:
            _, *arguments = json.loads(message[message.index("[") :])
        except ValueError:
            return None
        values = [value for each in arguments for value in (each.values() if isinstance(each, dict) else [each])]
        return next(filter(None, (find_stamp(value) for value in values if isinstance(value, str))), None)

    def answer(self, message: Message) -> Message | None:
        return _PONG if message == _PING else None


def _event(name: str, argument: Any) -> str:
    return _EVENT + json.dumps([name, argument])
