"""The addresses of names: looked up in threads, one for each name, and kept for some seconds.

`getaddrinfo` blocks, for up to half a minute if a DNS server does not answer. The thread pools of event loops have few
threads (libuv: four) for all names together, so a few lookups that hang would delay the dials of every other name. Here
each name has a thread of its own while it is looked up. There are at most `MOST_LOOKUPS` of them.

| the last lookup | what a dial gets |
| --- | --- |
| has found addresses, less than `FRESH` seconds ago | these |
| has failed, less than `FAILED` seconds ago | the same failure |
| is older | the outcome of a new lookup, which all dials of that name share |

If a lookup fails for the moment, or takes longer than `STALE_WAIT`, a dial gets the addresses that were found before,
if these are at most `STALE` seconds old (RFC 8767): a server that has not moved can be reached while DNS cannot.

Names come from the configuration only, so there are not many and none is forgotten.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread

#: Seconds for which addresses, or the failure to find any, are kept.
FRESH = 10.0
FAILED = 1.0
#: Seconds for which old addresses may be used while new ones cannot be found; and how long a dial waits for new ones.
STALE = 600.0
STALE_WAIT = 1.0
#: Lookups in progress at a time, those that hang included.
MOST_LOOKUPS = 64

Lookup = Callable[[str], Sequence[str]]


class NameNotFound(OSError):
    """A name has no address, or its lookup has failed. `passing`: the next lookup may succeed."""

    def __init__(self, host: str, reason: str, passing: bool) -> None:
        super().__init__(f"no address of {host!r} can be found: {reason}")
        self.host = host
        self.reason = reason
        self.passing = passing


def system_lookup(host: str) -> list[str]:
    """Return the IP addresses of a name as the system knows them, the preferred one first (RFC 6724). Blocks.

    Raises:
        OSError: there are none.
        UnicodeError: this cannot be a name.
    """
    found = [info[4] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    # The fourth part of an IPv6 address is its scope: the interface of a link-local address.
    return [f"{at[0]}%{at[3]}" if len(at) == 4 and at[3] else str(at[0]) for at in found]


class _Name:
    """What is known of one name."""

    __slots__ = ("addresses", "began_at", "ended_at", "failure", "found_at", "lookup")

    def __init__(self) -> None:
        # The addresses that were found last, and when.
        self.addresses: tuple[str, ...] = ()
        self.found_at = -math.inf
        # When the last lookup ended, and why it failed, if it did.
        self.ended_at = -math.inf
        self.failure: NameNotFound | None = None
        # The lookup in progress, done when it has ended, and when it began. None: there is none.
        self.lookup: asyncio.Future[None] | None = None
        self.began_at = 0.0

    def is_known(self, now: float) -> bool:
        """Whether the outcome of the last lookup still counts."""
        return now < self.ended_at + (FRESH if self.failure is None else FAILED)


class Resolver:
    """Finds the addresses of names, for one event loop."""

    def __init__(self, lookup: Lookup = system_lookup, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a resolver.

        Args:
            lookup: returns the addresses of a name, in a thread. May block, and raise OSError or UnicodeError.
            clock: the time in seconds.
        """
        self._lookup = lookup
        self._clock = clock
        self._names: dict[str, _Name] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the IP addresses of `host`, at least one. An IP address is its own.

        Raises:
            NameNotFound: there are none.
        """
        if _is_address(host):
            return (host,)
        name = self._names.setdefault(host, _Name())
        now = self._clock()
        usable = now < name.found_at + STALE
        if not name.is_known(now):
            lookup = name.lookup or self._begin(host, name)
            await asyncio.wait([lookup], timeout=max(0.0, name.began_at + STALE_WAIT - now) if usable else None)
            if not lookup.done():
                return name.addresses
        if name.failure is None or (name.failure.passing and usable):
            return name.addresses
        raise NameNotFound(host, name.failure.reason, name.failure.passing)

    def _begin(self, host: str, name: _Name) -> asyncio.Future[None]:
        """Begin to look a name up, in a thread."""
        loop = asyncio.get_running_loop()
        name.lookup = lookup = loop.create_future()
        name.began_at = self._clock()
        if sum(each.lookup is not None for each in self._names.values()) > MOST_LOOKUPS:
            self._end(host, NameNotFound(host, f"{MOST_LOOKUPS} other names are being looked up", passing=True))
            return lookup
        # A daemon: a lookup that hangs must not keep the process from ending.
        thread = Thread(target=self._look_up, args=(host, loop), name=f"lookup of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._end(host, NameNotFound(host, str(error), passing=True))
        return lookup

    def _look_up(self, host: str, loop: asyncio.AbstractEventLoop) -> None:
        """Look a name up, in a thread of its own."""
        outcome: tuple[str, ...] | NameNotFound
        try:
            # Each once, in their order.
            outcome = tuple(dict.fromkeys(self._lookup(host))) or NameNotFound(host, "it has no address", passing=False)
        except socket.gaierror as error:
            outcome = NameNotFound(host, error.strerror or str(error), passing=error.errno == socket.EAI_AGAIN)
        except (OSError, UnicodeError) as error:
            outcome = NameNotFound(host, str(error) or type(error).__name__, passing=isinstance(error, OSError))
        # The loop may be closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._end, host, outcome)

    def _end(self, host: str, outcome: tuple[str, ...] | NameNotFound) -> None:
        """Keep the outcome of a lookup, and wake those that wait for it."""
        name = self._names[host]
        name.ended_at = self._clock()
        if isinstance(outcome, NameNotFound):
            name.failure = outcome
        else:
            name.failure, name.addresses, name.found_at = None, outcome, name.ended_at
        lookup, name.lookup = name.lookup, None
        if lookup is not None and not lookup.done():
            lookup.set_result(None)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
