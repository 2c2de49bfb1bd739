"""Where options come from, which source wins, and how a mistake in each is reported."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from pydantic import SecretStr

from reconnect_proxy import cli
from reconnect_proxy.config.model import Compression, Config, Dial
from reconnect_proxy.config.presets import Preset
from reconnect_proxy.config.sources import ConfigError, flag_of, load, variable_of
from reconnect_proxy.config.values import Address, LogFormat, LogLevel
from reconnect_proxy.core.policy import ClientIds, Gate, GateKind, GraceOn, Mode, RetryOn, Uncertain
from reconnect_proxy.core.target import EjectOn

from ...certificates import Authority
from ..guard import GUARD

UPSTREAM = {"RECONNECT_PROXY_UPSTREAM": "ws://h:1"}

#: Every option: its text, and the value that the text stands for.
OPTIONS: list[tuple[str, str, object]] = [
    ("upstream", "ws://a:1/base", ("ws://a:1/base",)),
    ("listen", "[::1]:9000", Address("::1", 9000)),
    ("workers", "2", 2),
    ("worker_timeout", "off", None),
    ("mode", "sender", Mode.SENDER),
    ("preset", "stateless", Preset.STATELESS),
    ("grace", "400ms", 0.4),
    ("grace_on", "abnormal", GraceOn.ABNORMAL),
    ("retry_for", "2m", 120.0),
    ("retry_on", "1006,1012", RetryOn(any=False, codes=frozenset({1006, 1012}))),
    ("final_status", "401,404", frozenset({401, 404})),
    ("gate", "prefix:RECONNECT", Gate(GateKind.PREFIX, b"RECONNECT")),
    ("uncertain", "close", Uncertain.CLOSE),
    ("connect_timeout", "1s", 1.0),
    ("ping_interval", "3", 3.0),
    ("ping_timeout", "250ms", 0.25),
    ("unread_timeout", "5m", 300.0),
    ("stall_timeout", "30s", 30.0),
    ("max_dials", "8", 8),
    ("eject_on", "5xx", EjectOn.STATUS_5XX),
    ("dial", "first-client", Dial.FIRST_CLIENT),
    ("accept_when_down", "false", False),
    ("max_queue", "64KiB", 65536),
    ("max_held", "64MiB", 64 * 1024**2),
    ("max_message", "1MB", 1_000_000),
    ("compression", "off", Compression.OFF),
    ("max_rate", "50/s", 50),
    ("idle_timeout", "10m", 600.0),
    ("max_sessions", "12", 12),
    ("max_sessions_per_address", "3", 3),
    ("trust_forwarded", "10.0.0.0/8,fd00::/8", (IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8"))),
    ("max_handshakes", "20", 20),
    ("max_head", "8KiB", 8192),
    ("head_timeout", "2s", 2.0),
    ("underscores_in_headers", "true", True),
    ("bind", "Authorization,cookie", ("authorization", "cookie")),
    ("client_ids", "refuse", ClientIds.REFUSE),
    ("allow_origin", "https://A.example,null", ("https://a.example", "null")),
    ("allow_path", "/chat,/chat/*", ("/chat", "/chat/*")),
    ("keep_host", "true", True),
    ("rewrite_debugger_url", "true", True),
    ("http_timeout", "5s", 5.0),
    ("http_idle", "1m", 60.0),
    ("max_http", "50", 50),
    ("drain", "1.5s", 1.5),
    ("admin", "127.0.0.1:9125", Address("127.0.0.1", 9125)),
    ("hooks", "tests.reconnect_proxy.guard:GUARD", GUARD),
    ("admin_token", "of~operators/==", SecretStr("of~operators/==")),
    ("log_format", "json", LogFormat.JSON),
    ("log_level", "warning", LogLevel.WARNING),
]


#: Options that are valid together only, and with files that exist: they have a test of their own.
FILES = ["tls_cert", "tls_key", "upstream_ca", "upstream_cert", "upstream_key"]
#: These have a test of their own too: `test_admin_token`.
SECRETS = ["admin_token_file"]


def from_flags(*arguments: str) -> Config:
    """Return the configuration that `reconnect-proxy serve` makes of `arguments`."""
    return cli.configure(**cli.serve_command.make_context("serve", list(arguments)).params)


def from_file(tmp_path: Path, text: str, **environ: str) -> Config:
    """Return the configuration made of a file that holds `text`, and `environ`."""
    return load({}, environ, written(tmp_path, text))


def written(tmp_path: Path, text: str) -> str:
    """Return the path of a file that holds `text`."""
    file = tmp_path / "proxy.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def complaint(tmp_path: Path, text: str, **environ: str) -> str:
    """Return what is said about a file that holds `text`, with its folder left out."""
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text, **environ)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_the_table_of_options_is_complete() -> None:
    """An option that is added is tested from every source, or this fails."""
    assert [option for option, _, _ in OPTIONS] == [
        option for option in Config.model_fields if option not in FILES + SECRETS
    ]


def test_the_files_of_tls_by_flag_variable_and_file(tmp_path: Path, authority: Authority) -> None:
    """They are valid together, and come from any source."""
    identity = authority.issue()
    paths = [identity.cert, identity.key, authority.file, identity.cert, identity.key]
    given = {"upstream": "wss://h", **dict(zip(FILES, map(str, paths), strict=True))}
    flags = [part for option, text in given.items() for part in (flag_of(option), text)]
    text = "\n".join(f"{option} = '{text}'" for option, text in given.items())
    for config in (
        from_flags(*flags),
        load({}, {variable_of(option): text for option, text in given.items()}),
        from_file(tmp_path, text),
    ):
        assert config.model_dump(include=set(FILES)) == {option: given[option] for option in FILES}


@pytest.mark.parametrize(("option", "text", "value"), OPTIONS)
def test_each_option_by_flag(option: str, text: str, value: object) -> None:
    """`--retry-for 2m` sets `retry_for`; a yes-or-no option has a `--no-` form instead of a value."""
    flag = [flag_of(option), text]
    if isinstance(value, bool):
        flag = [flag_of(option) if value else f"--no-{flag_of(option).removeprefix('--')}"]
    needed = [] if option == "upstream" else ["--upstream", "ws://h:1"]
    assert getattr(from_flags(*needed, *flag), option) == value


@pytest.mark.parametrize(("option", "text", "value"), OPTIONS)
def test_each_option_by_variable(option: str, text: str, value: object) -> None:
    """`RECONNECT_PROXY_RETRY_FOR=2m` sets `retry_for`."""
    assert getattr(load({}, {**UPSTREAM, variable_of(option): text}), option) == value


@pytest.mark.parametrize("dashes", [True, False])
@pytest.mark.parametrize(("option", "text", "value"), OPTIONS)
def test_each_option_by_file(tmp_path: Path, option: str, text: str, value: object, dashes: bool) -> None:
    """`retry-for = "2m"` and `retry_for = "2m"` set `retry_for`."""
    key = option.replace("_", "-") if dashes else option
    assert (
        getattr(from_file(tmp_path, f'{key} = "{text}"', **({} if option == "upstream" else UPSTREAM)), option) == value
    )


def test_an_option_that_was_renamed_still_has_its_former_name(tmp_path: Path) -> None:
    """In every source."""
    networks = (IPv4Network("10.0.0.0/8"),)
    for config in (
        from_flags("--upstream", "ws://h", "--trust-forwarded-for", "10.0.0.0/8"),
        load({}, {"RECONNECT_PROXY_UPSTREAM": "ws://h", "RECONNECT_PROXY_TRUST_FORWARDED_FOR": "10.0.0.0/8"}),
        from_file(tmp_path, "upstream = 'ws://h'\ntrust-forwarded-for = '10.0.0.0/8'"),
        Config(upstream="ws://h", trust_forwarded_for="10.0.0.0/8"),
    ):
        assert config.trust_forwarded == networks
    with pytest.raises(ConfigError, match="given twice, under two spellings of its name"):
        from_file(tmp_path, "upstream = 'ws://h'\ntrust-forwarded = '::1'\ntrust-forwarded-for = '::1'")


def test_a_file_may_hold_plain_values_and_lists(tmp_path: Path) -> None:
    """TOML's own numbers, booleans and arrays need no quotes."""
    config = from_file(
        tmp_path,
        'upstream = ["ws://a:1", "ws://b:2"]\ngrace = 3\nretry-for = 0.5\naccept-when-down = false\n'
        'max-queue = 4096\nmax-sessions = 7\nretry-on = [1006, 1012]\nbind = ["Cookie"]\n',
    )
    assert config.upstream == ("ws://a:1", "ws://b:2")
    assert (config.grace, config.retry_for, config.accept_when_down) == (3.0, 0.5, False)
    assert (config.max_queue, config.max_sessions, config.bind) == (4096, 7, ("cookie",))
    assert config.retry_on.codes == {1006, 1012}


@pytest.mark.parametrize("table", ["reconnect-proxy", "reconnect_proxy"])
def test_a_file_may_hold_a_table_for_the_proxy_beside_others(tmp_path: Path, table: str) -> None:
    """In a file that is shared with other programs their tables are left alone."""
    text = f'[other]\nretry-for = 1\n[{table}]\nupstream = "ws://a:1"\nretry-for = 2\n'
    assert from_file(tmp_path, text).retry_for == 2.0


def test_several_upstreams_by_flag_and_by_variable() -> None:
    """The flag is repeated; the variable is a list with commas."""
    by_flag = from_flags("--upstream", "ws://a:1", "--upstream", "ws://b:2").upstream
    by_variable = load({}, {"RECONNECT_PROXY_UPSTREAM": "ws://a:1, ws://b:2"}).upstream
    assert by_flag == by_variable == ("ws://a:1", "ws://b:2")


def test_headers_to_bind_may_be_repeated_or_listed() -> None:
    """`--bind` is a list either way, in the order given, each name once."""
    config = from_flags("--upstream", "ws://h:1", "--bind", "cookie,Authorization", "--bind", "Cookie", "--bind", "x-a")
    assert config.bind == ("cookie", "authorization", "x-a")


def test_flags_outrank_variables_outrank_the_file_outrank_defaults(tmp_path: Path) -> None:
    """Each option comes from the strongest source that names it, and a list replaces a list."""
    file = written(tmp_path, 'upstream = ["ws://f:1", "ws://f:2"]\ngrace = 1\nretry-for = 1\ndrain = 1\n')
    environ = {"RECONNECT_PROXY_UPSTREAM": "ws://v:1", "RECONNECT_PROXY_GRACE": "2", "RECONNECT_PROXY_RETRY_FOR": "2"}
    config = load({"grace": "3", "upstream": ("ws://x:1",)}, environ, file)
    assert (config.upstream, config.grace, config.retry_for, config.drain) == (("ws://x:1",), 3.0, 2.0, 1.0)
    assert config.ping_timeout == 20.0


def test_an_option_outranks_its_preset_wherever_the_two_are_given(tmp_path: Path) -> None:
    """Even a weaker source with the default value outranks a preset of the strongest one."""
    file = tmp_path / "proxy.toml"
    file.write_text("upstream = 'ws://h'\nkeep-host = false\npreset = 'stateful'\n")
    config = load({"preset": "cdp"}, {"RECONNECT_PROXY_RETRY_ON": "abnormal"}, str(file))
    assert (config.preset, config.grace_on, config.max_queue) == (Preset.CDP, GraceOn.ABNORMAL, 256 * 1024**2)
    assert (config.keep_host, config.retry_on) == (False, RetryOn())
    flags = from_flags("--upstream", "ws://h", "--preset", "stateful", "--grace-on", "any")
    assert (flags.grace_on, flags.retry_on) == (GraceOn.ANY, RetryOn(any=False, codes=frozenset()))


def test_the_environment_of_the_process_and_a_file_by_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`serve` reads its own environment, and finds its file there too; `--config` overrides that file."""
    (tmp_path / "other.toml").write_text('upstream = "ws://other:1"\n')
    monkeypatch.setenv("RECONNECT_PROXY_CONFIG", written(tmp_path, 'upstream = "ws://f:1"\ngrace = 1\n'))
    monkeypatch.setenv("RECONNECT_PROXY_RETRY_FOR", "30s")
    assert (from_flags().upstream, from_flags().retry_for, from_flags().grace) == (("ws://f:1",), 30.0, 1.0)
    assert from_flags("--config", str(tmp_path / "other.toml")).upstream == ("ws://other:1",)


def test_a_variable_set_to_nothing_is_not_set() -> None:
    """`RECONNECT_PROXY_ADMIN=` in a compose file leaves the default."""
    assert load({}, {**UPSTREAM, "RECONNECT_PROXY_GRACE": "", "RECONNECT_PROXY_CONFIG": ""}).grace == 15.0


def test_the_variables_kubernetes_makes_for_a_service_are_left_alone() -> None:
    """A service called reconnect-proxy gives every pod variables with our prefix. They are not errors of the user."""
    service = {
        "RECONNECT_PROXY_SERVICE_HOST": "10.0.0.1",
        "RECONNECT_PROXY_SERVICE_PORT": "9124",
        "RECONNECT_PROXY_SERVICE_PORT_HTTP": "9124",
        "RECONNECT_PROXY_PORT": "tcp://10.0.0.1:9124",
        "RECONNECT_PROXY_PORT_9124_TCP_ADDR": "10.0.0.1",
    }
    assert load({}, {**UPSTREAM, **service}).upstream == ("ws://h:1",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("retry-fr = 1", "proxy.toml: retry-fr: there is no such option; did you mean retry-for?"),
        ("max_mesage = 1", "proxy.toml: max_mesage: there is no such option; did you mean max-message?"),
        ("[reconect-proxy]\n", "proxy.toml: reconect-proxy: there is no such option; did you mean reconnect-proxy?"),
        ("config = 1", "proxy.toml: config: there is no such option; the options are accept-when-down, admin, "),
        ("grace = 'soon'", "proxy.toml: grace: 'soon' is not a duration: write it as 400ms, 15s"),
        ("[reconnect-proxy]\nping_timeout = 0", "proxy.toml: ping_timeout: 0 is too little: it must be more than 0"),
        ("max-sessions = -1", "proxy.toml: max-sessions: -1 is not a limit"),
        (
            "retry-for = 1\nretry_for = 2",
            "proxy.toml: retry_for: the option is given twice, under two spellings of its name; keep one",
        ),
        ("grace = 1\n[reconnect-proxy]", "proxy.toml: grace: is outside of the table [reconnect-proxy]: move it there"),
        ("[reconnect_proxy]\n[reconnect-proxy]", "proxy.toml: reconnect_proxy: is outside of the table"),
        (
            "reconnect-proxy = 1",
            "proxy.toml: reconnect-proxy: must be a table: write [reconnect-proxy] and the options",
        ),
        ("grace = ", "--config proxy.toml: the file is not TOML: Invalid value (at "),
    ],
)
def test_a_mistake_in_the_file_is_named_by_file_and_key(tmp_path: Path, text: str, sentence: str) -> None:
    """The key appears as it was written."""
    assert complaint(tmp_path, text, **UPSTREAM).startswith(sentence)


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("RECONNECT_PROXY_RETRY_FR", "1", "there is no such option; did you mean RECONNECT_PROXY_RETRY_FOR?"),
        ("RECONNECT_PROXY_GRACE", "soon", "'soon' is not a duration"),
        ("RECONNECT_PROXY_UPSTREAM", "ws://a:1,http://b", "'http://b' is not the URL of a WebSocket server"),
        ("RECONNECT_PROXY_MODE", "both", "'both' is not a choice: write duplex, sender or receiver"),
        ("RECONNECT_PROXY_CONFIG", "/nowhere/proxy.toml", "cannot read the file: No such file or directory"),
    ],
)
def test_a_mistake_in_a_variable_is_named_by_the_variable(variable: str, text: str, sentence: str) -> None:
    """The user reads the name that has to be changed."""
    with pytest.raises(ConfigError) as caught:
        load({}, {**UPSTREAM, variable: text})
    assert str(caught.value).startswith(variable)
    assert sentence in str(caught.value)


def test_a_url_of_another_kind_is_refused_wherever_it_is_named(tmp_path: Path) -> None:
    """An upstream is ws:// or wss://."""
    assert complaint(tmp_path, "upstream = 'http://h'").startswith("proxy.toml: upstream: 'http://h' is not the URL")
    with pytest.raises(ConfigError, match=r"^--upstream: 'http://h' is not the URL"):
        from_flags("--upstream", "ws://h:1", "--upstream", "http://h")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """TOML is UTF-8."""
    (tmp_path / "proxy.toml").write_bytes(b"grace = '\xff'")
    with pytest.raises(ConfigError, match=r"^--config .*proxy.toml: the file is not UTF-8 text"):
        load({}, UPSTREAM, str(tmp_path / "proxy.toml"))


def test_the_strongest_source_is_the_one_that_is_blamed(tmp_path: Path) -> None:
    """A flag that is wrong is blamed even where the file has the option right."""
    with pytest.raises(ConfigError, match=r"^--grace: 'soon' is not a duration"):
        load({"grace": "soon"}, UPSTREAM, written(tmp_path, "grace = 1"))


def test_without_an_upstream_the_three_ways_to_give_one_are_named() -> None:
    """It is the one option that has no default."""
    with pytest.raises(
        ConfigError, match=r"^no upstream: give --upstream ws://HOST:PORT, RECONNECT_PROXY_UPSTREAM, or "
    ):
        load({}, {})
