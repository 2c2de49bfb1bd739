"""What the upstream makes of the requests of some is no reason to keep others from it."""

import asyncio
import contextlib

from ..frames import Refused
from ..rawsocket import dial
from .evil import BAD_HEADS
from .siege import Siege


async def test_bad_answers_to_some_do_not_keep_others_out(siege: Siege) -> None:
    """While a hundred clients ask for what is answered badly, an honest one is served by what serves 200 others."""

    async def attack(name: str) -> None:
        # A wrong 101 is refused, the others keep their client waiting.
        with contextlib.suppress(Refused):
            await (await dial(f"{siege.url}/head/{name}")).ended()

    attackers = [asyncio.create_task(attack(name)) for name in BAD_HEADS for _ in range(4)]
    for _ in range(10):
        await asyncio.sleep(0.1)
        honest = await dial(f"{siege.url}/echo")
        await honest.send("x")
        assert await honest.recv() == "x"
        await honest.close()
    await asyncio.gather(*attackers)
