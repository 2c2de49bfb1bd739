"""A log that cannot be written stops nothing: stderr is a pipe that is not read, a full disk, or closed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
import pytest

from .conftest import Serve
from .process import DEFAULTS, environment, one_process
from .rawserver import RawServer
from .rawsocket import dial
from .waiting import PATIENCE, eventually

#: The smallest pipe that Linux makes.
PAGE = 4096
PROGRAM = ("-m", "reconnect_proxy.cli")
#: The proxy with the handler of the standard library, which writes in the event loop.
BLOCKING = """
import logging, sys
import reconnect_proxy.observe.logs as logs

class Blocking(logging.StreamHandler):
    def __init__(self):
        super().__init__(sys.stderr)

    def put(self, line):
        self.stream.write(line + "\\n")
        self.flush()

logs.LogWriter = Blocking
from reconnect_proxy.cli import main
sys.exit(main())
"""


@dataclass
class Running:
    """A proxy whose stderr is a pipe of one page."""

    process: asyncio.subprocess.Process
    pipe: int
    url: str

    async def rest(self) -> str:
        """Read what is in the pipe, to its end."""
        return (await asyncio.to_thread(_read_all, self.pipe)).decode()


def _read_all(descriptor: int) -> bytes:
    data = b""
    while piece := os.read(descriptor, PAGE):
        data += piece
    return data


def _read_ready(descriptor: int) -> str:
    data = b""
    while (found := re.search(rb"listening on (ws://\S+) ", data)) is None:
        piece = os.read(descriptor, PAGE)
        assert piece, data.decode()
        data += piece
    return found[1].decode()


@asynccontextmanager
async def running(upstream: str, program: Sequence[str]) -> AsyncIterator[Running]:
    """Start a proxy, and read its stderr up to the line that says where it listens, and no further."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "serve", *DEFAULTS, "--upstream", upstream, "--log-level", "debug"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=writing,
            env=environment("50ms"),
        )
        os.close(writing)
        writing = -1
        try:
            async with asyncio.timeout(PATIENCE):
                url = await asyncio.to_thread(_read_ready, reading)
            yield Running(process, reading, url)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


async def talk(url: str, upstream: RawServer) -> None:
    """Open a session, pass a message in each direction, and end it."""
    client = await dial(f"{url}/")
    server = await upstream.accept()
    await client.send("there")
    assert await server.recv() == "there"
    await server.send("back")
    assert await client.recv() == "back"
    await client.close(1000)


def lines_of_sessions() -> int:
    """Return a number of sessions whose log lines do not fit into the pipe."""
    return 2 * PAGE // len("2026-01-31 12:00:00.123 INFO session opened session=abcdef… upstream=ws://127.0.0.1:9999")


@one_process
async def test_a_pipe_that_is_not_read_stops_neither_sessions_nor_the_stop(upstream: RawServer) -> None:
    """SIGTERM ends the program in good order, and what is in the pipe then are whole lines."""
    async with running(upstream.url, PROGRAM) as proxy:
        for _ in range(lines_of_sessions()):
            await talk(proxy.url, upstream)
        proxy.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await proxy.process.wait() == 0
        lines = (await proxy.rest()).splitlines()
        assert len(lines) > PAGE // 300
        assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in lines[:-1])


@one_process
async def test_a_handler_that_writes_in_the_event_loop_stops_all_sessions(upstream: RawServer) -> None:
    """The control of the test before."""
    async with running(upstream.url, ("-c", BLOCKING)) as proxy:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                for _ in range(lines_of_sessions()):
                    await talk(proxy.url, upstream)


@one_process
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&- >&- <&-"])
async def test_a_log_that_can_never_be_written_prevents_nothing(upstream: RawServer, redirection: str) -> None:
    """A full disk, or a descriptor that is closed from the start; no socket takes its number."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *PROGRAM, "serve", *DEFAULTS),
        *("--upstream", upstream.url),
        env=environment("50ms"),
    )
    try:
        seen = psutil.Process(process.pid)
        await eventually(
            lambda: any(each.status == psutil.CONN_LISTEN for each in seen.net_connections()), "it listens"
        )
        port = next(each.laddr.port for each in seen.net_connections() if each.status == psutil.CONN_LISTEN)
        await talk(f"ws://127.0.0.1:{port}", upstream)
        assert not any(each.fd in (0, 1, 2) for each in seen.net_connections())
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_dropped_lines_are_counted_in_a_metric(serve: Serve, upstream: RawServer) -> None:
    """It is there from the start, with 0."""
    proxy = await serve(upstream.url, "--admin", "127.0.0.1:0")
    await eventually(lambda: "admin listening" in proxy.log, "the admin listener is there")
    found = re.search(r"admin listening url=http://([^:]+):(\d+)", proxy.log)
    assert found is not None
    reader, writer = await asyncio.open_connection(found[1], int(found[2]))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    assert "\nreconnect_proxy_log_lines_dropped_total 0.0\n" in text
