"""The containers of a run: what each fault does to one, and that it is put back or removed."""

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
    """A port of loopback that is kept free for whoever is told it."""
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
    """Whether a request at its address is answered within a second: a frozen one still accepts connections."""
    assert container.address is not None
    host, _, port = container.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: boxed\r\n\r\n")
            return connection.recv(1) != b""
    except (TimeoutError, ConnectionError, OSError):
        return False


def status(container: Container) -> str:
    """Return what the engine says of it."""
    container._state()
    return str(container._handle.status)


def test_it_listens_when_it_is_started_and_is_gone_when_it_is_removed(
    engine: Engine, harness_image: str, port: int
) -> None:
    """On the host's network, at the port that it was told."""
    container = started(engine, harness_image, port)
    assert container.address == f"127.0.0.1:{port}"
    assert answers(container)
    container.remove()
    assert not answers(container)


def test_a_killed_one_is_gone_until_it_is_started(engine: Engine, harness_image: str, port: int) -> None:
    """It is at the same address when it is back; killing it twice is an error."""
    container = started(engine, harness_image, port)
    container.kill()
    assert not answers(container)
    with pytest.raises(EngineError, match="container boxed has ended already, with 137"):
        container.kill()
    container.start()
    assert answers(container)


def test_a_stopped_one_has_ended_in_good_order(engine: Engine, harness_image: str, port: int) -> None:
    """SIGTERM, and not SIGKILL, ends it."""
    container = started(engine, harness_image, port)
    container.stop()
    assert container._state()["ExitCode"] == 0
    container.start()
    assert answers(container)


def test_a_paused_one_is_silent_and_goes_on(engine: Engine, harness_image: str, port: int) -> None:
    """Its kernel accepts, and its processes say nothing, until it is unpaused."""
    container = started(engine, harness_image, port)
    container.pause()
    assert not answers(container)
    container.unpause()
    assert answers(container)


def test_a_paused_one_can_be_killed(engine: Engine, harness_image: str, port: int) -> None:
    """A fault may end what another one holds."""
    container = started(engine, harness_image, port)
    container.pause()
    container.kill()
    assert status(container) == "exited"
    container.start()
    assert answers(container)


def test_a_disconnected_one_is_out_of_reach_and_comes_back_at_its_address(engine: Engine, harness_image: str) -> None:
    """Off its only network nobody reaches it; connected again it is where it was, under its names there."""
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


def test_a_network_that_it_is_not_on_cannot_be_cut(engine: Engine, harness_image: str, port: int) -> None:
    """The error names those that there are; the host's network is none that can be left."""
    container = started(engine, harness_image, port)
    with pytest.raises(EngineError, match="cannot be taken off the network of the host itself"):
        container.disconnect(None)
    with pytest.raises(EngineError, match="is on no network called lab; there is host"):
        container.disconnect("lab")
    with pytest.raises(EngineError, match="was taken off 0 networks: name one"):
        container.connect(None)


def test_one_that_ends_at_once_shows_what_it_said(engine: Engine, harness_image: str, port: int) -> None:
    """The error has its status and its last lines."""
    with pytest.raises(ContainerFailed, match=r"container boxed ended with status 2\. .*\n(.*\n)*.*No such option"):
        started(engine, harness_image, port, command=[*ECHO, "--no-such"])


def test_one_of_somebody_else_is_found_by_its_label(engine: Engine, harness_image: str, port: int) -> None:
    """It is used where it is, and neither removed nor, when the run is over, left harmed."""
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


def test_one_of_ours_that_was_killed_for_good_stays_dead(engine: Engine, harness_image: str, port: int) -> None:
    """A fault without an end is not undone, but for a pause, in which nothing could be removed in good order."""
    container = started(engine, harness_image, port)
    container.pause()
    container.restore()
    assert status(container) == "running"
    container.kill()
    container.restore()
    assert status(container) == "exited"


def test_a_label_must_name_one_container(engine: Engine, harness_image: str) -> None:
    """None, and several, are errors that say which there are."""
    label = f"reconnect-harness.run={engine.run}"
    with pytest.raises(EngineError, match=f"container theirs: exactly one .* label {label}; there is none"):
        by_label(engine, label)
    for name in ("one", "two"):
        engine.create(harness_image, command=["sleep", "1000"], name=f"{name}-{engine.run}").start()
    with pytest.raises(EngineError, match=r"there is (one|two)-\w+, (one|two)-"):
        by_label(engine, label)


def test_a_label_of_one_that_does_not_run_is_said(engine: Engine, harness_image: str) -> None:
    """Whoever has forgotten to start it reads which one it is."""
    engine.create(harness_image, command=["sleep", "1000"], name=f"asleep-{engine.run}")
    with pytest.raises(EngineError, match=rf"there is none \(asleep-{engine.run} has it, and does not run\)"):
        by_label(engine, f"reconnect-harness.run={engine.run}")


def test_one_that_nobody_can_reach_is_no_upstream(engine: Engine, harness_image: str) -> None:
    """It says which networks it is on."""
    engine.create(harness_image, command=["sleep", "1000"], network_mode="none").start()
    with pytest.raises(EngineError, match="container theirs cannot be reached from this machine: it is on none"):
        by_label(engine, f"reconnect-harness.run={engine.run}", 9200)


def test_one_of_somebody_else_gets_its_networks_back(engine: Engine, harness_image: str) -> None:
    """It is on that which it was on, and on none that it was not on, when it is put back."""
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
    """As it was found, whatever happened meanwhile."""
    handle = engine.create(harness_image, command=["sleep", "1000"], network_mode="host")
    handle.start()
    handle.pause()
    theirs = by_label(engine, f"reconnect-harness.run={engine.run}")
    theirs.kill()
    theirs.restore()
    assert status(theirs) == "paused"


def test_one_that_would_be_gone_for_good_is_not_ended(engine: Engine, harness_image: str) -> None:
    """With --rm the engine removes what has ended: a kill and a stop are refused, and a pause is not."""
    engine.create(harness_image, command=["sleep", "1000"], network_mode="host", auto_remove=True).start()
    theirs = by_label(engine, f"reconnect-harness.run={engine.run}")
    for end in (theirs.kill, theirs.stop):
        with pytest.raises(EngineError, match=r"container theirs was started with --rm: .*nobody can start it again"):
            end()
    theirs.pause()
    theirs.restore()
    assert status(theirs) == "running"


def test_one_that_is_off_its_network_can_be_started(engine: Engine, harness_image: str) -> None:
    """Nobody waits for it to listen where nobody can reach it."""
    said = {"command": [*ECHO, "--listen", "0.0.0.0:9200"], "network": "reconnect-test"}
    container = started(engine, harness_image, 9200, **said)
    container.disconnect(None)
    container.kill()
    container.start()
    container.connect(None)
    assert eventually(lambda: answers(container))


def test_one_that_comes_back_elsewhere_is_an_error(engine: Engine, harness_image: str) -> None:
    """Whoever looks for it would not find it; the error says where it was, and where it is."""
    said = {"command": [*ECHO, "--listen", "0.0.0.0:9200"], "network": "reconnect-test"}
    container = started(engine, harness_image, 9200, **said)
    was = container.address
    container.stop()
    # Its address is given to whoever comes next.
    other = engine.create(harness_image, command=["sleep", "1000"], network=engine.network("reconnect-test").name)
    other.start()
    with pytest.raises(EngineError, match=f"container boxed was at {was}, and is at .* now, where nobody looks for it"):
        container.start()


def test_how_one_has_ended_is_known(engine: Engine, harness_image: str) -> None:
    """None while it runs, then its status."""
    container = started(engine, harness_image, None, command=["sh", "-c", "sleep 1; exit 3"])
    assert container.ended() is None
    assert eventually(lambda: container.ended() is not None)
    assert container.ended() == 3


def test_one_without_a_port_is_started_when_it_runs(engine: Engine, harness_image: str) -> None:
    """A worker that listens nowhere is not waited for at any address."""
    container = started(engine, harness_image, None, command=["sleep", "1000"])
    assert container.address is None
    assert status(container) == "running"


def test_a_network_of_the_run_is_none_of_anothers(engine: Engine) -> None:
    """Two runs at once of one scenario have a network each, though they call it the same."""
    with Engine() as other:
        mine, theirs = engine.network("reconnect-test"), other.network("reconnect-test")
        assert mine.id != theirs.id
        assert engine.network("reconnect-test").id == mine.id


def test_whoever_is_in_a_hurry_does_not_wait_for_one_to_listen(engine: Engine, harness_image: str, port: int) -> None:
    """When a run is over, a container that never comes to listen holds nobody up."""
    spec = ContainerSpec.model_validate({"image": harness_image, "command": ["sleep", "1000"], "port": port})
    container = Container.from_image(engine, "boxed", spec, port)
    waiting = threading.Timer(0.2, container.hurry)
    waiting.start()
    with pytest.raises(ContainerFailed, match="container boxed was not waited for any longer"):
        container.start()
    waiting.join()
