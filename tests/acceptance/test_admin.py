"""What an operator sees of a running proxy: counters that are exact, and no secret anywhere."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .conftest import Serve
from .ordinary import echo, ordinary_client, ordinary_server
from .process import Serving
from .waiting import PATIENCE, eventually

ID = "known0-this-is-a-secret-0123456789"
TOKEN = "a-token.of~operators"
ADMIN = ("--admin", "127.0.0.1:0")


async def admin_of(proxy: Serving) -> str:
    """Return the URL of a proxy's admin listener."""
    await eventually(lambda: "admin listening" in proxy.log, "the proxy told where its admin listener is")
    line = next(line for line in proxy.lines if "admin listening" in line)
    return str(json.loads(line)["url"]) if line.startswith("{") else line.partition("url=")[2]


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Return status and body of an answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, method=method, headers=headers), timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Fetch without holding up the peers that live in this loop."""
    return await asyncio.to_thread(fetch, url, method, **headers)


def counters(text: str) -> dict[tuple[str, ...], float]:
    """Return all that may not fall: counters, and the buckets, counts and sums of histograms."""
    found = {}
    for family in text_string_to_metric_families(text):
        if family.type in ("counter", "histogram"):
            for sample in family.samples:
                found[sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))] = sample.value
    return found


def fallen(before: dict[tuple[str, ...], float], after: dict[tuple[str, ...], float]) -> Iterator[str]:
    """Yield what is less than it was, or gone."""
    for series, value in before.items():
        if after.get(series, -1.0) < value:
            yield f"{series}: {value} -> {after.get(series)}"


async def converse(url: str, number: int) -> tuple[int, int]:
    """Send messages of different lengths, hear their echo, and leave in one of several ways; return what was sent."""
    payloads = ["x" * (number * 7 % 300 + size) for size in range(20 + number % 5)]
    async with ordinary_client(url, compression=None) as client:
        for payload in payloads:
            await client.send(payload)
        for payload in payloads:
            assert await client.recv() == payload
        if number % 3 == 0:
            client.transport.abort()
        elif number % 3 == 1:
            await client.close(4000 + number % 1000)
    return len(payloads), sum(map(len, payloads))


async def test_counters_never_fall_and_are_exact_in_the_end(serve: Serve) -> None:
    """While 120 sessions come and go a scraper reads on and on; then each message and byte has been counted once."""
    async with ordinary_server(echo, compression=None) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", *ADMIN, "--grace", "50ms")
        admin = await admin_of(proxy)
        faults: list[str] = []
        scrapes = 0
        done = asyncio.Event()

        async def scrape() -> None:
            nonlocal scrapes
            before: dict[tuple[str, ...], float] = {}
            while not done.is_set():
                after = counters((await ask(f"{admin}/metrics"))[1])
                faults.extend(fallen(before, after))
                before = after
                scrapes += 1

        scraper = asyncio.create_task(scrape())
        messages = size = 0
        for batch in range(0, 120, 20):
            for sent in await asyncio.gather(*(converse(f"{proxy.url}/", batch + each) for each in range(20))):
                messages, size = messages + sent[0], size + sent[1]
        assert scrapes > 1
        while True:
            now = counters((await ask(f"{admin}/metrics"))[1])
            if sum(value for (name, *_), value in now.items() if name.endswith("sessions_ended_total")) == 120:
                break
        done.set()
        await scraper
        assert faults == []
        for direction in ("c2u", "u2c"):
            assert now["reconnect_proxy_messages_total", f"direction={direction}"] == messages
            assert now["reconnect_proxy_message_bytes_total", f"direction={direction}"] == size
        # What a client that was cut off had heard and not confirmed counts as undelivered; what clients said was heard.
        assert now["reconnect_proxy_messages_undelivered_total", "direction=c2u"] == 0
        assert json.loads((await ask(f"{admin}/sessions"))[1])["total"] == 0


async def live_through_everything(proxy: Serving, admin: str, closes: asyncio.Queue[ServerConnection]) -> str:
    """Open a session with a known id, lose both legs, be taken over, be refused, be ended; return what was answered."""
    seen: list[str] = []
    fields = {"X-Connection-Id": ID}
    async with ordinary_client(f"{proxy.url}/", additional_headers=fields) as first:
        await first.send("hello")
        assert await first.recv() == "hello"
        async with ordinary_client(f"{proxy.url}/", additional_headers=fields) as second:
            with pytest.raises(ConnectionClosed):
                await first.recv()
            await (await closes.get()).close(1012, f"session {ID} moves")
            await second.send("again")
            # It does not count, so it may hear again what the first one heard.
            while await second.recv() != "again":
                pass
            second.transport.abort()
    for wrong in (
        {"X-Reconnect-Id": ID[:-1]},
        {"X-Reconnect-Id": ID, "X-Reconnect-Received": "99"},
        {"X-Reconnect-Id": "no"},
    ):
        with pytest.raises(InvalidStatus):
            async with ordinary_client(f"{proxy.url}/", additional_headers=wrong):
                pass
    async with ordinary_client(f"{proxy.url}/?reconnect-id={ID}") as third:
        # Its Pongs confirm what it was sent again, so that nothing is uncertain at the end.
        async with asyncio.timeout(PATIENCE):
            queued = True
            while queued:
                session = json.loads((await ask(f"{admin}/sessions"))[1])["sessions"][0]
                queued = session["c2u_queued"] or session["u2c_queued"]
        seen += [(await ask(f"{admin}/sessions"))[1], (await ask(f"{admin}/metrics"))[1]]
        seen.append((await ask(f"{admin}/sessions/{ID[:-1]}", "DELETE"))[1])
        seen.append((await ask(f"{admin}/sessions/{ID}", "DELETE", Origin="https://page.example"))[1])
        seen.append((await ask(f"{admin}/sessions/{quote(ID)}", "DELETE"))[1])
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await third.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "ended by operator")
    return "\n".join(seen)


@pytest.mark.parametrize("style", ["text", "json"])
async def test_a_whole_id_is_in_no_log_no_metric_and_no_answer(serve: Serve, style: str) -> None:
    """From the opening of a session to its end by an operator, with arbitrary text from peers, and every log line."""
    connections: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def remember(connection: ServerConnection) -> None:
        connections.put_nowait(connection)
        await echo(connection)

    async with ordinary_server(remember) as port:
        options = (*ADMIN, "--log-level", "debug", "--log-format", style)
        proxy = await serve(f"ws://127.0.0.1:{port}", *options)
        answers = await live_through_everything(proxy, await admin_of(proxy), connections)
        await eventually(lambda: "session ended" in proxy.log, "the end of the session was logged")
    for event in ("session opened", "taken over", "leg lost", "redial", "resumed", "refused", "ended by operator"):
        assert event in proxy.log
    await proxy.logged("session known0… moves")
    assert "known0…" in json.loads(answers.splitlines()[0])["sessions"][0]["id_short"]
    assert ID[:7] not in proxy.log
    assert ID[:7] not in answers


async def test_a_token_is_asked_for_and_shown_nowhere(serve: Serve, tmp_path: Path) -> None:
    """From a file: neither the list of processes nor the log has it."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    async with ordinary_server(echo) as port:
        file = str(tmp_path / "token")
        proxy = await serve(f"ws://127.0.0.1:{port}", *ADMIN, "--admin-token-file", file, "--log-level", "debug")
        admin = await admin_of(proxy)
        assert (await ask(f"{admin}/healthz"))[0] == 200
        assert (await ask(f"{admin}/metrics"))[0] == 401
        assert (await ask(f"{admin}/metrics", Authorization=f"Bearer {TOKEN}x"))[0] == 401
        status, text = await ask(f"{admin}/metrics", Authorization=f"Bearer {TOKEN}")
        assert status == 200
        assert 'reconnect_proxy_admin_refusals_total{status="401"} 2.0' in text
        command = psutil.Process(proxy.process.pid).cmdline()
    await proxy.logged("admin refused", 2)
    assert TOKEN not in proxy.log + " ".join(command)
    assert "admin token visible" not in proxy.log


async def test_a_token_on_the_command_line_is_warned_about(serve: Serve) -> None:
    """It works, and the log says who can read it, without repeating it."""
    async with ordinary_server(echo) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", *ADMIN, "--admin-token", TOKEN)
        admin = await admin_of(proxy)
        assert (await ask(f"{admin}/sessions"))[0] == 401
        assert (await ask(f"{admin}/sessions", Authorization=f"Bearer {TOKEN}"))[0] == 200
    await proxy.logged("WARNING admin token visible")
    assert TOKEN not in proxy.log
