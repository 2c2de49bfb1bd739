"""Request bodies: the JSON value in one, and its fields.

What the original accepts is accepted: the first value of the body counts and what follows it does not; names of fields
match in any case; unknown fields and nulls are ignored. The text of an error differs from the original's; its status
and the form of the answer do not.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from reconnect_harness.toxiproxy.embedded.errors import ApiError, ApiRefusal

_SPACE = " \t\r\n"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise TypeError
    return value


def _number(value: Any) -> float:
    """Return the shortest decimal that stands for the same 32-bit number, as which the original keeps it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    single = struct.pack("<f", value)
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == single:
            return short
    return float(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


class FieldType(Enum):
    """The type of a field: what errors call it, and how a value is checked."""

    TEXT = "a string", _text
    BOOLEAN = "true or false", _boolean
    WHOLE_NUMBER = "a whole number of 64 bits", _whole_number
    NUMBER = "a number", _number
    LIST = "a list", _list
    OBJECT = "an object", _object

    def __init__(self, described: str, check: Callable[[Any], Any]) -> None:
        self.described = described
        self.check = check


def decode(body: bytes) -> Any:
    """Return the first JSON value in `body`.

    Raises:
        ApiError: it is not JSON.
    """
    text = body.decode(errors="replace").lstrip(_SPACE)
    if not text:
        raise ApiError(ApiRefusal.BAD_REQUEST_BODY, "it is empty")
    try:
        return _DECODER.raw_decode(text)[0]
    except (ValueError, RecursionError) as mistake:
        raise ApiError(ApiRefusal.BAD_REQUEST_BODY, f"it is not JSON: {mistake}") from None


def fields(value: Any, known: Mapping[str, FieldType], within: str = "") -> dict[str, Any]:
    """Return those fields of a JSON object that are known, given, and not null.

    Args:
        value: what was decoded.
        known: the type of each field by its name in lower case.
        within: the path of the value in the body, for errors; nothing for the whole body.

    Raises:
        ApiError: the value is not an object, or a field has another type.
    """
    if value is None:
        return {}
    given: dict[str, Any] = checked(value, FieldType.OBJECT, within or "it")
    found: dict[str, Any] = {}
    for key, item in given.items():
        name = key if key in known else key.lower()
        if name in known and item is not None:
            found[name] = checked(item, known[name], f"{within}.{name}" if within else name)
    return found


def checked(value: Any, expected: FieldType, name: str) -> Any:
    """Return a value of the expected type; raises ApiError, which calls it `name`."""
    try:
        return expected.check(value)
    except (TypeError, OverflowError):
        raise ApiError(ApiRefusal.BAD_REQUEST_BODY, f"{name} must be {expected.described}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
