"""The engine: everything that a run makes is removed at its end, however the run ends, and nothing else."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reconnect_harness.containers.engine import (
    OWNER_LABEL,
    RUN_LABEL,
    Engine,
    EngineError,
    EngineUnavailable,
    connect,
    remove,
)
from tests.reconnect_harness.toxiproxy.wires import eventually

SLEEP = ["sleep", "1000"]

OWNER = """
import sys
from reconnect_harness.containers.engine import Engine
with Engine() as engine:
    engine.create(sys.argv[1], command=["sleep", "1000"], network_mode="host").start()
    engine.network("reconnect-test")
    print(engine.run, flush=True)
    sys.stdin.read()
"""


def there(engine: Engine, label: str) -> list[Any]:
    """Return the containers and networks that carry a label."""
    client = engine._client
    filters = {"label": label}
    containers = client.containers.list(all=True, filters=filters, ignore_removed=True)
    return [*containers, *client.networks.list(filters=filters)]


@contextmanager
def owner(image: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process that has a container and a network, and return it with its run's label."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        yield process, f"{RUN_LABEL}={process.stdout.readline().strip()}"


def test_nothing_is_left_when_the_context_ends(engine: Engine, harness_image: str) -> None:
    """Running, paused and never started containers, and networks, are removed; those of other runs are not."""
    other = engine.create(harness_image, command=SLEEP)
    with Engine() as mine:
        label = f"{RUN_LABEL}={mine.run}"
        for _ in range(2):
            mine.create(harness_image, command=SLEEP, network_mode="host").start()
        paused = there(mine, label)[0]
        paused.pause()
        mine.create(harness_image, command=SLEEP)
        mine.network("reconnect-test")
        assert len(there(mine, label)) == 4
    assert there(engine, label) == []
    other.reload()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_owner_is_killed(engine: Engine, harness_image: str, number: signal.Signals) -> None:
    """The keeper removes the containers of a process that was killed."""
    with owner(harness_image) as (process, label):
        assert len(there(engine, label)) == 2
        process.send_signal(number)
    assert eventually(lambda: there(engine, label) == [])


def test_leftovers_of_a_dead_owner_are_removed_and_those_of_a_living_one_are_not(
    engine: Engine, harness_image: str
) -> None:
    """If the keeper died as well, the next run finds by the labels what has no living owner."""
    with owner(harness_image) as (alive, of_alive), owner(harness_image) as (dead, of_dead):
        for process in (dead,):
            keepers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
            subprocess.run(["kill", "-KILL", *keepers.stdout.split(), str(process.pid)], check=True)
        assert dead.wait(30) == -signal.SIGKILL
        assert len(there(engine, of_dead)) == 2
        with Engine():
            assert there(engine, of_dead) == []
            assert len(there(engine, of_alive)) == 2
        assert alive.poll() is None
        assert alive.stdin is not None
        alive.stdin.close()
    assert there(engine, of_alive) == []


def test_two_processes_may_remove_the_same_leftovers(engine: Engine, harness_image: str) -> None:
    """A container that another process has removed is not an error."""
    engine.create(harness_image, command=SLEEP, network_mode="host").start()
    label = f"{RUN_LABEL}={engine.run}"
    client = connect()
    try:
        seen = client.containers.list(all=True, filters={"label": label})
        client.containers.list = lambda **_: seen
        remove(engine._client, label)
        remove(client, label)
    finally:
        client.close()


def test_a_network_that_exists_is_used_and_kept(engine: Engine) -> None:
    """A run removes only the networks that it has made."""
    name = f"reconnect-test-{engine.run}"
    theirs = engine._client.networks.create(name, internal=True)
    try:
        with Engine() as mine:
            assert mine.network(name).id == theirs.id
        theirs.reload()
    finally:
        theirs.remove()


def test_a_network_is_removed_while_a_found_container_is_on_it(engine: Engine, harness_image: str) -> None:
    """A fault has connected it. The container stays."""
    with Engine() as mine:
        theirs = engine.create(harness_image, command=SLEEP, network=engine.network("reconnect-test").name)
        theirs.start()
        network = mine.network("reconnect-other")
        network.connect(theirs)
    assert there(engine, f"{RUN_LABEL}={mine.run}") == []
    theirs.reload()
    assert theirs.status == "running"


@pytest.mark.parametrize("name", ["My Server", "Upper/Case", "../.."])
def test_a_malformed_name_of_an_image_is_one_sentence(engine: Engine, name: str) -> None:
    """With the engine's reason."""
    with pytest.raises(EngineError, match=f"for the image {re.escape(name)}, and refused: "):
        engine.create(name)


def test_an_image_that_cannot_be_pulled_is_one_sentence(engine: Engine) -> None:
    """It names the image, says why it cannot be pulled, what to do, and what works without it."""
    expected = (
        "the image localhost/none:1 is not on this machine and cannot be pulled .*docker load.* Everything else works"
    )
    with pytest.raises(EngineUnavailable, match=expected):
        engine.create("localhost/none:1")


def test_a_refusal_of_the_engine_is_a_sentence(engine: Engine, harness_image: str) -> None:
    """With what was asked, and the engine's reason."""
    with pytest.raises(EngineError, match=f"to make a container of {harness_image}, and refused: .*name"):
        engine.create(harness_image, name="!")


def test_everything_carries_the_labels_of_run_and_owner(engine: Engine, harness_image: str) -> None:
    """Containers and networks."""
    made = engine.create(harness_image, command=SLEEP)
    network = engine.network("reconnect-test")
    network.reload()
    for labels in (made.labels, network.attrs["Labels"]):
        assert labels[RUN_LABEL] == engine.run
        assert labels[OWNER_LABEL]
