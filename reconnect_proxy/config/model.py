"""What the proxy can be told: one model, `Config`, which every way of configuring it ends in.

A `Config` is complete and consistent or does not exist. Each field carries what the command line shows about it
(its help text and placeholder), so an option is described here and nowhere else, and what is checked here is how
options go together. How a value is written is the business of `option_values`, and where it comes from (flags,
variables, a file) that of `sources`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ..core.policy import DUPLEX, POLICIES, GraceOn, Mode, Uncertain
from ..core.target import UpstreamAddress
from ..net.tls import TlsFiles, listener_context, upstream_context
from ..units import parse_duration
from .upstreams import Upstreams, any_wss, server_of
from .values import (
    Address,
    AddressOrOff,
    Count,
    CountOrNone,
    File,
    GateSetting,
    HeaderNames,
    Level,
    LogFormat,
    LogLevel,
    Networks,
    Origins,
    Paths,
    Rate,
    RetryCodes,
    Seconds,
    SomeAddress,
    SomeBytes,
    SomeBytesOrOff,
    SomeHooks,
    SomeSeconds,
    SomeSecondsOrOff,
    Token,
    TokenFile,
    TokenInFile,
    Workers,
    YesOrNo,
    one_of,
)

__all__ = ["Address", "Compression", "Config", "Dial"]


class Dial(StrEnum):
    """When the shared upstream of `receiver` mode is dialled first."""

    FIRST_CLIENT = "first-client"
    START = "start"


class Compression(StrEnum):
    """Whether clients and upstreams may compress their messages."""

    ON = "on"
    OFF = "off"


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

    upstream: Upstreams = Field(
        description="The server behind the proxy. Several take new sessions in turn, by their weight (1), and a "
        "session that loses one moves on to the next.",
        json_schema_extra={"metavar": "'ws[s]://HOST[:PORT][/BASE] [weight=N]'"},
    )
    listen: SomeAddress = _option("127.0.0.1:9124", "HOST:PORT", "Where clients connect. Port 0 takes any free one.")
    workers: Workers = _option(
        1,
        "N",
        "Processes that share the port, for as many cores (Linux). A session lives in one of them, and its client is "
        "handed to that one wherever it connects.",
    )
    mode: Annotated[Mode, one_of(Mode)] = _option(
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
    grace_on: Annotated[GraceOn, one_of(GraceOn)] = _option(
        DUPLEX.grace_on,
        "|".join(GraceOn),
        "Which losses of a client start its grace; with abnormal, a clean 1000 ends the session.",
    )
    retry_for: Seconds = _option(
        DUPLEX.retry_for, "DURATION", "How long a lost upstream is redialled before its session ends."
    )
    retry_on: RetryCodes = _option(
        "abnormal", "abnormal|any|CODE,CODE", "After which close codes of an upstream it is redialled."
    )
    gate: GateSetting = _option(
        "open",
        "open|first-message|prefix:TEXT",
        "What opens an upstream to messages: its handshake, or a message of its own.",
    )
    uncertain: Annotated[Uncertain, one_of(Uncertain)] = _option(
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
    max_dials: Count = _option(
        64, "N", "Handshakes in progress with one upstream at a time; further ones wait for their turn."
    )
    dial: Annotated[Dial, one_of(Dial)] = _option(
        Dial.FIRST_CLIENT,
        "|".join(Dial),
        "When receiver mode dials its upstream; start is for receiver mode only.",
    )
    accept_when_down: YesOrNo = _option(
        DUPLEX.accept_when_down, "", "Accept clients while no upstream can be reached; otherwise they get a 503."
    )
    max_queue: SomeBytes = _option(
        DUPLEX.max_queue, "SIZE", "Bytes held for one peer before whoever feeds it is no longer read."
    )
    max_held: SomeBytesOrOff = _option(
        1024**3,
        "SIZE|off",
        "Bytes held for all peers together before sessions that hold more than 64KiB for one are held back, and new "
        "ones get a 503.",
    )
    max_message: SomeBytes = _option(
        16 * 1024**2, "SIZE", "The largest message, inflated; a larger one closes its sender with 1009."
    )
    compression: Annotated[Compression, one_of(Compression)] = _option(
        Compression.ON,
        "|".join(Compression),
        "Agree to permessage-deflate with clients that offer it and with their upstream, and pass on compressed "
        "messages as they are. Of no effect with a gate or an on_message hook, and in the session that receiver "
        "clients share.",
    )
    max_rate: Rate = _option(
        None, "N/s|off", "Messages a second of one client, and as many at once; a faster one is read more slowly."
    )
    idle_timeout: SomeSecondsOrOff = _option(
        None,
        "DURATION|off",
        "How long no message may move over a session both legs of which are connected; then it ends with 1000.",
    )
    max_sessions: CountOrNone = _option(
        None, "N", "Sessions at a time; further clients get a 503. Without it there is no limit."
    )
    max_sessions_per_address: CountOrNone = _option(
        None,
        "N",
        "Sessions at a time that one client address has opened (an IPv6 address counts as its /64); further ones get "
        "a 503. Without it there is no limit.",
    )
    trust_forwarded_for: Networks = _option(
        (),
        "CIDR,CIDR",
        "Peers, such as load balancers, whose X-Forwarded-For says which address a client has.",
    )
    max_handshakes: Count = _option(
        1000,
        "N",
        "Connections that may wait to be served. Past it the one that has waited longest for its head is shut, "
        "or where all wait for an upstream the new one gets a 503.",
    )
    max_head: SomeBytes = _option(
        16 * 1024, "SIZE", "The largest head of a request, its empty line included; a larger one gets a 431."
    )
    head_timeout: SomeSeconds = _option(5.0, "DURATION", "How long a request's head may take; then it gets a 408.")
    bind: HeaderNames = _option(
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
    allow_origin: Origins = _option(
        (),
        "ORIGIN,ORIGIN",
        "Origins whose pages may open WebSockets: https://app.example.com, https://*.example.com, null, *. "
        "Without it any may; clients that send no Origin always may.",
    )
    allow_path: Paths = _option(
        (), "PATH,PATH", "Paths that may be asked for: /chat, or /chat/* for all that begin so. Without it any may."
    )
    keep_host: YesOrNo = _option(
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
    max_http: Count = _option(1000, "N", "Plain HTTP connections at a time; a request on a further one gets a 503.")
    drain: Seconds = _option(
        5.0, "DURATION", "How long a stop waits for what is still owed to peers; closing takes up to 2 s more."
    )
    admin: AddressOrOff = _option(None, "HOST:PORT|off", "Where /healthz, /readyz, /metrics and /sessions are served.")
    hooks: SomeHooks = _option(
        None,
        "MODULE:OBJECT",
        "Python hooks, docs/embedding.md: a subclass of reconnect_proxy.Hooks, or an instance of one.",
    )
    admin_token: Token = _option(
        None,
        "TOKEN",
        "What a request to the admin listener must bear, but for /healthz and /readyz. Whoever may list this machine's "
        "processes sees what is on a command line: better give it in a file, or in the environment.",
    )
    admin_token_file: TokenInFile = _option(None, "FILE", "A file with that token on its one line.")
    log_format: Annotated[LogFormat, one_of(LogFormat)] = _option(
        LogFormat.TEXT, "|".join(LogFormat), "How log lines on stderr are written."
    )
    log_level: Level = _option(LogLevel.INFO, "|".join(LogLevel), "The least important log lines that are written.")

    def __init__(self, **options: Any) -> None:
        """Check `options` and fill in the rest."""
        super().__init__(**options)

    @property
    def servers(self) -> tuple[UpstreamAddress, ...]:
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
        if file is not None and upstreams and not any_wss(upstreams):
            raise ValueError("it is for wss:// upstreams, and there is none: write wss:// or leave it out")
        return file

    @field_validator("upstream_key")
    @classmethod
    def _upstream_identity(cls, key: str | None, info: ValidationInfo) -> str | None:
        """Try the files for upstreams together, now that the last of them is known."""
        if key is not None and info.data.get("upstream_cert", key) is None:
            raise ValueError("it is given without --upstream-cert, whose key it is to be")
        if {"upstream_ca", "upstream_cert"} <= info.data.keys() and any_wss(info.data.get("upstream", ())):
            upstream_context(info.data["upstream_ca"], info.data["upstream_cert"], key)
        return key

    @property
    def tls_files(self) -> TlsFiles:
        """Where the certificates of both legs are."""
        wss = any_wss(self.upstream)
        return TlsFiles(self.tls_cert, self.tls_key, wss, self.upstream_ca, self.upstream_cert, self.upstream_key)
