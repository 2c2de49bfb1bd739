"""Scenarios as data: what a scenario file may say, and what is wrong where it is not valid.

    name: upstream-flap
    group: links                                         # where it is listed; `other` if it is not given
    profiles: [transparent]                              # which it fits: scenario.fit derives it if it is not given
    summary: The upstream link is cut five times while twenty clients keep talking.
    proxy: {mode: duplex, retry_for: 30s}                # options of `reconnect-proxy serve`
    upstream: {kind: aware, push: 100/s}                 # scenario.upstream_spec
    clients: {kind: aware, count: 20, send: 100/s, size: [16, 4KiB], type: mixed, compress: false, for: 8s}
    adapter: my_tests.chat:ChatAdapter                   # adapters.find: with an application of your own
    containers: {db: {image: "postgres:17"}}             # containers.spec; `upstream` may be a container too
    faults:                                              # scenario.fault_entry
      - {at: 1s, link: upstream, do: down, for: 400ms, times: 5, every: 1.2s}
    expect: {lost: 0, reordered: 0, duplicated: 0, client_disconnects: 0, recovery_p99: 2s}
    settle: 5s                                           # how long nothing new may arrive before the run is over

With `tls` (client, upstream, both) the ends speak TLS to the system under test: see `processes.certificates`.
`chain` replaces `proxy` and has the options of several proxies in a row: [{mode: sender}, {mode: receiver}].
With `count` upstreams a proxy gets them all; they and their links are then called upstream-1, upstream-2 …
A time or number of a fault may be a range, `1s..7s`, from which the seed draws. In `expect` each key bounds a checker
(checks.checkers) in both directions; under `c2u` or `u2c` in that one; `report` asserts nothing. Messages may never be
corrupted unless `corrupted` says otherwise.

`scenario.find` finds and reads the files.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from reconnect_harness.adapters.find import AdapterChoice
from reconnect_harness.checks.checkers import RESOURCES
from reconnect_harness.checks.judgement import Expectation
from reconnect_harness.containers.spec import ContainerSpec
from reconnect_harness.faults.fault import Extent, Fault
from reconnect_harness.faults.link_faults import LINK
from reconnect_harness.history.audience import Audience, To
from reconnect_harness.history.message import Direction
from reconnect_harness.peers.kinds import UNNAMED_CLIENTS, UpstreamKind
from reconnect_harness.processes.certificates import TlsSide
from reconnect_harness.profile import Profile
from reconnect_harness.scenario.clients_spec import ClientsSpec
from reconnect_harness.scenario.expect import expectations
from reconnect_harness.scenario.fault_entry import fault
from reconnect_harness.scenario.upstream_spec import FOREIGN, UpstreamSpec
from reconnect_harness.values import PositiveSeconds, Section, first_problem, known, mapping, one_of
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
_RUN_OPTIONS = (
    *("upstream", "listen", "admin", "log_format"),
    *("tls_cert", "tls_key", "upstream_ca", "upstream_cert", "upstream_key"),
)

#: Expectations that need an upstream that records, or a look at the system under test itself.
_SEEN_BY_UPSTREAM = ("c2u", "upstream_connections", "upstream_close", "passed_on", "passed_up", "leaks", "memory")


class ScenarioError(Exception):
    """A scenario does not exist or cannot be run. The message is a sentence: where, what was found, what is allowed."""


def proxy_options(value: object) -> object:
    """Return options of the proxy, checked by the proxy's own rules; ValueError says what is wrong with them."""
    options = mapping(value, "of options of `reconnect-proxy serve`")
    for key in options:
        one_of("option", key, [name for name in Config.model_fields if name not in _RUN_OPTIONS])
    try:
        Config(upstream="ws://127.0.0.1:1", **options)
    except ValidationError as error:
        path, sentence = first_problem(error)
        raise ValueError(f"{path}: {sentence}") from None
    return options


def numbered(name: str, count: int) -> list[str]:
    """Return the names of `count` parts of one kind: `name` for a single one, else `name-1`, `name-2` …"""
    return [name] if count == 1 else [f"{name}-{index}" for index in range(1, count + 1)]


class Scenario(Section):
    """One scenario, checked. See the module's text for its keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    summary: str
    group: Annotated[str, known("group", GROUPS)] = "other"
    profiles: list[Annotated[Profile, known("profile", Profile)]] = Field(default_factory=list)
    proxy: Annotated[dict[str, Any], BeforeValidator(proxy_options)] = Field(default_factory=dict)
    chain: list[Annotated[dict[str, Any], BeforeValidator(proxy_options)]] = Field(default_factory=list)
    tls: Annotated[TlsSide | None, known("side for `tls`", TlsSide)] = None
    upstream: UpstreamSpec
    clients: ClientsSpec
    containers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")], ContainerSpec] = Field(
        default_factory=dict
    )
    adapter: Annotated[AdapterChoice | None, BeforeValidator(AdapterChoice.of)] = None
    faults: list[Annotated[Fault, BeforeValidator(fault)]] = Field(default_factory=list)
    expect: Annotated[list[Expectation], BeforeValidator(expectations)]
    settle: PositiveSeconds = 5.0

    @model_validator(mode="before")
    @classmethod
    def _expects_only_what_can_be_seen(cls, value: object) -> object:
        if not isinstance(value, dict) or not isinstance(value.get("expect"), dict):
            return value
        upstream = value.get("upstream")
        if isinstance(upstream, dict) and FOREIGN & upstream.keys():
            unseen = [key for key in _SEEN_BY_UPSTREAM if key in value["expect"]]
            if unseen:
                raise ValueError(
                    f"expect: {unseen[0]} needs an upstream of the harness, and this one is not: expect what "
                    "the clients sent and got back, at the top or under u2c"
                )
        return value

    @model_validator(mode="after")
    def _has_messages(self) -> Scenario:
        if not self.directions:
            raise ValueError("no messages are sent: give clients `send`, or the upstream `push`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _programs_and_adapters_take_text(cls, value: object) -> object:
        clients = value.get("clients") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(clients, dict):
            return value
        if ("adapter" in value or "command" in clients) and clients.setdefault("type", "text") != "text":
            raise ValueError(f"clients.type: an adapter or a `command` takes text only, not {clients['type']}")
        return value

    @model_validator(mode="after")
    def _adapters_pack_stamps(self) -> Scenario:
        if self.adapter is not None and self.clients.shapes:
            raise ValueError("clients.shapes: an adapter packs messages that say their number, and shapes may be empty")
        return self

    @model_validator(mode="after")
    def _messages_have_receivers(self) -> Scenario:
        if self.adapter is not None:
            kind, count = self.adapter.adapter_class(), self.clients.count
            if kind.to is To.OTHERS and count < 2 * kind.rooms:
                raise ValueError(f"clients.count: {count} clients in {kind.rooms} rooms: `others` needs two in each")
            if self.clients.handshake is not None:
                raise ValueError("clients.handshake: an adapter has its own path and subprotocols")
        return self

    @model_validator(mode="after")
    def _one_proxy_or_a_chain(self) -> Scenario:
        if self.chain and self.proxy:
            raise ValueError("there is `proxy` and `chain`: give the options of one proxy, or of each in a chain")
        return self

    @model_validator(mode="after")
    def _names_of_containers_are_unique(self) -> Scenario:
        taken = [*self.upstream_names, *self.proxy_names, "upstream", "clients"]
        for name, spec in self.containers.items():
            if name in taken:
                raise ValueError(f"containers.{name}: {name} is the name of another part; use another name")
            if not spec.is_container:
                raise ValueError(f"containers.{name}: it needs `image`, to start one, or `label`, for one that runs")
        if self.upstream.is_foreign and self.tls_upstream:
            what = "a container" if self.upstream.is_container else "a program of your own"
            raise ValueError(
                f"tls: {self.tls} needs an upstream with a certificate of the run, which {what} does not have"
            )
        return self

    @model_validator(mode="after")
    def _targets_exist(self) -> Scenario:
        boxed = self.upstream_names if self.upstream.is_container else []
        names = {
            "link": self.link_names,
            "process": [*(() if boxed else self.upstream_names), *self.proxy_names, "clients"],
            "container": [*boxed, *self.containers],
        }
        for index, done in enumerate(self.faults):
            kind = done.kind.target_kind.name
            if done.target not in names.get(kind, [done.target]):
                hint = f"there is {', '.join(names[kind]) or 'none'}"
                if done.target in boxed:
                    hint = f"{done.target} is a container: write `container`"
                elif kind == "container" and done.target in names["process"]:
                    hint = f"{done.target} is a process here: write `process`, or make it a container with `image`"
                elif kind == "container":
                    hint += ": name it under `containers`"
                raise ValueError(f"faults.{index}: no {kind} is called {done.target}; {hint}")
            if done.target in self.proxy_names and done.kind.extent is Extent.EITHER and done.lasts is not None:
                raise ValueError(f"faults.{index}: {done.name} of a proxy has no `for`: it is not started again")
            if done.kind.takes_network and not self.container_specs[done.target].has_network:
                raise ValueError(
                    f"faults.{index}: {done.target} is on the host's network, from which it cannot be disconnected: "
                    "give it a network of its own, `network: NAME`"
                )
        return self

    @property
    def container_specs(self) -> dict[str, ContainerSpec]:
        """The spec of each container by name, in the order in which they are started."""
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
        """The names of the proxies, from the clients to the upstream."""
        return numbered("proxy", len(self.proxies))

    @property
    def upstream_names(self) -> list[str]:
        """The names of the upstreams."""
        return numbered("upstream", self.upstream.count)

    @property
    def link_names(self) -> list[str]:
        """The names of the links, from the clients to the upstreams: `client`, `middle` in a chain, `upstream`."""
        between = len(self.proxies) - 1
        return ["client", *(numbered("middle", between) if between else []), *self.upstream_names]

    @property
    def shared(self) -> bool:
        """Whether all clients have one session: those of a receiver that name none."""
        return self.clients.kind in UNNAMED_CLIENTS and not self.chain and self.proxy.get("mode") == "receiver"

    @property
    def audience(self) -> Audience | None:
        """Which clients have to receive what a client sends, with an adapter."""
        return None if self.adapter is None else self.adapter.audience(self.clients.count)

    @property
    def watches(self) -> bool:
        """Whether the resources of the system under test are measured, before and while it has clients."""
        return any(expected.check in RESOURCES for expected in self.expect)

    @property
    def directions(self) -> list[Direction]:
        """The directions in which messages are to flow."""
        sends = self.clients.send > 0
        flows = {
            Direction.C2U: sends,
            Direction.U2C: self.upstream.push > 0 or (self.upstream.kind is UpstreamKind.ECHO and sends),
        }
        return [direction for direction, flowing in flows.items() if flowing]

    @property
    def links(self) -> list[str]:
        """The links that faults are done to."""
        targets = {done.target for done in self.faults if done.kind.target_kind is LINK}
        return [link for link in self.link_names if link in targets]
