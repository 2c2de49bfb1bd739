"""Where a Toxiproxy comes from: the order of the places, and the reasons if none has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from reconnect_harness.toxiproxy.find import ToxiproxySource, cached_binary, find_toxiproxy
from reconnect_harness.toxiproxy.server import ToxiproxyUnavailable


def program(path: Path, script: str = "exit 1") -> str:
    """Write a shell script that can be run, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment without a Toxiproxy."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


def test_an_option_that_is_a_url_is_that_server(environ: dict[str, str]) -> None:
    """A URL is used as it is."""
    found = find_toxiproxy("http://127.0.0.1:8474/", environ)
    assert found == ToxiproxySource("from --toxiproxy", url="http://127.0.0.1:8474")


@pytest.mark.parametrize("url", ["https://127.0.0.1:8474", "http://127.0.0.1", "http://127.0.0.1:x", "tcp://a:1"])
def test_a_url_of_another_form_is_refused(environ: dict[str, str], url: str) -> None:
    """A URL that cannot be Toxiproxy's says which form is right."""
    with pytest.raises(ToxiproxyUnavailable, match="http://HOST:PORT"):
        find_toxiproxy(url, environ)


def test_an_option_that_is_a_path_is_that_binary(environ: dict[str, str], tmp_path: Path) -> None:
    """The path of a binary takes precedence over every place."""
    program(tmp_path / "bin" / "toxiproxy-server")
    mine = program(tmp_path / "mine")
    assert find_toxiproxy(mine, environ) == ToxiproxySource("from --toxiproxy", binary=mine)


def test_an_option_that_is_not_a_program_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """A path without a program is an error that names it and what is allowed."""
    with pytest.raises(ToxiproxyUnavailable, match=r"--toxiproxy names '.*/none'.* docker, docker:IMAGE, or embedded"):
        find_toxiproxy(str(tmp_path / "none"), environ)


@pytest.mark.parametrize(
    ("option", "variable", "image"),
    [
        ("docker", None, "ghcr.io/shopify/toxiproxy:2.12.0"),
        ("docker", "mine:1", "mine:1"),
        ("docker:localhost:5000/toxiproxy:2", "mine:1", "localhost:5000/toxiproxy:2"),
    ],
)
def test_the_image_of_a_container_can_be_named(
    environ: dict[str, str], option: str, variable: str | None, image: str
) -> None:
    """``docker`` is the released image, unless TOXIPROXY_IMAGE or the option itself names another."""
    environ |= {} if variable is None else {"TOXIPROXY_IMAGE": variable}
    assert find_toxiproxy(option, environ) == ToxiproxySource("from --toxiproxy", image=image)


def test_the_embedded_one_can_be_asked_for(environ: dict[str, str], tmp_path: Path) -> None:
    """``embedded`` takes precedence over every place."""
    program(tmp_path / "bin" / "toxiproxy-server")
    assert find_toxiproxy("embedded", environ) == ToxiproxySource("from --toxiproxy", embedded=True)


def test_the_places_are_asked_in_order(environ: dict[str, str], tmp_path: Path) -> None:
    """TOXIPROXY_URL comes before PATH, PATH before the cache, and the cache before Go."""
    program(tmp_path / "bin" / "go", "echo I was asked; exit 1")
    cached = program(cached_binary(environ))
    assert find_toxiproxy(None, environ) == ToxiproxySource("from the cache", binary=cached)
    on_path = program(tmp_path / "bin" / "toxiproxy-server")
    assert find_toxiproxy(None, environ) == ToxiproxySource("on PATH", binary=on_path)
    environ["TOXIPROXY_URL"] = "http://127.0.0.1:1"
    assert find_toxiproxy(None, environ) == ToxiproxySource("from TOXIPROXY_URL", url="http://127.0.0.1:1")


def test_a_malformed_toxiproxy_url_is_an_error(environ: dict[str, str]) -> None:
    """A variable that the user has set is not ignored."""
    environ["TOXIPROXY_URL"] = "http://nowhere"
    with pytest.raises(ToxiproxyUnavailable, match="http://HOST:PORT"):
        find_toxiproxy(None, environ)


def test_the_embedded_one_is_used_if_there_is_no_real_one(environ: dict[str, str]) -> None:
    """Its origin says why each place has none."""
    found = find_toxiproxy(None, environ)
    assert found.embedded
    for place in ("TOXIPROXY_URL is not set", "PATH", str(cached_binary(environ)), "no Go toolchain"):
        assert place in found.origin


def test_a_build_that_fails_says_why_and_leaves_no_copy(
    environ: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With Go's output; the cache has no partial file, and the embedded one is used."""
    program(tmp_path / "bin" / "go", "echo dial tcp: no route to host; exit 1")
    assert find_toxiproxy(None, environ).embedded
    assert "no route to host" in capfd.readouterr().err
    assert not cached_binary(environ).exists()
    assert not list(cached_binary(environ).parent.glob("build-*"))


def test_a_cache_that_cannot_be_made_is_a_reason(environ: dict[str, str], tmp_path: Path) -> None:
    """A cache that is not a folder is the reason why there is no real one."""
    program(tmp_path / "bin" / "go")
    (tmp_path / "cache").write_text("not a folder")
    assert "cannot be written" in find_toxiproxy(None, environ).origin


@pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go toolchain to build it with")
@pytest.mark.timeout(600)
def test_two_runs_at_once_build_it_once(
    environ: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two runs share one build, and the binary prints its version."""
    go = shutil.which("go")
    assert go is not None
    (tmp_path / "bin" / "go").symlink_to(go)
    # Go uses the user's cache, so that this takes a second if it was built before.
    cache = subprocess.run([go, "env", "GOCACHE"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    environ = {**os.environ, **environ, "HOME": os.environ["HOME"], "PATH": path, "GOCACHE": cache}
    environ.pop("TOXIPROXY_URL", None)
    found: list[ToxiproxySource] = []
    threads = [threading.Thread(target=lambda: found.append(find_toxiproxy(None, environ))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [source.binary for source in found] == [str(cached_binary(environ))] * 2
    assert capfd.readouterr().err.count("building Toxiproxy") == 1
    with found[0].server() as server:
        assert server.version == "2.12.0"
