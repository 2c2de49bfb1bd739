"""The settings of the users of a load run, in addition to locust's own options; `load.options` has the command line.

Values are text, as they were typed: the web UI's form may change them, and a master sends them to its workers.
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Self

import yaml

from reconnect_harness.adapters.find import AdapterChoice
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
        raise ValueError(f"{given!r} is not a file of PEM certificates: {error.strerror or error}") from None
    return given


def adapter(given: str) -> AdapterChoice:
    """Return the adapter that is written as in a scenario: `json`, `my_tests.chat:ChatAdapter`, `{json: {to: all}}`."""
    try:
        return AdapterChoice.of(yaml.safe_load(given))
    except yaml.YAMLError as error:
        raise ValueError(f"{given!r} is not an adapter: {error}") from None


def positive_rate(given: str) -> float:
    """Return messages a second, more than 0."""
    found = rate(given)
    if found <= 0:
        raise ValueError(f"{given!r} is too low a rate: it must be more than 0")
    return found


@dataclass(frozen=True, slots=True)
class UserSettings:
    """The settings of the users of one process, by the names of the options. Times are seconds."""

    #: How many messages each user sends a second.
    rate: float = 1.0
    #: The smallest and the largest message, in bytes.
    size: tuple[int, int] = (128, 128)
    #: How long nothing new may arrive at the end, and how long an overtaken message may take.
    settle: float = 10.0
    #: How long a user tries to reconnect.
    retry_for: float = 60.0
    #: Own addresses to connect from, in turn.
    source_address: tuple[str, ...] = ()
    #: A file of certificates to trust.
    ca: str | None = None
    #: How messages look in the protocol of an application, as in a scenario.
    adapter: object = None

    @classmethod
    def of(cls, options: argparse.Namespace | None) -> Self:
        """Return the settings that parsed options contain; a program may use users without options."""
        given = vars(options or argparse.Namespace())
        return cls(**{name: parse(given[name]) for name, parse in _PARSED.items() if given.get(name)})


_PARSED: Mapping[str, Callable[[str], Any]] = {
    "rate": positive_rate,
    "size": size,
    "settle": seconds,
    "retry_for": seconds,
    "source_address": addresses,
    "ca": str,
    "adapter": adapter,
}
