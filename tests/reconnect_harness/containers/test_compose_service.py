"""A service of a Docker Compose project as a system under test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from reconnect_harness.containers.engine import Engine
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.toxiproxy.server import reserve_port
from tests.reconnect_harness.run.test_own_system import PEACE


def test_a_service_of_a_compose_project(
    engine: Engine, harness_image: str, scenario_runner: Callable[..., RunResult], tmp_path: Path
) -> None:
    """It is started, killed by its label and started again, and removed."""
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        command = f"reconnect-harness upstream --listen 127.0.0.1:{port}"
        service = {"image": harness_image, "network_mode": "host", "command": command}
        (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"chat": service}}))
        project = {"label": f"com.docker.compose.project={tmp_path.name.lower()}"}
        kill = {"at": "500ms", "container": "chat", "do": "kill", "for": "200ms"}
        chosen = {
            **PEACE,
            "containers": {"chat": project},
            "faults": [kill],
            "clients": {"kind": "reconnecting", "send": "20/s", "for": "3s"},
            "expect": {"duplicated": 0},
        }
        run = scenario_runner(chosen, sut=f"compose:{tmp_path}/compose.yaml#chat:{port}")
    assert run.history.faults[0].cleared is not None
    assert engine.labelled(project["label"]) == []
