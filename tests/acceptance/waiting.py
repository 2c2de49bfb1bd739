"""Waiting for conditions: never for an amount of time to pass, only for at most an amount of time."""

import asyncio
from collections.abc import Callable

PATIENCE = 15.0
"""Seconds after which something that should have happened is held not to happen (busy machines included)."""

Message = str | bytes


class Tally:
    """Messages in the order in which they came, and a way to wait for so many of them."""

    def __init__(self) -> None:
        """Start empty."""
        self.items: list[Message] = []
        self._grown = asyncio.Event()

    def add(self, message: Message) -> None:
        """Append one message."""
        self.items.append(message)
        self._grown.set()

    async def until(self, check: Callable[[list[Message]], bool], within: float = PATIENCE) -> list[Message]:
        """Wait until `check` holds for the messages; TimeoutError after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while not check(self.items):
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            tail = [item[:40] for item in self.items[-3:]]
            raise TimeoutError(f"{len(self.items)} messages came in {within} s, the last {tail}") from None
        return self.items

    async def reaches(self, count: int, within: float = PATIENCE) -> list[Message]:
        """Wait until `count` messages have come."""
        return await self.until(lambda items: len(items) >= count, within)


async def eventually(check: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Wait for a condition that nothing announces (a process's memory, a count of descriptors)."""
    steps = int(within / 0.02)
    for _ in range(steps):
        if check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"within {within} s it did not happen that {what}")


def numbered(prefix: str, count: int, start: int = 1, pad: int = 0) -> list[Message]:
    """Build `count` messages that say their place, text and binary by turns, with `pad` bytes behind."""
    messages: list[Message] = []
    for number in range(start, start + count):
        text = f"{prefix}-{number:06d}" + "." * pad
        messages.append(text if number % 2 else text.encode())
    return messages


def number_of(message: Message) -> int:
    """Read the number of a message that `numbered` built."""
    text = message if isinstance(message, str) else message.decode()
    return int(text.partition("-")[2][:6])


def without_repeats(messages: list[Message]) -> list[Message]:
    """Keep the first of equal messages."""
    return list(dict.fromkeys(messages))
