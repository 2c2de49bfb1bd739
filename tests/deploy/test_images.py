"""The proxy's image as its users run it: by whom, how it is configured, what its health check says, how it stops."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from reconnect_harness.containers.engine import Engine
from reconnect_harness.toxiproxy.server import reserve_port
from tests.reconnect_harness.toxiproxy.wires import eventually


@pytest.fixture
def ports() -> Iterator[list[str]]:
    """HOST:PORT of loopback for the proxy, its admin listener, an upstream."""
    with contextlib.ExitStack() as kept:
        yield [f"127.0.0.1:{kept.enter_context(reserve_port()).getsockname()[1]}" for _ in range(3)]


def proxy(engine: Engine, image: str, ports: list[str], **settings: Any) -> Any:
    """Start the image on the host's network."""
    listen, admin, upstream = ports
    container = engine.create(
        image,
        environment={
            "RECONNECT_PROXY_LISTEN": listen,
            "RECONNECT_PROXY_ADMIN": admin,
            "RECONNECT_PROXY_UPSTREAM": f"ws://{upstream}",
        },
        network_mode="host",
        healthcheck={"interval": 10**9 // 2, "retries": 1},
        **settings,
    )
    container.start()
    return container


def health(container: Any) -> str:
    """Return what the engine says of a container's health."""
    container.reload()
    return str(container.attrs["State"]["Health"]["Status"])


def test_it_relays_and_is_healthy_while_its_upstream_is_there(
    engine: Engine, proxy_image: str, harness_image: str, ports: list[str]
) -> None:
    """Read-only and without capabilities; unhealthy, with the reason, when it has no upstream; told to stop it exits
    with 0 in good order."""
    command = ["reconnect-harness", "upstream", "--listen", ports[2]]
    upstream = engine.create(harness_image, command=command, network_mode="host")
    upstream.start()
    container = proxy(engine, proxy_image, ports, read_only=True, cap_drop=["ALL"])
    assert eventually(lambda: health(container) == "healthy")
    with connect(f"ws://{ports[0]}/") as client:
        client.send("through the image")
        assert client.recv() == "through the image"
    upstream.kill()
    assert eventually(lambda: health(container) == "unhealthy")
    assert "not ready: " in container.attrs["State"]["Health"]["Log"][-1]["Output"]
    container.stop()
    assert container.wait()["StatusCode"] == 0
    lines = container.logs().decode().splitlines()
    assert [line for line in lines if line.startswith("listening on ws://127.0.0.1:")]
    assert "stopped" in [json.loads(line)["event"] for line in lines if line.startswith("{")]


def test_it_is_nobodys(engine: Engine, proxy_image: str) -> None:
    """Neither image runs as root, which its metadata say in a number; the health check is there; no pip is."""
    config = engine.image(proxy_image).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"] == ["CMD", "reconnect-proxy", "ready"]
    assert config["Entrypoint"] == ["reconnect-proxy"]
    assert "RECONNECT_PROXY_ADMIN=127.0.0.1:9125" in config["Env"]
    looking = ["-c", "import os, importlib.util as u; print(os.getuid(), u.find_spec('pip'), u.find_spec('psutil'))"]
    container = engine.create(
        proxy_image, entrypoint=["/opt/reconnect-proxy/bin/python", "-I"], command=looking, network_mode="none"
    )
    container.start()
    assert container.wait()["StatusCode"] == 0
    assert container.logs().decode().split() == ["10001", "None", "None"]


def test_what_is_wrong_is_one_line(engine: Engine, proxy_image: str) -> None:
    """Without an upstream it ends with 2, and says which variable there is for it."""
    container = engine.create(proxy_image, network_mode="none")
    container.start()
    assert container.wait()["StatusCode"] == 2
    assert "RECONNECT_PROXY_UPSTREAM" in container.logs().decode()


def test_the_harness_is_in_its_image(engine: Engine, harness_image: str) -> None:
    """With its scenarios, and not as root."""
    container = engine.create(harness_image, command=["reconnect-harness", "list"], network_mode="none")
    container.start()
    assert container.wait()["StatusCode"] == 0, container.logs().decode()
    assert "container-paused" in container.logs().decode()
    assert engine.image(harness_image).attrs["Config"]["User"] == "10001:10001"
