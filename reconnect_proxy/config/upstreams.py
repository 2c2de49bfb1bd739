"""How upstreams are written: `ws://HOST:PORT/base`, followed by ` weight=3` if one gets a larger share.

A TOML file may have a table instead, `{url = "ws://HOST:PORT", weight = 3}`. A checked upstream is kept as text, so
that a configuration shows what was given; `server_of` splits it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from ..core.target import UpstreamAddress
from .values import items


def server_of(text: str) -> UpstreamAddress:
    """Return the upstream that a checked `URL` or `URL weight=N` (as in nginx) stands for."""
    url, _, weight = text.partition(" weight=")
    return UpstreamAddress(url, int(weight or 1))


def any_wss(upstreams: Iterable[str]) -> bool:
    """Tell whether TLS is used for one of the checked `upstreams`."""
    return any(url.startswith("wss:") for url in upstreams)


def _checked(given: object) -> tuple[str, ...]:
    checked = tuple(_weighted_upstream(item) for item in items(given))
    if not checked:
        raise ValueError("the list is empty: name at least one ws://HOST:PORT")
    urls = [server_of(text).url for text in checked]
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"{url!r} is given twice: give it once; for a larger share write '{url} weight=2'")
    return checked


def _weighted_upstream(given: object) -> str:
    """Return `URL`, or `URL weight=N` where the weight is not 1, of a text of that form or a table of a TOML file."""
    hint = "write 'ws://HOST:PORT weight=3', or {url = \"ws://HOST:PORT\", weight = 3} in a file"
    url, weight = given, 1
    if isinstance(given, Mapping):
        if set(given) - {"weight"} != {"url"}:
            raise ValueError(f"{dict(given)!r} is not an upstream: {hint}")
        url, weight = given["url"], _weight(given.get("weight", 1), hint)
    elif isinstance(given, str) and len(words := given.split()) > 1:
        url, *rest = words
        if len(rest) > 1 or not rest[0].startswith("weight="):
            raise ValueError(f"{given!r} has more than a URL and a weight: {hint}")
        weight = _weight(rest[0].removeprefix("weight="), hint)
    checked = _upstream(url)
    return checked if weight == 1 else f"{checked} weight={weight}"


def _weight(given: object, hint: str) -> int:
    text = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise ValueError(f"the weight {given!r} is not a whole number from 1 to 9999: {hint}")
    return int(text)


def _upstream(url: object) -> str:
    hint = "write ws://HOST:PORT or wss://HOST:PORT, and /base behind it if wanted"
    if not isinstance(url, str) or not re.fullmatch(r"[!-~]+", url):
        raise ValueError(f"{url!r} is not a URL in plain ASCII: {hint}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL ({error}): {hint}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is not the URL of a WebSocket server: {hint}")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError(f"{url!r} has a user, a query or a fragment, which an upstream cannot have: {hint}")
    return url


#: One upstream or several, each once.
Upstreams = Annotated[tuple[str, ...], BeforeValidator(_checked)]
