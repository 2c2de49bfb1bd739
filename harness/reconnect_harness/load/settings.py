"""What the users of a load run are told, beside locust's own options; `load.options` has the command line.

Values arrive as text, as they were typed: the web UI's form changes them, and a master hands them on to its workers.
"""

from __future__ import annotations

import argparse
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

from reconnect_harness.values import rate, seconds, sizes


def size(given: str) -> tuple[int, int]:
    """Return the least and the most bytes of `128`, `4KiB` or `16..4KiB`."""
    least, dots, most = given.partition("..")
    return sizes([least, most] if dots else given)


def addresses(given: str) -> tuple[str, ...]:
    """Return the addresses of `10.0.0.1,10.0.0.2`."""
    found = tuple(filter(None, (part.strip() for part in given.split(","))))
    for address in found:
        try:
            ip_address(address)
        except ValueError:
            raise ValueError(f"{address!r} is not an address: write 10.0.0.1, or several: 10.0.0.1,10.0.0.2") from None
    return found


def authority(given: str) -> str:
    """Return the file, if certificates can be read from it."""
    try:
        ssl.create_default_context(cafile=given)
    except OSError as error:
        raise ValueError(f"{given!r} is no file of certificates, PEM: {error.strerror or error}") from None
    return given


def talkative(given: str) -> float:
    """Return messages a second, more than none."""
    found = rate(given)
    if found <= 0:
        raise ValueError(f"{given!r} is no rate of users that talk: it must be more than 0")
    return found


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the users of one process.

    `rate` is messages a second of each user; `size` the smallest and largest message in bytes; `settle` how long
    nothing new may come at the end, and how long what was overtaken is waited for, in seconds; `retry_for` how long a
    user tries to come back, in seconds; `sources` own addresses to connect from, in turn; `ca` a file of certificates.
    """

    rate: float = 1.0
    size: tuple[int, int] = (128, 128)
    settle: float = 10.0
    retry_for: float = 60.0
    sources: tuple[str, ...] = ()
    ca: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace | None) -> Self:
        """Take from parsed options what is there; a program may use users without any."""
        given = {name: text for name, text in vars(options or argparse.Namespace()).items() if text}
        standard = cls()
        return cls(
            rate=talkative(given["rate"]) if "rate" in given else standard.rate,
            size=size(given["size"]) if "size" in given else standard.size,
            settle=seconds(given["settle"]) if "settle" in given else standard.settle,
            retry_for=seconds(given["retry_for"]) if "retry_for" in given else standard.retry_for,
            sources=addresses(given.get("source_address", "")),
            ca=given.get("ca"),
        )
