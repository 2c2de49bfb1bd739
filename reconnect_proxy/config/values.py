"""How the values of options are written: one type for each kind of value.

Each type takes text from a flag, a variable or a file, or a value from a program. It returns the value, or raises a
ValueError that says what was given and what would be right. `Config` says which option has which type. `units` reads
durations and sizes, and `upstreams` reads upstreams.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BeforeValidator, InstanceOf, SecretStr

from ..core.policy import RETRYABLE, Gate, GateKind, RetryOn
from ..hooks.api import Hooks, check_hooks, load_hooks
from ..net.allow import check_origin_pattern, check_path_pattern
from ..units import parse_duration, parse_size

Choice = TypeVar("Choice", bound=StrEnum)
T = TypeVar("T")

#: The most processes that can share a port. Each may have a connection to each other one.
MOST_WORKERS = 64

#: RFC 9110 section 5.1: a field name is a token.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: A preamble of at most 999 messages, and its answers.
_REPLAY = re.compile(r"replay:([1-9][0-9]{0,2})(?:/([0-9]{1,3}))?", re.ASCII)

#: RFC 6750 section 2.1: a bearer token. Shorter ones are too easy to guess.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{8,512}=*")


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The lowest level of the lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Address(NamedTuple):
    """Where a listener is bound. `host` is without brackets, and `port` 0 asks the system for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `HOST:PORT`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file, and the token that was read from it."""

    path: str
    token: SecretStr

    def __str__(self) -> str:
        return self.path


def items(given: object) -> list[object]:
    """Return what was given as a list. A single item may be given without a list."""
    return list(given) if isinstance(given, (list, tuple, set, frozenset)) else [given]


def _file(given: object) -> object:
    if given is not None and not (isinstance(given, (str, PathLike)) and str(given)):
        raise ValueError(f"{given!r} is not the path of a file")
    return None if given is None else str(given)


def _address(given: object) -> object:
    if isinstance(given, Address):
        return given
    match = (
        re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^\[\]:\s]+)):(\d{1,5})", given, re.ASCII)
        if isinstance(given, str)
        else None
    )
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{given!r} is not an address: write HOST:PORT or [IPV6]:PORT, for instance 127.0.0.1:9124")
    return Address(match[1] or match[2], int(match[3]))


def _address_or_off(given: object) -> object:
    return None if given is None or given == "off" else _address(given)


def _token(given: object) -> object:
    """Check a token (RFC 6750 section 2.1). The error does not show it."""
    if given is None:
        return None
    text = given.get_secret_value() if isinstance(given, SecretStr) else given
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise ValueError("that is not a token: write at least 8 of A-Z a-z 0-9 . _ ~ + / - (it is not shown here)")
    return SecretStr(text)


def _token_file(given: object) -> object:
    if given is None or isinstance(given, TokenFile):
        return given
    try:
        text = Path(str(given)).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read {str(given)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{str(given)!r} is not UTF-8 text: write the token on its one line") from None
    if not _TOKEN.fullmatch(text):
        raise ValueError(
            f"{str(given)!r} does not hold a token: write one line with at least 8 of A-Z a-z 0-9 . _ ~ + / -"
        )
    return TokenFile(str(given), SecretStr(text))


def one_of(kind: type[Choice]) -> BeforeValidator:
    """Return the validator of a value that must be one of the words of `kind`."""

    def choose(given: object) -> Choice:
        for choice in kind:
            if given == choice:
                return choice
        raise ValueError(f"{given!r} is not a choice: write {_either(kind)}")

    return BeforeValidator(choose)


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"


def _log_level(given: object) -> object:
    return given.lower() if isinstance(given, str) else given


def _above_zero(parse: Callable[[Any], float]) -> Callable[[object], float]:
    def check(given: object) -> float:
        value = parse(given)
        if value <= 0:
            raise ValueError(f"{given!r} is too little: it must be more than 0")
        return value

    return check


def _or_off(check: Callable[[object], float]) -> BeforeValidator:
    return BeforeValidator(lambda given: None if given is None or given == "off" else check(given))


def _count(given: object) -> object:
    if given is None:
        return None
    digits = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if not re.fullmatch(r"[0-9]{1,15}", digits) or int(digits) == 0:
        raise ValueError(f"{given!r} is not a limit: write a whole number, 1 or more")
    return int(digits)


def _workers(given: object) -> object:
    text = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if not re.fullmatch(r"[0-9]{1,15}", text) or not 1 <= (count := int(text)) <= MOST_WORKERS:
        raise ValueError(f"{given!r} is not a number of workers: write 1 to {MOST_WORKERS}")
    if count > 1 and sys.platform != "linux":
        raise ValueError(f"{count} processes cannot share a port on this system, only on Linux: write 1")
    return count


def _yes_or_no(given: object) -> object:
    word = given.lower() if isinstance(given, str) else given
    for answer, words in ((True, ("true", "yes", "on", "1")), (False, ("false", "no", "off", "0"))):
        if word is answer or word in words:
            return answer
    raise ValueError(f"{given!r} is neither yes nor no: write true or false")


def _retry_on(given: object) -> object:
    if isinstance(given, RetryOn):
        return given
    if given in ("any", "abnormal", "none"):
        return RetryOn(any=given == "any", codes=frozenset() if given == "none" else RETRYABLE)
    hint = "write abnormal, any, none, or close codes such as 1006,1012"
    codes = [str(part).strip() for part in (given.split(",") if isinstance(given, str) else items(given))]
    if not codes or not all(re.fullmatch(r"[1-4][0-9]{3}", code) for code in codes):
        raise ValueError(f"{given!r} does not say when to retry: {hint} (1000 to 4999)")
    return RetryOn(any=False, codes=frozenset(map(int, codes)))


def _statuses(given: object) -> object:
    if given == "none":
        return frozenset()
    words = [str(part).strip() for part in (given.split(",") if isinstance(given, str) else items(given))]
    if not all(re.fullmatch(r"[3-5][0-9]{2}", word) for word in words):
        raise ValueError(
            f"{given!r} are not statuses of refusals: write none, or statuses such as 404,410 (300 to 599)"
        )
    return frozenset(map(int, words))


def _gate(given: object) -> object:
    if isinstance(given, Gate):
        return given
    for kind in (GateKind.OPEN, GateKind.FIRST_MESSAGE):
        if given == kind:
            return Gate(kind)
    if isinstance(given, str) and given.startswith("prefix:") and given != "prefix:":
        return Gate(GateKind.PREFIX, given.removeprefix("prefix:").encode())
    if isinstance(given, str) and (replay := _REPLAY.fullmatch(given)):
        count = int(replay[1])
        return Gate(GateKind.REPLAY, replays=count, answers=count if replay[2] is None else int(replay[2]))
    raise ValueError(f"{given!r} is not a gate: write open, first-message, prefix:TEXT or replay:N/M (N from 1 to 999)")


def _hooks(given: object) -> Hooks | None:
    if given is None:
        return None
    return load_hooks(given) if isinstance(given, str) else check_hooks(given)


def _listed(read: Callable[[object], T]) -> BeforeValidator:
    """Return the validator of a list, or of a text with commas between the items; `read` returns the value of one."""

    def read_all(given: object) -> tuple[T, ...]:
        parts: list[object] = []
        for item in items(given):
            parts += [part.strip() for part in item.split(",")] if isinstance(item, str) else [item]
        return tuple(dict.fromkeys(read(part) for part in parts))

    return BeforeValidator(read_all)


def _header_name(given: object) -> str:
    if not (isinstance(given, str) and _HEADER_NAME.fullmatch(given)):
        raise ValueError(f"{given!r} is not a header's name: write names such as authorization,cookie")
    return given.lower()


def _network(given: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(str(given))
    except ValueError:
        hint = "write addresses or networks such as 10.0.0.0/8,fd00::/8"
        raise ValueError(f"{given!r} is not a network: {hint}") from None


def _rate(given: object) -> object:
    if given is None or given == "off":
        return None
    text = given.removesuffix("/s") if isinstance(given, str) else given
    try:
        return _count(text)
    except ValueError:
        raise ValueError(f"{given!r} is not a rate: write a whole number of messages a second, such as 100/s") from None


#: Seconds; more than 0 seconds; the same, or None for `off`.
Seconds = Annotated[float, BeforeValidator(parse_duration)]
PositiveSeconds = Annotated[float, BeforeValidator(_above_zero(parse_duration))]
PositiveSecondsOrOff = Annotated[float | None, _or_off(_above_zero(parse_duration))]
#: Bytes, at least one; the same, or None for `off`.
PositiveBytes = Annotated[int, BeforeValidator(_above_zero(parse_size))]
PositiveBytesOrOff = Annotated[int | None, _or_off(_above_zero(parse_size))]
#: A limit, 1 or more; the same, or None: no limit.
Count = Annotated[int, BeforeValidator(_count)]
CountOrNone = Annotated[int | None, BeforeValidator(_count)]
CountOrOff = Annotated[int | None, _or_off(_count)]
#: Messages a second, or None for `off`.
Rate = Annotated[int | None, BeforeValidator(_rate)]
Workers = Annotated[int, BeforeValidator(_workers)]
YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]
#: The path of a file, which is not opened yet.
File = Annotated[str | None, BeforeValidator(_file)]
#: Where a listener is bound; the same, or None for `off`.
ListenAddress = Annotated[Address, BeforeValidator(_address)]
AddressOrOff = Annotated[Address | None, BeforeValidator(_address_or_off)]
RetryCodes = Annotated[RetryOn, BeforeValidator(_retry_on)]
#: HTTP statuses; the empty set for `none`.
Statuses = Annotated[frozenset[int], BeforeValidator(_statuses)]
GateSetting = Annotated[Gate, BeforeValidator(_gate)]
#: Lists, or texts with commas between the items.
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], _listed(_network)]
HeaderNames = Annotated[tuple[str, ...], _listed(_header_name)]
Origins = Annotated[tuple[str, ...], _listed(lambda given: check_origin_pattern(str(given)))]
Paths = Annotated[tuple[str, ...], _listed(lambda given: check_path_pattern(str(given)))]
#: A token itself, or the file that it is in.
Token = Annotated[SecretStr | None, BeforeValidator(_token)]
TokenInFile = Annotated[TokenFile | None, BeforeValidator(_token_file)]
HooksObject = Annotated[InstanceOf[Hooks] | None, BeforeValidator(_hooks)]
#: Also in capitals, as programs that use `logging` write them.
Level = Annotated[LogLevel, one_of(LogLevel), BeforeValidator(_log_level)]
