"""How an upstream's answer passes on: its head, its body piece by piece, and what ends it.

Plain requests (`http_exchange`) and refused handshakes (`refused`) have this in common. So a handshake that an upstream
refuses is answered as if there were no proxy: with its status, reason phrase, headers and whole body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http import HTTPStatus

import h11

from ..core.wire import Refusal
from .forwarding import encode_fields, end_to_end_answer, end_to_end_trailers
from .head import MalformedHead, RequestHead, ResponseHead
from .http_socket import HttpSocket, Lost

#: Seconds that a client which has closed its half of the connection, or all of it, is still served.
HALF_CLOSED = 2.0

Send = Callable[[h11.Event], Awaitable[None]]


class ClientGone(Exception):
    """The client has left, so there is no one to answer."""


def bad_gateway(detail: str, cause: Exception | None = None) -> Refusal:
    """Make a 502. The text of the cause, which may have addresses, is for the log and not for the client."""
    refusal = Refusal(HTTPStatus.BAD_GATEWAY, "bad-gateway", detail)
    refusal.__cause__ = cause
    return refusal


def broken_answer(cause: Exception) -> Refusal:
    """Make the 502 of an answer that cannot be read to its end."""
    return bad_gateway("the upstream's answer is malformed, or was cut off", cause)


#: What shows that an answer cannot be read to its end.
BROKEN = (Lost, MalformedHead, h11.RemoteProtocolError)


def in_full(refusal: Refusal) -> str:
    """Return what is wrong for the log, with the cause."""
    cause = refusal.__cause__
    return f"{refusal.detail}: {cause}" if cause is not None else refusal.detail


def framing_of(head: RequestHead | ResponseHead) -> list[tuple[str, str]]:
    """Return the headers that say where the body ends."""
    return [(name, head.headers[name]) for name in ("Content-Length", "Transfer-Encoding") if name in head.headers]


def end_of_body(event: h11.EndOfMessage, underscores: bool = True) -> h11.EndOfMessage:
    """Return the end of a body as it is passed on, with its trailers checked like headers. Raises MalformedHead.

    Args:
        event: the end as it came.
        underscores: whether trailers with an underscore in their names pass.
    """
    return h11.EndOfMessage(headers=end_to_end_trailers(event.headers.raw_items(), underscores))


def response_of(head: ResponseHead, last: bool) -> h11.Response:
    """Return the head of an answer as it is passed on; `last`: the connection ends behind the answer.

    h11 adds the framing if the answer has a body and its head gives no length.
    """
    headers = end_to_end_answer(head)
    if head.status != HTTPStatus.NO_CONTENT:
        headers += [(name, value) for name, value in framing_of(head) if name == "Content-Length"]
    if last:
        headers.append(("Connection", "close"))
    return h11.Response(status_code=head.status, reason=head.reason, headers=encode_fields(headers))


async def pass_body(upstream: HttpSocket, send: Send, trailers: bool) -> None:
    """Pass the body of an answer on as it comes, with its trailers if they are wanted.

    Raises:
        Refusal: 502, the answer is malformed or was cut off.
    """
    try:
        while not isinstance(event := await upstream.next_event(), h11.EndOfMessage):
            await send(h11.Data(data=event.data))
        end = end_of_body(event) if trailers else h11.EndOfMessage()
    except BROKEN as error:
        raise broken_answer(error) from None
    await send(end)


async def clients_gone(clients: Sequence[HttpSocket]) -> None:
    """Wait until all clients have left. One that closed only its half still gets an answer that comes soon.

    Raises:
        ClientGone: they have left.
    """
    for client in clients:
        await client.ended.wait()
    await asyncio.sleep(HALF_CLOSED)
    raise ClientGone


async def first_end(answer: Coroutine[None, None, None], *others: Coroutine[None, None, None]) -> None:
    """Run all of these until `answer` has ended. Raises what the first one raises that fails."""
    # The answer first: it must be waiting when the request has ended.
    main = asyncio.create_task(answer)
    rest = {asyncio.create_task(each) for each in others}
    try:
        while not main.done():
            done, _ = await asyncio.wait({main, *rest}, return_when=asyncio.FIRST_COMPLETED)
            if main not in done:
                for task in done:
                    task.result()
                rest -= done
        main.result()
    finally:
        for task in (main, *rest):
            task.cancel()
        # The first end counts.
        await asyncio.gather(main, *rest, return_exceptions=True)
