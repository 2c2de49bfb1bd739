"""What an upstream is told of the client, in handshakes as in plain HTTP: X-Forwarded-*, and no X-Reconnect-*."""

from __future__ import annotations

import pytest

from .http_rig import HANDSHAKE, Conversation, accept, hello, relayed
from .raw_http import get

#: Headers that some servers believe: Tornado the last two, Werkzeug and Spring the others.
FURTHER = ("X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Ssl", "Forwarded", "X-Real-IP", "X-Scheme")
#: What a load balancer sends; a client could send the same.
SENT = (
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
    "X_Forwarded_Proto: https",
    *(f"{name}: 7" for name in FURTHER),
    "X-Reconnect: true",
    "X-Reconnect-Secret: 1",
    "X_Reconnect: true",
)
each_kind = pytest.mark.parametrize("handshake", [True, False], ids=["handshake", "plain"])


async def answer(request: Conversation) -> None:
    """Accept a handshake, answer anything else."""
    await (hello if request.get("upgrade") is None else accept)(request)


@each_kind
@pytest.mark.parametrize(
    ("trusted", "scheme", "host"), [("127.0.0.0/8", "https", "shop.example"), ("10.0.0.0/8", "http", "proxy.example")]
)
async def test_a_load_balancer_is_believed_if_it_is_trusted(
    handshake: bool, trusted: str, scheme: str, host: str
) -> None:
    """Its scheme and host pass; those of any other peer are replaced. Each has one value."""
    async with relayed(answer, trust_forwarded=trusted) as rig:
        client = await (await rig.ask(get("/", *(HANDSHAKE if handshake else ()), *SENT))).head()
        assert client.first.split()[1] == ("101" if handshake else "200")
        (request,) = rig.upstream.requests
        further = [name.lower() for name in FURTHER]
        assert [name for name, _ in request.headers if name in further] == (further if scheme == "https" else [])
        forwarded = [each for each in request.headers if each[0].startswith("x-forwarded") and each[0] not in further]
        assert forwarded == [
            ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", host),
        ]
        assert "x_forwarded_proto" not in dict(request.headers)


@each_kind
async def test_x_reconnect_headers_of_a_client_do_not_pass(handshake: bool) -> None:
    """A client cannot make an upstream believe that a session was connected before; only the proxy's own are there."""
    async with relayed(answer) as rig:
        await (await rig.ask(get("/", *(HANDSHAKE if handshake else ()), *SENT))).head()
        (request,) = rig.upstream.requests
        told = [(name, value) for name, value in request.headers if name.replace("_", "-").startswith("x-reconnect")]
        assert told == ([("x-reconnect-received", "0")] if handshake else [])
