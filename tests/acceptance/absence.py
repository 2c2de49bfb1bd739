"""Clients that go without a word, and what they are owed then."""

from collections.abc import Sequence

from .process import Serving
from .rawserver import RawServer
from .rawsocket import RawSocket, dial
from .waiting import Message, eventually, numbered


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


async def go_unconfirmed(client: RawSocket, server: RawSocket, more: int) -> None:
    """Have a client confirm five messages, be given so many `more` that it does not confirm, and go without a word."""
    await server.send(*numbered("u2c", 5))
    await client.take(5)
    # The Pong for 5 is the client's word that it has five; the fence behind it says that the proxy read it.
    await client.until(lambda: 5 in client.tokens())
    await client.fence()
    client.answer_pings = False
    await server.send(*numbered("u2c", more, start=6))
    await client.take(more)
    client.reset()
