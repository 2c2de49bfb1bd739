"""The options of the proxy: one model, `Config`, in which every way of configuring it ends.

A `Config` is complete and consistent or does not exist. Each field has what the command line shows about it (its help
text and placeholder), so an option is described only here. What is checked here is how options go together. `values`
reads single values, and `sources` finds them in flags, variables and a file.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ..core.policy import DUPLEX, POLICIES, ClientIds, GraceOn, Mode, Uncertain
from ..core.target import EjectOn, UpstreamAddress
from ..net.tls import TlsFiles, listener_context, upstream_context
from ..units import parse_duration
from .presets import Preset, with_preset
from .upstreams import Upstreams, any_wss, server_of
from .values import (
    AddressOrOff,
    Count,
    CountOrNone,
    CountOrOff,
    File,
    GateSetting,
    HeaderNames,
    HooksObject,
    Level,
    ListenAddress,
    LogFormat,
    LogLevel,
    Networks,
    Origins,
    Paths,
    PositiveBytes,
    PositiveBytesOrOff,
    PositiveSeconds,
    PositiveSecondsOrOff,
    Rate,
    RetryCodes,
    Seconds,
    Statuses,
    Token,
    TokenFile,
    TokenInFile,
    Workers,
    YesOrNo,
    one_of,
)


class Dial(StrEnum):
    """When the shared upstream of `receiver` mode is dialled first."""

    FIRST_CLIENT = "first-client"
    START = "start"


class Compression(StrEnum):
    """Whether clients and upstreams may compress their messages."""

    ON = "on"
    OFF = "off"


#: Options that were renamed, by their former names, which still work.
FORMER_NAMES = {"trust_forwarded_for": "trust_forwarded"}


def _option(default: Any, metavar: str, description: str) -> Any:
    return Field(default, description=description, json_schema_extra={"metavar": metavar}, validate_default=True)


class Config(BaseModel):
    """Every option of `reconnect-proxy serve`, checked. Durations are seconds, sizes are bytes.

    Options are given by name, as text (`grace="400ms"`, `max_queue="1MiB"`) or as values (`grace=0.4`).

    Raises:
        pydantic.ValidationError: a `ValueError` whose entries say what was given and what would be right.

    """

    # Our own messages show what was given, unless it is a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    upstream: Upstreams = Field(
        description="The server behind the proxy. With several, new sessions take them in turn, by weight (1), and a "
        "session that loses its upstream moves on to the next.",
        json_schema_extra={"metavar": "'ws[s]://HOST[:PORT][/BASE] [weight=N]'"},
    )
    listen: ListenAddress = _option("127.0.0.1:9124", "HOST:PORT", "Where clients connect. Port 0 takes any free port.")
    workers: Workers = _option(
        1,
        "N",
        "Processes that share the port, one for each core to be used (Linux). A session lives in one of "
        "them, and its client is handed on to that one.",
    )
    worker_timeout: PositiveSecondsOrOff = _option(
        15.0,
        "DURATION|off",
        "How long a worker may not respond. Then it is killed and replaced; its sessions are lost.",
    )
    mode: Annotated[Mode, one_of(Mode)] = _option(
        Mode.DUPLEX,
        "|".join(Mode),
        "Which legs outlive their sockets: both (duplex), the upstream's (sender), or both with one "
        "upstream for all clients (receiver).",
    )
    preset: Annotated[Preset, one_of(Preset)] = _option(
        Preset.STATELESS,
        "|".join(Preset),
        "The kind of server behind the proxy: it sets other options, docs/operations.md, unless these are given. "
        "stateful is for servers that keep a login or subscriptions for each connection, cdp for browsers that are "
        "debugged remotely.",
    )
    grace: float | None = _option(
        None,
        "DURATION",
        "How long a session waits for a client that has disconnected. In receiver mode it waits as long "
        "as the proxy runs, unless this is given. No effect in sender mode, where a session ends with its "
        "client.",
    )
    grace_on: Annotated[GraceOn, one_of(GraceOn)] = _option(
        DUPLEX.grace_on,
        "|".join(GraceOn),
        "Which disconnects of a client start its grace. With abnormal, a close frame with 1000 or without a code, or "
        "any close frame of an aware client, ends the session at once.",
    )
    retry_for: Seconds = _option(
        DUPLEX.retry_for, "DURATION", "How long a lost upstream is redialled before its session ends."
    )
    retry_on: RetryCodes = _option(
        "abnormal",
        "abnormal|any|none|CODE,CODE",
        "The close codes of an upstream after which it is redialled. With none, a session ends with its upstream's "
        "connection.",
    )
    final_status: Statuses = _option(
        "404,410",
        "CODE,CODE|none",
        "HTTP statuses with which an upstream ends a session if it answers a redial with one.",
    )
    gate: GateSetting = _option(
        "open",
        "open|first-message|prefix:TEXT|replay:N[/M]",
        "What a redial needs: nothing (open); a state that the upstream announces, in its first message or in those "
        "that begin with TEXT; or a login: the first N messages of the client are sent again before all others, and "
        "the first M (N) that the upstream answers are dropped.",
    )
    uncertain: Annotated[Uncertain, one_of(Uncertain)] = _option(
        DUPLEX.uncertain,
        "|".join(Uncertain),
        "What happens to messages that a lost peer may have received, if it cannot say so.",
    )
    connect_timeout: PositiveSeconds = _option(
        DUPLEX.connect_timeout,
        "DURATION",
        "How long one dial of an upstream may take, including its handshake and gate.",
    )
    ping_interval: PositiveSeconds = _option(
        DUPLEX.ping_interval, "DURATION", "How long a link may be idle before it is pinged."
    )
    ping_timeout: PositiveSeconds = _option(
        DUPLEX.ping_timeout, "DURATION", "How long a pinged link may stay silent before it counts as lost."
    )
    unread_timeout: PositiveSeconds = _option(
        DUPLEX.unread_timeout,
        "DURATION",
        "The same for an ordinary client that does not read, while its system acknowledges what it is sent. "
        "--ping-timeout if that is longer.",
    )
    stall_timeout: PositiveSeconds = _option(
        DUPLEX.stall_timeout,
        "DURATION",
        "How long a peer may accept no byte of the messages that wait for it, even if it sends some itself.",
    )
    max_dials: Count = _option(64, "N", "Handshakes at a time with one upstream. Further ones wait for their turn.")
    eject_on: Annotated[EjectOn, one_of(EjectOn)] = _option(
        EjectOn.CONNECT,
        "|".join(EjectOn),
        "Which failures make the proxy avoid an upstream: dials without an HTTP answer, or answers from 500 on too.",
    )
    dial: Annotated[Dial, one_of(Dial)] = _option(
        Dial.FIRST_CLIENT,
        "|".join(Dial),
        "When receiver mode dials its upstream. start is for receiver mode only.",
    )
    accept_when_down: YesOrNo = _option(
        DUPLEX.accept_when_down, "", "Accept clients while no upstream can be reached. Otherwise they get a 503."
    )
    max_queue: PositiveBytes = _option(
        DUPLEX.max_queue, "SIZE", "Bytes held for one peer. Above that, the peer that sends them is not read."
    )
    max_held: PositiveBytesOrOff = _option(
        1024**3,
        "SIZE|off",
        "Bytes held for all peers together. Above that, sessions that hold more than 64KiB for one peer "
        "are paused, and new ones get a 503.",
    )
    max_message: PositiveBytes = _option(
        16 * 1024**2, "SIZE", "The largest message, after inflating. A larger one closes its sender with 1009."
    )
    compression: Annotated[Compression, one_of(Compression)] = _option(
        Compression.ON,
        "|".join(Compression),
        "Agree to permessage-deflate with clients that offer it and with their upstream, and pass "
        "compressed messages on as they are. No effect with a gate or an on_message hook, and in the "
        "session that receiver clients share.",
    )
    max_rate: Rate = _option(
        None, "N/s|off", "Messages a second from one client, and the most at once. A faster client is read more slowly."
    )
    idle_timeout: PositiveSecondsOrOff = _option(
        None,
        "DURATION|off",
        "How long a session with both legs connected may have no messages. Then it ends with 1000.",
    )
    max_sessions: CountOrNone = _option(
        None,
        "N",
        "Sessions at a time. Further clients get a 503. Without this option there may be as many as the limit of file "
        "descriptors allows.",
    )
    max_sessions_per_address: CountOrOff = _option(
        10_000,
        "N|off",
        "Sessions at a time that one client address has opened (IPv6: one /64). Further ones get a 503. If neither "
        "this nor --max-sessions is given, at most half of all that there may be.",
    )
    trust_forwarded: Networks = _option(
        (),
        "CIDR,CIDR",
        "Peers, such as load balancers, whose X-Forwarded-For gives a client's address, and whose X-Forwarded-Proto "
        "and X-Forwarded-Host are passed on. Those of other peers are replaced.",
    )
    max_handshakes: Count = _option(
        1000,
        "N",
        "Connections that may wait to be served. Above that, the one that has waited longest for its head "
        "is closed, or if all wait for an upstream, the new one gets a 503.",
    )
    max_head: PositiveBytes = _option(
        16 * 1024, "SIZE", "The largest head of a request, with its empty line. A larger one gets a 431."
    )
    head_timeout: PositiveSeconds = _option(
        5.0, "DURATION", "How long the head of a request may take. After that the client gets a 408."
    )
    underscores_in_headers: YesOrNo = _option(
        False,
        "",
        "Let headers of requests pass whose names have an underscore. Otherwise they are dropped: many servers read "
        "X_User as X-User.",
    )
    bind: HeaderNames = _option(
        (),
        "HEADER,HEADER",
        "Headers that must be the same when a session is resumed, such as authorization,cookie. The path and Origin "
        "always must.",
    )
    client_ids: Annotated[ClientIds, one_of(ClientIds)] = _option(
        DUPLEX.client_ids,
        "|".join(ClientIds),
        "Whether a client may choose the id of its session with X-Connection-Id. Otherwise it gets a 403, and all ids "
        "are made by the proxy.",
    )
    tls_cert: File = _option(
        None,
        "FILE",
        "Serve TLS with this certificate (PEM, its chain behind it). SIGHUP reads it again.",
    )
    tls_key: File = _option(None, "FILE", "The private key of --tls-cert (PEM, without a passphrase).")
    upstream_ca: File = _option(
        None, "FILE", "Certificates (PEM) to trust for wss:// upstreams, in place of those of the system."
    )
    upstream_cert: File = _option(
        None, "FILE", "The proxy's own certificate (PEM), for wss:// upstreams that ask for one."
    )
    upstream_key: File = _option(None, "FILE", "The private key of --upstream-cert, if that file does not contain it.")
    allow_origin: Origins = _option(
        (),
        "ORIGIN,ORIGIN",
        "Origins whose pages may open WebSockets: https://app.example.com, https://*.example.com, null, "
        "*. Without this option all may. Clients that send no Origin always may.",
    )
    allow_path: Paths = _option(
        (),
        "PATH,PATH",
        "Paths that may be requested: /chat, or /chat/* for all that begin with /chat/. Without this option all may.",
    )
    keep_host: YesOrNo = _option(
        False, "", "Send the client's Host header to the upstream, in place of the upstream's own HOST:PORT."
    )
    rewrite_debugger_url: YesOrNo = _option(
        False,
        "",
        "In JSON answers to plain HTTP requests (Chromium's /json/version, a new WebDriver session), replace WebSocket "
        "addresses of the upstream by the address that the client has used.",
    )
    http_timeout: PositiveSeconds = _option(
        60.0,
        "DURATION",
        "How long a plain HTTP request may wait for one side: for the answer to begin, for more of its "
        "body, for a peer to read on.",
    )
    http_idle: PositiveSeconds = _option(
        60.0, "DURATION", "How long a plain HTTP connection is kept open for another request."
    )
    max_http: Count = _option(
        1000,
        "N",
        "Plain HTTP connections at a time. The longest idle one is closed for a further one; if all are busy, its "
        "request gets a 503.",
    )
    drain: Seconds = _option(
        5.0, "DURATION", "How long a stop waits for what is owed to peers. Closing takes up to 2 s more."
    )
    admin: AddressOrOff = _option(None, "HOST:PORT|off", "Where /healthz, /readyz, /metrics and /sessions are served.")
    hooks: HooksObject = _option(
        None,
        "MODULE:OBJECT",
        "Python hooks, docs/embedding.md: a subclass of reconnect_proxy.Hooks, or an instance of one.",
    )
    admin_token: Token = _option(
        None,
        "TOKEN",
        "The token that requests to the admin listener must have, except those for /healthz and /readyz. "
        "Every user who can list this machine's processes can read a command line, so better give it in a "
        "file, or in the environment.",
    )
    admin_token_file: TokenInFile = _option(None, "FILE", "A file with that token on its one line.")
    log_format: Annotated[LogFormat, one_of(LogFormat)] = _option(
        LogFormat.TEXT, "|".join(LogFormat), "How log lines on stderr are written."
    )
    log_level: Level = _option(LogLevel.INFO, "|".join(LogLevel), "The lowest level of the log lines that are written.")

    def __init__(self, **options: Any) -> None:
        """Check `options` and fill in the rest."""
        given = {FORMER_NAMES.get(name, name): value for name, value in options.items()}
        super().__init__(**with_preset(given))

    @property
    def servers(self) -> tuple[UpstreamAddress, ...]:
        """The upstreams as URLs and weights."""
        return tuple(server_of(text) for text in self.upstream)

    @property
    def bearer(self) -> str | None:
        """The token of the admin listener, given as text or in a file; None: it asks for no token."""
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
        """Fill in the grace of the mode if none is given, or if clients cannot come back in that mode."""
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

    @field_validator("bind")
    @classmethod
    def _bind_what_passes(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Refuse headers that are dropped: nothing would be compared."""
        dropped = [name for name in names if "_" in name]
        if dropped and not info.data.get("underscores_in_headers", True):
            raise ValueError(f"{dropped[0]!r} is dropped from requests: write - for _, or add --underscores-in-headers")
        return names

    @field_validator("tls_key")
    @classmethod
    def _listener_pair(cls, key: str | None, info: ValidationInfo) -> str | None:
        """Load the listener's certificate and key: a pair that cannot be used is an error."""
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
        """Refuse files that would have no effect: the user may believe that an upstream is reached by TLS."""
        upstreams = info.data.get("upstream", ())
        if file is not None and upstreams and not any_wss(upstreams):
            raise ValueError("it is for wss:// upstreams, but there are none: write wss:// or leave it out")
        return file

    @field_validator("upstream_key")
    @classmethod
    def _upstream_identity(cls, key: str | None, info: ValidationInfo) -> str | None:
        """Load the files for upstreams together, after the last of them is known."""
        if key is not None and info.data.get("upstream_cert", key) is None:
            raise ValueError("it is the key of --upstream-cert, which is not given: give both, or neither")
        if {"upstream_ca", "upstream_cert"} <= info.data.keys() and any_wss(info.data.get("upstream", ())):
            upstream_context(info.data["upstream_ca"], info.data["upstream_cert"], key)
        return key

    @property
    def tls_files(self) -> TlsFiles:
        """Where the certificates of both legs are."""
        wss = any_wss(self.upstream)
        return TlsFiles(self.tls_cert, self.tls_key, wss, self.upstream_ca, self.upstream_cert, self.upstream_key)
