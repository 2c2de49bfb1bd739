"""An aware client: `connect(url)` has the feel of `websockets.connect`, and its session outlives dropped links.

    async with connect("ws://127.0.0.1:9124/chat") as ws:
        await ws.send("hello")
        async for message in ws:
            ...

Towards a proxy that speaks the reconnect protocol every message arrives once and in order, in both directions, however
often the link is lost. `client.session` is the session itself.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from types import TracebackType
from typing import Any

from websockets.asyncio.client import connect as websockets_connect
from websockets.datastructures import Headers, HeadersLike

from ..core.policy import DUPLEX, Policy
from ..core.wire import CONNECTION_ID, RECEIVED, RECONNECT, RECONNECT_ID, REPLAY_ID, is_id
from .aware_session import SessionLost
from .session import Connection
from .socket import LinkedConnection

__all__ = ["Connection", "SessionLost", "connect"]

#: Arguments of `websockets.connect` that cannot be passed on, and why.
NOT_PASSED = {"create_connection": "the client makes its own connections", "sock": "a socket cannot be dialled again"}


class connect:
    """Open a session with a reconnect proxy: `async with connect(url) as ws` or `ws = await connect(url)`.

    The first connection is tried once and fails as `websockets.connect` does; from then on drops are healed.

    Args:
        url: `ws://` or `wss://` address of the proxy.
        connection_id: an id for the session, 16 to 128 of `A-Za-z0-9._~-` and a secret; the proxy makes one by default.
        retry_for: seconds without a link after which the session is lost.
        max_queue: bytes held in either direction: sent but unconfirmed, above which `send` waits; and received but not
            taken, above which nothing more is read. Both go on below half of it.
        ping_interval: seconds of silence after which the peer is pinged; None never pings.
        ping_timeout: further seconds of silence after which the link is lost; None waits forever.
        close_timeout: seconds that `close` may take, delivery of what is queued included; None waits forever.
        additional_headers: sent with every handshake.
        options: the other options of `websockets.connect` (`subprotocols`, `compression`, `max_size`, `ssl`, …).

    Raises:
        ValueError: `connection_id` is no legal id, `max_queue` is below 1, or `additional_headers` has a header of the
            reconnect protocol.
        TypeError: an option cannot be passed on.
        SessionLost: the proxy has a session under `connection_id` whose counts are not those of a new one (409).
    """

    def __init__(
        self,
        url: str,
        *,
        connection_id: str | None = None,
        retry_for: float = 60.0,
        max_queue: int = 16 * 1024 * 1024,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        close_timeout: float | None = 10.0,
        additional_headers: HeadersLike | None = None,
        **options: Any,
    ) -> None:
        if max_queue < 1:
            raise ValueError(f"max_queue is {max_queue} bytes; it must be 1 or more")
        if connection_id is not None and not is_id(connection_id):
            raise ValueError(
                f"connection_id has {len(connection_id)} characters; an id is 16 to 128 of A-Z a-z 0-9 . _ ~ -"
            )
        self._headers = Headers() if additional_headers is None else Headers(additional_headers)
        for name in (CONNECTION_ID, RECONNECT_ID, RECEIVED, RECONNECT):
            if name in self._headers:
                raise ValueError(f"additional_headers has {name}, which the client sets; an id goes in connection_id=")
        if REPLAY_ID in self._headers:
            # It asks for control messages, which are not counted and look like any other (PROTOCOL.md section 5).
            raise ValueError(
                f"additional_headers has {REPLAY_ID}, but a client that counts must not get control messages"
            )
        for option, reason in NOT_PASSED.items():
            if option in options:
                raise TypeError(f"connect() does not take {option}=: {reason}")
        self._url = url
        self._connection_id = connection_id
        self._close_timeout = close_timeout
        self._options = options
        self._policy = Policy(
            retry_for=retry_for,
            max_queue=max_queue,
            ping_interval=math.inf if ping_interval is None else ping_interval,
            ping_timeout=math.inf if ping_timeout is None else ping_timeout,
            stall_timeout=math.inf if ping_timeout is None else DUPLEX.stall_timeout,
        )
        self._opened: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        """Open the session; the caller closes it."""
        return self._open().__await__()

    async def __aenter__(self) -> Connection:
        """Open the session."""
        self._opened = await self
        return self._opened

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session: with 1000, or with 1011 if the body raised."""
        assert self._opened is not None
        await self._opened.__aexit__(exc_type, exc_value, traceback)

    async def _open(self) -> Connection:
        connection = Connection(self._dial, self._policy, self._close_timeout, self._connection_id)
        await connection.open()
        return connection

    async def _dial(self, session_headers: dict[str, str]) -> LinkedConnection:
        headers = self._headers.copy()
        headers.update(session_headers)
        connection = await websockets_connect(
            self._url,
            additional_headers=headers,
            create_connection=LinkedConnection,
            # A Link pings, and detects silence: it knows when the program does not read.
            ping_interval=None,
            close_timeout=self._close_timeout,
            **self._options,
        )
        assert isinstance(connection, LinkedConnection)
        return connection
