"""STOMP 1.2 over WebSocket: each client subscribes to the destination to which it sends."""

from __future__ import annotations

from collections.abc import Mapping

from reconnect_harness.adapters.adapter import Adapter, Login, Message
from reconnect_harness.history.audience import To
from reconnect_harness.history.message import find_stamp


class StompAdapter(Adapter):
    """A message is a SEND frame whose body is the stamp, and arrives as a MESSAGE frame.

    Attributes:
        destination: where clients subscribe.
        send_to: where they send; `destination`, if it is empty.
        credentials: further headers of the CONNECT frame: `{login: …, passcode: …}`.

    """

    to = To.ALL
    subprotocols = ("v12.stomp",)
    destination: str = "/topic/{room}"
    send_to: str = ""
    credentials: Mapping[str, str] = {}

    def login(self) -> Login:
        asked = {"accept-version": "1.2", "host": "/", "heart-beat": "0,0", **self.credentials}
        message = yield _frame("CONNECT", asked)
        if not str(message).startswith("CONNECTED"):
            raise ValueError(f"the server refuses the login: {message[:200]!r}")
        yield [_frame("SUBSCRIBE", {"id": "0", "destination": self.filled(self.destination), "ack": "auto"})]

    def pack(self, number: int, stamp: str) -> Message:
        headers = {
            "destination": self.filled(self.send_to or self.destination),
            "content-type": "text/plain",
            "content-length": str(len(stamp.encode())),
        }
        return _frame("SEND", headers, stamp)

    def unpack(self, message: Message) -> str | None:
        text = message if isinstance(message, str) else message.decode(errors="replace")
        return find_stamp(text) if text.lstrip("\r\n").startswith("MESSAGE") else None


def _frame(command: str, headers: dict[str, str], body: str = "") -> str:
    return "\n".join([command, *(f"{name}:{value}" for name, value in headers.items()), "", f"{body}\0"])
