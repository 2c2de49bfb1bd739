"""What the proxy can be told: one model, `Config`, which every way of configuring it ends in.

A `Config` is complete and consistent or does not exist. Each field carries what the command line shows about it
(its help text and placeholder), so an option is described here and nowhere else. Where the values come from
(flags, variables, a file) is the business of `sources`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from .core.policy import DUPLEX, POLICIES, RETRYABLE, Gate, GateKind, GraceOn, Mode, RetryOn, Uncertain
from .core.target import Server
from .hooks import Hooks, check_hooks, load_hooks
from .logs import LogFormat, LogLevel
from .net.allow import check_origin_pattern, check_path_pattern
from .net.tls import TlsFiles, listener_context, upstream_context
from .units import parse_duration, parse_size

__all__ = ["Address", "Compression", "Config", "Dial"]

Choice = TypeVar("Choice", bound=StrEnum)

#: Processes that share a port. Each may have to talk to each.
MOST_WORKERS = 64

#: RFC 9110 section 5.1: a field name is a token.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: RFC 6750 section 2.1: a bearer token. Shorter ones are guessed too soon.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{8,512}=*")


class Dial(StrEnum):
    """When the shared upstream of `receiver` mode is dialled first."""

    FIRST_CLIENT = "first-client"
    START = "start"


class Compression(StrEnum):
    """Whether clients and upstreams may compress their messages."""

    ON = "on"
    OFF = "off"


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
        """Return the path."""
        return self.path


def _items(given: object) -> list[object]:
    """Return what was given as a list: one item may be given without the list."""
    return list(given) if isinstance(given, (list, tuple, set, frozenset)) else [given]


def _upstreams(given: object) -> object:
    checked = tuple(_weighted_upstream(item) for item in _items(given))
    if not checked:
        raise ValueError("the list is empty: name at least one ws://HOST:PORT")
    urls = [server_of(text).url for text in checked]
    for url in urls:
        if urls.count(url) > 1:
            raise ValueError(f"{url!r} is given twice: give it once; for a larger share write '{url} weight=2'")
    return checked


def server_of(text: str) -> Server:
    """Return the upstream that a checked `URL` or `URL weight=N` (as in nginx) stands for."""
    url, _, weight = text.partition(" weight=")
    return Server(url, int(weight or 1))


def _weighted_upstream(given: object) -> str:
    """Return `URL`, or `URL weight=N` where the weight is not 1, of a text of that form or a table of a TOML file."""
    hint = "write 'ws://HOST:PORT weight=3', or {url = \"ws://HOST:PORT\", weight = 3} in a file"
    url, weight = given, 1
    if isinstance(given, Mapping):
        if set(given) - {"weight"} != {"url"}:
            raise ValueError(f"{dict(given)!r} is not an upstream: {hint}")
        url, weight = given["url"], _weight(given.get("weight", 1), hint)
    elif isinstance(given, str) and len(words := given.split()) > 1:
        url, *rest = words
        if len(rest) > 1 or not rest[0].startswith("weight="):
            raise ValueError(f"{given!r} has more than a URL and a weight: {hint}")
        weight = _weight(rest[0].removeprefix("weight="), hint)
    checked = _upstream(url)
    return checked if weight == 1 else f"{checked} weight={weight}"


def _weight(given: object, hint: str) -> int:
    text = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise ValueError(f"the weight {given!r} is not a whole number from 1 to 9999: {hint}")
    return int(text)


def _upstream(url: object) -> str:
    hint = "write ws://HOST:PORT or wss://HOST:PORT, and /base behind it if wanted"
    if not isinstance(url, str) or not re.fullmatch(r"[!-~]+", url):
        raise ValueError(f"{url!r} is not a URL in plain ASCII: {hint}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL ({error}): {hint}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is not the URL of a WebSocket server: {hint}")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError(f"{url!r} has a user, a query or a fragment, which an upstream cannot have: {hint}")
    return url


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
    """Check a token of RFC 6750 section 2.1. What is wrong with it is said without showing it."""
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


def _one_of(kind: type[Choice]) -> BeforeValidator:
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
    count = _count(given)
    if not isinstance(count, int) or count > MOST_WORKERS:
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
    if given in ("any", "abnormal"):
        return RetryOn(any=given == "any", codes=RETRYABLE)
    hint = "write abnormal, any, or close codes such as 1006,1012"
    codes = [str(part).strip() for part in (given.split(",") if isinstance(given, str) else _items(given))]
    if not codes or not all(re.fullmatch(r"[1-4][0-9]{3}", code) for code in codes):
        raise ValueError(f"{given!r} does not say when to retry: {hint} (1000 to 4999)")
    return RetryOn(any=False, codes=frozenset(map(int, codes)))


def _gate(given: object) -> object:
    if isinstance(given, Gate):
        return given
    for kind in (GateKind.OPEN, GateKind.FIRST_MESSAGE):
        if given == kind:
            return Gate(kind)
    if isinstance(given, str) and given.startswith("prefix:") and given != "prefix:":
        return Gate(GateKind.PREFIX, given.removeprefix("prefix:").encode())
    raise ValueError(f"{given!r} is not a gate: write open, first-message or prefix:TEXT")


def _header_names(given: object) -> object:
    names: list[str] = []
    for item in _items(given):
        for name in item.split(",") if isinstance(item, str) else [""]:
            if not _HEADER_NAME.fullmatch(name.strip()):
                raise ValueError(f"{item!r} is not a header's name: write names such as authorization,cookie")
            names.append(name.strip().lower())
    return tuple(dict.fromkeys(names))


def _hooks(given: object) -> Hooks | None:
    if given is None:
        return None
    return load_hooks(given) if isinstance(given, str) else check_hooks(given)


def _listed(given: object, check: Callable[[str], str]) -> tuple[str, ...]:
    """Return the items of a list, or of a text with commas between them, each checked."""
    items = [part for item in _items(given) for part in (item.split(",") if isinstance(item, str) else [item])]
    return tuple(dict.fromkeys(check(str(item).strip()) for item in items))


def _allowed_origins(given: object) -> object:
    return _listed(given, check_origin_pattern)


def _allowed_paths(given: object) -> object:
    return _listed(given, check_path_pattern)


def _networks(given: object) -> object:
    networks: list[IPv4Network | IPv6Network] = []
    for item in _items(given):
        for text in item.split(",") if isinstance(item, str) else [item]:
            try:
                networks.append(ip_network(str(text).strip()))
            except ValueError:
                raise ValueError(
                    f"{text!r} is not a network: write addresses or networks such as 10.0.0.0/8,fd00::/8"
                ) from None
    return tuple(dict.fromkeys(networks))


def _rate(given: object) -> object:
    if given is None or given == "off":
        return None
    text = given.removesuffix("/s") if isinstance(given, str) else given
    try:
        return _count(text)
    except ValueError:
        raise ValueError(f"{given!r} is not a rate: write a whole number of messages a second, such as 100/s") from None


Seconds = Annotated[float, BeforeValidator(parse_duration)]
SomeSeconds = Annotated[float, BeforeValidator(_above_zero(parse_duration))]
SomeBytes = Annotated[int, BeforeValidator(_above_zero(parse_size))]
File = Annotated[str | None, BeforeValidator(_file)]


def _option(default: Any, metavar: str, description: str) -> Any:
    return Field(default, description=description, json_schema_extra={"metavar": metavar}, validate_default=True)


class Config(BaseModel):
    """Every option of `reconnect-proxy serve`, checked. Durations are seconds, sizes are bytes.

    Options are given by name, as text (`grace="400ms"`, `max_queue="1MiB"`) or as values (`grace=0.4`).

    Raises:
        pydantic.ValidationError: a `ValueError` whose entries say what was given and what would be right.

    """

    # What was given is in our own messages, where it is no secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    upstream: Annotated[tuple[str, ...], BeforeValidator(_upstreams)] = Field(
        description="The server behind the proxy. Several take new sessions in turn, by their weight (1), and a "
        "session that loses one moves on to the next.",
        json_schema_extra={"metavar": "'ws[s]://HOST[:PORT][/BASE] [weight=N]'"},
    )
    listen: Annotated[Address, BeforeValidator(_address)] = _option(
        "127.0.0.1:9124", "HOST:PORT", "Where clients connect. Port 0 takes any free one."
    )
    workers: Annotated[int, BeforeValidator(_workers)] = _option(
        1,
        "N",
        "Processes that share the port, for as many cores (Linux). A session lives in one of them, and its client is "
        "handed to that one wherever it connects.",
    )
    mode: Annotated[Mode, _one_of(Mode)] = _option(
        Mode.DUPLEX,
        "|".join(Mode),
        "Which legs outlive their sockets: both (duplex), the upstream's (sender), "
        "or both with one upstream for all clients (receiver).",
    )
    grace: float | None = _option(
        None,
        "DURATION",
        "How long a client that is gone is awaited; in receiver mode for as long as the proxy runs, "
        "unless given. Of no effect in sender mode, where a session ends with its client.",
    )
    grace_on: Annotated[GraceOn, _one_of(GraceOn)] = _option(
        DUPLEX.grace_on,
        "|".join(GraceOn),
        "Which losses of a client start its grace; with abnormal, a clean 1000 ends the session.",
    )
    retry_for: Seconds = _option(
        DUPLEX.retry_for, "DURATION", "How long a lost upstream is redialled before its session ends."
    )
    retry_on: Annotated[RetryOn, BeforeValidator(_retry_on)] = _option(
        "abnormal", "abnormal|any|CODE,CODE", "After which close codes of an upstream it is redialled."
    )
    gate: Annotated[Gate, BeforeValidator(_gate)] = _option(
        "open",
        "open|first-message|prefix:TEXT",
        "What opens an upstream to messages: its handshake, or a message of its own.",
    )
    uncertain: Annotated[Uncertain, _one_of(Uncertain)] = _option(
        DUPLEX.uncertain,
        "|".join(Uncertain),
        "What becomes of messages that a lost peer may or may not have received, when it cannot say so.",
    )
    connect_timeout: SomeSeconds = _option(
        DUPLEX.connect_timeout, "DURATION", "How long one dial of an upstream may take, handshake and gate included."
    )
    ping_interval: SomeSeconds = _option(
        DUPLEX.ping_interval, "DURATION", "How long a link may be idle before it is pinged."
    )
    ping_timeout: SomeSeconds = _option(
        DUPLEX.ping_timeout, "DURATION", "How long a pinged link may stay silent before it is lost."
    )
    max_dials: Annotated[int, BeforeValidator(_count)] = _option(
        64, "N", "Handshakes in progress with one upstream at a time; further ones wait for their turn."
    )
    dial: Annotated[Dial, _one_of(Dial)] = _option(
        Dial.FIRST_CLIENT,
        "|".join(Dial),
        "When receiver mode dials its upstream; start is for receiver mode only.",
    )
    accept_when_down: Annotated[bool, BeforeValidator(_yes_or_no)] = _option(
        DUPLEX.accept_when_down, "", "Accept clients while no upstream can be reached; otherwise they get a 503."
    )
    max_queue: SomeBytes = _option(
        DUPLEX.max_queue, "SIZE", "Bytes held for one peer before whoever feeds it is no longer read."
    )
    max_held: Annotated[int | None, _or_off(_above_zero(parse_size))] = _option(
        1024**3,
        "SIZE|off",
        "Bytes held for all peers together before sessions that hold more than 64KiB for one are held back, and new "
        "ones get a 503.",
    )
    max_message: SomeBytes = _option(
        16 * 1024**2, "SIZE", "The largest message, inflated; a larger one closes its sender with 1009."
    )
    compression: Annotated[Compression, _one_of(Compression)] = _option(
        Compression.ON,
        "|".join(Compression),
        "Agree to permessage-deflate with clients that offer it and with their upstream, and pass on compressed "
        "messages as they are. Of no effect with a gate or an on_message hook, and in the session that receiver "
        "clients share.",
    )
    max_rate: Annotated[int | None, BeforeValidator(_rate)] = _option(
        None, "N/s|off", "Messages a second of one client, and as many at once; a faster one is read more slowly."
    )
    idle_timeout: Annotated[float | None, _or_off(_above_zero(parse_duration))] = _option(
        None,
        "DURATION|off",
        "How long no message may move over a session both legs of which are connected; then it ends with 1000.",
    )
    max_sessions: Annotated[int | None, BeforeValidator(_count)] = _option(
        None, "N", "Sessions at a time; further clients get a 503. Without it there is no limit."
    )
    max_sessions_per_address: Annotated[int | None, BeforeValidator(_count)] = _option(
        None,
        "N",
        "Sessions at a time that one client address has opened (an IPv6 address counts as its /64); further ones get "
        "a 503. Without it there is no limit.",
    )
    trust_forwarded_for: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)] = _option(
        (),
        "CIDR,CIDR",
        "Peers, such as load balancers, whose X-Forwarded-For says which address a client has.",
    )
    max_handshakes: Annotated[int, BeforeValidator(_count)] = _option(
        1000,
        "N",
        "Connections that may wait to be served. Past it the one that has waited longest for its head is shut, "
        "or where all wait for an upstream the new one gets a 503.",
    )
    max_head: SomeBytes = _option(
        16 * 1024, "SIZE", "The largest head of a request, its empty line included; a larger one gets a 431."
    )
    head_timeout: SomeSeconds = _option(5.0, "DURATION", "How long a request's head may take; then it gets a 408.")
    bind: Annotated[tuple[str, ...], BeforeValidator(_header_names)] = _option(
        (),
        "HEADER,HEADER",
        "Headers that must be the same when a session is resumed, such as authorization,cookie.",
    )
    tls_cert: File = _option(
        None,
        "FILE",
        "Serve TLS with this certificate (PEM, its chain behind it). SIGHUP reads it anew.",
    )
    tls_key: File = _option(None, "FILE", "The private key of --tls-cert (PEM, without a passphrase).")
    upstream_ca: File = _option(
        None, "FILE", "Certificates (PEM) to trust at wss:// upstreams, in place of those the system trusts."
    )
    upstream_cert: File = _option(
        None, "FILE", "The proxy's own certificate (PEM), for wss:// upstreams that want to see one."
    )
    upstream_key: File = _option(
        None, "FILE", "The private key of --upstream-cert, where that file does not hold it as well."
    )
    allow_origin: Annotated[tuple[str, ...], BeforeValidator(_allowed_origins)] = _option(
        (),
        "ORIGIN,ORIGIN",
        "Origins whose pages may open WebSockets: https://app.example.com, https://*.example.com, null, *. "
        "Without it any may; clients that send no Origin always may.",
    )
    allow_path: Annotated[tuple[str, ...], BeforeValidator(_allowed_paths)] = _option(
        (), "PATH,PATH", "Paths that may be asked for: /chat, or /chat/* for all that begin so. Without it any may."
    )
    keep_host: Annotated[bool, BeforeValidator(_yes_or_no)] = _option(
        False, "", "Send the client's Host header on to the upstream, instead of the upstream's own HOST:PORT."
    )
    http_timeout: SomeSeconds = _option(
        60.0,
        "DURATION",
        "How long a plain HTTP request may wait for one side: for the answer to begin, for more of its body, "
        "for a peer to read on.",
    )
    http_idle: SomeSeconds = _option(
        60.0, "DURATION", "How long a plain HTTP connection is kept open for another request."
    )
    max_http: Annotated[int, BeforeValidator(_count)] = _option(
        1000, "N", "Plain HTTP connections at a time; a request on a further one gets a 503."
    )
    drain: Seconds = _option(
        5.0, "DURATION", "How long a stop waits for what is still owed to peers; closing takes up to 2 s more."
    )
    admin: Annotated[Address | None, BeforeValidator(_address_or_off)] = _option(
        None, "HOST:PORT|off", "Where /healthz, /readyz, /metrics and /sessions are served."
    )
    hooks: Annotated[InstanceOf[Hooks] | None, BeforeValidator(_hooks)] = _option(
        None,
        "MODULE:OBJECT",
        "Python hooks, docs/embedding.md: a subclass of reconnect_proxy.Hooks, or an instance of one.",
    )
    admin_token: Annotated[SecretStr | None, BeforeValidator(_token)] = _option(
        None,
        "TOKEN",
        "What a request to the admin listener must bear, but for /healthz and /readyz. Whoever may list this machine's "
        "processes sees what is on a command line: better give it in a file, or in the environment.",
    )
    admin_token_file: Annotated[TokenFile | None, BeforeValidator(_token_file)] = _option(
        None, "FILE", "A file with that token on its one line."
    )
    log_format: Annotated[LogFormat, _one_of(LogFormat)] = _option(
        LogFormat.TEXT, "|".join(LogFormat), "How log lines on stderr are written."
    )
    log_level: Annotated[LogLevel, _one_of(LogLevel), BeforeValidator(_log_level)] = _option(
        LogLevel.INFO, "|".join(LogLevel), "The least important log lines that are written."
    )

    def __init__(self, **options: Any) -> None:
        """Check `options` and fill in the rest."""
        super().__init__(**options)

    @property
    def servers(self) -> tuple[Server, ...]:
        """The upstreams as URLs and weights."""
        return tuple(server_of(text) for text in self.upstream)

    @property
    def bearer(self) -> str | None:
        """The token of the admin listener, wherever it was given; None: it wants none."""
        token = self.admin_token if self.admin_token_file is None else self.admin_token_file.token
        return None if token is None else token.get_secret_value()

    @field_validator("admin_token_file")
    @classmethod
    def _one_token(cls, file: TokenFile | None, info: ValidationInfo) -> TokenFile | None:
        if file is not None and info.data.get("admin_token") is not None:
            raise ValueError("there is an admin-token as well: keep one of the two")
        return file

    @field_validator("grace", mode="before")
    @classmethod
    def _grace_of_mode(cls, given: object, info: ValidationInfo) -> float | None:
        """Fill in the grace of the mode where none is given, or where a client cannot come back anyway."""
        policy = POLICIES[info.data.get("mode", Mode.DUPLEX)]
        if given is None or not policy.resumable:
            return policy.grace
        return parse_duration(given)  # type: ignore[arg-type]  # it refuses what is neither text nor number

    @field_validator("dial")
    @classmethod
    def _dial_of_mode(cls, dial: Dial, info: ValidationInfo) -> Dial:
        mode = info.data.get("mode", Mode.RECEIVER)
        if dial is Dial.START and mode is not Mode.RECEIVER:
            raise ValueError(
                f"'start' is for receiver mode, but the mode is {mode}: write first-client, or change the mode"
            )
        return dial

    @field_validator("tls_key")
    @classmethod
    def _listener_pair(cls, key: str | None, info: ValidationInfo) -> str | None:
        """Try the listener's certificate and key: only a pair that works is a configuration."""
        if "tls_cert" in info.data:
            cert = info.data["tls_cert"]
            if (cert is None) is not (key is None):
                given, missing = ("--tls-cert", "--tls-key") if key is None else ("--tls-key", "--tls-cert")
                raise ValueError(f"{given} is given without {missing}: give both, or neither")
            if cert is not None and key is not None:
                listener_context(cert, key)
        return key

    @field_validator("upstream_ca", "upstream_cert", "upstream_key")
    @classmethod
    def _of_wss_upstreams(cls, file: str | None, info: ValidationInfo) -> str | None:
        """Refuse what would be of no effect, lest somebody believe that an upstream is reached by TLS."""
        upstreams = info.data.get("upstream", ())
        if file is not None and upstreams and not _any_wss(upstreams):
            raise ValueError("it is for wss:// upstreams, and there is none: write wss:// or leave it out")
        return file

    @field_validator("upstream_key")
    @classmethod
    def _upstream_identity(cls, key: str | None, info: ValidationInfo) -> str | None:
        """Try the files for upstreams together, now that the last of them is known."""
        if key is not None and info.data.get("upstream_cert", key) is None:
            raise ValueError("it is given without --upstream-cert, whose key it is to be")
        if {"upstream_ca", "upstream_cert"} <= info.data.keys() and _any_wss(info.data.get("upstream", ())):
            upstream_context(info.data["upstream_ca"], info.data["upstream_cert"], key)
        return key

    @property
    def tls_files(self) -> TlsFiles:
        """Where the certificates of both legs are."""
        wss = _any_wss(self.upstream)
        return TlsFiles(self.tls_cert, self.tls_key, wss, self.upstream_ca, self.upstream_cert, self.upstream_key)


def _any_wss(urls: Iterable[str]) -> bool:
    return any(url.startswith("wss:") for url in urls)
