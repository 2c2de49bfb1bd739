"""An upstream's answer that refuses a handshake, on its way to the clients that wait for that dial.

    upstream ── Handshake: the head ──► RefusedHandshake ◄── receivers ── HttpRelay ◄── Acceptor, one for each client
             ── HttpSocket: the body ─────────┴─► HttpSocket ── client

Usually one client waits. In the session that `receiver` clients share there may be several: they get the same answer,
as fast as the slowest of them reads, and one that reads nothing for a while is cut off.

| what ends it | the client gets |
| --- | --- |
| the end of the answer | the whole answer; its connection ends behind it |
| the upstream sends something malformed, or leaves | a cut |
| no client waits for it, or all have left | nothing; the upstream's connection is closed |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import h11

from ..core.wire import Refusal
from ..events import HttpFailed, Observe
from .head import ResponseHead
from .http_answer import ClientGone, clients_gone, first_end, in_full, pass_body, response_of
from .http_socket import HttpSocket, Lost


class Receiver(NamedTuple):
    """A client that gets the answer. `left` is called when its connection has ended."""

    client: HttpSocket
    left: Callable[[], None]


class RefusedHandshake:
    """One answer, its upstream's connection, and the clients that get it."""

    def __init__(self, url: str, head: ResponseHead, transport: asyncio.Transport, rest: bytes) -> None:
        """Take over the connection of an upstream, of whose answer the head was read, and `rest` behind it."""
        self.receivers: list[Receiver] = []
        self._url = url
        self._head = head
        self._upstream = HttpSocket(h11.CLIENT)
        self._upstream.connection_made(transport)
        transport.set_protocol(self._upstream)
        self._upstream.begin_response(head, rest)

    def drop(self) -> None:
        """Close the upstream's connection, and cut off the clients that do not have the whole answer."""
        self._upstream.cut()
        for receiver in self.receivers:
            receiver.left()
            receiver.client.cut()

    async def run(self, patience: float, observe: Observe) -> None:
        """Pass the answer on to the receivers, and end their connections.

        Args:
            patience: how many seconds a client may read nothing.
            observe: hears of an answer that was cut off.

        Raises:
            ClientGone: all clients have left.
        """
        try:
            await first_end(self._pass_on(patience), clients_gone([client for client, _ in self.receivers]))
            finishing = [client.finish(patience) for client, _ in self.receivers]
            await asyncio.gather(*finishing, return_exceptions=True)
        except Refusal as refusal:
            observe(HttpFailed(self._url, 0, in_full(refusal)))
        finally:
            self.drop()

    async def _pass_on(self, patience: float) -> None:
        async def send(event: h11.Event) -> None:
            sending = [receiver.client.send(event, patience) for receiver in self.receivers]
            outcomes = await asyncio.gather(*sending, return_exceptions=True)
            for receiver, outcome in zip(list(self.receivers), outcomes, strict=True):
                if isinstance(outcome, (Lost, TimeoutError)):
                    self.receivers.remove(receiver)
                    receiver.left()
                    receiver.client.cut()
                elif outcome is not None:
                    raise outcome
            if not self.receivers:
                raise ClientGone

        await send(response_of(self._head, last=True))
        await pass_body(self._upstream, send, trailers=True)
