"""Grafana's dashboard asks for what the proxy says: a metric or a label that is renamed there fails here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.reconnect_proxy.test_operations import quoted
from tests.reconnect_proxy.test_operations import rows as table

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"

#: What the samples of a family are called, by its type.
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}

#: Labels that Prometheus and histograms add.
ADDED = {"job", "instance", "le"}


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    """The dashboard."""
    described: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "reconnect-proxy.json").read_text())
    return described


@pytest.fixture(scope="module")
def samples() -> set[str]:
    """The names of all series that a real proxy's /metrics may have."""
    options = ["--upstream=ws://127.0.0.1:1", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--max-sessions=9"]
    command = [sys.executable, "-m", "reconnect_proxy.cli", "serve", *options, "--log-format=json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stderr is not None
            line = next(line for line in proxy.stderr if '"admin listening"' in line)
            with urllib.request.urlopen(f"{json.loads(line)['url']}/metrics") as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
        finally:
            proxy.terminate()
    return {f"{family.name}{suffix}" for family in families for suffix in SUFFIXES.get(family.type, [""])}


def expressions(board: dict[str, Any]) -> Iterator[str]:
    """Yield every query: of panels, annotations and variables."""
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])
    yield from (variable["definition"] for variable in board["templating"]["list"])


def test_every_metric_is_one_that_the_proxy_has(board: dict[str, Any], samples: set[str]) -> None:
    """In panels, annotations and variables; of the proxy, and of its process."""
    asked = {
        name
        for expression in expressions(board)
        for name in re.findall(r"\b(?:reconnect_proxy|process|python)_\w+", re.sub(r'"[^"]*"', "", expression))
    }
    assert len(asked) > 20
    assert asked - samples == set()


def test_every_label_is_one_that_its_metric_has(board: dict[str, Any]) -> None:
    """In selectors, in `by (…)` and in legends; the table in docs/operations.md has them, and a test keeps that."""
    labels: dict[str, set[str]] = {}
    for metric, _, label, *_ in table("metric", "type", "labels", "meaning", "alert on"):
        labels |= {name: set(quoted(label)) for name in quoted(metric)}
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            names = re.findall(r"\breconnect_proxy_\w+(?=\{)", expression)
            known = [labels[re.sub(r"_(bucket|count|sum)$", "", name)] for name in names] or [set()]
            used = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.findall(r"\w+", group)}
            used |= {
                label for group in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)=", group)
            }
            used |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used - ADDED <= set.intersection(*known), (panel["title"], expression)


def test_panels_do_not_overlap_and_have_names_of_their_own(board: dict[str, Any]) -> None:
    """As Grafana needs it of a provisioned dashboard: ids once, and a place for each within 24 columns."""
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        area = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert taken.isdisjoint(area), panel["title"]
        taken |= area


def test_it_is_provisioned_with_the_source_that_it_asks(board: dict[str, Any]) -> None:
    """The source's uid in every panel is that which is provisioned, and the folder that is read is the one mounted."""
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    asked = [panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel]
    assert set(asked) == {source["uid"]}
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/reconnect-proxy.yml").read_text())["providers"][0]
    mounts = yaml.safe_load((GRAFANA.parents[1] / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts
