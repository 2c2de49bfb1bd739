"""The base of adapters. An adapter does no input or output, so that all clients of the harness can use it.

class ChatAdapter(Adapter):
    path = "/chat/{room}"
    to = To.OTHERS

    def pack(self, number: int, stamp: str) -> str:
        return json.dumps({"type": "say", "text": stamp})

    def unpack(self, message: str | bytes) -> str | None:
        said = json.loads(message)
        return said["text"] if said["type"] == "said" else None
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

from reconnect_harness.history.audience import To

Message = str | bytes

Login = Generator[Message | list[Message] | None, Message, None]
"""A login: `received = yield message` sends a message and waits for the next one, `yield None` waits only, and
`yield [message, …]` sends without waiting."""


class Adapter(ABC):
    """How one client of an application writes and reads messages. `client` is its name, `room` that of its room.

    A scenario may set the attributes: `adapter: {json: {field: body, to: others}}`.

    Attributes:
        to: which clients of a room have to receive a message.
        rooms: over how many rooms the clients are spread: r1, r2 …
        path: where clients connect, with `{client}` and `{room}` for the names; empty for the path of the URL.
        subprotocols: what clients offer.

    """

    to: To = To.SENDER
    rooms: int = 1
    path: str = ""
    subprotocols: Sequence[str] = ()

    def __init__(self, client: str = "c01", room: str = "r1") -> None:
        self.client = client
        self.room = room

    @abstractmethod
    def pack(self, number: int, stamp: str) -> Message:
        """Return the message of the application that carries `stamp`: the client's message of this number."""

    @abstractmethod
    def unpack(self, message: Message) -> str | None:
        """Return the stamp that a message of the application carries; None if it is not one of `pack`."""

    def login(self) -> Login:
        """Say what comes first on a connection; nothing, if not overridden. See `Login`."""
        yield from ()

    def answer(self, message: Message) -> Message | None:
        """Return what has to be sent at once when this message arrives, such as the answer to a ping; or None."""
        return None

    def filled(self, text: str) -> str:
        """Return `text` with the client's names for `{client}` and `{room}`."""
        return text.replace("{client}", self.client).replace("{room}", self.room)
