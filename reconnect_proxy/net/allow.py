"""The origins whose pages may connect, and the paths that may be requested.

Both are allow lists; an empty list allows everything. A path that could leave its upstream's base path is always
refused, in every spelling that some server resolves.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from http import HTTPStatus
from ipaddress import IPv6Address
from urllib.parse import unquote_to_bytes

from ..core.wire import Refusal, bad_request
from .head import RequestHead, folded

#: scheme://host[:port], as RFC 6454 section 6.2 writes an origin; the host may begin with `*.`.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://((?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
#: An origin without a host: `file://` of web views, and schemes of programs that are no browsers.
_NO_HOST = re.compile(r"(?!(?:http|ws)s?:)[a-z][a-z0-9+.-]*://")
#: A label of a host that is not ASCII.
_INTERNATIONAL = re.compile(r"[^\s/:.*]*[^\0-\x7f][^\s/:.*]*")
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
#: Bytes that servers read in different ways: encoded slashes and percent signs, backslashes, NUL.
_AMBIGUOUS = re.compile(rb"%(2f|5c|25|00)|\\", re.IGNORECASE)
#: A path that is encoded more often than this hides something, and takes time to decode.
LAYERS = 3
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
#: Escapes of UTF-16 units, as in JavaScript's `escape`. IIS decodes them.
_UNICODE_ESCAPE = re.compile(rb"%u([0-9A-Fa-f]{4})", re.IGNORECASE)
#: UTF-8 that is longer than needed (RFC 3629 section 3 forbids it): lenient decoders read the ASCII character.
_OVERLONG = re.compile(
    rb"(?:[\xc0\xc1]|\xe0[\x80\x81]|\xf0\x80[\x80\x81]|\xf8\x80\x80[\x80\x81]|\xfc\x80\x80\x80[\x80\x81])[\s\S]"
)
#: Where a segment ends, or what counts of it: some servers know `\\`, or cut at one of the others.
_SEPARATOR = re.compile(r"[/\\]")
_CUT = re.compile(r"[;?#\0]")


def check_origin_pattern(text: str) -> str:
    """Return an allowed origin as browsers write it: in lower case, without a default port, and with an ASCII host.

    Raises:
        ValueError: it is neither an origin nor a pattern of origins. The message is a sentence for the user.
    """
    try:
        # Browsers send the ASCII form of international names (RFC 6454 section 6.2).
        pattern = _normal(_INTERNATIONAL.sub(lambda label: label[0].encode("idna").decode("ascii"), text))
    except ValueError:
        pattern = ""
    if pattern in ("*", "null") or _ORIGIN.fullmatch(pattern) or _NO_HOST.fullmatch(pattern):
        return pattern
    hint = "write https://app.example.com, https://*.example.com, app://name, file://, null or *"
    raise ValueError(f"{text!r} is not an origin (a scheme, a host and perhaps a port, without a path): {hint}")


def _normal(origin: str) -> str:
    """Return an origin in lower case, without the default port of its scheme, and with the shortest IPv6 address.

    Raises:
        ValueError: the port is out of range, or the host in brackets is not an address.
    """
    match = _ORIGIN.fullmatch(folded(origin))
    if match is None:
        return folded(origin)
    scheme, host, port = match[1], match[2], match[3]
    if host.startswith("["):
        host = f"[{IPv6Address(host[1:-1])}]"
    if port is None or int(port) == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    if int(port) > 65535:
        raise ValueError(f"there is no port {port}")
    return f"{scheme}://{host}:{int(port)}"


def check_path_pattern(text: str) -> str:
    """Return an allowed path, or the beginning of paths with `*` behind it.

    Raises:
        ValueError: it is not a path. The message is a sentence for the user.
    """
    hint = "write /chat for one path, or /chat/* for all that begin so"
    path = text.removesuffix("*")
    if text != "*" and (not re.fullmatch(r"/[!-~]*", path) or "*" in path or "?" in path or "#" in path):
        raise ValueError(f"{text!r} is not a path: {hint}")
    if _AMBIGUOUS.search(path.encode()) or _BAD_ESCAPE.search(path.encode()) or _has_dots(path.encode()):
        raise ValueError(f"{text!r} has dot segments, or escapes that servers read in different ways: {hint}")
    return text


def check_origin(head: RequestHead, allowed: Sequence[str]) -> None:
    """Check the origin of the page that a handshake comes from (RFC 6455 section 10.2).

    A request without Origin does not come from a page in a browser. Other programs can send any Origin, so the check
    protects users of browsers, and not the server from other programs.

    Raises:
        Refusal: 403, the origin is not allowed.
    """
    origins = head.headers.getall("Origin", ())
    if allowed and origins and not (len(origins) == 1 and _origin_allowed(origins[0], allowed)):
        detail = "pages of this origin may not connect here"
        raise Refusal(HTTPStatus.FORBIDDEN, "origin-not-allowed", detail)


def _origin_allowed(given: str, allowed: Sequence[str]) -> bool:
    try:
        origin = _normal(given)
    except ValueError:
        return "*" in allowed
    for pattern in allowed:
        if pattern in ("*", origin):
            return True
        scheme, wild, domain = pattern.partition("*.")
        # A host that only ends alike (evilexample.com) lacks the dot; one with a / or @ in it is no host.
        if wild and origin.startswith(scheme) and origin.endswith(f".{domain}") and _ORIGIN.fullmatch(origin):
            return True
    return False


def check_path(head: RequestHead, allowed: Sequence[str]) -> None:
    """Check the path of a request: no dot segments and, if there is a list, only paths on it.

    Raises:
        Refusal: 400 if the path has dot segments or, with a list, could be read in two ways; 403 if it is not on the
            list.
    """
    path = head.target.partition("?")[0].encode("ascii")
    if _has_dots(path):
        raise bad_request("the path has . or .. segments: a client resolves them before it asks")
    if not allowed:
        return
    if _AMBIGUOUS.search(path) or _BAD_ESCAPE.search(path):
        raise bad_request("the path has escapes or characters that servers read in different ways")
    plain = unquote_to_bytes(path)
    if not any(_path_allowed(plain, pattern) for pattern in allowed):
        raise Refusal(HTTPStatus.FORBIDDEN, "path-not-allowed", "this path is not served here")


def _path_allowed(path: bytes, pattern: str) -> bool:
    plain = unquote_to_bytes(pattern.removesuffix("*"))
    return path.startswith(plain) if pattern.endswith("*") else path == plain


def _has_dots(path: bytes) -> bool:
    """Tell whether any server sees a segment . or .. in a path."""
    if b"." not in path and b"%" not in path:
        return False
    layers = 0
    while (decoded := _decoded(path)) != path:
        path = decoded
        layers += 1
        if layers > LAYERS:
            return True
    return any(_bare(segment) in (".", "..") for segment in _SEPARATOR.split(path.decode()))


def _decoded(path: bytes) -> bytes:
    """Return a path as the most lenient server decodes it once.

    It knows `%u002e`, reads overlong UTF-8, drops invalid bytes, and takes U+FF0E (full width) for a full stop.
    """
    raw = unquote_to_bytes(_UNICODE_ESCAPE.sub(lambda match: chr(int(match[1], 16)).encode("utf-8", "replace"), path))
    raw = _OVERLONG.sub(_shortest, raw)
    return unicodedata.normalize("NFKC", raw.decode("utf-8", "ignore")).encode()


def _shortest(match: re.Match[bytes]) -> bytes:
    """Return the ASCII character of an overlong sequence: its last seven bits are in its last two bytes."""
    *_, upper, lower = match[0]
    return bytes([(upper & 1) << 6 | lower & 0x3F])


def _bare(segment: str) -> str:
    """Return what counts of a segment, without blanks and invisible characters, which some servers strip."""
    return "".join([each for each in _CUT.split(segment, maxsplit=1)[0] if each.isprintable() and each != " "])
