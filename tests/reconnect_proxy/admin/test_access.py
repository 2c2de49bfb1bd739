"""Who may ask what of the admin listener: with a token, and without one."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from reconnect_proxy.admin.routes import Admin, is_local_name
from reconnect_proxy.admin.view import ProxyView
from reconnect_proxy.config.values import Address, LogFormat, LogLevel
from reconnect_proxy.events import AdminRefused, Event
from reconnect_proxy.observe.logs import start_logging
from reconnect_proxy.observe.metrics import Metrics
from reconnect_proxy.proxy import Proxy

from .admin_rig import TOKEN, admin_of, ask, ask_json, echo, proxy_in_front_of


@pytest.fixture
def seen() -> list[Event]:
    """The events that the admin listener tells."""
    return []


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A running proxy in front of an echoing server."""
    async with proxy_in_front_of(echo) as running:
        yield running


@pytest.fixture
async def admin(proxy: Proxy, seen: list[Event]) -> AsyncIterator[Admin]:
    """The admin listener of that proxy, which asks for no token."""
    async with admin_of(proxy, seen) as running:
        yield running


@pytest.fixture
async def guarded(proxy: Proxy, seen: list[Event]) -> AsyncIterator[Admin]:
    """An admin listener that asks for a token."""
    async with admin_of(proxy, seen, TOKEN) as running:
        yield running


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_token(guarded: Admin, path: str) -> None:
    """An orchestrator can check the health of the proxy without the token."""
    assert (await ask(guarded, path))[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/metrics"), ("GET", "/sessions"), ("DELETE", "/sessions/abcdef"), ("POST", "/healthz/x"), ("GET", "/no")],
)
async def test_all_else_needs_the_token(guarded: Admin, seen: list[Event], method: str, path: str) -> None:
    """RFC 6750 section 3: a 401 says how to ask, and whether what was sent is wrong; it is told to log and metrics."""
    status, headers, _ = await ask(guarded, path, method)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="reconnect-proxy"')
    for wrong in ("Bearer", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é"):
        status, headers, body = await ask(guarded, path, method, authorization=wrong)
        assert status == 401
        assert TOKEN not in body.decode() + str(headers)
    assert len(seen) == 7
    assert all(isinstance(event, AdminRefused) and event.status == 401 for event in seen)
    assert TOKEN not in str(seen)
    right, _, _ = await ask(guarded, path, method, authorization=f"bearer  {TOKEN}")
    assert right in (200, 404)


async def test_a_wrong_token_with_a_whole_id_puts_no_id_into_the_log(guarded: Admin, seen: list[Event]) -> None:
    """The route is told, not the path."""
    await ask(guarded, "/sessions/a-whole-id-that-is-secret", "DELETE")
    assert seen == [AdminRefused(401, "/sessions/", "127.0.0.1")]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9125"])
async def test_no_web_page_ends_a_session(admin: Admin, seen: list[Event], origin: str) -> None:
    """A browser names the page that asks in `Origin`; nothing but reading is for pages, and they cannot read either."""
    status, headers, _ = await ask(admin, "/sessions/abcdef", "DELETE", origin=origin)
    assert status == 403
    assert not any(name.startswith("access-control") for name in headers)
    assert seen == [AdminRefused(403, "/sessions/", "127.0.0.1")]
    assert (await ask(admin, "/sessions/abcdef", "OPTIONS", origin=origin))[0] == 403
    status, headers, _ = await ask(admin, "/sessions", origin=origin)
    assert status == 200
    assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize("path", ["/metrics", "/sessions"])
async def test_a_name_that_resolves_to_this_machine_is_not_answered(admin: Admin, seen: list[Event], path: str) -> None:
    """DNS rebinding: a page asks its own name, which now means this machine."""
    assert (await ask(admin, path, host="evil.example:9125"))[0] == 421
    assert seen == [AdminRefused(421, path, "127.0.0.1")]
    assert (await ask(admin, "/healthz", host="evil.example:9125"))[0] == 200
    for host in (f"localhost:{admin.address.port}", "[::1]", "proxy.localhost", "10.0.0.7:9125"):
        assert (await ask(admin, path, host=host))[0] == 200


async def test_with_a_token_any_name_will_do(guarded: Admin) -> None:
    """No page knows the token, and a proxy in front may pass its own name on."""
    headers = {"host": "proxy.example", "authorization": f"Bearer {TOKEN}"}
    assert (await ask_json(guarded, "/sessions", **headers))[0] == 200


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("", False),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1:80", True),
        ("[fe80::1]:80", True),
        ("[evil.example]", False),
        ("127.1", False),
    ],
)
def test_which_names_cannot_have_been_pointed_here(host: str, local: bool) -> None:
    """Addresses and localhost only."""
    assert is_local_name(host) is local


@pytest.mark.parametrize(("host", "token", "warns"), [
    ("127.0.0.1", None, False),
    ("localhost", None, False),
    ("0.0.0.0", None, True),
    ("0.0.0.0", TOKEN, False),
])  # fmt: skip
async def test_listening_beyond_this_machine_without_a_token_is_warned_about(
    proxy: Proxy, host: str, token: str | None, warns: bool
) -> None:
    """It is allowed, because a firewall may protect it, but the log warns."""
    log = io.StringIO()
    handler = start_logging(LogFormat.TEXT, LogLevel.INFO, log)
    try:
        async with Admin(Address(host, 0), ProxyView(proxy), Metrics(CollectorRegistry()), [].append, token) as admin:
            line = f"WARNING admin unprotected url={admin.url} remedy=--admin-token-file\n"
    finally:
        logging.getLogger().removeHandler(handler)
    assert (log.getvalue()[24:] == line) is warns
