"""Scenarios: what a file may say, and the sentence that says where it is not valid."""

from __future__ import annotations

from typing import Any

import pytest

from reconnect_harness.checks.judgement import Expectation
from reconnect_harness.history.message import Direction
from reconnect_harness.scenario.find import parse_scenario
from reconnect_harness.scenario.model import ScenarioError

GOOD: dict[str, Any] = {
    "name": "mine",
    "summary": "It holds.",
    "proxy": {"mode": "duplex", "retry_for": "30s"},
    "upstream": {"kind": "aware", "push": "100/s"},
    "clients": {"kind": "aware", "count": 20, "send": "50/s", "size": [16, "4KiB"], "for": "8s"},
    "faults": [{"at": "1s", "link": "upstream", "do": "down", "for": "400ms", "times": 5, "every": "1.2s"}],
    "expect": {"lost": 0, "recovery_p99": "2s"},
}


def _with(**changes: Any) -> dict[str, Any]:
    """Return the good scenario with keys changed; `outer__inner` changes one inside, and None takes it out."""
    made = {key: dict(value) if isinstance(value, dict) else value for key, value in GOOD.items()}
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        target, key = (made[outer], inner) if inner else (made, outer)
        target[key] = value
        if value is None:
            del target[key]
    return made


def _complaint(given: object) -> str:
    with pytest.raises(ScenarioError) as error:
        parse_scenario(given, "mine.yaml")
    return str(error.value)


def test_a_scenario_has_numbers_in_fixed_units() -> None:
    """Durations are seconds, rates messages a second, sizes bytes."""
    made = parse_scenario(GOOD, "mine.yaml")
    assert (made.upstream.load.rate, made.clients.load.rate, made.clients.lasts) == (100.0, 50.0, 8.0)
    assert (made.clients.load.smallest, made.clients.load.largest) == (16, 4096)
    (fault,) = made.faults
    assert (fault.name, fault.target, fault.at, fault.lasts, fault.times, fault.every) == (
        "down",
        "upstream",
        1.0,
        0.4,
        5,
        1.2,
    )
    assert made.links == ["upstream"]
    assert made.directions == [Direction.C2U, Direction.U2C]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"nam": 1}, "mine.yaml: there is no key 'nam'; did you mean name? There are name, summary, "),
        ({"summary": None}, "mine.yaml: summary: it is missing"),
        ({"name": "a/b"}, "mine.yaml: name: 'a/b' is not valid"),
        (
            {"upstream__kind": "awre"},
            "mine.yaml: upstream.kind: there is no kind of upstream 'awre'; did you mean aware?",
        ),
        ({"upstream__pusch": 1}, "mine.yaml: upstream: there is no key 'pusch'; did you mean push?"),
        ({"upstream": "aware"}, "mine.yaml: upstream: 'aware' is not a mapping of image, "),
        ({"upstream": {"kind": "push"}}, "mine.yaml: upstream: an upstream of kind push needs `push`"),
        ({"clients__count": 0}, "mine.yaml: clients.count: 0 is not valid"),
        ({"clients__kind": "smart"}, "mine.yaml: clients.kind: there is no kind of client 'smart'; There are plain, "),
        ({"clients__for": "8 days"}, "mine.yaml: clients.for: '8 days' is not a duration"),
        ({"clients__for": None}, "mine.yaml: clients.for: it is missing"),
        ({"clients__send": "fast"}, "mine.yaml: clients.send: 'fast' is not a rate: write it as 100/s"),
        ({"clients__size": ["4KiB", 16]}, "mine.yaml: clients.size: the least size, 4KiB, is more than the most, 16"),
        ({"clients__type": "txt"}, "mine.yaml: clients.type: there is no type of message 'txt'; did you mean text?"),
        ({"proxy__retry_fro": 1}, "mine.yaml: proxy: there is no option 'retry_fro'; did you mean retry_for?"),
        ({"proxy__mode": "triplex"}, "mine.yaml: proxy: mode: 'triplex' is not a choice"),
        ({"expect": {}}, "mine.yaml: expect: nothing is asserted: bound at least one of lost, "),
        ({"expect": {"lsot": 0}}, "mine.yaml: expect: there is no checker 'lsot'; did you mean lost?"),
        (
            {"expect": {"lost": "few"}},
            "mine.yaml: expect: lost: 'few' is not a whole number, 0 or more; or write report",
        ),
        ({"expect": {"lost": True}}, "mine.yaml: expect: lost: True"),
        ({"expect": {"recovery_p99": "soon"}}, "mine.yaml: expect: recovery_p99: 'soon' is not a duration"),
        ({"expect": [["lost", "c2u", 0]]}, "mine.yaml: expect: [['lost', 'c2u', 0]] is not a mapping"),
        ({"expect": {"c2u": 5}}, "mine.yaml: expect: 5 is not a mapping such as {lost: 0}, nor report, as c2u"),
        ({"proxy": []}, "mine.yaml: proxy: [] is not a mapping of options"),
        ({"chain": [{}, {}]}, "mine.yaml: there is `proxy` and `chain`: give the options of one proxy, or of each in"),
        (
            {"proxy": None, "chain": [{}, {"mod": 1}]},
            "mine.yaml: chain.1: there is no option 'mod'; did you mean mode?",
        ),
        ({"clients__kind": "visiting"}, "mine.yaml: clients: clients of kind visiting, and no others, need `visits`"),
        ({"clients__visits": {"stay": 1, "away": 1}}, "mine.yaml: clients: clients of kind visiting, and no others, "),
        ({"faults": "down"}, "mine.yaml: faults: 'down' is not valid"),
        ({"expect": {"u2c": "report"}}, "mine.yaml: expect: nothing is asserted"),
        ({"expect": {"u2c": {"recovery_p99": 1}}}, "mine.yaml: expect: there is no checker of u2c 'recovery_p99'"),
        ({"tls": "yes"}, "mine.yaml: tls: there is no side for `tls` 'yes'; There are both, client, upstream"),
        ({"proxy__tls_cert": "c.pem"}, "mine.yaml: proxy: there is no option 'tls_cert'"),
        (
            {"clients__send": 0, "upstream__push": 0},
            "mine.yaml: no messages are sent: give clients `send`, or the",
        ),
    ],
)
def test_an_invalid_scenario_is_one_sentence(changes: dict[str, Any], complaint: str) -> None:
    """It names the file, the path in it, what was found, and what is allowed."""
    said = _complaint(_with(**changes))
    assert said.startswith(complaint)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"link": "upstream", "do": "dwn", "at": 1}, "there is no fault 'dwn'; did you mean down?"),
        ({"link": "upstream", "do": "down", "for": 1}, "a fault needs `at`"),
        ({"link": "upstrem", "do": "down", "at": 1, "for": 1}, "there is no link 'upstrem'; did you mean upstream?"),
        ({"process": "proxy", "do": "down", "at": 1, "for": 1}, "down is done to a link: it needs `link`"),
        ({"link": "client", "do": "kill", "at": 1}, "kill is done to a process: it needs `process`"),
        ({"link": "client", "do": "down", "at": 1}, "down needs `for`"),
        ({"link": "client", "do": "down", "at": 1, "for": "1x"}, "for: '1x' is not a duration"),
        ({"link": "client", "do": "down", "at": 1, "for": 1, "latency": 5}, "there is no key of down 'latency'"),
        (
            {"link": "client", "do": "latency", "at": 1, "for": 1, "latncy": 5},
            "there is no key of latency 'latncy'; did you",
        ),
        ({"link": "client", "do": "down", "at": 1, "for": 1, "times": "5"}, "times: '5'"),
        ({"link": "client", "do": "latency", "at": 1, "for": 1, "latency": 5, "toxicity": "all"}, "toxicity: 'all'"),
        ({"link": "client", "do": "latency", "at": 1, "for": 1, "latency": 5, "toxicity": 2}, "the toxicity"),
        ({"link": "client", "do": "latency", "at": 1, "for": 1, "latency": 5, "stream": "up"}, "the stream of"),
        ({"link": "client", "do": ["down"], "at": 1, "for": 1}, "there is no fault ['down']"),
        ({"link": ["client"], "do": "down", "at": 1, "for": 1}, "there is no link ['client']"),
        ({"link": "client", "do": "latency", "at": 1, "for": 1, "latency": None}, "latency: None is not a whole"),
        ({"link": "client", "do": "bandwidth", "at": 1, "for": 1, "rate": "fast"}, "rate: 'fast' is not a size"),
        ({"link": "client", "do": "down", "at": None, "for": 1}, "at: None is not a duration"),
        ("down", "'down' is not a mapping such as"),
    ],
)
def test_an_invalid_fault_is_one_sentence(fault: object, complaint: str) -> None:
    """With the index of the fault."""
    assert _complaint(_with(faults=[GOOD["faults"][0], fault])).startswith(f"mine.yaml: faults.1: {complaint}")


TWICE: dict[str, Any] = {"upstream": {"kind": "record", "count": 2}, "proxy": None, "chain": [{}, {"mode": "receiver"}]}


def test_several_parts_of_one_kind_have_numbers() -> None:
    """A single part has none; the link between two proxies is `middle`."""
    one, several = parse_scenario(GOOD, "mine.yaml"), parse_scenario(_with(**TWICE, faults=[]), "mine.yaml")
    assert (one.upstream_names, one.proxy_names, one.link_names) == (["upstream"], ["proxy"], ["client", "upstream"])
    assert several.upstream_names == ["upstream-1", "upstream-2"]
    assert several.proxy_names == ["proxy-1", "proxy-2"]
    assert several.link_names == ["client", "middle", "upstream-1", "upstream-2"]
    assert several.proxies == [{}, {"mode": "receiver"}]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (
            {"link": "upstream", "do": "down", "for": 1},
            "no link is called upstream; there is client, middle, upstream-1",
        ),
        ({"link": "middle-2", "do": "down", "for": 1}, "no link is called middle-2; there is client, middle, "),
        ({"link": "upstream-0", "do": "down", "for": 1}, "there is no link 'upstream-0'; did you mean upstream?"),
        ({"process": "upstream-3", "do": "kill", "for": 1}, "no process is called upstream-3; there is upstream-1, "),
        ({"process": "proxy-1", "do": "kill", "for": 1}, "kill of a proxy has no `for`: it is not started again"),
    ],
)
def test_a_fault_needs_an_existing_target(fault: dict[str, Any], complaint: str) -> None:
    """The targets depend on how many upstreams and proxies the scenario has."""
    said = _complaint(_with(**TWICE, faults=[{"at": 1, **fault}]))
    assert said.startswith(f"mine.yaml: faults.0: {complaint}")


def test_clients_of_a_receiver_that_name_no_session_share_one() -> None:
    """Clients that name their sessions, and clients of a sender, have one each."""
    receiver = {"proxy": {"mode": "receiver"}, "faults": []}
    plain, named = {"kind": "plain", "for": 1}, {"kind": "reconnecting", "for": 1}
    chain = {"proxy": None, "chain": [{"mode": "sender"}, {"mode": "receiver"}], "faults": []}
    assert parse_scenario(_with(**receiver, clients=plain), "mine.yaml").shared
    assert not parse_scenario(_with(**receiver, clients=named), "mine.yaml").shared
    assert not parse_scenario(_with(**chain, clients=plain), "mine.yaml").shared
    assert not parse_scenario(_with(clients=plain), "mine.yaml").shared


def test_attributes_of_toxics_are_converted_to_their_units() -> None:
    """A duration or size with a unit is converted; a plain number is in the unit of the attribute."""
    link = {"at": "1s..7s", "link": "client", "for": "1s"}
    made = parse_scenario(
        _with(
            faults=[
                {**link, "do": "latency", "latency": "100ms", "jitter": 20, "stream": "upstream"},
                {**link, "do": "bandwidth", "rate": "50KB/s"},
                {**link, "do": "limit_data", "bytes": "1KiB..4KiB"},
                {**link, "do": "slicer", "average_size": 64, "delay": "2ms"},
            ]
        ),
        "mine.yaml",
    )
    assert [fault.attributes for fault in made.faults] == [
        {"latency": 100, "jitter": 20},
        {"rate": 50},
        {"bytes": (1024, 4096)},
        {"average_size": 64, "delay": 2000},
    ]
    assert made.faults[0].at == (1.0, 7.0)
    assert made.links == ["client"]


def _bounds(expect: dict[str, Any]) -> set[Expectation]:
    return set(parse_scenario(_with(expect=expect), "mine.yaml").expect)


def test_a_bound_holds_in_both_directions_unless_one_has_its_own() -> None:
    """Messages of a direction that is only reported must still not be corrupted."""
    c2u, u2c = Direction.C2U, Direction.U2C
    assert _bounds({"lost": 0, "c2u": {"lost": 3}}) >= {Expectation("lost", c2u, 3.0), Expectation("lost", u2c, 0.0)}
    plain = _bounds({"c2u": {"lost": 0, "reordered": 0}, "u2c": "report"})
    assert plain >= {Expectation("lost", c2u, 0.0), Expectation("lost", u2c, None), Expectation("corrupted", u2c, 0.0)}
    assert not any(found.check == "duplicated" and found.bound is not None for found in plain)
    assert Expectation("corrupted", c2u, None) in _bounds({"lost": 0, "corrupted": "report"})


def test_an_echo_has_messages_in_both_directions() -> None:
    """The messages of clients come back as u2c."""
    made = parse_scenario(_with(upstream={"kind": "echo"}), "mine.yaml")
    assert made.directions == [Direction.C2U, Direction.U2C]
    assert parse_scenario(_with(upstream={"kind": "record"}), "mine.yaml").directions == [Direction.C2U]


HANDSHAKE = {"path": "/rooms/{client}?a=1", "subprotocols": ["chat"], "headers": {"Cookie": "a=b"}}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"handshake": HANDSHAKE}, "handshake: it is for clients of kind plain, reconnecting, visiting, not of kind"),
        ({"leaves": [1000]}, "leaves: it is for clients of kind plain, reconnecting, visiting, not of kind aware"),
        ({"kind": "plain", "handshake": {"path": "rooms"}}, "clients.handshake.path: 'rooms' is not"),
        ({"kind": "plain", "handshake": {"header": {}}}, "clients.handshake: there is no key 'header'"),
        ({"kind": "plain", "leaves": [1006]}, "clients.leaves.0: 1006"),
    ],
)
def test_a_handshake_that_clients_cannot_make_is_refused(changes: dict[str, Any], complaint: str) -> None:
    """Aware clients have handshakes and closes of their own."""
    assert complaint in _complaint(_with(**{f"clients__{key}": value for key, value in changes.items()}))
    assert parse_scenario(_with(clients__kind="plain", clients__handshake=HANDSHAKE, clients__leaves=[4001]), "it")
