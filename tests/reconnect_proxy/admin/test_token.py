"""The token of the admin listener: where it may come from, and that nothing shows it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from reconnect_proxy.config.model import Config
from reconnect_proxy.config.sources import ConfigError, load

UPSTREAM = "ws://127.0.0.1:1"
TOKEN = "a-token.of~operators"


def test_a_token_is_taken_from_an_option(tmp_path: Path) -> None:
    """From a variable or the file, of which no list of processes tells."""
    (tmp_path / "proxy.toml").write_text(f'admin-token = "{TOKEN}"\n')
    for given in (
        load({"upstream": UPSTREAM}, {"RECONNECT_PROXY_ADMIN_TOKEN": TOKEN}),
        load({"upstream": UPSTREAM}, {}, str(tmp_path / "proxy.toml")),
        Config(upstream=UPSTREAM, admin_token=TOKEN),
    ):
        assert given.bearer == TOKEN
    assert Config(upstream=UPSTREAM).bearer is None


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f"\n  {TOKEN} \r\n"])
def test_a_token_is_read_from_a_file(tmp_path: Path, text: str) -> None:
    """What surrounds it is what editors and orchestrators leave there."""
    file = tmp_path / "token"
    file.write_text(text)
    config = Config(upstream=UPSTREAM, admin_token_file=str(file))
    assert config.bearer == TOKEN
    assert str(config.admin_token_file) == str(file)


def test_a_token_from_two_places_is_an_error(tmp_path: Path) -> None:
    """It would not be clear which of them counts."""
    (tmp_path / "token").write_text(TOKEN)
    flags = {"upstream": UPSTREAM, "admin_token": TOKEN, "admin_token_file": str(tmp_path / "token")}
    with pytest.raises(ConfigError, match=r"^--admin-token-file: there is an admin-token as well"):
        load(flags, {})


@pytest.mark.parametrize("bad", ["", "short", "two words of it", "ünicode-token", "a" * 600, "=leading-sign"])
def test_a_bad_token_is_refused_without_showing_it(tmp_path: Path, bad: str) -> None:
    """The sentence says what would be right, and does not show the token in the log of a failed start."""
    (tmp_path / "token").write_text(bad)
    with pytest.raises(ConfigError) as flag:
        load({"upstream": UPSTREAM, "admin_token": bad}, {})
    with pytest.raises(ConfigError) as file:
        load({"upstream": UPSTREAM, "admin_token_file": str(tmp_path / "token")}, {})
    for error in (flag, file):
        assert "write " in str(error.value)
        assert "at least 8 of A-Z" in str(error.value)
        assert not bad or bad not in str(error.value)
    with pytest.raises(ValidationError) as from_python:
        Config(upstream=UPSTREAM, admin_token=bad)
    assert not bad or bad not in "".join(traceback.format_exception(from_python.value))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """With the words of the system."""
    (tmp_path / "latin").write_bytes(b"\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9")
    for name, reason in (("nothing", "No such file or directory"), ("", "Is a directory"), ("latin", "not UTF-8")):
        path = str(tmp_path / name)
        with pytest.raises(ConfigError) as error:
            load({"upstream": UPSTREAM, "admin_token_file": path}, {})
        assert str(error.value).startswith("--admin-token-file: ")
        assert path in str(error.value)
        assert reason in str(error.value)


def test_no_way_to_print_a_configuration_shows_the_token(tmp_path: Path) -> None:
    """Neither its text nor its dump, wherever the token came from."""
    (tmp_path / "token").write_text(TOKEN)
    for config in (
        Config(upstream=UPSTREAM, admin_token=TOKEN),
        Config(upstream=UPSTREAM, admin_token_file=str(tmp_path / "token")),
    ):
        for shown in (repr(config), str(config), str(config.model_dump(mode="python")), f"{config.admin_token_file!r}"):
            assert TOKEN not in shown
