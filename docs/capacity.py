"""Measure what this machine pays for the proxy: memory and descriptors of idle sessions, CPU of messages.

    python docs/capacity.py [--sessions 1000] [--tls]       idle sessions, then round trips
    python docs/capacity.py --held 100 [--sessions 100]     1000 messages of 100 bytes kept for each session's upstream

It starts an echo server, `reconnect-proxy serve` in front of it, and the clients, all on loopback, and reads the
proxy's own numbers from `/metrics`: `process_resident_memory_bytes`, `process_open_fds`, `process_cpu_seconds_total`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

#: The proxy listens where it can; what is left when all is measured need not be delivered.
ANY_PORTS = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain", "0")
#: Messages that are held for each session.
HELD = 1000
#: Round trips that are measured, by the size of the message.
ROUND_TRIPS = {128: 20_000, 64 * 1024: 2_000}


class Process(NamedTuple):
    """What a process has used: bytes, descriptors, seconds."""

    memory: float
    descriptors: float
    cpu: float


async def look(admin: str) -> Process:
    """Return the proxy's numbers of the moment."""

    def ask() -> str:
        with urlopen(f"{admin}/metrics") as answer:
            return str(answer.read(), "utf-8")

    text = await asyncio.to_thread(ask)
    found = dict(re.findall(r"^process_(\w+) (\S+)$", text, re.MULTILINE))
    return Process(*(float(found[name]) for name in ("resident_memory_bytes", "open_fds", "cpu_seconds_total")))


async def echo(connection: ServerConnection) -> None:
    """Send back what comes."""
    async for message in connection:
        await connection.send(message)


@contextmanager
def proxy(upstream: str, *options: str) -> Iterator[tuple[str, str]]:
    """Run a proxy; yield the URLs of its two listeners."""
    command = [sys.executable, "-m", "reconnect_proxy.cli", "serve", "--upstream", upstream, *options]
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen([*command, *ANY_PORTS], stderr=log)
        try:
            found = None
            while found is None:
                time.sleep(0.05)
                said = Path(log.name).read_text(encoding="utf-8")
                if process.poll() is not None:
                    raise SystemExit(f"the proxy has not started: {said}")
                found = re.search(r"^listening on (\S+)(?:.*\n)*?.* admin listening url=(\S+)", said, re.MULTILINE)
            yield found[1], found[2]
        finally:
            process.terminate()
            process.wait()


async def idle_and_busy(count: int, tls: bool) -> None:
    """Open `count` sessions and let them be; then make round trips over one of them at a time."""
    async with AsyncExitStack() as stack:
        served = trusted = None
        options: list[str] = []
        if tls:
            served, trusted, options = certificates(stack)
        server = await stack.enter_async_context(serve(echo, "127.0.0.1", 0, ssl=served, compression=None))
        port = next(iter(server.sockets)).getsockname()[1]
        url, admin = stack.enter_context(proxy(f"{'wss' if tls else 'ws'}://127.0.0.1:{port}", *options))
        empty = await look(admin)
        print(f"the empty proxy: {empty.memory / 2**20:.0f} MiB, {empty.descriptors:.0f} descriptors")
        clients = await open_all(stack, url, count, trusted)
        full = await look(admin)
        print(
            f"each of {count} idle sessions: {(full.memory - empty.memory) / count / 1024:.1f} KiB, "
            f"{(full.descriptors - empty.descriptors) / count:.2f} descriptors; "
            f"{(full.cpu - empty.cpu) / count * 1e3:.2f} ms of CPU to open"
        )
        for size, trips in ROUND_TRIPS.items():
            before = await look(admin)
            await asyncio.gather(*(talk(client, size, trips // 16) for client in clients[:16]))
            after = await look(admin)
            done = trips // 16 * len(clients[:16])
            print(f"a round trip of {size} bytes: {(after.cpu - before.cpu) / done * 1e6:.0f} µs of CPU")


async def held(count: int, size: int) -> None:
    """Let `count` clients say HELD messages each that nobody takes."""
    async with AsyncExitStack() as stack:
        # Nobody listens there: what clients say waits for it.
        taken = stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))
        upstream = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        url, admin = stack.enter_context(proxy(upstream, "--retry-for", "1h"))
        clients = await open_all(stack, url, count, None)
        before = await look(admin)
        for client in clients:
            for _ in range(HELD):
                await client.send(bytes(size))
            await (await client.ping())
        after = await look(admin)
        print(f"a held message of {size} bytes: {(after.memory - before.memory) / count / HELD:.0f} bytes")


async def open_all(
    stack: AsyncExitStack, url: str, count: int, trusted: ssl.SSLContext | None
) -> list[ClientConnection]:
    """Connect `count` clients, some at a time."""
    clients: list[ClientConnection] = []
    while len(clients) < count:
        some = [
            connect(url, ssl=trusted, compression=None, ping_interval=None, close_timeout=1, proxy=None)
            for _ in range(min(50, count - len(clients)))
        ]
        clients += await asyncio.gather(*(stack.enter_async_context(each) for each in some))
    return clients


async def talk(client: ClientConnection, size: int, trips: int) -> None:
    """Send a message and wait for it to come back, `trips` times."""
    message = bytes(size)
    for _ in range(trips):
        await client.send(message)
        await client.recv()


def certificates(stack: AsyncExitStack) -> tuple[ssl.SSLContext, ssl.SSLContext, list[str]]:
    """Return what the server and the clients use, and the proxy's options: one certificate for all."""
    import trustme

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(served)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    options = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--upstream-ca", "ca.pem"]
    return served, trusted, [word if word.startswith("--") else str(folder / word) for word in options]


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000, metavar="N")
    parser.add_argument("--tls", action="store_true", help="on both legs")
    parser.add_argument("--held", type=int, metavar="BYTES")
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(idle_and_busy(given.sessions, given.tls) if given.held is None else held(given.sessions, given.held))


if __name__ == "__main__":
    main()
