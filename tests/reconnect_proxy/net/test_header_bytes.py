"""Header values are bytes (RFC 9110 section 5.5): they pass as they came, in handshakes and in plain HTTP."""

from __future__ import annotations

import pytest

from reconnect_proxy.hooks.api import Hooks, Session

from .http_rig import HANDSHAKE, accept, relayed
from .raw_http import Conversation, get

#: Latin-1, UTF-8, and bytes that are neither a letter of one nor a sequence of the other. `get` writes Latin-1.
ODD = {"X-Latin": "city=M\xfcnchen", "X-Utf": "\xc3\xa4", "X-Neither": "\x80\xff\xfe", "Date": "S\xe1. 13 Dic."}
LINES = tuple(f"{name}: {value}" for name, value in ODD.items())

each_kind = pytest.mark.parametrize("handshake", [True, False], ids=["handshake", "plain"])


def odd_headers(message: Conversation) -> dict[str, str | None]:
    """Return the odd headers of a message, a character for each byte."""
    return {name: message.get(name.lower()) for name in ODD}


async def answer(request: Conversation, *lines: str) -> None:
    """Answer a handshake or a plain request with these headers."""
    if request.get("upgrade") is not None:
        await accept(request, *lines)
    else:
        await request.send("\r\n".join(["HTTP/1.1 200 OK", "Content-Length: 0", *lines, "", ""]).encode("latin-1"))


@each_kind
async def test_odd_bytes_of_a_request_pass(handshake: bool) -> None:
    """A cookie in Latin-1 reaches the upstream as the same bytes."""
    async with relayed(answer) as rig:
        client = await (await rig.ask(get("/", *(HANDSHAKE if handshake else ()), *LINES))).head()
        assert client.first.split()[1] == ("101" if handshake else "200")
        assert odd_headers(rig.upstream.requests[0]) == ODD


@each_kind
async def test_odd_bytes_of_an_answer_pass(handshake: bool) -> None:
    """A date in another language reaches the client as the same bytes; it is no failed dial."""
    async with relayed(lambda request: answer(request, *LINES), accept_when_down=False) as rig:
        client = await (await rig.ask(get("/", *(HANDSHAKE if handshake else ())))).head()
        assert client.first.split()[1] == ("101" if handshake else "200")
        assert odd_headers(client) == ODD


async def test_a_101_with_the_headers_of_a_body_is_accepted() -> None:
    """Such an answer has no body (RFC 9112 section 6.3), and the client does not get these headers."""
    lines = ("Transfer-Encoding:", "Content-Length: 0", "Content-Length: 0")
    async with relayed(lambda request: accept(request, *lines), accept_when_down=False) as rig:
        client = await (await rig.ask(get("/", *HANDSHAKE))).head()
        assert client.first == "HTTP/1.1 101 Switching Protocols"
        assert client.get("transfer-encoding") is client.get("content-length") is None


class Copies(Hooks):
    """Passes headers of the client on under other names."""

    def on_session(self, session: Session) -> None:
        """Set the headers."""
        for name in ODD:
            session.upstream_headers[f"Copy-{name}"] = session.request.headers[name]


async def test_a_hook_can_pass_on_the_bytes_that_it_was_shown() -> None:
    """What it reads of a request is written as it came."""
    async with relayed(accept, hooks=Copies()) as rig:
        client = await (await rig.ask(get("/", *HANDSHAKE, *LINES))).head()
        assert client.first.split()[1] == "101"
        copies = {name: rig.upstream.requests[0].get(f"copy-{name.lower()}") for name in ODD}
        assert copies == ODD
