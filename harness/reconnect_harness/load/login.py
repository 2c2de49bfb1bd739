"""The login of a load user in the protocol of an application, as its adapter says: `adapters.adapter.Login`.

Messages are handed in as they arrive. On each link the login begins again.
"""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event

from reconnect_harness.adapters.adapter import Adapter, Login, Message


class LoginSteps:
    """Does the steps of a login; `done` is set when there is none left.

    Args:
        adapter: of one user.
        send: sends a message on the present link.

    """

    def __init__(self, adapter: Adapter, send: Callable[[Message], None]) -> None:
        self.adapter = adapter
        self.done = Event()
        self._send = send
        self._login: Login
        self._begun = False
        self._early: list[Message] = []

    def expect(self) -> None:
        """Prepare for a link: what arrives on it before `begin` is kept."""
        self._login = self.adapter.login()
        self._begun = False
        self._early.clear()
        self.done.clear()

    def begin(self) -> None:
        """Do the first step."""
        self._begun = True
        self._do(lambda: next(self._login))
        for message in self._early:
            self.heard(message)

    def heard(self, message: Message) -> None:
        """Take a message that has no stamp: answer it, and do the next step if the login waits for it."""
        if (answer := self.adapter.answer(message)) is not None:
            self._send(answer)
        if not self._begun:
            self._early.append(message)
        elif not self.done.is_set():
            self._do(lambda: self._login.send(message))

    def _do(self, step: Callable[[], Message | list[Message] | None]) -> None:
        try:
            sends = step()
            while isinstance(sends, list):
                for message in sends:
                    self._send(message)
                sends = next(self._login)
        except StopIteration:
            self.done.set()
        else:
            if sends is not None:
                self._send(sends)
