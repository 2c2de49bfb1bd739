"""compose.yaml and what it mounts: in order, in step with the programs, and on loopback only."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from reconnect_harness.cli import commands
from reconnect_proxy.config.sources import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of compose.yaml."""
    described: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return described


def compose() -> list[str] | None:
    """Return the command of compose, the plugin's or the one of its own, or None where there is neither."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


def test_everything_is_there(services: dict[str, Any]) -> None:
    """The proxy, Toxiproxy, a mock upstream, locust's master and worker, Prometheus and Grafana."""
    assert set(services) == {
        *("proxy", "toxiproxy", "upstream", "locust-master", "locust-worker", "prometheus", "grafana"),
    }


def test_nothing_listens_beyond_loopback(services: dict[str, Any]) -> None:
    """Every port that is published is one of 127.0.0.1."""
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) > 4
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_what_is_mounted_and_built_exists(services: dict[str, Any]) -> None:
    """The files that services are given, read-only, and those that images are made by."""
    for service in services.values():
        for volume in service.get("volumes", []):
            source, _, mode = volume.split(":")
            assert (ROOT / source).exists(), source
            assert mode == "ro"
        build = service.get("build")
        if build is not None:
            file = build.get("dockerfile", "Dockerfile") if isinstance(build, dict) else "Dockerfile"
            assert (ROOT / file).is_file(), file


def test_the_proxy_takes_what_it_is_told(services: dict[str, Any]) -> None:
    """Its variables are options with legal values, and its admin listener is where Prometheus looks."""
    environment = services["proxy"]["environment"]
    config = load({}, environment)
    scraped = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert config.admin is not None
    assert scraped == [{"targets": [f"proxy:{config.admin.port}"]}]


def test_the_links_lead_where_they_should(services: dict[str, Any]) -> None:
    """Load goes through the link `client` to the proxy, and that goes through `upstream` to the mock upstream."""
    links = {link["name"]: link for link in json.loads((ROOT / "deploy/toxiproxy.json").read_text())}
    master, proxy, upstream = (services[name] for name in ("locust-master", "proxy", "upstream"))
    assert f"ws://toxiproxy:{links['client']['listen'].split(':')[1]}" in master["command"]
    assert links["client"]["upstream"] == "proxy:9124"
    assert (
        proxy["environment"]["RECONNECT_PROXY_UPSTREAM"]
        == f"ws://toxiproxy:{links['upstream']['listen'].split(':')[1]}"
    )
    assert links["upstream"]["upstream"] == f"upstream:{upstream['command'][-1].split(':')[1]}"


def test_the_harness_knows_its_command(services: dict[str, Any]) -> None:
    """What the mock upstream is started as is a command of the harness, with options that it has."""
    program, name, *arguments = services["upstream"]["command"]
    assert program == "reconnect-harness"
    command = commands.commands[name]
    assert isinstance(command, click.Command)
    command.make_context(name, list(arguments))


def test_compose_itself_reads_it() -> None:
    """Where there is a compose, its own check passes."""
    command = compose()
    if command is None:
        pytest.skip("there is neither `docker compose` nor docker-compose")
    done = subprocess.run([*command, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
