"""Sessions under ids that their upstream gives: they live where their client had come, and their ids fall anywhere."""

import asyncio
import itertools

import pytest

from ...certificates import Authority
from ..conftest import Serve
from ..frames import Frame, Head, Opcode, Refused, encode
from ..ordinary import ordinary_client
from ..rawserver import Answer, RawServer
from ..rawsocket import RawSocket
from ..test_admin import ADMIN, admin_of
from ..waiting import eventually
from .group import HANDED_ON, RELAYED, THREE, TWO, Workers, id_of, sample

GIVEN = ("--gate", "first-message", "--grace", "1h")


class GivingServer(RawServer):
    """An upstream whose first message to a new session is the id in `gives`, or where there is none a greeting."""

    def __init__(self) -> None:
        super().__init__(answer=self._give)
        self.gives: str | None = None

    def _give(self, request: Head) -> Answer:
        text = "hello" if self.gives is None else f"RECONNECT:{self.gives}"
        return Answer(tail=encode(Frame(Opcode.TEXT, text.encode()), mask=False))


async def give(workers: Workers, upstream: GivingServer, lives_in: int, falls_on: int) -> tuple[RawSocket, RawSocket]:
    """Return both ends of a new session in one worker, whose id the upstream gave it and falls on another."""
    upstream.gives = await workers.id_on(falls_on)
    tried = len(upstream.sockets)
    client = await workers.dial(lives_in)
    assert id_of(client) == upstream.gives
    assert len(upstream.sockets) == tried + 1
    return client, upstream.sockets[-1]


def hops(lives_in: int, falls_on: int, came_to: int) -> int:
    """Return how often a client is handed on: to where its id falls, and from there to where its session lives."""
    if came_to == lives_in:
        return 0
    return (came_to != falls_on) + (falls_on != lives_in)


async def test_a_session_is_found_by_an_id_that_its_upstream_gave(serve: Serve) -> None:
    """Whichever of three workers it lives in, its id falls on, and is asked for it."""
    async with GivingServer() as upstream:
        proxy = await serve(upstream.url, *THREE, *ADMIN, *GIVEN)
        workers = Workers(proxy)
        admin = await admin_of(proxy)
        for lives_in, falls_on, came_to in itertools.product(range(3), repeat=3):
            client, server = await give(workers, upstream, lives_in, falls_on)
            before = await sample(admin, HANDED_ON)
            client.reset()
            await server.send("kept")
            again = await workers.dial(came_to, ("X-Reconnect-Id", id_of(client)))
            assert id_of(again) == id_of(client)
            assert "kept" in await again.take(2)
            await again.send("heard")
            assert await server.recv() == "heard"
            assert await sample(admin, HANDED_ON) - before == hops(lives_in, falls_on, came_to)


async def test_under_tls_a_relayed_client_is_handed_on_again(serve: Serve, authority: Authority) -> None:
    """From where its id falls to where its session is, with the relay's end of it."""
    cert, key = authority.issue()
    async with GivingServer() as upstream:
        tls = ("--tls-cert", str(cert), "--tls-key", str(key))
        proxy = await serve(upstream.url, *THREE, *ADMIN, *tls, *GIVEN)
        workers, context = Workers(proxy), authority.client()
        admin = await admin_of(proxy)
        ids = [await workers.id_on(number, context) for number in range(3)]
        before = await sample(admin, RELAYED)
        for lives_in, falls_on, came_to in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
            upstream.gives = ids[falls_on]
            async with ordinary_client(proxy.url, sock=await workers.connect(lives_in), ssl=context) as client:
                server = upstream.sockets[-1]
            async with ordinary_client(
                proxy.url,
                sock=await workers.connect(came_to),
                ssl=context,
                additional_headers={"X-Reconnect-Id": upstream.gives},
            ) as client:
                await client.send("x" * 200_000)
                assert await server.recv() == "x" * 200_000
                await server.send("y" * 200_000)
                assert "y" * 200_000 in (await client.recv(), await client.recv())
        # The first hop only: from there on it is the relay's end that is handed on.
        assert await sample(admin, RELAYED) - before == 3


async def test_an_id_that_an_upstream_gives_twice_is_that_of_the_first(serve: Serve) -> None:
    """In whichever workers the two live: the second has one of the proxy's making, and its client is told."""
    async with GivingServer() as upstream:
        proxy = await serve(upstream.url, *TWO, *ADMIN, *GIVEN)
        workers = Workers(proxy)
        for lives_in, falls_on in itertools.product((0, 1), repeat=2):
            first, _ = await give(workers, upstream, lives_in, falls_on)
            clients = [first, *[await workers.dial(number) for number in (0, 1)]]
            identities = [id_of(client) for client in clients]
            assert upstream.gives == identities[0]
            assert len(set(identities)) == len(identities)
            for client, identity in zip(clients, identities, strict=True):
                for number in (0, 1):
                    again = await workers.dial(number, ("X-Reconnect-Id", identity))
                    assert (await client.ended()).code == 4000
                    client = again


async def test_an_id_that_an_upstream_gave_is_free_when_its_session_has_ended(serve: Serve) -> None:
    """Wherever it lived, and wherever it falls: who names it is told 410, and who is given it has it."""
    async with GivingServer() as upstream:
        proxy = await serve(upstream.url, *TWO, *ADMIN, "--gate", "first-message", "--grace", "0")
        workers = Workers(proxy)
        for falls_on in (0, 1):
            upstream.gives = await workers.id_on(falls_on)
            for lives_in in (0, 1, 0):
                ended = proxy.log.count("session ended")
                client = await workers.dial(lives_in)
                assert id_of(client) == upstream.gives
                await client.close()
                await eventually(lambda: proxy.log.count("session ended") > ended, "it has ended")  # noqa: B023
                for came_to in (0, 1):
                    with pytest.raises(Refused) as refused:
                        await workers.dial(came_to, ("X-Reconnect-Id", upstream.gives))
                    assert refused.value.status == 410


async def test_a_worker_that_is_started_anew_learns_what_falls_on_it(serve: Serve) -> None:
    """Sessions that live in the other, under ids that are placed on the worker that has died, are found as before."""
    async with GivingServer() as upstream:
        proxy = await serve(upstream.url, *TWO, *ADMIN, *GIVEN)
        workers = Workers(proxy)
        places = list(itertools.product((0, 1), repeat=3))
        clients = [(await give(workers, upstream, lives_in, falls_on))[0] for lives_in, falls_on, _ in places]
        workers.kill(0)
        await eventually(lambda: "worker lost" in proxy.log, "the loss is in the log")
        found = await asyncio.gather(
            *(
                workers.dial(came_to, ("X-Reconnect-Id", id_of(client)))
                for client, (_, _, came_to) in zip(clients, places, strict=True)
            ),
            return_exceptions=True,
        )
        for client, (lives_in, *_), answer in zip(clients, places, found, strict=True):
            if lives_in == 0:
                assert isinstance(answer, Refused)
                assert answer.status == 410
            else:
                assert isinstance(answer, RawSocket), answer
                assert id_of(answer) == id_of(client)
            await client.ended()
        assert await sample(await admin_of(proxy), "reconnect_proxy_sessions_lost_total") == len(places) / 2
