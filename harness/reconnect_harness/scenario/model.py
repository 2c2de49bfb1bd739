"""Scenarios: one story of faults each, as data. What a file may say, and where it is wrong if it is.

    name: upstream-flap
    group: links                                         # where it is listed; `other` if it is not said
    summary: The upstream link is cut five times while twenty clients keep talking.
    proxy: {mode: duplex, retry_for: 30s}                # options of `reconnect-proxy serve`
    upstream: {kind: aware, push: 100/s}                 # peers.upstreams; size, type, compress as for clients
    clients: {kind: aware, count: 20, send: 100/s, size: [16, 4KiB], type: mixed, compress: false, for: 8s}
    containers: {db: {image: "postgres:17"}}             # reconnect_harness.containers.spec; `upstream` may be one too
    faults:                                              # faults.fault
      - {at: 1s, link: upstream, do: down, for: 400ms, times: 5, every: 1.2s}
    expect: {lost: 0, reordered: 0, duplicated: 0, client_disconnects: 0, recovery_p99: 2s}
    settle: 5s                                           # how long nothing new may come before the run is over

With `tls` (client, upstream, both) the ends speak TLS to the system under test: see `processes.certificates`.
Instead of `proxy` there may be `chain`, the options of each of several in a row: [{mode: sender}, {mode: receiver}].
With `count` upstreams a proxy gets them all; they and their links are then called upstream-1, upstream-2 …
A moment or number of a fault may be a range, `1s..7s`, from which the seed draws. In `expect` each key bounds a checker
(checks.checkers) in both directions; under `c2u` or `u2c` in that one; `report` asserts nothing. Messages may never be
corrupted unless `corrupted` says otherwise.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from reconnect_harness import values as given
from reconnect_harness.checks.checkers import Expectation
from reconnect_harness.containers.spec import ContainerSpec
from reconnect_harness.faults.fault import Extent, Fault
from reconnect_harness.history.message import Direction
from reconnect_harness.peers import clients
from reconnect_harness.peers.workload import MIXED, Workload
from reconnect_harness.processes.certificates import TlsSide
from reconnect_harness.scenario.expect import expectations
from reconnect_harness.scenario.fault_entry import fault
from reconnect_harness.scenario.upstream_spec import UpstreamSpec
from reconnect_harness.section import MessageType, Rate, Seconds, Section, Sizes, known
from reconnect_proxy import Config

#: The groups in which scenarios are listed, and what they are about.
GROUPS = {
    "peace": "nothing goes wrong",
    "links": "the network misbehaves",
    "processes": "programs are killed, stopped, restarted",
    "containers": "containers are killed, frozen, cut off: these need a container engine",
    "upstreams": "the server misbehaves, or speaks first",
    "endings": "sessions end, or are claimed by others",
    "modes": "sender and receiver",
    "load": "much of everything",
    "other": "of your own",
}

#: Options of the proxy that a run sets itself.
_OURS = (
    *("upstream", "listen", "admin", "log_format"),
    *("tls_cert", "tls_key", "upstream_ca", "upstream_cert", "upstream_key"),
)


#: What stands for all scenarios that are shipped.
ALL = "all"


#: What can be expected only where the upstream keeps a record, or the system under test is looked at by itself.
_SEEN_BY_UPSTREAM = ("c2u", "upstream_connections", "upstream_close", "passed_on", "leaks", "memory")


class ScenarioError(Exception):
    """A scenario does not exist or cannot be run. The message is a sentence: where, what was found, what is allowed."""


class SlowSpec(Section):
    """Clients, the first ones, that read slowly while the traffic lasts, and as fast as they can afterwards."""

    count: int = Field(1, ge=1)
    takes: Rate = Field(gt=0)


class VisitsSpec(Section):
    """How clients come and go: each stays, is away, and comes again, one after the other and equally often."""

    stay: Seconds = Field(gt=0)
    away: Seconds = Field(gt=0)


class AbsenceSpec(Section):
    """How long after the begin of the traffic a half-open or vanishing client is absent, and for how long."""

    after: Seconds = 1.0
    lasts: Seconds = Field(2.0, alias="for")


class ClientsSpec(Section):
    """The clients, what each of them sends, and for how long."""

    kind: Annotated[str, known("kind of client", clients.KINDS)]
    count: int = Field(1, ge=1, le=100_000)
    send: Rate = 0.0
    size: Sizes = (16, 4096)
    type: MessageType = MIXED
    compress: bool = False
    lasts: Seconds = Field(alias="for", gt=0)
    ping: Seconds | None = Field(None, gt=0)
    slow: SlowSpec | None = None
    absence: AbsenceSpec = AbsenceSpec.model_validate({})
    visits: VisitsSpec | None = None

    @model_validator(mode="after")
    def _visits(self) -> ClientsSpec:
        if (self.kind == "visiting") != (self.visits is not None):
            raise ValueError("clients of kind visiting, and no others, need `visits`, such as {stay: 500ms, away: 1s}")
        return self

    @property
    def load(self) -> Workload:
        """What each client sends."""
        return Workload(self.send, *self.size, self.type)


def proxy_options(value: object) -> object:
    """Return options of the proxy, checked as the proxy will; ValueError says what is wrong with them."""
    options = given.mapping(value, "of options of `reconnect-proxy serve`")
    for key in options:
        given.one_of("option", key, [name for name in Config.model_fields if name not in _OURS])
    try:
        Config(upstream="ws://127.0.0.1:1", **options)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][0]}: {_sentence(dict(first))}") from None
    return options


def numbered(name: str, count: int) -> list[str]:
    """Return what the parts of one sort are called: `name` if there is one, else `name-1`, `name-2` …"""
    return [name] if count == 1 else [f"{name}-{index}" for index in range(1, count + 1)]


class Scenario(Section):
    """One scenario, checked. See the module's text for its keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    summary: str
    group: Annotated[str, known("group", GROUPS)] = "other"
    proxy: Annotated[dict[str, Any], BeforeValidator(proxy_options)] = Field(default_factory=dict)
    chain: list[Annotated[dict[str, Any], BeforeValidator(proxy_options)]] = Field(default_factory=list)
    tls: Annotated[TlsSide | None, known("side for `tls`", TlsSide)] = None
    upstream: UpstreamSpec
    clients: ClientsSpec
    containers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")], ContainerSpec] = Field(
        default_factory=dict
    )
    faults: list[Annotated[Fault, BeforeValidator(fault)]] = Field(default_factory=list)
    expect: Annotated[list[Expectation], BeforeValidator(expectations)]
    settle: Seconds = Field(5.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _asks_what_is_seen(cls, value: object) -> object:
        if not isinstance(value, dict) or not isinstance(value.get("expect"), dict):
            return value
        upstream = value.get("upstream")
        if isinstance(upstream, dict) and ("image" in upstream or "label" in upstream):
            unseen = [key for key in _SEEN_BY_UPSTREAM if key in value["expect"]]
            if unseen:
                raise ValueError(
                    f"expect: {unseen[0]} is what an upstream of ours sees, and this one is a container: what the "
                    "clients sent and got back stands at the top, or under u2c"
                )
        return value

    @model_validator(mode="after")
    def _somebody_talks(self) -> Scenario:
        if not self.directions:
            raise ValueError("nobody says anything: give clients `send`, or the upstream `push`")
        return self

    @model_validator(mode="after")
    def _one_proxy_or_a_chain(self) -> Scenario:
        if self.chain and self.proxy:
            raise ValueError("there is `proxy` and `chain`: give the options of one proxy, or of each in a chain")
        return self

    @model_validator(mode="after")
    def _containers_are_told_apart(self) -> Scenario:
        ours = [*self.upstream_names, *self.proxy_names, "upstream", "clients"]
        for name, spec in self.containers.items():
            if name in ours:
                raise ValueError(f"containers.{name}: {name} is the name of another part; call it something else")
            if not spec.is_container:
                raise ValueError(f"containers.{name}: it needs `image`, to start one, or `label`, for one that runs")
        if self.upstream.is_container and self.tls_upstream:
            raise ValueError(f"tls: an upstream in a container has no certificate of ours: {self.tls} cannot be had")
        return self

    @model_validator(mode="after")
    def _targets_are_there(self) -> Scenario:
        theirs = self.upstream_names if self.upstream.is_container else []
        there = {
            "link": self.link_names,
            "process": [*(() if theirs else self.upstream_names), *self.proxy_names, "clients"],
            "container": [*theirs, *self.containers],
        }
        for index, done in enumerate(self.faults):
            sort = done.kind.target
            if done.target not in there[sort]:
                named = f"there is {', '.join(there[sort]) or 'none'}"
                if done.target in theirs:
                    named = f"{done.target} is a container: write `container`"
                elif sort == "container" and done.target in there["process"]:
                    named = f"{done.target} is a process here: write `process`, or let it be a container by `image`"
                elif sort == "container":
                    named += ": name it under `containers`"
                raise ValueError(f"faults.{index}: no {sort} is called {done.target}; {named}")
            if done.target in self.proxy_names and done.kind.extent is Extent.EITHER and done.lasts is not None:
                raise ValueError(f"faults.{index}: {done.do} of a proxy has no `for`: it is not started again")
            if done.do in ("disconnect", "connect") and not self.container_specs[done.target].has_network:
                raise ValueError(
                    f"faults.{index}: {done.target} is on the host's network, which it cannot be taken off or given "
                    "another beside: give it one of its own, `network: NAME`"
                )
        return self

    @property
    def container_specs(self) -> dict[str, ContainerSpec]:
        """What is said about each container, by name, in the order in which they are started."""
        upstreams = self.upstream_names if self.upstream.is_container else []
        return {**self.containers, **dict.fromkeys(upstreams, self.upstream)}

    @property
    def tls_client(self) -> bool:
        """Whether clients speak TLS."""
        return self.tls in (TlsSide.CLIENT, TlsSide.BOTH)

    @property
    def tls_upstream(self) -> bool:
        """Whether upstreams speak TLS."""
        return self.tls in (TlsSide.UPSTREAM, TlsSide.BOTH)

    @property
    def proxies(self) -> list[dict[str, Any]]:
        """The options of each proxy, from the clients to the upstream."""
        return self.chain or [self.proxy]

    @property
    def proxy_names(self) -> list[str]:
        """What the proxies are called, from the clients to the upstream."""
        return numbered("proxy", len(self.proxies))

    @property
    def upstream_names(self) -> list[str]:
        """What the upstreams are called."""
        return numbered("upstream", self.upstream.count)

    @property
    def link_names(self) -> list[str]:
        """What the links are called, from the clients to the upstreams: `client`, `middle` in a chain, `upstream`."""
        between = len(self.proxies) - 1
        return ["client", *(numbered("middle", between) if between else []), *self.upstream_names]

    @property
    def shared(self) -> bool:
        """Whether all clients have one session: those of a receiver that name none."""
        unnamed = self.clients.kind in ("plain", "visiting")
        return unnamed and not self.chain and self.proxy.get("mode") == "receiver"

    @property
    def watches(self) -> bool:
        """Whether it matters what the system under test holds before the clients come, and then."""
        return any(expected.check in ("leaks", "memory") for expected in self.expect)

    @property
    def directions(self) -> list[Direction]:
        """The directions in which messages are to flow."""
        flows = {
            Direction.C2U: self.clients.send > 0,
            Direction.U2C: self.upstream.push > 0 or (self.upstream.kind == "echo" and self.clients.send > 0),
        }
        return [direction for direction, flowing in flows.items() if flowing]

    @property
    def links(self) -> list[str]:
        """The links that faults are done to."""
        targets = {done.target for done in self.faults if done.kind.target == "link"}
        return [link for link in self.link_names if link in targets]


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: it cannot be read, or is wrong.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise ScenarioError(f"{path}: it cannot be read: {failure}") from None
    try:
        said = yaml.load(text, _Loader)
    except yaml.YAMLError as failure:
        raise ScenarioError(f"{path}: it is not YAML: {_complaint(failure)}") from None
    except RecursionError:
        raise ScenarioError(f"{path}: it cannot be read: lists and mappings lie too deep in each other") from None
    return parse(said, str(path))


def parse(said: object, origin: str) -> Scenario:
    """Make a scenario of what a file says; `origin` is what errors call the file."""
    try:
        return Scenario.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        at = f"{where}: " if where else ""
        raise ScenarioError(f"{origin}: {at}{_sentence(dict(first))}") from None


def find(wanted: str) -> list[Path]:
    """Return the files that a name, a file, a folder or `all` stands for.

    Raises:
        ScenarioError: there is no such thing.

    """
    if wanted == ALL:
        return sorted(shipped().values())
    path = Path(wanted)
    if wanted in shipped() and not path.is_file():
        return [shipped()[wanted]]
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        if not found:
            raise ScenarioError(f"the folder {wanted} holds no scenario (*.yaml)")
        return found
    hint = given.close_to(wanted, shipped())
    raise ScenarioError(
        f"there is no scenario {wanted!r}: {hint}It may be a file, a folder, all, or one that `reconnect-harness list` "
        "shows"
    )


def shipped() -> dict[str, Path]:
    """Return the scenarios that come with the harness, by name: in the wheel, or else in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "scenarios", package.parents[1] / "scenarios"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    return {}


def _complaint(failure: yaml.YAMLError) -> str:
    """Return what is wrong with a YAML file, and where, in one line."""
    mark = getattr(failure, "problem_mark", None)
    if mark is None:
        return " ".join(str(failure).split())
    context, problem = (getattr(failure, name, None) for name in ("context", "problem"))
    what = ": ".join(filter(None, (context, problem)))
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}"


def _sentence(problem: dict[str, Any]) -> str:
    """Return what pydantic has found as a sentence of ours."""
    if problem["type"] == "missing":
        return "it is missing"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{problem['input']!r} will not do: {problem['msg'][0].lower()}{problem['msg'][1:]}"


class _Loader(yaml.SafeLoader):
    """A SafeLoader to which a key that is there twice is an error: YAML would take the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
