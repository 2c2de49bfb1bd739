"""Clients that are away while their upstreams say something."""

from collections.abc import Sequence

from .process import Serving
from .rawserver import RawServer
from .rawsocket import RawSocket, dial
from .waiting import Message, eventually


async def have_gone(proxy: Serving, upstream: RawServer, identities: Sequence[str], *owed: Message) -> list[RawSocket]:
    """Have a client of each id come, and go without a word; the proxy keeps for each what it is `owed` from then on.

    Returns their upstream's ends. The proxy must be fresh: it is in its log that each client is seen to go.
    """
    clients = [await dial(f"{proxy.url}/", [("X-Connection-Id", identity)]) for identity in identities]
    servers = [await upstream.accept() for _ in identities]
    for client in clients:
        client.reset()
    await eventually(lambda: proxy.log.count("leg=client") == len(clients), "all clients are away")
    for server in servers:
        await server.send(*owed)
        await server.fence()
    return servers
