"""The configuration as a value: defaults, what each option accepts, what it refuses and how."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from pydantic import ValidationError

from reconnect_proxy.config.model import Compression, Config, Dial
from reconnect_proxy.config.presets import PRESETS, Preset
from reconnect_proxy.config.values import Address, LogFormat, LogLevel
from reconnect_proxy.core.policy import RETRYABLE, ClientIds, Gate, GateKind, GraceOn, Mode, RetryOn, Uncertain
from reconnect_proxy.core.target import EjectOn, UpstreamAddress

UPSTREAM = "ws://127.0.0.1:9000"


def config(**options: Any) -> Config:
    """Return a configuration with `options` and an upstream."""
    return Config(**{"upstream": UPSTREAM, **options})


def complaint(**options: Any) -> str:
    """Return what is said about `options`, of which one is wrong."""
    with pytest.raises(ValidationError) as caught:
        config(**options)
    (error,) = caught.value.errors()
    return error["msg"].removeprefix("Value error, ")


def test_the_defaults_are_those_of_the_contract() -> None:
    """With nothing but an upstream the proxy is what the documentation says it is."""
    assert config().model_dump() == {
        "upstream": (UPSTREAM,),
        "listen": Address("127.0.0.1", 9124),
        "workers": 1,
        "worker_timeout": 15.0,
        "mode": Mode.DUPLEX,
        "preset": Preset.STATELESS,
        "grace": 15.0,
        "grace_on": GraceOn.ANY,
        "retry_for": 60.0,
        "retry_on": {"any": False, "codes": RETRYABLE},
        "final_status": {404, 410},
        "gate": {"kind": GateKind.OPEN, "prefix": b"", "replays": 0, "answers": 0},
        "uncertain": Uncertain.RESEND,
        "connect_timeout": 5.0,
        "max_dials": 64,
        "eject_on": EjectOn.CONNECT,
        "ping_interval": 20.0,
        "ping_timeout": 20.0,
        "unread_timeout": 600.0,
        "stall_timeout": 60.0,
        "dial": Dial.FIRST_CLIENT,
        "accept_when_down": True,
        "max_queue": 16 * 1024 * 1024,
        "max_held": 1024**3,
        "max_message": 16 * 1024 * 1024,
        "compression": Compression.ON,
        "max_rate": None,
        "idle_timeout": None,
        "max_sessions": None,
        "max_sessions_per_address": 10_000,
        "trust_forwarded": (),
        "max_handshakes": 1000,
        "max_head": 16 * 1024,
        "head_timeout": 5.0,
        "underscores_in_headers": False,
        "bind": (),
        "client_ids": ClientIds.ACCEPT,
        "tls_cert": None,
        "tls_key": None,
        "upstream_ca": None,
        "upstream_cert": None,
        "upstream_key": None,
        "allow_origin": (),
        "allow_path": (),
        "keep_host": False,
        "rewrite_debugger_url": False,
        "http_timeout": 60.0,
        "http_idle": 60.0,
        "max_http": 1000,
        "drain": 5.0,
        "admin": None,
        "hooks": None,
        "admin_token": None,
        "admin_token_file": None,
        "log_format": LogFormat.TEXT,
        "log_level": LogLevel.INFO,
    }


def test_text_and_values_mean_the_same() -> None:
    """From Python an option may be given as the text of the command line or as the value it stands for."""
    text = config(
        upstream=UPSTREAM,
        listen="[::1]:0",
        mode="receiver",
        grace="400ms",
        retry_on="1006, 4000",
        final_status="401, 404",
        eject_on="5xx",
        gate="prefix:RECONNECT",
        dial="start",
        accept_when_down="no",
        max_queue="1KiB",
        max_sessions="7",
        max_held="off",
        max_rate="100/s",
        idle_timeout="1h",
        trust_forwarded="10.0.0.0/8, ::1",
        bind="Cookie,authorization",
        admin="off",
        log_level="DEBUG",
    )
    values = config(
        upstream=(UPSTREAM,),
        listen=Address("::1", 0),
        mode=Mode.RECEIVER,
        grace=0.4,
        retry_on={1006, 4000},
        final_status={401, 404},
        eject_on=EjectOn.STATUS_5XX,
        gate=Gate(GateKind.PREFIX, b"RECONNECT"),
        dial=Dial.START,
        accept_when_down=False,
        max_queue=1024,
        max_sessions=7,
        max_held=None,
        max_rate=100,
        idle_timeout=3600.0,
        trust_forwarded=[IPv4Network("10.0.0.0/8"), IPv6Network("::1/128")],
        bind=["cookie", "Authorization"],
        admin=None,
        log_level=LogLevel.DEBUG,
    )
    assert text == values


@pytest.mark.parametrize(
    ("preset", "changed"),
    [
        ("stateless", {}),
        ("stateful", {"retry_on": RetryOn(codes=frozenset()), "grace_on": GraceOn.ABNORMAL}),
        (
            Preset.CDP,
            {
                "retry_on": RetryOn(codes=frozenset()),
                "grace_on": GraceOn.ABNORMAL,
                "final_status": {404},
                "keep_host": True,
                "rewrite_debugger_url": True,
                "max_message": 256 * 1024**2,
                "max_queue": 256 * 1024**2,
            },
        ),
    ],
)
def test_a_preset_sets_its_options_and_no_others(preset: str, changed: dict[str, object]) -> None:
    """PROTOCOL.md section 9."""
    default, found = config(), config(preset=preset)
    assert {name: getattr(found, name) for name in Config.model_fields if name != "preset"} == {
        name: changed.get(name, getattr(default, name)) for name in Config.model_fields if name != "preset"
    }


@pytest.mark.parametrize("option", [option for options in PRESETS.values() for option in options])
def test_an_option_outranks_its_preset_also_with_its_default_value(option: str) -> None:
    """What is given by itself counts."""
    default = getattr(config(), option)
    for preset in Preset:
        assert getattr(config(preset=preset, **{option: default}), option) == default


def test_a_configuration_cannot_be_changed() -> None:
    """It is shared by all sessions, so it is frozen."""
    with pytest.raises(ValidationError, match="frozen"):
        config().mode = Mode.SENDER


@pytest.mark.parametrize(
    ("mode", "given", "grace"),
    [
        ("duplex", None, 15.0),
        ("duplex", "3s", 3.0),
        ("duplex", 0, 0.0),
        ("receiver", None, None),
        ("receiver", "3s", 3.0),
        ("sender", None, 0.0),
        ("sender", "3s", 0.0),
    ],
)
def test_grace_depends_on_the_mode(mode: str, given: object, grace: float | None) -> None:
    """15 s in duplex mode, as long as the proxy runs in receiver mode, and none at all in sender mode."""
    assert config(mode=mode, grace=given).grace == grace


@pytest.mark.parametrize(
    ("given", "retry_on"),
    [
        ("abnormal", RetryOn(any=False, codes=RETRYABLE)),
        ("any", RetryOn(any=True)),
        ("none", RetryOn(any=False, codes=frozenset())),
        ("1000,4999", RetryOn(any=False, codes=frozenset({1000, 4999}))),
        (1012, RetryOn(any=False, codes=frozenset({1012}))),
        (RetryOn(any=True), RetryOn(any=True)),
    ],
)
def test_what_is_retried(given: object, retry_on: RetryOn) -> None:
    """`retry_on` takes a word or codes; codes stand for themselves only."""
    chosen = config(retry_on=given).retry_on
    assert (chosen, chosen.retries(1000)) == (retry_on, retry_on.any or 1000 in retry_on.codes)


@pytest.mark.parametrize(
    ("given", "statuses"), [("404", {404}), ("401, 404", {401, 404}), ([410], {410}), (503, {503}), ("none", set())]
)
def test_final_statuses(given: object, statuses: set[int]) -> None:
    """Statuses, or the word none."""
    assert config(final_status=given).final_status == statuses


@pytest.mark.parametrize(
    ("given", "gate"),
    [
        ("open", Gate()),
        ("first-message", Gate(GateKind.FIRST_MESSAGE)),
        ("prefix:R:ä", Gate(GateKind.PREFIX, "R:ä".encode())),
    ],
)
def test_gates(given: str, gate: Gate) -> None:
    """A gate is one of two words, or a prefix in UTF-8."""
    assert config(gate=given).gate == gate


@pytest.mark.parametrize(
    "url",
    ["ws://h", "ws://h:1", "ws://h:1/", "ws://h:1/base/path", "ws://[::1]:9000/b", "ws://127.0.0.1:65535", "wss://h/b"],
)
def test_upstreams_are_kept_as_they_were_written(url: str) -> None:
    """A host, a port, a base path: the URL is checked, not rewritten."""
    assert config(upstream=[url, UPSTREAM]).upstream == (url, UPSTREAM)


@pytest.mark.parametrize(
    ("given", "kept", "server"),
    [
        ("ws://h:1", "ws://h:1", UpstreamAddress("ws://h:1", 1)),
        ("ws://h:1/base  weight=3", "ws://h:1/base weight=3", UpstreamAddress("ws://h:1/base", 3)),
        ("ws://h:1 weight=1", "ws://h:1", UpstreamAddress("ws://h:1", 1)),
        ({"url": "ws://h:1", "weight": 3}, "ws://h:1 weight=3", UpstreamAddress("ws://h:1", 3)),
        ({"url": "ws://h:1"}, "ws://h:1", UpstreamAddress("ws://h:1", 1)),
    ],
)
def test_an_upstream_may_have_a_weight(given: object, kept: str, server: UpstreamAddress) -> None:
    """As text, in nginx's form, or as a table; one without a weight keeps its plain form."""
    one = config(upstream=given)
    assert (one.upstream, one.servers) == ((kept,), (server,))
    assert config(upstream=one.upstream) == one


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"upstream": "http://h:1"}, "'http://h:1' is not the URL of a WebSocket server: write ws://HOST:PORT"),
        ({"upstream": "ws://:1"}, "'ws://:1' is not the URL"),
        ({"upstream": "ws://h:0"}, "'ws://h:0' is not the URL"),
        ({"upstream": "ws://h:99999"}, "'ws://h:99999' is not a URL (Port out of range 0-65535)"),
        ({"upstream": "ws://h:x"}, "'ws://h:x' is not a URL (Port could not be cast"),
        ({"upstream": "ws://[h:1"}, "'ws://[h:1' is not a URL (Invalid IPv6 URL)"),
        ({"upstream": "ws://h:1?q=1"}, "'ws://h:1?q=1' has a user, a query or a fragment"),
        ({"upstream": "ws://me:pw@h:1"}, "has a user, a query or a fragment"),
        ({"upstream": "ws://h:1/\u00e4"}, "'ws://h:1/\u00e4' is not a URL in plain ASCII"),
        (
            {"upstream": "ws://h:1/a b"},
            "'ws://h:1/a b' has more than a URL and a weight: write 'ws://HOST:PORT",
        ),
        ({"upstream": "ws://h:1 weight=2 backup"}, "'ws://h:1 weight=2 backup' has more than a URL and a weight"),
        (
            {"upstream": "ws://h:1 weight=0"},
            "the weight '0' is not a whole number from 1 to 9999: write 'ws://HOST:PORT",
        ),
        ({"upstream": "ws://h:1 weight=2.5"}, "the weight '2.5' is not a whole number"),
        ({"upstream": "ws://h:1 weight="}, "the weight '' is not a whole number"),
        ({"upstream": "http://h:1 weight=2"}, "'http://h:1' is not the URL of a WebSocket server"),
        ({"upstream": {"url": "ws://h:1", "weight": 0}}, "the weight 0 is not a whole number"),
        ({"upstream": {"url": "ws://h:1", "weight": True}}, "the weight True is not a whole number"),
        ({"upstream": {"weight": 2}}, "{'weight': 2} is not an upstream: write 'ws://HOST:PORT weight=3', or {url = "),
        ({"upstream": {"url": "ws://h:1", "wieght": 2}}, "is not an upstream: write"),
        ({"upstream": ["ws://h:1", "ws://h:1"]}, "'ws://h:1' is given twice: give it once; for a larger share write"),
        ({"workers": 0}, "0 is not a number of workers: write 1 to 64"),
        ({"workers": 65}, "65 is not a number of workers: write 1 to 64"),
        ({"workers": "auto"}, "'auto' is not a number of workers: write 1 to 64"),
        ({"max_dials": 0}, "0 is not a limit: write a whole number, 1 or more"),
        ({"upstream": []}, "the list is empty: name at least one ws://HOST:PORT"),
        ({"upstream": 5}, "5 is not a URL"),
        ({"listen": ":9124"}, "':9124' is not an address: write HOST:PORT or [IPV6]:PORT, for instance 127.0.0.1:9124"),
        ({"listen": "::1:9124"}, "'::1:9124' is not an address"),
        ({"listen": "h:65536"}, "'h:65536' is not an address"),
        ({"listen": 9124}, "9124 is not an address"),
        ({"admin": "on"}, "'on' is not an address"),
        ({"mode": "duplx"}, "'duplx' is not a choice: write duplex, sender or receiver"),
        ({"grace": "soon"}, "'soon' is not a duration: write it as 400ms, 15s, 2m, 1h or a plain number of seconds"),
        ({"grace": True}, "True is not a duration"),
        ({"connect_timeout": 0}, "0 is too little: it must be more than 0"),
        ({"max_queue": "0"}, "'0' is too little: it must be more than 0"),
        ({"max_message": "16M"}, "'16M' is not a size: write it as 16MiB, 64KiB, 1MB or a plain number of bytes"),
        ({"max_sessions": 0}, "0 is not a limit: write a whole number, 1 or more"),
        ({"max_sessions": 1.5}, "1.5 is not a limit"),
        ({"max_held": "0"}, "'0' is too little: it must be more than 0"),
        ({"max_rate": "fast"}, "'fast' is not a rate: write a whole number of messages a second, such as 100/s"),
        ({"max_rate": "0"}, "'0' is not a rate"),
        ({"idle_timeout": "never"}, "'never' is not a duration"),
        ({"max_handshakes": "off"}, "'off' is not a limit: write a whole number, 1 or more"),
        ({"preset": "CDP"}, "'CDP' is not a choice: write stateless, stateful or cdp"),
        ({"preset": ["cdp"]}, "['cdp'] is not a choice: write stateless, stateful or cdp"),
        ({"trust_forwarded": "10.0.0.0/8,lb"}, "'lb' is not a network: write addresses or networks such as"),
        ({"trust_forwarded": "10.0.0.1/8"}, "'10.0.0.1/8' is not a network"),
        ({"retry_on": "1006,often"}, "'1006,often' does not say when to retry: write abnormal, any, none, or close"),
        ({"retry_on": [5000]}, "[5000] does not say when to retry"),
        ({"final_status": "200"}, "'200' are not statuses of refusals: write none, or statuses such as 404,410 (300"),
        ({"final_status": ""}, "'' are not statuses of refusals"),
        ({"eject_on": "4xx"}, "'4xx' is not a choice: write connect or 5xx"),
        (
            {"gate": "prefix:"},
            "'prefix:' is not a gate: write open, first-message, prefix:TEXT or replay:N/M (N from 1 to 999)",
        ),
        ({"gate": "replay:0"}, "'replay:0' is not a gate"),
        ({"gate": "replay:1000"}, "'replay:1000' is not a gate"),
        ({"gate": "replay:2/"}, "'replay:2/' is not a gate"),
        ({"gate": "replay:2/-1"}, "'replay:2/-1' is not a gate"),
        ({"uncertain": "guess"}, "'guess' is not a choice: write resend, drop or close"),
        ({"dial": "start"}, "'start' is for receiver mode, but the mode is duplex: write first-client, or change"),
        ({"bind": "a b"}, "'a b' is not a header's name: write names such as authorization,cookie"),
        ({"bind": [5]}, "5 is not a header's name"),
        ({"allow_origin": "app.example.com"}, "'app.example.com' is not an origin"),
        ({"allow_path": "chat"}, "'chat' is not a path: write /chat for one path"),
        ({"allow_path": ["/a/../b"]}, "'/a/../b' has dot segments"),
        ({"max_http": 0}, "0 is not a limit"),
        ({"accept_when_down": "maybe"}, "'maybe' is neither yes nor no: write true or false"),
        ({"accept_when_down": 2}, "2 is neither yes nor no"),
        ({"log_level": "loud"}, "'loud' is not a choice: write debug, info, warning or error"),
        ({"bind": "x_user"}, "'x_user' is dropped from requests: write - for _, or add --underscores-in-headers"),
    ],
)
def test_a_bad_value_is_refused_with_a_sentence(options: dict[str, object], sentence: str) -> None:
    """The sentence quotes what was given and says what would be right."""
    assert sentence in complaint(**options)


def test_an_unknown_option_is_refused() -> None:
    """A misspelt keyword cannot pass for a default."""
    assert complaint(retry_fro=3) == "Extra inputs are not permitted"


def test_addresses_are_written_as_they_are_read() -> None:
    """An IPv6 address gets its brackets back."""
    assert [str(config(listen=text).listen) for text in ("h:1", "[::1]:9124")] == ["h:1", "[::1]:9124"]
