"""What a scenario may say about containers, and the errors where it is not valid."""

from __future__ import annotations

from typing import Any

import pytest

from reconnect_harness.containers.spec import ContainerSpec
from reconnect_harness.scenario.explain import explain
from reconnect_harness.scenario.fault_entry import fault
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import Scenario, ScenarioError

SAID: dict[str, Any] = {
    "name": "boxed",
    "summary": "A container is killed.",
    "upstream": {"image": "mine:1"},
    "clients": {"kind": "plain", "send": "10/s", "for": "1s"},
    "faults": [{"at": "1s", "container": "upstream", "do": "kill"}],
    "expect": {"lost": 0},
}


def boxed(**changed: Any) -> Scenario:
    """Return the scenario with keys changed."""
    return parse_scenario({**SAID, **changed}, "boxed.yaml")


def test_an_upstream_of_an_image_echoes() -> None:
    """An image is enough: its kind is echo, and it is told a port."""
    chosen = boxed()
    assert chosen.upstream.kind == "echo"
    assert chosen.upstream.chooses_port
    assert list(chosen.container_specs) == ["upstream"]


def test_the_port_is_told_in_the_command_and_the_variables() -> None:
    """In place of {port}, and in PORT unless that is given."""
    spec = ContainerSpec.model_validate(
        {"image": "mine:1", "command": "serve --to '127.0.0.1 {port}'", "env": {"BIND": ":{port}", "TRIES": 3}}
    )
    assert spec.chooses_port
    assert spec.settings(4711) == {
        "command": ["serve", "--to", "127.0.0.1 4711"],
        "environment": {"PORT": "4711", "BIND": ":4711", "TRIES": "3"},
    }


def test_another_container_needs_no_port() -> None:
    """Without `port` and {port} no port is chosen."""
    spec = ContainerSpec.model_validate({"image": "mine:1"})
    assert not spec.chooses_port
    assert spec.settings(None) == {"command": None, "environment": {}}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"upstream": {"image": "mine:1", "kind": "aware"}}, "upstream: an upstream in a container is seen"),
        ({"upstream": {"image": "mine:1", "push": "1/s"}}, "upstream: .* cannot be told `push`"),
        ({"upstream": {"image": "mine:1", "label": "a=b"}}, "upstream: there is `image` and `label`"),
        ({"upstream": {"label": "a=b"}}, "upstream: .* found by its label needs `port`"),
        ({"upstream": {"label": "a=b", "port": 1, "count": 2}}, "upstream: .* found by its label is one"),
        ({"upstream": {"label": "a=b", "port": 1, "command": "x"}}, "upstream: `command` is for a container"),
        ({"upstream": {"kind": "echo", "port": 1}}, "upstream: `port` is for an upstream in a container"),
        ({"upstream": {"image": "mine:1", "network": "lab"}}, "upstream: on the network lab .*: give `port`"),
        ({"upstream": {"image": "mine:1", "network": "none", "port": 1}}, "upstream: on the network none a container"),
        ({"upstream": {"kind": "echo"}}, "faults.0: no container is called upstream; upstream is a process here"),
        ({"upstream": {"image": "mine:1", "port": 80, "count": 2}}, "upstream: 2 containers .* port 80"),
        ({"upstream": {"image": "mine:1", "port": 0}}, "upstream.port: 0 is not valid"),
        ({"upstream": {"image": "mine:1", "imagge": 0}}, "upstream: there is no key 'imagge'; did you mean image"),
        ({"upstream": {"image": "mine:1", "command": 5}}, "upstream.command: 5 is not a command"),
        ({"upstream": {"image": "mine:1", "env": ["A=b"]}}, r"upstream.env: \['A=b'\] is not a mapping of variables"),
        ({"tls": "both"}, "tls: both needs an upstream with a certificate of the run, which a container does not have"),
        ({"expect": {"leaks": 0}}, "expect: leaks needs an upstream of the harness, and this one is not"),
        ({"expect": {"c2u": {"lost": 0}}}, "expect: c2u needs .*: expect what the clients sent and got back"),
        ({"containers": {"db": {}}}, "containers.db: it needs `image`, .* or `label`"),
        ({"containers": {"proxy": {"image": "a"}}}, "containers.proxy: proxy is the name of another part"),
        ({"faults": [{"at": "1s", "process": "upstream", "do": "kill"}]}, "faults.0: no process is called upstream"),
        ({"faults": [{"at": "1s", "container": "db", "do": "kill"}]}, "faults.0: .* db; there is upstream: name"),
        ({"faults": [{"at": "1s", "container": "upstream", "do": "disconnect"}]}, "faults.0: upstream is on the"),
        ({"faults": [{"at": "1s", "container": "upstream", "do": "pasue"}]}, "faults.0: .*did you mean pause"),
        ({"faults": [{"at": "1s", "link": "upstream", "do": "pause"}]}, "faults.0: pause is done to a container"),
        ({"faults": [{"at": "1s", "container": "upstream", "do": "down", "for": "1s"}]}, "faults.0: there is no"),
        ({"faults": [{"at": "1s", "container": "upstream", "link": "client", "do": "kill"}]}, "faults.0: .* not `l"),
        ({"faults": [{"at": "1s", "container": "upstream", "do": "unpause", "for": "1s"}]}, "faults.0: .*has no `for`"),
        ({"faults": [{"at": "1s", "container": "upstream", "do": "kill", "network": "a"}]}, "faults.0: there is no"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_error_names_its_place(changed: dict[str, Any], sentence: str) -> None:
    """One sentence: the place in the file, what was found, what is allowed."""
    with pytest.raises(ScenarioError, match=f"boxed.yaml: {sentence}"):
        boxed(**changed)


def test_faults_of_containers_and_of_processes_share_names() -> None:
    """The target says which `kill` or `stop` it is."""
    of_container = fault({"at": 1, "container": "db", "do": "stop"})
    of_process = fault({"at": 1, "process": "upstream", "do": "stop", "for": 1})
    assert (of_container.kind.target_kind.name, of_process.kind.target_kind.name) == ("container", "process")


def test_a_network_is_named_where_there_may_be_several() -> None:
    """Only two faults take `network`."""
    cut = fault({"at": 1, "container": "db", "do": "disconnect", "network": "lab", "for": 2})
    assert (cut.network, cut.lasts) == ("lab", 2)
    chosen = boxed(
        containers={"db": {"label": "role=db"}},
        faults=[
            {"at": 1, "container": "db", "do": "disconnect", "network": "lab"},
            {"at": 2, "container": "db", "do": "connect", "network": "lab"},
        ],
    )
    assert list(chosen.container_specs) == ["db", "upstream"]


def test_a_scenario_with_containers_is_explained() -> None:
    """The image or label of each container, and the network of a fault."""
    lines = explain(
        boxed(
            upstream={"image": "mine:1", "command": "serve {port}"},
            containers={"db": {"label": "role=db"}},
            faults=[{"at": 1, "container": "db", "do": "disconnect", "network": "lab", "for": 2}],
        )
    )
    assert "upstream   in a container, sends back what it receives; image mine:1; command serve {port}" in lines
    assert "container  db; label role=db" in lines
    assert "fault      disconnect db at 1s, for 2s, network lab" in lines
