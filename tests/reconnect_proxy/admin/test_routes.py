"""What the admin listener of a real proxy answers over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from reconnect_proxy.admin import view as overview
from reconnect_proxy.admin.routes import Admin
from reconnect_proxy.config.model import Config
from reconnect_proxy.events import EndedByOperator, Event, SessionEnded
from reconnect_proxy.proxy import Proxy
from tests.silence import silent_server

from .admin_rig import ID, admin_of, ask, ask_json, echo, exchange, proxy_in_front_of, until


@pytest.fixture
def seen() -> list[Event]:
    """The events that proxy and admin listener tell."""
    return []


@pytest.fixture
async def proxy(seen: list[Event]) -> AsyncIterator[Proxy]:
    """A running proxy in front of an echoing server."""
    async with proxy_in_front_of(echo, seen.append) as running:
        yield running


@pytest.fixture
async def admin(proxy: Proxy, seen: list[Event]) -> AsyncIterator[Admin]:
    """The admin listener of that proxy, which asks for no token."""
    async with admin_of(proxy, seen) as running:
        yield running


async def test_a_serving_proxy_is_healthy_and_ready(admin: Admin) -> None:
    """Both probes answer 200 while the proxy serves."""
    assert await ask_json(admin, "/healthz") == (200, {"status": "ok"})
    assert await ask_json(admin, "/readyz") == (200, {"status": "ready"})


async def test_a_draining_proxy_is_healthy_but_not_ready(admin: Admin, proxy: Proxy) -> None:
    """A load balancer stops sending clients, and the orchestrator does not restart the process."""
    await proxy.drain(0)
    reason = "the proxy is being stopped"
    assert await ask_json(admin, "/readyz") == (503, {"status": "not ready", "reason": reason})
    assert await ask_json(admin, "/healthz") == (200, {"status": "ok"})


async def test_sessions_are_listed_with_their_ids_cut_short(admin: Admin, proxy: Proxy) -> None:
    """An operator sees what a session holds and who is there, but not the secret that resumes it."""
    nothing = {"total": 0, "offset": 0, "limit": 100, "sessions": []}
    assert await ask_json(admin, "/sessions") == (200, nothing)
    async with connect(proxy.url, additional_headers={"X-Connection-Id": ID}) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        _, _, body = await ask(admin, "/sessions?pretty=1")
    (session,) = json.loads(body)["sessions"]
    assert ID not in body.decode()
    assert (session["id_short"], session["mode"], session["client_connected"]) == ("abcdef…", "duplex", True)
    assert (session["c2u_messages"], session["u2c_messages"], session["upstream_connected"]) == (1, 1, True)


async def test_metrics_add_up_the_living_sessions(admin: Admin, proxy: Proxy) -> None:
    """A scrape sees the sessions of that moment, and none when they have ended."""
    async with connect(proxy.url) as first, connect(proxy.url) as second:
        for client in (first, second):
            await client.send("hello")
            assert await client.recv() == "hello"
        status, headers, body = await ask(admin, "/metrics")
    lines = body.decode().splitlines()
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert 'reconnect_proxy_legs_connected{leg="client"} 2.0' in lines
    assert 'reconnect_proxy_legs_connected{leg="upstream"} 2.0' in lines
    assert 'reconnect_proxy_messages_total{direction="c2u"} 2.0' in lines
    assert 'reconnect_proxy_messages_undelivered_total{direction="u2c"} 0.0' in lines
    assert any(line.startswith("reconnect_proxy_sessions{state=") and line.endswith(" 2.0") for line in lines)


async def test_metrics_count_what_a_client_that_is_away_is_owed() -> None:
    """While a client is away its messages are queued, and their number and their bytes are shown."""
    client_is_gone = asyncio.Event()

    async def push(connection: ServerConnection) -> None:
        await client_is_gone.wait()
        for _ in range(3):
            await connection.send(b"12345")
        await connection.wait_closed()

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_in_front_of(push))
        admin = await stack.enter_async_context(admin_of(proxy, []))
        async with connect(proxy.url, additional_headers={"X-Connection-Id": ID}) as client:
            client.transport.abort()
        await until(lambda: not proxy.sessions()[0].client_connected)
        client_is_gone.set()
        await until(lambda: proxy.sessions()[0].u2c_messages == 3)
        lines = (await ask(admin, "/metrics"))[2].decode().splitlines()
        held = float(proxy.sessions()[0].u2c_bytes_held)
    assert held >= 15
    assert 'reconnect_proxy_queue_messages{direction="u2c"} 3.0' in lines
    assert f'reconnect_proxy_queue_bytes{{direction="u2c"}} {held}' in lines
    assert 'reconnect_proxy_legs_connected{leg="client"} 0.0' in lines


async def test_an_unknown_path_is_a_404_that_names_the_known_ones(admin: Admin) -> None:
    """The answer is JSON with what would have been right."""
    status, body = await ask_json(admin, "/sesions")
    assert (status, body["error"]) == (404, "not found")
    assert body["detail"] == "there is no /sesions; there are /healthz, /readyz, /metrics, /sessions, /sessions/"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_another_method_is_a_405_that_names_the_right_ones(admin: Admin, method: str) -> None:
    """RFC 9110 section 15.5.6: a 405 carries Allow."""
    status, headers, body = await ask(admin, "/sessions", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["detail"] == f"{method} is not for /sessions: use GET, HEAD"


async def test_head_is_get_without_the_body(admin: Admin) -> None:
    """The length is that of the body that GET would bring."""
    http = await exchange(admin, b"HEAD /healthz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
    head, _, body = http.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 17" in head
    assert body == b""


# Whether it is ready.


async def test_a_proxy_whose_upstream_is_gone_is_healthy_but_not_ready() -> None:
    """A new session would find no upstream, and the answer says so."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serve(echo, "127.0.0.1", 0))
        port = next(iter(upstream.sockets)).getsockname()[1]
        proxy = await stack.enter_async_context(Proxy(upstream=f"ws://127.0.0.1:{port}", listen="127.0.0.1:0"))
        admin = await stack.enter_async_context(admin_of(proxy, []))
        assert (await ask_json(admin, "/readyz"))[0] == 200
        upstream.close()
        await upstream.wait_closed()
        status, body = await ask_json(admin, "/readyz")
        assert (status, body["status"]) == (503, "not ready")
        assert str(port) in body["reason"]
        assert (await ask_json(admin, "/healthz"))[0] == 200


# What a scraper negotiates.


async def test_a_scraper_that_asks_for_openmetrics_gets_it(admin: Admin) -> None:
    """Prometheus asks for that first; its own parser reads both answers, with the same families."""
    _, headers, body = await ask(
        admin, "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    )
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    openmetrics = {family.name for family in parse_openmetrics(body.decode())}
    _, _, body = await ask(admin, "/metrics")
    text = {family.name for family in text_string_to_metric_families(body.decode())}
    # The classic format lists the times of creation as metrics of their own.
    assert openmetrics - {"reconnect_proxy"} == {name for name in text if not name.endswith(("_created", "_info"))}


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x.y", "text/plain;version=99", "*/*", ";;,"])
async def test_what_a_scraper_accepts_can_be_anything(admin: Admin, accept: str) -> None:
    """It gets metrics all the same, as text that can be read."""
    status, _, body = await ask(admin, "/metrics", accept=accept)
    assert status == 200
    assert b"reconnect_proxy_sessions{" in body


async def test_metrics_are_compressed_for_those_who_accept_that(admin: Admin) -> None:
    """The same text, in fewer bytes."""
    _, headers, packed = await ask(admin, "/metrics", accept_encoding="gzip, deflate")
    assert headers["content-encoding"] == "gzip"
    assert b"reconnect_proxy_sessions{" in gzip.decompress(packed)
    _, headers, _ = await ask(admin, "/metrics", accept_encoding="identity")
    assert "content-encoding" not in headers


# Pages of sessions.


async def test_sessions_come_in_pages_the_oldest_first(
    admin: Admin, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`total` is the number of all sessions, on every page."""
    monkeypatch.setattr(overview, "SESSIONS_A_TURN", 2)
    async with AsyncExitStack() as stack:
        for number in range(5):
            fields = {"X-Connection-Id": f"{number}bcdef-0123456789-0123456789"}
            await stack.enter_async_context(connect(proxy.url, additional_headers=fields))
        for query, shown in (("", "01234"), ("?limit=2", "01"), ("?limit=3&offset=2", "234"), ("?offset=9", "")):
            status, body = await ask_json(admin, f"/sessions{query}")
            assert (status, body["total"]) == (200, 5)
            assert "".join(session["id_short"][0] for session in body["sessions"]) == shown


async def test_sessions_can_be_chosen_by_their_state(admin: Admin, proxy: Proxy) -> None:
    """`total` counts those of that state."""
    async with connect(proxy.url):
        assert (await ask_json(admin, "/sessions?state=open"))[1]["total"] == 1
        assert (await ask_json(admin, "/sessions?state=ending"))[1] == {
            "total": 0, "offset": 0, "limit": 100, "sessions": [],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=x", "limit is 'x'; it is a whole number up to 1000"),
        ("limit=1001", "limit is '1001'; it is a whole number up to 1000"),
        ("offset=-1", "offset is '-1'; it is a whole number up to 1000000000"),
        ("state=closed", "state is 'closed'; it can be opening, open, ending"),
        ("&".join("a=1" for _ in range(21)), "the query has more than 20 parameters"),
    ],
)
async def test_a_page_that_cannot_be_is_a_400(admin: Admin, query: str, detail: str) -> None:
    """The answer says what would be right."""
    status, body = await ask_json(admin, f"/sessions?{query}")
    assert (status, body["detail"]) == (400, detail)


async def test_a_session_shows_its_account_and_who_is_there(admin: Admin, proxy: Proxy) -> None:
    """Messages and bytes of both directions, the client's address, the age of its link; no id and no payload."""
    url, fields = f"{proxy.url}/path?token=SECRET", {"X-Connection-Id": ID}
    async with connect(url, additional_headers=fields, compression=None) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        _, _, body = await ask(admin, "/sessions")
    (session,) = json.loads(body)["sessions"]
    assert (session["client_address"], session["client_away"]) == ("127.0.0.1", None)
    assert 0 <= session["client_link_age"] <= session["age"]
    assert (session["c2u_bytes"], session["u2c_bytes"], session["c2u_resent"]) == (5, 5, 0)
    assert not any(session[flag] for flag in session if flag.endswith(("_mute", "_paused", "_full", "_aware")))
    assert b"SECRET" not in body
    assert b"hello" not in body


# Ending one.


@pytest.mark.parametrize("name", [ID, "abcdef…", "abcdef", "%61bcdef%E2%80%A6"])
async def test_a_session_is_ended_by_its_id_whole_or_as_it_is_shown(
    admin: Admin, proxy: Proxy, seen: list[Event], name: str
) -> None:
    """Both legs get the reason and a code after which clients do not come back; log and metrics have the event."""
    async with connect(proxy.url, additional_headers={"X-Connection-Id": ID}) as client:
        path = "/sessions/" + name.replace("…", "%E2%80%A6")
        answer = {"ended": "abcdef…", "code": 1008, "reason": "ended by operator"}
        assert await ask_json(admin, path, "DELETE") == (200, answer)
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "ended by operator")
    assert not proxy.contexts
    assert EndedByOperator(ID, "127.0.0.1") in seen
    assert [event.code for event in seen if isinstance(event, SessionEnded)] == [1008]
    assert (await ask_json(admin, path, "DELETE"))[0] == 404


async def test_the_upstream_of_an_ended_session_is_told_too() -> None:
    """With the same code and reason."""
    closes: list[tuple[int | None, str | None]] = []

    async def remember(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closes.append((connection.close_code, connection.close_reason))

    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_in_front_of(remember))
        admin = await stack.enter_async_context(admin_of(proxy, []))
        async with connect(proxy.url, additional_headers={"X-Connection-Id": ID}):
            assert (await ask_json(admin, f"/sessions/{ID}", "DELETE"))[0] == 200
        await until(lambda: bool(closes))
    assert closes == [(1008, "ended by operator")]


async def test_an_id_that_several_sessions_are_shown_as_is_a_409(admin: Admin, proxy: Proxy) -> None:
    """None of them ends; by its whole id one can be."""
    async with (
        connect(proxy.url, additional_headers={"X-Connection-Id": ID}),
        connect(proxy.url, additional_headers={"X-Connection-Id": ID + "-2"}),
    ):
        status, body = await ask_json(admin, "/sessions/abcdef", "DELETE")
        assert (status, body["detail"]) == (409, "2 sessions are shown as abcdef: name one by its whole id")
        assert len(proxy.contexts) == 2
        assert (await ask_json(admin, f"/sessions/{ID}", "DELETE"))[0] == 200
        (left,) = proxy.contexts
        assert left.session_id == ID + "-2"


async def test_no_session_is_ended_by_a_part_of_its_id(admin: Admin, proxy: Proxy) -> None:
    """A longer or a shorter beginning of the id is not accepted, and the answer does not repeat it."""
    async with connect(proxy.url, additional_headers={"X-Connection-Id": ID}):
        for part in (ID[:-1], ID[:7], ID[:5], "%20", "abcdef%2F"):
            status, body = await ask_json(admin, f"/sessions/{part}", "DELETE")
            assert status == 404
            assert ID[:7] not in body["detail"]
        assert len(proxy.contexts) == 1


async def reach(url: str) -> None:
    """Connect, and leave at once."""
    async with connect(url, additional_headers={"X-Connection-Id": ID}):
        pass


async def test_a_session_whose_first_dial_goes_on_can_be_ended(seen: list[Event]) -> None:
    """Its client is refused with a reason of its own."""
    asked = asyncio.Event()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(silent_server(asked.set))
        proxy = await stack.enter_async_context(Proxy(Config(upstream=url, listen="127.0.0.1:0"), seen.append))
        admin = await stack.enter_async_context(admin_of(proxy, seen))
        client = asyncio.ensure_future(connect(proxy.url, additional_headers={"X-Connection-Id": ID}).__aenter__())
        await asked.wait()
        assert (await ask_json(admin, "/sessions?state=opening"))[1]["total"] == 1
        assert (await ask_json(admin, f"/sessions/{ID}", "DELETE"))[0] == 200
        with pytest.raises(InvalidStatus) as refused:
            await client
    assert refused.value.response.status_code == 503
    assert json.loads(refused.value.response.body or b"")["error"] == "ended-by-operator"
