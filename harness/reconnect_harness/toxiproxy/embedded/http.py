"""HTTP/1.1 for the API: one task for each connection, requests one after the other, kept alive; by h11."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import h11

from reconnect_harness.toxiproxy.embedded.api import ApiAnswer, ApiRequest

_READ_BYTES = 64 * 1024
_IDLE_SECONDS = 60.0

_log = logging.getLogger(__name__)

Answerer = Callable[[ApiRequest], Awaitable[ApiAnswer]]


async def serve_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answerer: Answerer) -> None:
    """Answer the requests of one connection until the client closes it, is silent for a minute, or does not speak
    HTTP."""
    connection = h11.Connection(h11.SERVER)
    try:
        # OSError: the client has gone. TimeoutError: it is silent.
        with contextlib.suppress(OSError, TimeoutError):
            while (request := await _receive(connection, reader, writer)) is not None:
                answer = await answerer(request)
                _log.debug("%s %s -> %d", request.method, request.target, answer.status)
                await _send(connection, writer, answer, has_body=request.method != "HEAD")
                if connection.our_state is not h11.DONE:
                    break
                connection.start_next_cycle()
    except h11.RemoteProtocolError as mistake:
        _log.warning("bad request: %s", mistake)
        if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            refusal = ApiAnswer(mistake.error_status_hint, f"{mistake}\n".encode(), "text/plain; charset=utf-8")
            with contextlib.suppress(OSError):
                await _send(connection, writer, refusal)
    finally:
        writer.close()


async def _receive(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> ApiRequest | None:
    """Return the next complete request; None when the client sends no more."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
                writer.write(connection.send(go_on))
            async with asyncio.timeout(_IDLE_SECONDS):
                connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            user_agent = dict(head.headers).get(b"user-agent", b"")
            return ApiRequest(head.method.decode(), head.target.decode(), user_agent.decode("latin-1"), bytes(body))
        else:
            return None


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, answer: ApiAnswer, *, has_body: bool = True
) -> None:
    headers = {} if answer.content_type is None else {"Content-Type": answer.content_type}
    headers |= {**answer.headers, "X-Toxiproxy-Request-Id": secrets.token_hex(10)}
    if answer.status != HTTPStatus.NO_CONTENT:
        headers["Content-Length"] = str(len(answer.body))
    reason = HTTPStatus(answer.status).phrase
    head = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason)
    sent = connection.send(head) or b""
    if answer.body and has_body:
        sent += connection.send(h11.Data(data=answer.body)) or b""
    writer.write(sent + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()
