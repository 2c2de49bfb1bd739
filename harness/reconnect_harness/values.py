"""The values of scenario files: one function for each kind of value, and `Section`, the base of each mapping.

A function returns the value in the harness's units, or raises ValueError, because pydantic expects that of a validator.
The text of the error is the second half of a sentence; its first half is the path of the value in the file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from reconnect_proxy.close_codes import check_close_code
from reconnect_proxy.suggestions import did_you_mean
from reconnect_proxy.units import parse_duration, parse_size

T = TypeVar("T")


def one_of(what: str, given: object, known: Iterable[str]) -> str:
    """Return `given` if it is one of the `known` names; `what` says what they name."""
    names = [str(name) for name in known]
    if not isinstance(given, str) or given not in names:
        raise ValueError(f"there is no {what} {given!r}; {did_you_mean(str(given), names)}There are {', '.join(names)}")
    return given


def mapping(given: object, like: str) -> dict[Any, Any]:
    """Return `given` if it is a mapping; `like` describes the expected one."""
    if not isinstance(given, dict):
        raise ValueError(f"{given!r} is not a mapping {like}")  # noqa: TRY004  # pydantic takes ValueError only
    return given


def words(given: object) -> list[str]:
    """Return a command as a list of words; it may be given as a line, as for a shell."""
    if isinstance(given, str):
        return shlex.split(given)
    if isinstance(given, list):
        return [str(word) for word in given]
    raise ValueError(f"{given!r} is not a command: write [program, argument] or a line")


def whole_number(given: object) -> int:
    """Return `given` if it is a whole number, 0 or more."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{given!r} is not a whole number, 0 or more")
    return given


def fraction(given: object) -> float:
    """Return `given` if it is a number. The caller checks its bounds."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ValueError(f"{given!r} is not a number from 0 to 1")  # noqa: TRY004  # pydantic takes ValueError only
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


def value_or_range(parse: Callable[[Any], T], given: object) -> T | tuple[T, T]:
    """Parse a single value, or both ends of a range `1s..7s`."""
    if isinstance(given, str) and ".." in given:
        least, _, most = given.partition("..")
        return parse(least.strip()), parse(most.strip())
    return parse(given)


def kilobytes(given: Any) -> int:
    """Return KB a second of `50KB/s`, `1MB/s` or a plain number of KB."""
    if isinstance(given, str):
        return parse_size(given.removesuffix("/s")) // 1000
    return whole_number(given)


def milliseconds(given: Any) -> int:
    """Return the milliseconds of `100ms`, `1s` or a plain number of milliseconds."""
    return round(parse_duration(given) * 1_000) if isinstance(given, str) else whole_number(given)


def microseconds(given: Any) -> int:
    """Return the microseconds of `2ms` or a plain number of microseconds."""
    return round(parse_duration(given) * 1_000_000) if isinstance(given, str) else whole_number(given)


class Section(BaseModel):
    """A mapping of a scenario file; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: object) -> object:
        keys = [field.alias or name for name, field in cls.model_fields.items()]
        for key in mapping(value, f"of {', '.join(keys)}"):
            one_of("key", key, keys)
        return value


def known(what: str, names: Iterable[str]) -> BeforeValidator:
    """Return the validator of a value that must be one of `names`; `what` says what they name."""
    return BeforeValidator(lambda value: one_of(what, value, names))


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return the path of the first value that pydantic refused, and a sentence that says what is wrong with it."""
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return path, "it is missing"
    if problem["type"] == "value_error":
        return path, str(problem["ctx"]["error"])
    return path, f"{problem['input']!r} is not valid: {problem['msg'][0].lower()}{problem['msg'][1:]}"


Rate = Annotated[float, BeforeValidator(rate)]
Sizes = Annotated[tuple[int, int], BeforeValidator(sizes)]
Seconds = Annotated[float, BeforeValidator(seconds)]
PositiveSeconds = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
Statuses = list[Annotated[int, Field(ge=400, le=599)]]
CloseCodes = list[Annotated[int, AfterValidator(check_close_code)]]
