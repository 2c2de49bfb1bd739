"""`reconnect-proxy ready`: what the health check of an image sees."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconnect_proxy.cli import main
from tests.reconnect_proxy.admin.admin_rig import TOKEN, admin_of, echo, proxy_in_front_of


async def ready(*arguments: str) -> int:
    """Run the command line in another thread than this loop, and return its exit code."""
    return await asyncio.to_thread(main, ["ready", *arguments])


async def test_one_that_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, in silence; a token of the admin listener is not asked for."""
    async with proxy_in_front_of(echo) as proxy, admin_of(proxy, [], TOKEN) as admin:
        host, port = admin.address
        assert await ready("--admin", f"{host}:{port}") == 0
    assert capsys.readouterr() == ("", "")


async def test_it_is_found_by_the_variable_and_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `serve` finds it; an upstream that only `serve` was told is not missed."""
    async with proxy_in_front_of(echo) as proxy, admin_of(proxy, []) as admin:
        address = "{}:{}".format(*admin.address)
        file = tmp_path / "proxy.toml"
        file.write_text(f'admin = "{address}"\nretry-for = "5s"\n')
        assert await ready("--config", str(file)) == 0
        monkeypatch.setenv("RECONNECT_PROXY_ADMIN", address)
        assert await ready() == 0


async def test_one_on_all_addresses_is_asked_on_loopback() -> None:
    """Some systems cannot connect to 0.0.0.0."""
    async with proxy_in_front_of(echo) as proxy, admin_of(proxy, []) as admin:
        assert await ready("--admin", f"0.0.0.0:{admin.address[1]}") == 0


async def test_one_that_is_being_stopped_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, and the reason of /readyz in one line."""
    async with proxy_in_front_of(echo) as proxy, admin_of(proxy, []) as admin:
        await proxy.drain(0)
        assert await ready("--admin", f"127.0.0.1:{admin.address[1]}") == 1
    assert capsys.readouterr().err.startswith("reconnect-proxy: not ready: ")


async def test_without_a_listener_the_reason_is_one_line(
    capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    """Exit 1, and the address that does not answer."""
    assert await ready("--admin", f"127.0.0.1:{unused_tcp_port}") == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"reconnect-proxy: not ready: no answer from the admin listener at 127.0.0.1:{unused_tcp_port}"
    )


async def test_no_admin_listener_is_an_error_of_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2: there is nothing that could be asked."""
    assert await ready() == 2
    assert "no admin listener to ask: give --admin" in capsys.readouterr().err
