"""What happens to a relay while a conversation goes on; seeded, so that a failure can be replayed."""

import asyncio
import random

from .relay import Cut, Relay, Way


async def flap(relay: Relay, times: int = 5, down: float = 0.4, up: float = 0.8) -> list[float]:
    """Reset the relay's links and refuse new ones for `down` seconds, `times` times, each after `up` seconds of peace.

    Returns how many seconds each time passed from the end of the outage until a link was there again.
    """
    loop = asyncio.get_running_loop()
    recoveries = []
    for _ in range(times):
        await asyncio.sleep(up)
        await relay.refuse()
        await asyncio.sleep(down)
        carried, healed = relay.accepted, loop.time()
        await relay.heal()
        await relay.reaches(carried + 1)
        recoveries.append(loop.time() - healed)
    return recoveries


async def harass(relay: Relay, seed: int, seconds: float) -> int:
    """Cut at random: at once or in mid-frame, with RST or FIN, down for a while or not; count the cuts."""
    dice = random.Random(seed)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    cuts = 0
    while loop.time() < end:
        await asyncio.sleep(dice.uniform(0.05, 0.6))
        how = dice.choice(list(Cut))
        match dice.randrange(3):
            case 0:
                relay.cut(how)
            case 1:
                relay.cut_after(dice.choice(list(Way)), dice.randrange(1, 3000), how)
            case _:
                await relay.refuse(how)
                await asyncio.sleep(dice.uniform(0.0, 0.3))
                await relay.heal()
        cuts += 1
    return cuts
