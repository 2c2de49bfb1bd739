"""The workers of a proxy, and a choice of which of them a client comes to and its id falls on.

Both are left to hashes. The kernel's gives each new connection to one of the listeners, so a test would have to open
many for some to come to each worker. `Workers` gives the listeners a rule instead (SO_ATTACH_REUSEPORT_CBPF): the port
that a client connects from decides. The proxy's hash places each id, by a key that is made at its start. So for an id
that falls on a certain worker, `Workers` tries ids, and looks where their sessions are.
"""

import asyncio
import contextlib
import ctypes
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from ..ordinary import ordinary_client
from ..process import Serving
from ..rawsocket import RawSocket, dial
from ..test_admin import admin_of, ask
from ..waiting import PATIENCE, eventually

TWO = ("--workers", "2")
THREE = ("--workers", "3")

#: Metrics: the clients that were handed on to another worker, and those of them that are relayed there.
HANDED_ON = "reconnect_proxy_clients_handed_on_total"
RELAYED = f'{HANDED_ON}{{relayed="true"}}'

#: Linux: socket(7). The offset of the network header for a classic BPF program, and that of the source port from it.
SO_ATTACH_REUSEPORT_CBPF = 51
SKF_NET_OFF = 0xFFF00000
SOURCE_PORT = 20
#: The state of a socket that listens, in /proc/net/tcp.
LISTENS = "0A"


class Workers:
    """The workers that a proxy has started with, by number."""

    def __init__(self, proxy: Serving) -> None:
        """Take a proxy in which no worker has died yet, and have the client's port decide which worker it comes to."""
        self.proxy = proxy
        self.processes = processes_of(proxy)
        host, _, port = proxy.base.rpartition(":")
        self._address = (host, int(port))
        place_by_port(self._address, len(self.processes))
        # Ids that were tried and not used, by the worker that they fall on.
        self._ids: list[list[str]] = [[] for _ in self.processes]
        self._tried = 0

    async def connect(self, number: int) -> socket.socket:
        """Open a TCP connection that comes to worker `number`, whether it runs or not."""
        sock = bound_for(number, len(self.processes))
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def dial(self, number: int, *headers: tuple[str, str]) -> RawSocket:
        """Open a WebSocket connection that comes to worker `number`."""
        return await dial(f"{self.proxy.url}/", headers, sock=await self.connect(number))

    async def id_on(self, number: int, tls: ssl.SSLContext | None = None) -> str:
        """Return an id that falls on worker `number`, and that no session has: one that was tried, and is free."""
        while not self._ids[number]:
            self._tried += 1
            identity = f"{self._tried:06d}-an-id-of-a-client"
            headers = {"X-Connection-Id": identity}
            admin = await admin_of(self.proxy)
            async with ordinary_client(self.proxy.url, ssl=tls, additional_headers=headers):
                places = {str(session["id_short"])[:6]: session["worker"] for session in await shown(admin)}
                status, text = await ask(f"{admin}/sessions/{identity}", "DELETE")
                assert status == 200, text
            self._ids[int(str(places[identity[:6]]))].append(identity)
        return self._ids[number].pop()

    async def suspend(self, number: int) -> None:
        """Stop a worker from running, until `resume`."""
        process = self.processes[number]
        process.suspend()
        await eventually(lambda: process.status() == psutil.STATUS_STOPPED, f"worker {number} is suspended")

    def resume(self, number: int) -> None:
        """Let a worker run again."""
        self.processes[number].resume()

    def kill(self, number: int) -> None:
        """End a worker at once."""
        self.processes[number].kill()


def place_by_port(address: tuple[str, int], count: int) -> None:
    """Have the `count` listeners at an IPv4 address take turns with the ports that clients connect from."""
    instructions = (
        (0x28, SKF_NET_OFF + SOURCE_PORT),  # load the half-word there
        (0x74, 1),  # shift right: see `bound_for`
        (0x94, count),  # modulo
        (0x16, 0),  # return it: the place of the listener in the order in which they began to listen
    )
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", code, 0, 0, k) for code, k in instructions))
    described = struct.pack("HP", len(instructions), ctypes.addressof(program))
    # Any listener can give all of them the rule, which outlives it. It is the last, and so no connection comes to it.
    with socket.socket() as guest:
        guest.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        guest.bind(address)
        guest.listen()
        guest.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, described)


def bound_for(number: int, count: int) -> socket.socket:
    """Return a socket that is bound to a port for which `place_by_port` chooses listener `number` of `count`."""
    with contextlib.ExitStack() as others:
        while True:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            # Not by odd and even: Linux prefers odd ones here.
            if (sock.getsockname()[1] >> 1) % count == number:
                return sock
            # Kept until then, so that another one is found next.
            others.enter_context(sock)


def processes_of(proxy: Serving) -> list[psutil.Process]:
    """Return the processes of the workers, in the order in which they were started: at first that of their numbers."""
    children = psutil.Process(proxy.process.pid).children()
    return sorted(children, key=lambda process: (process.create_time(), process.pid))


def queues(proxy: Serving) -> list[int]:
    """Return how many connections wait in the kernel's queue of each listener of the proxy."""
    port = f":{int(proxy.base.rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(port) and row[3] == LISTENS]


def id_of(client: RawSocket) -> str:
    """Return the id of a client's session."""
    identity = client.response.get("x-connection-id")
    assert identity is not None, client.response
    return identity


@asynccontextmanager
async def residents(workers: Workers, count: int) -> AsyncIterator[list[RawSocket]]:
    """So many clients with a session each, in all workers by turns, that stay until the block is left."""
    clients = [await workers.dial(number % len(workers.processes)) for number in range(count)]
    yield clients
    for client in clients:
        await client.detach()


async def sample(admin: str, name: str) -> float:
    """Return the sum of the samples of a metric, by its name or by the beginning of a series."""
    return (await samples(admin, name))[0]


async def samples(admin: str, *names: str) -> list[float]:
    """Return the sums of the samples of several metrics, all from one answer."""
    _, text = await ask(f"{admin}/metrics")
    lines = text.splitlines()
    return [sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)) for name in names]


async def eventually_is(admin: str, name: str, value: float) -> None:
    """Wait until a metric has a value."""
    found = -1.0
    for _ in range(int(PATIENCE / 0.05)):
        found = await sample(admin, name)
        if found == value:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} is {found} and not {value}")


async def shown(admin: str, query: str = "") -> list[dict[str, object]]:
    """Return what `/sessions` shows."""
    status, text = await ask(f"{admin}/sessions?limit=1000{query}")
    assert status == 200, text
    sessions: list[dict[str, object]] = json.loads(text)["sessions"]
    return sessions
