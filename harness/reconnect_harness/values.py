"""What a scenario file gives, value by value: each function returns it in the harness's terms, or says what is wrong.

What is wrong is a ValueError, since that is what pydantic takes a validator's no from; its text is the second half of a
sentence whose first half is the path in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from reconnect_proxy.units import parse_duration, parse_size

T = TypeVar("T")


def close_to(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X? ` where `word` is nearly one of `known`, else nothing."""
    near = get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]}? " if near else ""


def one_of(what: str, given: object, known: Iterable[str]) -> str:
    """Return `given` if it is one of the `known`; `what` says what kind of thing they are."""
    names = list(known)
    if not isinstance(given, str) or given not in names:
        raise ValueError(f"there is no {what} {given!r}; {close_to(str(given), names)}There are {', '.join(names)}")
    return given


def mapping(given: object, like: str) -> dict[Any, Any]:
    """Return `given` if it is a mapping; `like` says what it should be."""
    if not isinstance(given, dict):
        raise ValueError(f"{given!r} is not a mapping {like}")  # noqa: TRY004  # see above
    return given


def whole(given: object) -> int:
    """Return `given` if it is a whole number, 0 or more."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{given!r} is not a whole number, 0 or more")
    return given


def close_code(code: int) -> int:
    """Return a close code if an endpoint may send it (RFC 6455 section 7.4)."""
    if code not in {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}:
        raise ValueError(f"{code} cannot be sent in a close: there are 1000 to 1003, 1007 to 1014 and 3000 to 4999")
    return code


def share(given: object) -> float:
    """Return `given` if it is a number; which ones are allowed is for others to say."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ValueError(f"{given!r} is not a number from 0 to 1")  # noqa: TRY004  # see above
    return float(given)


def seconds(given: Any) -> float:
    """Return the seconds of `400ms`, `15s` or a plain number."""
    return parse_duration(given)


def rate(given: object) -> float:
    """Return messages a second of `100/s`, `30/m` or a plain number."""
    if isinstance(given, (int, float)) and not isinstance(given, bool) and given >= 0:
        return float(given)
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?/ ?(s|m)", given) if isinstance(given, str) else None
    if found is None:
        raise ValueError(f"{given!r} is not a rate: write it as 100/s, 30/m or a plain number a second")
    return float(found[1]) / (1 if found[2] == "s" else 60)


def sizes(given: object) -> tuple[int, int]:
    """Return the least and the most bytes of `[16, 4KiB]` or of one size."""
    bounds: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given, given]
    if len(bounds) != 2:
        raise ValueError(f"{given!r} is neither one size nor [least, most]")
    least, most = parse_size(bounds[0]), parse_size(bounds[1])
    if least > most:
        raise ValueError(f"the least size, {bounds[0]}, is more than the most, {bounds[1]}")
    return least, most


def span(parse: Callable[[Any], T], given: object) -> T | tuple[T, T]:
    """Return what `parse` makes of a value, or of both ends of a range `1s..7s`."""
    if isinstance(given, str) and ".." in given:
        least, _, most = given.partition("..")
        return parse(least.strip()), parse(most.strip())
    return parse(given)


def kilobytes(given: Any) -> int:
    """Return KB a second of `50KB/s`, `1MB/s` or a plain number, which is in KB already."""
    if isinstance(given, str):
        return parse_size(given.removesuffix("/s")) // 1000
    return whole(given)


def milliseconds(given: Any) -> int:
    """Return the milliseconds of `100ms`, `1s` or a plain number, which is in milliseconds already."""
    return round(parse_duration(given) * 1_000) if isinstance(given, str) else whole(given)


def microseconds(given: Any) -> int:
    """Return the microseconds of `2ms` or a plain number, which is in microseconds already."""
    return round(parse_duration(given) * 1_000_000) if isinstance(given, str) else whole(given)
