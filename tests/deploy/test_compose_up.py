"""compose.yaml for real, as far as its images can be made here: all but Prometheus and Grafana."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.sync.client import connect

from reconnect_harness.containers.engine import Engine
from tests.deploy.test_compose import ROOT, compose
from tests.reconnect_harness.toxiproxy.wires import eventually

PARTS = ["upstream", "toxiproxy", "proxy", "locust-master", "locust-worker"]


@pytest.fixture
def addresses(
    engine: Engine, proxy_image: str, harness_image: str, toxiproxy_image: str, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Bring it up, and give the address of each service on its network; it is down at the end."""
    command = compose()
    if command is None:
        pytest.skip("there is neither `docker compose` nor docker-compose")
    described = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for service in described["services"].values():
        # Others may have these ports; the services are reached at their own addresses.
        service.pop("ports", None)
        service.pop("build", None)
    described["services"]["toxiproxy"]["image"] = toxiproxy_image
    # Nothing of it is reached from beyond this machine, or reaches beyond it.
    described["networks"] = {"default": {"internal": True}}
    file = tmp_path / "compose.yaml"
    file.write_text(yaml.safe_dump(described))
    project = f"reconnect-test-{engine.run}"
    command += ["--file", str(file), "--project-directory", str(ROOT), "--project-name", project]
    label = f"com.docker.compose.project={project}"
    try:
        up = subprocess.run([*command, "up", "--detach", *PARTS], capture_output=True, text=True, check=False)
        assert up.returncode == 0, up.stderr
        yield {
            one.labels["com.docker.compose.service"]: network["IPAddress"]
            for one in engine.labelled(label)
            for network in one.attrs["NetworkSettings"]["Networks"].values()
        }
    finally:
        subprocess.run([*command, "down", "--timeout", "1"], capture_output=True, check=False)
    assert engine._client.containers.list(all=True, filters={"label": label}) == []


def get(url: str, body: dict[str, Any] | None = None) -> str:
    """Ask for a page, or post JSON to it; "" if there is no answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_the_parts_play_together(addresses: dict[str, str]) -> None:
    """A conversation goes through both links and the proxy, outlives the cut of one, and shows in the metrics; the
    worker has found its master."""
    assert set(addresses) == set(PARTS)
    admin, toxics = f"http://{addresses['proxy']}:9125", f"http://{addresses['toxiproxy']}:8474"
    assert eventually(lambda: "ready" in get(f"{admin}/readyz"))
    with connect(f"ws://{addresses['toxiproxy']}:9124/") as client:
        client.send("before")
        assert client.recv() == "before"
        for enabled in (False, True):
            assert json.loads(get(f"{toxics}/proxies/upstream", {"enabled": enabled}))["enabled"] is enabled
        client.send("after")
        # What the upstream had not confirmed is sent again: it is an ordinary one.
        assert eventually(lambda: client.recv(timeout=20) == "after")
    assert 'reconnect_proxy_legs_lost_total{code="1006",leg="upstream"} 1.0' in get(f"{admin}/metrics")
    workers = f"http://{addresses['locust-master']}:8089/stats/requests"
    assert eventually(lambda: len(json.loads(get(workers) or "{}").get("workers", [])) == 1)
