"""What the upstream makes of the requests of some is no reason to keep others from it."""

import asyncio

from ..rawsocket import dial
from .evil import BAD_HEADS
from .siege import Siege


async def test_bad_answers_to_some_do_not_keep_others_out(siege: Siege) -> None:
    """While a hundred clients ask for what is answered badly, an honest one is served by what serves 200 others."""
    attackers = [asyncio.create_task(dial(f"{siege.url}/head/{name}")) for name in BAD_HEADS for _ in range(4)]
    for _ in range(10):
        await asyncio.sleep(0.1)
        honest = await dial(f"{siege.url}/echo")
        await honest.send("x")
        assert await honest.recv() == "x"
        await honest.close()
    for link in await asyncio.gather(*attackers):
        await link.ended()
