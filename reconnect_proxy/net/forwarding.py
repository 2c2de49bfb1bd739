"""Which headers of a request or an answer the proxy passes on, which it adds, and which may be set by a hook."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from multidict import CIMultiDict

from ..core.wire import CONNECTION_ID, RECONNECT
from .head import HOST, TOKEN, RequestHead, ResponseHead, encode_value, parse_fields, tokens

_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

#: Headers of one connection (RFC 9110 section 7.6.1). A Connection header may name more of them.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
#: The beginning of the headers of the reconnect protocol, which each leg writes itself.
_RESERVED = RECONNECT.lower()
#: Headers that each leg writes itself: those of the WebSocket handshake, and the session id.
_OF_THE_LEG = frozenset(
    {
        "host",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        CONNECTION_ID.lower(),
    }
)
#: What the upstream is told of the client: its address, and the scheme and host that it used.
_FORWARDED = frozenset({"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"})
#: What servers believe as well (Tornado, Werkzeug, Spring). Only a trusted peer may say it, with any X-Forwarded-*.
_BELIEVED = frozenset({"forwarded", "x-real-ip", "x-scheme"})
_SCHEME = re.compile(r"(?:http|ws)s?", re.IGNORECASE | re.ASCII)
_VERSION = "Sec-WebSocket-Version"
_DROPPED = _HOP_BY_HOP | _OF_THE_LEG
#: Headers (or their beginnings) that a server acts upon. Some servers read trailers as headers.
_OF_A_HEAD = (
    "authorization",
    "cache-control",
    "content-",
    "cookie",
    "expect",
    "forwarded",
    "if-",
    "location",
    "max-forwards",
    "origin",
    "range",
    "set-cookie",
    "www-authenticate",
    "x-forwarded-",
)


def end_to_end(headers: CIMultiDict[str]) -> list[tuple[str, str]]:
    """Return the headers that are passed on: without those of one connection and those that each leg writes itself.

    `_` counts as `-`, because many servers (CGI, WSGI) read X_Reconnect_Id as X-Reconnect-Id.
    """
    passed = [(name, value) for name, value in headers.items() if _may_pass(name)]
    # A Connection header rarely names more than headers that never pass.
    named = [_folded(token) for token in tokens(headers, "Connection") if _may_pass(token)]
    return [item for item in passed if _folded(item[0]) not in named] if named else passed


def end_to_end_answer(head: ResponseHead) -> list[tuple[str, str]]:
    """Return the headers of an upstream's answer, other than a 101, that are passed on.

    A refused handshake says which versions would be accepted (RFC 6455 section 4.4), and a 426 must name a protocol to
    upgrade to (RFC 9110 section 15.5.22).
    """
    fields = end_to_end(head.headers)
    fields += [(_VERSION, value) for value in head.headers.getall(_VERSION, ())]
    if head.status == HTTPStatus.UPGRADE_REQUIRED and (protocols := head.headers.getall("Upgrade", ())):
        fields += [("Upgrade", ", ".join(protocols)), ("Connection", "upgrade")]
    return fields


#: Header names that are remembered. Clients of one kind send the same few names. The limit is low because a name may be
#: as long as a head: names that strangers make up take a few MiB at most.
_NAMES = 256


@lru_cache(_NAMES)
def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


@lru_cache(_NAMES)
def _may_pass(name: str) -> bool:
    folded = _folded(name)
    return folded not in _DROPPED and not folded.startswith(_RESERVED)


def drop_underscores(headers: CIMultiDict[str]) -> list[str]:
    """Remove the headers of a request with an underscore in their names, as nginx does, and return these names.

    Many servers read X_User as X-User: a header that a proxy in front sets could be added to, or replaced, by clients.
    """
    names = [name for name in headers if "_" in name]
    for name in names:
        headers.popall(name, None)
    return names


def end_to_end_trailers(trailers: Iterable[tuple[bytes, bytes]], underscores: bool = True) -> list[tuple[bytes, bytes]]:
    """Return the trailers that are passed on: without those that only a head may have (RFC 9110 section 6.5.1)."""
    headers = parse_fields(b"".join(b"\r\n" + name + b":" + value for name, value in trailers))
    if not underscores:
        drop_underscores(headers)
    return encode_fields(item for item in end_to_end(headers) if not _folded(item[0]).startswith(_OF_A_HEAD))


def forwarded(head: RequestHead, peer: str, scheme: str, trusted: bool) -> list[tuple[str, str]]:
    """Return the headers of a client's request as they go to the upstream, with X-Forwarded-* of the proxy's own.

    X-Forwarded-For is appended to: each proxy adds the address of its peer. X-Forwarded-Proto and -Host have a single
    value, because servers read lists of them in different ways. Other headers of this kind pass if the peer is trusted.

    Args:
        head: the client's request.
        peer: the IP address of the client's socket.
        scheme: `https` if the client uses TLS, else `http`.
        trusted: whether that peer's own X-Forwarded-Proto and -Host are believed.
    """
    result = [(name, value) for name, value in end_to_end(head.headers) if not _is_claim(_folded(name), trusted)]
    result.append(("X-Forwarded-For", ", ".join([*filter(None, head.headers.getall("X-Forwarded-For", ())), peer])))
    known_as = service_address(head, scheme, trusted)
    result.append(("X-Forwarded-Proto", known_as.scheme))
    if known_as.host is not None:
        result.append(("X-Forwarded-Host", known_as.host))
    return result


def _is_claim(name: str, trusted: bool) -> bool:
    """Tell whether a header says of a client what the proxy says itself, or may be said by trusted peers only."""
    return name in _FORWARDED or (not trusted and (name in _BELIEVED or name.startswith("x-forwarded-")))


class ServiceAddress(NamedTuple):
    """Under which scheme (`http`, `https`, `ws` or `wss`) and Host a client knows the service. HTTP/1.0 has no Host."""

    scheme: str
    host: str | None


def service_address(head: RequestHead, scheme: str, trusted: bool) -> ServiceAddress:
    """Return what the client of a request calls the service; see `forwarded` for the arguments.

    Of several values of a trusted peer the last one counts: that peer has written it, the others may be its client's.
    """
    host = head.headers.get("Host")
    if trusted:
        scheme = _last(head, "X-Forwarded-Proto", _SCHEME) or scheme
        host = _last(head, "X-Forwarded-Host", HOST) or host
    return ServiceAddress(scheme, host)


def _last(head: RequestHead, name: str, form: re.Pattern[str]) -> str | None:
    """Return the last value of a header, if it has that form."""
    values = tokens(head.headers, name)
    return values[-1] if values and form.fullmatch(values[-1]) else None


def replaced(headers: Iterable[tuple[str, str]], others: CIMultiDict[str]) -> list[tuple[str, str]]:
    """Return `headers` with `others` behind them, each in place of those of the same name.

    `_` counts as `-`, as in `end_to_end`: otherwise a client's X_User would pass in addition to our X-User, and many
    servers would read one instead of the other.
    """
    taken = {_folded(name) for name in others}
    return [*((name, value) for name, value in headers if _folded(name) not in taken), *others.items()]


def is_field(name: object, value: object) -> bool:
    """Tell whether a header may have this name and value: text without a line end, or what `parse_fields` has read.

    A lone surrogate that stands for no byte is not allowed.
    """
    if not (isinstance(name, str) and isinstance(value, str) and name.isascii()):
        return False
    try:
        return bool(TOKEN.fullmatch(name.encode()) and _FIELD_VALUE.fullmatch(encode_value(value)))
    except UnicodeEncodeError:
        return False


def encode_fields(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as h11 takes them, as the bytes that they were read from."""
    return [(name.encode("ascii"), encode_value(value)) for name, value in headers]
