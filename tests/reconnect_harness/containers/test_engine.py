"""The engine: what is made on it is gone at the end, whatever ends the run, and only what is ours."""

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


def test_nothing_is_left_when_it_is_left(engine: Engine, harness_image: str) -> None:
    """Containers, running, paused and never started, and networks are removed; and nobody else's."""
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
    """Whatever ends the process, its keeper removes what it had."""
    with owner(harness_image) as (process, label):
        assert len(there(engine, label)) == 2
        process.send_signal(number)
    assert eventually(lambda: there(engine, label) == [])


def test_leftovers_of_a_dead_owner_are_removed_and_those_of_a_living_one_are_not(
    engine: Engine, harness_image: str
) -> None:
    """Where the keeper died as well, the next run finds by the labels what has no owner any more."""
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


def test_two_that_sweep_at_once_do_not_stumble(engine: Engine, harness_image: str) -> None:
    """What somebody else has removed meanwhile is no error."""
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


def test_a_network_that_is_there_is_used_and_kept(engine: Engine) -> None:
    """One of somebody else's is not ours to remove."""
    name = f"reconnect-test-{engine.run}"
    theirs = engine._client.networks.create(name, internal=True)
    try:
        with Engine() as mine:
            assert mine.network(name).id == theirs.id
        theirs.reload()
    finally:
        theirs.remove()


def test_a_network_of_ours_is_removed_with_somebody_elses_container_on_it(engine: Engine, harness_image: str) -> None:
    """A fault has put it there, and nobody has taken it off again: the container stays."""
    with Engine() as mine:
        theirs = engine.create(harness_image, command=SLEEP, network=engine.network("reconnect-test").name)
        theirs.start()
        network = mine.network("reconnect-other")
        network.connect(theirs)
    assert there(engine, f"{RUN_LABEL}={mine.run}") == []
    theirs.reload()
    assert theirs.status == "running"


@pytest.mark.parametrize("name", ["My Server", "Upper/Case", "../.."])
def test_what_is_no_name_of_an_image_is_one_sentence(engine: Engine, name: str) -> None:
    """The engine says what is wrong with it."""
    with pytest.raises(EngineError, match=f"for the image {re.escape(name)}, and refused: "):
        engine.create(name)


def test_an_image_that_cannot_be_had_is_one_sentence(engine: Engine) -> None:
    """It names the image, says why it cannot be pulled, what to do, and what works without it."""
    expected = "the image localhost/none:1 is not on this machine and cannot be pulled .*docker load.* All else works"
    with pytest.raises(EngineUnavailable, match=expected):
        engine.create("localhost/none:1")


def test_a_refusal_of_the_engine_is_a_sentence(engine: Engine, harness_image: str) -> None:
    """It says what was asked, and the engine's reason."""
    with pytest.raises(EngineError, match=f"to make a container of {harness_image}, and refused: .*name"):
        engine.create(harness_image, name="!")


def test_everything_says_whose_it_is(engine: Engine, harness_image: str) -> None:
    """The labels are on the containers and the networks."""
    made = engine.create(harness_image, command=SLEEP)
    network = engine.network("reconnect-test")
    network.reload()
    for labels in (made.labels, network.attrs["Labels"]):
        assert labels[RUN_LABEL] == engine.run
        assert labels[OWNER_LABEL]
