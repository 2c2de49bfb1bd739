"""The containers of a run: what each call does to one, and that it is restored or removed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from reconnect_harness.containers.container import Container, ContainerFailed
from reconnect_harness.containers.engine import Engine, EngineError
from reconnect_harness.containers.spec import ContainerSpec
from reconnect_harness.toxiproxy.server import reserve_port
from tests.reconnect_harness.toxiproxy.wires import eventually

ECHO = ["reconnect-harness", "upstream"]


@pytest.fixture
def port() -> Iterator[int]:
    """A port of loopback that is kept free for the container."""
    with reserve_port() as reserved:
        yield reserved.getsockname()[1]


def started(engine: Engine, image: str, port: int | None, **said: Any) -> Container:
    """Return a container that listens."""
    spec = ContainerSpec.model_validate({"image": image, "command": ECHO, **said})
    container = Container.from_image(engine, "boxed", spec, port)
    container.start()
    return container


def by_label(engine: Engine, label: str, port: int | None = None) -> Container:
    """Return the container that carries a label."""
    return Container.by_label(engine, "theirs", ContainerSpec.model_validate({"label": label, "port": port}))


def answers(container: Container) -> bool:
    """Return whether a request at its address is answered within a second: a frozen one still accepts connections."""
    assert container.address is not None
    host, _, port = container.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: boxed\r\n\r\n")
            return connection.recv(1) != b""
    except (TimeoutError, ConnectionError, OSError):
        return False


def status(container: Container) -> str:
    """Return its state in the engine."""
    container._state()
    return str(container._handle.status)


def test_it_listens_when_it_is_started_until_it_is_removed(engine: Engine, harness_image: str, port: int) -> None:
    """On the host's network, at the port that it is told."""
    container = started(engine, harness_image, port)
    assert container.address == f"127.0.0.1:{port}"
    assert answers(container)
    container.remove()
    assert not answers(container)


def test_a_killed_one_does_not_answer_until_it_is_started(engine: Engine, harness_image: str, port: int) -> None:
    """It is at the same address after the start; killing it twice is an error."""
    container = started(engine, harness_image, port)
    container.kill()
    assert not answers(container)
    with pytest.raises(EngineError, match="container boxed has ended already, with 137"):
        container.kill()
    container.start()
    assert answers(container)


def test_a_stopped_one_ends_by_sigterm(engine: Engine, harness_image: str, port: int) -> None:
    """Its exit status is 0, and not that of SIGKILL."""
    container = started(engine, harness_image, port)
    container.stop()
    assert container._state()["ExitCode"] == 0
    container.start()
    assert answers(container)


def test_a_paused_one_is_silent_until_it_is_unpaused(engine: Engine, harness_image: str, port: int) -> None:
    """The kernel accepts connections, and its processes send nothing."""
    container = started(engine, harness_image, port)
    container.pause()
    assert not answers(container)
    container.unpause()
    assert answers(container)


def test_a_paused_one_can_be_killed(engine: Engine, harness_image: str, port: int) -> None:
    """A fault may end a container that another fault holds."""
    container = started(engine, harness_image, port)
    container.pause()
    container.kill()
    assert status(container) == "exited"
    container.start()
    assert answers(container)


def test_a_disconnected_one_cannot_be_reached_until_it_is_connected_again(engine: Engine, harness_image: str) -> None:
    """Connected again it has the same address."""
    network = "reconnect-test"
    said = {"command": [*ECHO, "--listen", "0.0.0.0:9200"], "network": network}
    container = started(engine, harness_image, 9200, **said)
    before = container.address
    assert before is not None
    assert not before.startswith("127.")
    assert answers(container)
    container.disconnect(None)
    assert not answers(container)
    container.connect(None)
    assert container.address == before
    assert answers(container)


def test_it_cannot_be_disconnected_from_a_network_that_it_is_not_on(
    engine: Engine, harness_image: str, port: int
) -> None:
    """The error names its networks; it cannot be disconnected from the host's network."""
    container = started(engine, harness_image, port)
    with pytest.raises(EngineError, match="cannot be disconnected from the network of the host itself"):
        container.disconnect(None)
    with pytest.raises(EngineError, match="is on no network called lab; there is host"):
        container.disconnect("lab")
    with pytest.raises(EngineError, match="was disconnected from 0 networks: name one"):
        container.connect(None)


def test_one_that_ends_at_once_shows_its_output(engine: Engine, harness_image: str, port: int) -> None:
    """The error has its status and its last lines."""
    with pytest.raises(ContainerFailed, match=r"container boxed ended with status 2\. .*\n(.*\n)*.*No such option"):
        started(engine, harness_image, port, command=[*ECHO, "--no-such"])


def test_one_that_runs_is_found_by_its_label(engine: Engine, harness_image: str, port: int) -> None:
    """It is used where it is, restored at the end, and not removed."""
    ours = started(engine, harness_image, port)
    theirs = by_label(engine, f"reconnect-harness.run={engine.run}", port)
    assert theirs.address == ours.address
    theirs.pause()
    theirs.restore()
    assert answers(theirs)
    theirs.kill()
    theirs.restore()
    assert eventually(lambda: answers(theirs))
    theirs.remove()
    assert answers(theirs)


def test_one_that_was_made_and_killed_is_not_started_by_a_restore(
    engine: Engine, harness_image: str, port: int
) -> None:
    """Of the faults without an end only a pause is undone, because a paused container cannot end by SIGTERM."""
    container = started(engine, harness_image, port)
    container.pause()
    container.restore()
    assert status(container) == "running"
    container.kill()
    container.restore()
    assert status(container) == "exited"


def test_a_label_must_name_one_container(engine: Engine, harness_image: str) -> None:
    """No container, and more than one, are errors that name the containers."""
    label = f"reconnect-harness.run={engine.run}"
    with pytest.raises(EngineError, match=f"container theirs: exactly one .* label {label}; there is none"):
        by_label(engine, label)
    for name in ("one", "two"):
        engine.create(harness_image, command=["sleep", "1000"], name=f"{name}-{engine.run}").start()
    with pytest.raises(EngineError, match=r"there is (one|two)-\w+, (one|two)-"):
        by_label(engine, label)


def test_a_label_of_one_that_does_not_run_is_an_error(engine: Engine, harness_image: str) -> None:
    """The error names the container that has the label."""
    engine.create(harness_image, command=["sleep", "1000"], name=f"asleep-{engine.run}")
    with pytest.raises(EngineError, match=rf"there is none \(asleep-{engine.run} has the label, and does not run\)"):
        by_label(engine, f"reconnect-harness.run={engine.run}")


def test_one_that_cannot_be_reached_is_an_error(engine: Engine, harness_image: str) -> None:
    """The error names its networks."""
    engine.create(harness_image, command=["sleep", "1000"], network_mode="none").start()
    with pytest.raises(EngineError, match="container theirs cannot be reached from this machine: it is on none"):
        by_label(engine, f"reconnect-harness.run={engine.run}", 9200)


def test_one_that_was_found_gets_its_networks_back(engine: Engine, harness_image: str) -> None:
    """A restored container is on the networks of its snapshot, and on no others."""
    network = engine.network("reconnect-test")
    handle = engine.create(harness_image, command=["sleep", "1000"], network=network.name)
    handle.start()
    theirs = by_label(engine, f"reconnect-harness.run={engine.run}")
    theirs.connect("reconnect-other")
    theirs.disconnect(network.name)
    theirs.stop()
    theirs.restore()
    handle.reload()
    assert list(handle.attrs["NetworkSettings"]["Networks"]) == [network.name]
    assert handle.status == "running"


def test_one_that_was_found_frozen_is_frozen_again(engine: Engine, harness_image: str) -> None:
    """Even after a kill."""
    handle = engine.create(harness_image, command=["sleep", "1000"], network_mode="host")
    handle.start()
    handle.pause()
    theirs = by_label(engine, f"reconnect-harness.run={engine.run}")
    theirs.kill()
    theirs.restore()
    assert status(theirs) == "paused"


def test_one_that_the_engine_would_remove_is_not_ended(engine: Engine, harness_image: str) -> None:
    """With --rm the engine removes a container that has ended: kill and stop are refused, pause is not."""
    engine.create(harness_image, command=["sleep", "1000"], network_mode="host", auto_remove=True).start()
    theirs = by_label(engine, f"reconnect-harness.run={engine.run}")
    for end in (theirs.kill, theirs.stop):
        with pytest.raises(EngineError, match=r"container theirs was started with --rm: .*it cannot be started again"):
            end()
    theirs.pause()
    theirs.restore()
    assert status(theirs) == "running"


def test_one_that_is_disconnected_can_be_started(engine: Engine, harness_image: str) -> None:
    """`start` does not wait for it to listen at an address that it does not have."""
    said = {"command": [*ECHO, "--listen", "0.0.0.0:9200"], "network": "reconnect-test"}
    container = started(engine, harness_image, 9200, **said)
    container.disconnect(None)
    container.kill()
    container.start()
    container.connect(None)
    assert eventually(lambda: answers(container))


def test_one_that_is_started_at_another_address_is_an_error(engine: Engine, harness_image: str) -> None:
    """The error has both addresses."""
    said = {"command": [*ECHO, "--listen", "0.0.0.0:9200"], "network": "reconnect-test"}
    container = started(engine, harness_image, 9200, **said)
    was = container.address
    container.stop()
    # Its address is given to the next container.
    other = engine.create(harness_image, command=["sleep", "1000"], network=engine.network("reconnect-test").name)
    other.start()
    with pytest.raises(
        EngineError, match=f"container boxed was at {was}, and is at .* now, which the run does not know"
    ):
        container.start()


def test_the_exit_status_is_known(engine: Engine, harness_image: str) -> None:
    """None while it runs."""
    container = started(engine, harness_image, None, command=["sh", "-c", "sleep 1; exit 3"])
    assert container.ended() is None
    assert eventually(lambda: container.ended() is not None)
    assert container.ended() == 3


def test_one_without_a_port_is_started_when_it_runs(engine: Engine, harness_image: str) -> None:
    """`start` does not wait for it to listen."""
    container = started(engine, harness_image, None, command=["sleep", "1000"])
    assert container.address is None
    assert status(container) == "running"


def test_runs_do_not_share_the_networks_that_they_make(engine: Engine) -> None:
    """Two runs of one scenario have a network each, with the same name in the scenario."""
    with Engine() as other:
        mine, theirs = engine.network("reconnect-test"), other.network("reconnect-test")
        assert mine.id != theirs.id
        assert engine.network("reconnect-test").id == mine.id


def test_hurry_ends_the_wait_for_one_to_listen(engine: Engine, harness_image: str, port: int) -> None:
    """A run that is cancelled does not wait for a container that never listens."""
    spec = ContainerSpec.model_validate({"image": harness_image, "command": ["sleep", "1000"], "port": port})
    container = Container.from_image(engine, "boxed", spec, port)
    waiting = threading.Timer(0.2, container.hurry)
    waiting.start()
    with pytest.raises(ContainerFailed, match="container boxed did not listen before the run was cancelled"):
        container.start()
    waiting.join()
