"""A host may be a name with several addresses: all of them answer, at the port that is announced."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from .conftest import Serve
from .process import failed_start
from .rawserver import RawServer
from .rawsocket import dial

HOSTS = """127.0.0.1 localhost both.test partly.test
::1 both.test six.test
192.0.2.1 partly.test
"""
#: Runs a command whose /etc/hosts is the file that comes first.
WITH_HOSTS = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


def can_have_hosts(file: str) -> bool:
    """Whether processes may have files of names of their own here, and there is IPv6."""
    if shutil.which("unshare") is None or not socket.has_ipv6:
        return False
    return subprocess.run([*WITH_HOSTS, file, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def hosts(tmp_path: Path) -> Sequence[str]:
    """Commands behind this prefix know the names above."""
    file = tmp_path / "hosts"
    file.write_text(HOSTS)
    if not can_have_hosts(str(file)):
        pytest.skip("processes cannot have names of their own here")
    return [*WITH_HOSTS, str(file)]


def at(url: str, address: str) -> str:
    """Return a URL with an address in place of the name."""
    return re.sub(r"//[^:/]+:", f"//{address}:", url)


async def answers(url: str) -> bool:
    """Whether a proxy accepts clients at this URL."""
    host, _, port = url.partition("//")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as sock:
            sock.setblocking(False)
            await (await dial(url, sock=sock.dup())).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_address_of_a_name_answers(
    workers: str, hosts: Sequence[str], serve: Serve, upstream: RawServer
) -> None:
    """Of the proxy, with one process or several, and of its admin listener."""
    options = ("--listen", "both.test:0", "--admin", "both.test:0", "--workers", workers)
    serving = await serve(upstream.url, *options, prefix=hosts)
    assert serving.url.startswith("ws://both.test:")
    for address in ("127.0.0.1", "[::1]"):
        for _ in range(4):
            assert await answers(at(serving.url, address))
    (admin,) = re.findall(r"admin.*?(http://both\.test:\d+)", serving.log)
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, int(admin.rpartition(":")[2])), timeout=5) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_name_with_an_ipv6_address_only(
    workers: str, hosts: Sequence[str], serve: Serve, upstream: RawServer
) -> None:
    """It is no unknown host."""
    serving = await serve(upstream.url, "--listen", "six.test:0", "--workers", workers, prefix=hosts)
    assert await answers(at(serving.url, "[::1]"))
    assert not await answers(at(serving.url, "127.0.0.1"))


@pytest.mark.parametrize("option", ["--listen", "--admin"])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_name_that_is_not_wholly_of_this_machine_is_refused(
    workers: str, option: str, hosts: Sequence[str], upstream: RawServer
) -> None:
    """One line says which option is wrong. So it does of a port that is taken at one of the addresses."""
    others = ("--upstream", upstream.url, "--listen", "127.0.0.1:0", "--workers", workers)
    status, said = await failed_start(*others, option, "partly.test:0", prefix=hosts)
    assert (status, said.count("\n")) == (1, 0)
    assert re.search(rf"cannot listen on partly\.test:0: Cannot assign requested address; .* {option}$", said), said
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        address = f"both.test:{taken.getsockname()[1]}"
        status, said = await failed_start(*others, option, address, prefix=hosts)
    assert status == 1
    assert f"cannot listen on {address}: the port is in use" in said
