"""Whole runs with containers: their verdicts, and that nothing is left of them, however they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconnect_harness.containers.engine import Engine
from tests.reconnect_harness.containers.owned import owned_by
from tests.reconnect_harness.toxiproxy.wires import eventually

FAULTS: list[dict[str, Any]] = [
    {"at": "400ms", "container": "upstream", "do": "pause", "for": "300ms"},
    {"at": "1s", "container": "upstream", "do": "kill", "for": "200ms"},
    {"at": "3s", "link": "upstream", "do": "down", "for": "200ms"},
]


def story(image: str, **changed: Any) -> dict[str, Any]:
    """Return a scenario in which a container is paused and killed, and its link cut."""
    return {
        "name": "boxed",
        "summary": "The container is frozen, killed, and out of reach.",
        "upstream": {"image": image, "command": "reconnect-harness upstream"},
        "clients": {"kind": "reconnecting", "count": 3, "send": "20/s", "for": "4s"},
        "faults": FAULTS,
        "expect": {"lost": "report", "reordered": "report", "duplicated": "report", "client_disconnects": 0},
        "settle": "2s",
        **changed,
    }


def run(engine: Engine, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the scenario in `folder`; return pytest's exit code and output. No container may be left."""
    command = pytest_of(folder, *arguments)
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said, _ = process.communicate()
    assert owned_by(engine, process.pid) == []
    return process.returncode, said


def pytest_of(folder: Path, *arguments: str) -> list[str]:
    """Return the command that runs the scenario in `folder`."""
    plain = ["-p", "no:cacheprovider", "-p", "no:timeout", "-o", "asyncio_default_fixture_loop_scope=function"]
    return [sys.executable, "-m", "pytest", *plain, "--scenario", str(folder / "boxed.yaml"), *arguments]


def test_a_container_is_paused_and_killed_behind_a_toxiproxy_in_one(
    engine: Engine, harness_image: str, toxiproxy_image: str, tmp_path: Path
) -> None:
    """The verdict, the faults in the results, the container's log, and no container left."""
    (tmp_path / "boxed.yaml").write_text(json.dumps(story(harness_image)))
    code, said = run(engine, tmp_path, f"--toxiproxy=docker:{toxiproxy_image}")
    assert code == 0, said
    assert f"(real, the image {toxiproxy_image} in docker, from --toxiproxy)" in said
    assert "boxed[1]: valid" in said
    results = json.loads((tmp_path / "scenario-runs/boxed-reconnect-proxy-1/results.json").read_text())
    assert [fault["name"] for fault in results["faults"]] == ["pause", "kill", "down"]
    assert (tmp_path / "scenario-runs/boxed-reconnect-proxy-1/upstream.log").read_text().count(
        "echoing messages at"
    ) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_ended(
    engine: Engine, harness_image: str, toxiproxy_image: str, tmp_path: Path, number: signal.Signals
) -> None:
    """While its upstream is frozen: no container is left when pytest has ended."""
    faults = [FAULTS[2], {"at": 0, "container": "upstream", "do": "pause", "for": "60s"}]
    said = story(harness_image, clients={"kind": "plain", "send": "20/s", "for": "60s"}, faults=faults)
    (tmp_path / "boxed.yaml").write_text(json.dumps(said))
    command = pytest_of(tmp_path, f"--toxiproxy=docker:{toxiproxy_image}")

    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:

        def states() -> list[str]:
            return sorted(one.status for one in owned_by(engine, process.pid))

        assert eventually(lambda: states() == ["paused", "running"])
        process.send_signal(number)
        said_last, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert eventually(lambda: states() == []) if number is signal.SIGKILL else states() == [], said_last


def test_found_containers_are_restored(engine: Engine, harness_image: str, tmp_path: Path) -> None:
    """A container that a label names is paused while the clients talk to it, and runs when the run is over."""
    command = ["reconnect-harness", "upstream", "--listen", "0.0.0.0:9200"]
    network = engine.network("reconnect-test")
    theirs = engine.create(harness_image, command=command, network=network.name)
    theirs.start()
    said = story(
        harness_image,
        upstream={"label": f"reconnect-harness.run={engine.run}", "port": 9200},
        clients={"kind": "plain", "send": "20/s", "for": "2s"},
        faults=[
            {"at": "300ms", "container": "upstream", "do": "pause"},
            {"at": "900ms", "container": "upstream", "do": "unpause"},
            {"at": "1500ms", "container": "upstream", "do": "pause"},
        ],
        settle="500ms",
    )
    (tmp_path / "boxed.yaml").write_text(json.dumps(said))
    code, said_last = run(engine, tmp_path)
    assert code == 0, said_last
    theirs.reload()
    assert theirs.status == "running"


@pytest.mark.parametrize(
    ("fault", "harmed"),
    [({"do": "pause", "for": "60s"}, "paused"), ({"do": "kill", "for": "60s"}, "exited")],
    ids=["paused", "killed"],
)
def test_a_found_container_is_restored_after_sigkill(
    engine: Engine, harness_image: str, tmp_path: Path, fault: dict[str, Any], harmed: str
) -> None:
    """By the keeper, because the run is dead."""
    command = ["reconnect-harness", "upstream", "--listen", "0.0.0.0:9200"]
    theirs = engine.create(harness_image, command=command, network=engine.network("reconnect-test").name)
    theirs.start()

    def status() -> str:
        theirs.reload()
        return str(theirs.status)

    said = story(
        harness_image,
        upstream={"label": f"reconnect-harness.run={engine.run}", "port": 9200},
        clients={"kind": "plain", "send": "20/s", "for": "60s"},
        faults=[{"at": 0, "container": "upstream", **fault}],
    )
    (tmp_path / "boxed.yaml").write_text(json.dumps(said))
    with subprocess.Popen(pytest_of(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert eventually(lambda: status() == harmed)
        process.kill()
    assert eventually(lambda: status() == "running")


def test_a_container_that_is_removed_is_an_error(engine: Engine, harness_image: str, tmp_path: Path) -> None:
    """A container that cannot be restored is one sentence."""
    theirs = engine.create(harness_image, command=["sleep", "1000"], network_mode="host")
    theirs.start()
    said = story(
        harness_image,
        upstream={"kind": "echo"},
        containers={"db": {"label": f"reconnect-harness.run={engine.run}"}},
        clients={"kind": "plain", "send": "20/s", "for": "3s"},
        faults=[{"at": 0, "container": "db", "do": "pause", "for": "2s"}],
    )
    (tmp_path / "boxed.yaml").write_text(json.dumps(said))
    command = pytest_of(tmp_path)
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:

        def status() -> str:
            theirs.reload()
            return str(theirs.status)

        assert eventually(lambda: status() == "paused")
        theirs.remove(force=True)
        said_last, _ = process.communicate()
    assert process.returncode == 1
    assert "asked to restore the container db, and refused: No such container" in said_last
    assert "Traceback" not in said_last


def test_a_container_that_ends_by_itself_proves_nothing(engine: Engine, harness_image: str, tmp_path: Path) -> None:
    """Even if every expectation is only reported."""
    command = ["timeout", "4", "reconnect-harness", "upstream", "--listen", "127.0.0.1:{port}"]
    said = story(harness_image, upstream={"image": harness_image, "command": command}, faults=[], settle="500ms")
    (tmp_path / "boxed.yaml").write_text(json.dumps(said))
    code, said_last = run(engine, tmp_path)
    assert code == 1
    assert "nothing is proven: container upstream has ended, with status 124" in said_last


def test_a_container_that_does_not_start_is_one_error(engine: Engine, harness_image: str, tmp_path: Path) -> None:
    """With its status and its last lines, and no traceback."""
    said = story(harness_image, upstream={"image": harness_image, "command": "reconnect-harness upstream --nonsense"})
    (tmp_path / "boxed.yaml").write_text(json.dumps({**said, "faults": FAULTS[:2]}))
    code, said_last = run(engine, tmp_path)
    assert code == 1
    assert "container upstream ended with status 2. Its last lines of output:" in said_last
    assert "Traceback" not in said_last
