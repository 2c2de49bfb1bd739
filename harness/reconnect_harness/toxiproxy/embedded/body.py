"""Request bodies, read the way Go's encoding/json reads them, and refused in its words.

That is: the first value of the body counts and what follows it does not; names of fields match in any case;
unknown fields and nulls are as if they were not there; a value of the wrong type is an error that names the
field. Programs that match on Toxiproxy's error texts are not to notice the difference.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

from reconnect_harness.toxiproxy.embedded.errors import ApiError, Refusal

_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_SPACE = " \t\r\n"
_KINDS = {"string": "string", "bool": "bool", "float32": "number", "int": "number", "int64": "number"}


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _refuse_constant(name: str) -> None:
    raise json.JSONDecodeError("Expecting value", name, 0)


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)


def decode(body: bytes) -> Any:
    """Return the first JSON value in `body`, its numbers as they were written.

    Raises:
        ApiError: it is no JSON.
    """
    text = body.decode(errors="replace")
    start = len(text) - len(text.lstrip(_SPACE))
    if start == len(text):
        raise ApiError(Refusal.BAD_REQUEST_BODY, "EOF")
    try:
        return _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError as mistake:
        raise ApiError(Refusal.BAD_REQUEST_BODY, _in_words_of_go(mistake.msg, text, mistake.pos)) from None


def fields(value: Any, known: Mapping[str, str], struct_name: str, type_name: str) -> dict[str, Any]:
    """Return those fields of a JSON object that are known, given, and not null.

    Args:
        value: what was decoded.
        known: the Go type of each field: string, bool, float32, int, int64; any other is an object, which is
            returned as it is.
        struct_name: what Go calls the struct in errors about its fields.
        type_name: and in an error about the value itself.

    Raises:
        ApiError: the value is no object, or a field has another type.
    """
    if value is None:
        return {}
    check_kind(value, "object", type_name)
    found: dict[str, Any] = {}
    for key, given in value.items():
        name = key if key in known else key.lower()
        if name in known and given is not None:
            try:
                found[name] = _convert(given, known[name])
            except ValueError as wrong:
                raise ApiError(
                    Refusal.BAD_REQUEST_BODY,
                    f"json: cannot unmarshal {wrong} into Go struct field {struct_name}.{name} of type {known[name]}",
                ) from None
    return found


def check_kind(value: Any, kind: str, type_name: str) -> None:
    """Raise ApiError if a JSON value is not of a kind: object, array, string, number, bool."""
    if _kind(value) != kind:
        problem = f"json: cannot unmarshal {_kind(value)} into Go value of type {type_name}"
        raise ApiError(Refusal.BAD_REQUEST_BODY, problem)


def _convert(value: Any, go_type: str) -> Any:
    """Return a value as the type that it must have; raises ValueError with what it is instead."""
    kind = _kind(value)
    if kind != _KINDS.get(go_type, "object"):
        raise ValueError(kind)
    if kind != "number":
        return value
    try:
        return _float32(value) if go_type == "float32" else _int64(value)
    except (ValueError, OverflowError):
        raise ValueError(f"number {value}") from None


def _int64(number: str) -> int:
    if len(number) > 20:
        raise ValueError(number)
    value = int(number)
    if not -(2**63) <= value < 2**63:
        raise OverflowError(number)
    return value


def _float32(number: str) -> float:
    """Return the shortest decimal that stands for the same 32-bit number."""
    single = struct.pack("f", float(number))
    for digits in range(1, 10):
        short = float(f"{float(number):.{digits}g}")
        if struct.pack("f", short) == single:
            return short
    return float(number)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    kinds: dict[type, str] = {_Number: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def _in_words_of_go(complaint: str, text: str, at: int) -> str:
    """Return what Go says where Python's decoder has that complaint about `text`."""
    if complaint.startswith("Illegal trailing comma"):
        at += 1
    if complaint.startswith("Invalid control character"):
        return f"invalid character {_quoted(text[at])} in string literal"
    if complaint.startswith("Invalid \\escape"):
        return f"invalid character {_quoted(text[at + 1])} in string escape code"
    while at < len(text) and text[at] in _SPACE:
        at += 1
    if at >= len(text) or complaint.startswith("Unterminated string"):
        return "unexpected EOF"
    for literal in ("true", "false", "null"):
        if complaint == "Expecting value" and text[at] == literal[0]:
            return _broken_literal(literal, text[at:])
    if "property name" in complaint or (complaint.startswith("Illegal") and text[at] == "}"):
        where = "looking for beginning of object key string"
    elif complaint == "Expecting ':' delimiter":
        where = "after object key"
    elif complaint == "Expecting ',' delimiter":
        where = "after array element" if _innermost(text[:at]) == "[" else "after object key:value pair"
    else:
        where = "looking for beginning of value"
    return f"invalid character {_quoted(text[at])} {where}"


def _broken_literal(literal: str, text: str) -> str:
    for expected, found in zip(literal, text, strict=False):
        if expected != found:
            return f"invalid character {_quoted(found)} in literal {literal} (expecting {_quoted(expected)})"
    return "unexpected EOF"


def _innermost(text: str) -> str:
    """Return the bracket that is open at the end of `text`."""
    open_ones: list[str] = []
    for character in _STRING.sub("", text):
        if character in "[{":
            open_ones.append(character)
        elif character in "]}":
            open_ones.pop()
    return open_ones[-1]


def _quoted(character: str) -> str:
    return {"'": r"'\''", '"': "'\"'", "\n": r"'\n'", "\t": r"'\t'"}.get(character, f"'{character}'")
