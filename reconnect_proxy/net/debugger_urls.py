"""Addresses of an upstream itself in its plain HTTP answers, which would lead clients past the proxy.

Servers of remote debugging tell clients where to connect to: Chromium and Node.js in `/json/version`, `/json/list` and
`/json/new`, WebDriver in the answer to a new session. They name their own address, since they know no other. With
`--rewrite-debugger-url` it is replaced by the address that the client has used for its request. Else a warning is
logged, once for each upstream.

    "webSocketDebuggerUrl": "ws://127.0.0.1:9222/devtools/browser/…"   from the upstream
    "webSocketDebuggerUrl": "wss://proxy.example/devtools/browser/…"   for a client of https://proxy.example/json/version

Only the bytes of these values change; the rest of the JSON stays as it is. Compressed answers are not looked through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

import h11

from .endpoint import Endpoint
from .head import BLANKS, ResponseHead, folded, tokens
from .http_answer import BROKEN, Send, broken_answer, end_of_body
from .http_socket import HttpSocket

#: Bytes of an answer that are held to be rewritten. A larger one passes as it is.
REWRITE_LIMIT = 1024 * 1024
#: Bytes of an answer that are looked through for a warning.
WATCH_LIMIT = 64 * 1024

#: The names of values that are a WebSocket URL, and of those that are the URL of a page with one in its query.
_SOCKETS = ("webSocketDebuggerUrl", "webSocketUrl", "se:cdp", "se:vnc")
_PAGES = ("devtoolsFrontendUrl", "devtoolsFrontendUrlCompat")
_MARKS = tuple(f'"{name}"'.encode() for name in (*_SOCKETS, *_PAGES))
_MEMBER = re.compile(rb'("(%b)"\s*:\s*)("(?:[^"\\]|\\.)*")' % b"|".join(name[1:-1] for name in _MARKS))
_SOCKET_URL = re.compile(r"(wss?)://([^/?#]+)(.*)", re.DOTALL)
#: `ws=HOST:PORT/path` in the query of a page's URL.
_IN_QUERY = re.compile(r"(?<=[?&])(wss?)=([^/&#]+)([^&#]*)")
_ADDRESS = re.compile(r"(wss?)(?:://|=)([^/?#&]+)")
_LOOPBACK = "loopback"
#: Headers of an answer that hold for the bytes of its body as they came.
_OF_THE_BYTES = ("Content-Digest", "Content-MD5", "Digest", "ETag", "Repr-Digest")


class Addresses(NamedTuple):
    """How clients know the service, and how the upstream may name itself."""

    #: `ws` or `wss`, and the Host that the client has used.
    scheme: str
    host: str
    #: The upstream's hosts and ports, as `place_of` returns them.
    own: frozenset[tuple[str, int]]
    #: The beginning of each path at the upstream, which clients do not know.
    base: str

    @classmethod
    def of(cls, scheme: str, host: str, endpoint: Endpoint, sent_host: str, peer: tuple[str, int]) -> Addresses:
        """Collect addresses.

        Args:
            scheme: that of the client: `http`, `https`, `ws` or `wss`.
            host: the Host that the client has used.
            endpoint: what the URL of the upstream says.
            sent_host: the Host that the upstream was asked for. Some name themselves as they were asked for.
            peer: the address that the upstream was reached at.
        """
        socket_scheme = "wss" if scheme.lower() in ("https", "wss") else "ws"
        # Without a port, the upstream names itself with the scheme that it believes to be used.
        asked_for = {place_of(sent_host, default) for default in (80, 443, endpoint.port)}
        own = frozenset({place_of(endpoint.host, endpoint.port), place_of(peer[0], peer[1]), *asked_for})
        return cls(socket_scheme, host, own, endpoint.base.rstrip("/"))


def place_of(authority: str, default_port: int) -> tuple[str, int]:
    """Return host and port of `HOST[:PORT]`, in one form: all loopback addresses of a port are one place."""
    match = re.fullmatch(r"\[(.*)\](?::([0-9]{1,5}))?|([^:]*)(?::([0-9]{1,5}))?", authority)
    # A bare IPv6 address has no port.
    host, port = (match[1] or match[3] or "", match[2] or match[4]) if match else (authority, None)
    host = folded(host).rstrip(".")
    try:
        address = ip_address(host)
        host = _LOOPBACK if address.is_loopback else str(address)
    except ValueError:
        host = _LOOPBACK if host == "localhost" else host
    return host, int(port) if port else default_port


def may_have_urls(head: ResponseHead, method: str) -> bool:
    """Tell whether an answer is JSON, whole, not compressed, and has a body."""
    kind = folded(head.headers.get("Content-Type", "").partition(";")[0].strip(BLANKS))
    is_json = kind in ("application/json", "text/json") or kind.endswith("+json")
    plain = {folded(coding) for coding in tokens(head.headers, "Content-Encoding")} <= {"identity"}
    return is_json and plain and 200 <= head.status < 300 and head.status not in (204, 206) and method != "HEAD"


async def read_rewritten(
    upstream: HttpSocket, head: ResponseHead, addresses: Addresses
) -> tuple[bytes, h11.EndOfMessage | None]:
    """Read the body of an answer, and return it with the upstream's own addresses replaced, and its end.

    The `head` is changed with it. Without an end it is the beginning of a body that is larger than REWRITE_LIMIT, as
    it came.

    Raises:
        Refusal: 502, the answer is malformed or was cut off.
    """
    body = bytearray()
    try:
        while not isinstance(event := await upstream.next_event(), h11.EndOfMessage):
            body += event.data
            if len(body) > REWRITE_LIMIT:
                return bytes(body), None
        end = end_of_body(event)
    except BROKEN as error:
        raise broken_answer(error) from None
    result, found = replaced_urls(bytes(body), addresses)
    if found is not None:
        for name in _OF_THE_BYTES:
            head.headers.popall(name, None)
        if "Content-Length" in head.headers:
            head.headers["Content-Length"] = str(len(result))
    return result, end


def watched(send: Send, addresses: Addresses, on_found: Callable[[str], None]) -> Send:
    """Return what does `send`, and calls `on_found` with an address of the upstream in the body that is sent."""
    body = bytearray()

    async def send_and_look(event: h11.Event) -> None:
        await send(event)
        if isinstance(event, h11.Data):
            body.extend(event.data[: WATCH_LIMIT - len(body)])
        elif isinstance(event, h11.EndOfMessage) and (found := replaced_urls(bytes(body), addresses)[1]) is not None:
            on_found(found)

    return send_and_look


def replaced_urls(body: bytes, addresses: Addresses) -> tuple[bytes, str | None]:
    """Return a body with the upstream's own addresses replaced, and the first of these. None: there is none."""
    if not any(mark in body for mark in _MARKS):
        return body, None
    found: list[str] = []

    def replace(match: re.Match[bytes]) -> bytes:
        try:
            value = json.loads(match[3])
        except ValueError:
            return match[0]
        write = _socket_url if match[2].decode() in _SOCKETS else _page_url
        new = write(value, addresses)
        if new == value:
            return match[0]
        found.extend(f"{scheme}://{authority}" for scheme, authority in _ADDRESS.findall(value))
        return match[1] + json.dumps(new).encode()

    result = _MEMBER.sub(replace, body)
    return result, found[0] if found else None


def _socket_url(value: str, addresses: Addresses) -> str:
    match = _SOCKET_URL.fullmatch(value)
    if match is None or not _is_own(match[1], match[2], addresses):
        return value
    return f"{addresses.scheme}://{addresses.host}{_without_base(match[3], addresses)}"


def _page_url(value: str, addresses: Addresses) -> str:
    def replace(match: re.Match[str]) -> str:
        if not _is_own(match[1], match[2], addresses):
            return match[0]
        return f"{addresses.scheme}={addresses.host}{_without_base(match[3], addresses)}"

    return _IN_QUERY.sub(replace, value)


def _is_own(scheme: str, authority: str, addresses: Addresses) -> bool:
    return place_of(authority, 443 if scheme == "wss" else 80) in addresses.own


def _without_base(path: str, addresses: Addresses) -> str:
    base = addresses.base
    return path[len(base) :] if base and path.startswith(f"{base}/") else path
