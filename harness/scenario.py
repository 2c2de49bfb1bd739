"""Scenarios: one story of faults each, as data. What a file may say, and where it is wrong if it is.

    name: upstream-flap
    summary: The upstream link is cut five times while twenty clients keep talking.
    proxy: {mode: duplex, retry_for: 30s}                # options of `reconnect-proxy serve`
    upstream: {kind: aware, push: 100/s}                 # harness.upstreams; size, type as for clients
    clients: {kind: aware, count: 20, send: 100/s, size: [16, 4KiB], type: mixed, for: 8s}
    faults:                                              # harness.faults
      - {at: 1s, link: upstream, do: down, for: 400ms, times: 5, every: 1.2s}
    expect: {lost: 0, reordered: 0, duplicated: 0, client_disconnects: 0, recovery_p99: 2s}
    settle: 5s                                           # how long nothing new may come before the run is over

A moment or number of a fault may be a range, `1s..7s`, from which the seed draws. In `expect` each key bounds a checker
(harness.checkers) in both directions; under `c2u` or `u2c` in that one; `report` asserts nothing. Messages may never be
corrupted unless `corrupted` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness import clients, upstreams
from harness.checkers import RUN_CHECKERS, STREAM_CHECKERS, Expectation
from harness.faults import FAULTS, Fault
from harness.links import TOXICS
from harness.message import Direction, Kind
from harness.workload import MIXED, Workload
from reconnect_proxy.config import Config
from reconnect_proxy.units import parse_duration, parse_size

#: The links of a topology: clients -> [client] -> system under test -> [upstream] -> upstream.
LINKS = ("upstream", "client")

#: The processes that a fault may be done to.
PROCESSES = ("upstream", "proxy", "clients")

#: What `expect` says of a checker that is to assert nothing.
REPORT = "report"

T = TypeVar("T")


class ScenarioError(Exception):
    """A scenario does not exist or cannot be run. The message is one sentence: where, what was found, what is allowed."""


def close_to(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X? ` where `word` is nearly one of `known`, else nothing."""
    near = get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]}? " if near else ""


def _known(what: str, known: Iterable[str]) -> BeforeValidator:
    names = list(known)

    def check(given: object) -> object:
        if given not in names:
            hint = close_to(str(given), names)
            raise ValueError(f"there is no {what} {given!r}; {hint}There are {', '.join(names)}")
        return given

    return BeforeValidator(check)


def _rate(given: object) -> float:
    """Return messages a second of `100/s`, `30/m` or a plain number."""
    if isinstance(given, (int, float)) and not isinstance(given, bool) and given >= 0:
        return float(given)
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?/ ?(s|m)", given) if isinstance(given, str) else None
    if found is None:
        raise ValueError(f"{given!r} is not a rate: write it as 100/s, 30/m or a plain number a second")
    return float(found[1]) / (1 if found[2] == "s" else 60)


def _sizes(given: object) -> tuple[int, int]:
    """Return the least and the most bytes of `[16, 4KiB]` or of one size."""
    bounds: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given, given]
    if len(bounds) != 2:
        raise ValueError(f"{given!r} is neither one size nor [least, most]")
    least, most = parse_size(bounds[0]), parse_size(bounds[1])
    if least > most:
        raise ValueError(f"the least size, {bounds[0]}, is more than the most, {bounds[1]}")
    return least, most


def _span(parse: Callable[[Any], T], given: object) -> T | tuple[T, T]:
    """Return what `parse` makes of a value, or of both ends of a range `1s..7s`."""
    if isinstance(given, str) and ".." in given:
        least, _, most = given.partition("..")
        return parse(least.strip()), parse(most.strip())
    return parse(given)


Rate = Annotated[float, BeforeValidator(_rate)]
Sizes = Annotated[tuple[int, int], BeforeValidator(_sizes)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
MessageKind = Annotated[str, _known("type of message", [MIXED, *Kind])]


class _Section(BaseModel):
    """A mapping of a scenario file; a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, given: object) -> object:
        if not isinstance(given, dict):
            raise ValueError(f"{given!r} is not a mapping of {', '.join(cls._keys())}")
        for key in given:
            if key not in cls._keys():
                hint = close_to(str(key), cls._keys())
                raise ValueError(f"there is no key {key!r}; {hint}There are {', '.join(cls._keys())}")
        return given

    @classmethod
    def _keys(cls) -> list[str]:
        return [field.alias or name for name, field in cls.model_fields.items()]


class UpstreamSpec(_Section):
    """The mock upstream behind the system under test, and what it pushes to each client."""

    kind: Annotated[str, _known("kind of upstream", upstreams.KINDS)]
    push: Rate = 0.0
    size: Sizes = (16, 4096)
    type: MessageKind = MIXED

    @model_validator(mode="after")
    def _pushes(self) -> UpstreamSpec:
        if self.kind == "push" and not self.push:
            raise ValueError("an upstream of kind push needs `push`: how much, for instance 100/s")
        return self

    @property
    def load(self) -> Workload:
        """What it pushes to each client."""
        return Workload(self.push, *self.size, self.type)


class ClientsSpec(_Section):
    """The clients, what each of them sends, and for how long."""

    kind: Annotated[str, _known("kind of client", clients.KINDS)]
    count: int = Field(1, ge=1, le=100_000)
    send: Rate = 0.0
    size: Sizes = (16, 4096)
    type: MessageKind = MIXED
    lasts: Seconds = Field(alias="for", gt=0)

    @property
    def load(self) -> Workload:
        """What each client sends."""
        return Workload(self.send, *self.size, self.type)


_FAULT_KEYS = ("at", "do", "link", "process", "for", "times", "every", "stream", "toxicity")


def _fault(given: object) -> object:
    """Make a `Fault` of a mapping: its keys are those of the fault and, beside them, the attributes of its toxic."""
    if isinstance(given, Fault):
        return given
    if not isinstance(given, dict):
        raise ValueError(f"{given!r} is not a mapping such as {{at: 1s, link: upstream, do: down, for: 400ms}}")
    for key in ("do", "at"):
        if key not in given:
            raise ValueError(f"a fault needs `{key}`; it has {', '.join(map(str, given)) or 'nothing'}")
    do = given["do"]
    if do not in FAULTS:
        raise ValueError(f"there is no fault {do!r}; {close_to(str(do), FAULTS)}There are {', '.join(FAULTS)}")
    kind = FAULTS[do]
    attributes = TOXICS[kind.toxic] if kind.toxic else {}
    others = [key for key in given if key not in _FAULT_KEYS]
    for key in others:
        if key not in attributes:
            known = [*_FAULT_KEYS, *attributes]
            raise ValueError(f"{do} has no key {key!r}; {close_to(str(key), known)}There are {', '.join(known)}")
    target = _target(given, do, kind.target)
    times = given.get("times", 1)
    if isinstance(times, bool) or not isinstance(times, int):
        raise ValueError(f"times is {times!r}; it must be a whole number")
    try:
        toxicity = float(given.get("toxicity", 1.0))
    except (TypeError, ValueError):
        raise ValueError(f"toxicity is {given['toxicity']!r}; it must be a number from 0 to 1") from None
    return Fault(
        do,
        target,
        _span(parse_duration, given["at"]),
        lasts=_span(parse_duration, given["for"]) if "for" in given else None,
        times=times,
        every=_span(parse_duration, given["every"]) if "every" in given else None,
        stream=given.get("stream", "both"),
        toxicity=toxicity,
        attributes={key: _span(_UNITS[attributes[key].unit], given[key]) for key in others},
    )


def _target(given: Mapping[str, Any], do: str, kind: str) -> str:
    """Return the name of the link or process that a fault is done to."""
    other = "process" if kind == "link" else "link"
    if kind not in given or other in given:
        raise ValueError(f"{do} is done to a {kind}: it needs `{kind}`, and not `{other}`")
    target, known = given[kind], LINKS if kind == "link" else PROCESSES
    if target not in known:
        hint = close_to(str(target), known)
        raise ValueError(f"there is no {kind} {target!r}; {hint}There are {', '.join(known)}")
    return str(target)


def _kilobytes(given: Any) -> int:
    text = given.removesuffix("/s") if isinstance(given, str) else given
    return parse_size(text) // 1000 if isinstance(text, str) and not text.isdigit() else int(text)


def _scaled(scale: int) -> Callable[[Any], int]:
    # A plain number is in the toxic's own unit, as in Toxiproxy.
    return lambda given: round(parse_duration(given) * scale) if isinstance(given, str) else int(given)


#: How the attributes of toxics are read, by their unit.
_UNITS: Mapping[str, Callable[[Any], int]] = {
    "ms": _scaled(1_000),
    "us": _scaled(1_000_000),
    "bytes": parse_size,
    "KB/s": _kilobytes,
}


def _expectations(given: object) -> object:
    """Make the list of expectations of the mapping that a scenario has."""
    if isinstance(given, (list, tuple)):
        return given
    keys = [*STREAM_CHECKERS, *RUN_CHECKERS, *Direction]
    if not isinstance(given, dict) or not given:
        raise ValueError(f"{given!r} is not a mapping such as {{lost: 0}}; it may bound {', '.join(keys)}")
    bounds: dict[tuple[str, Direction | None], float | None] = {
        ("corrupted", direction): 0.0 for direction in Direction
    }
    for key, bound in given.items():
        if key in RUN_CHECKERS:
            bounds[key, None] = _bound(key, bound)
        elif key in STREAM_CHECKERS:
            bounds |= {(key, direction): _bound(key, bound) for direction in Direction}
        elif key not in keys:
            raise ValueError(f"there is no checker {key!r}; {close_to(str(key), keys)}There are {', '.join(keys)}")
    # After the others: one direction's word is the last.
    for direction in Direction:
        for key, bound in _one_direction(given.get(direction, {}), direction).items():
            bounds[key, direction] = bound
    if not any(bound is not None for (check, _), bound in bounds.items() if check != "corrupted"):
        raise ValueError("nothing is asserted: bound at least one checker")
    return [Expectation(check, direction, bound) for (check, direction), bound in bounds.items()]


def _one_direction(given: object, direction: Direction) -> dict[str, float | None]:
    if given == REPORT:
        return {check: None for check in STREAM_CHECKERS if check != "corrupted"}
    if not isinstance(given, dict):
        raise ValueError(f"{direction} is {given!r}: it may be {REPORT}, or a mapping such as {{lost: 0}}")
    for key in given:
        if key not in STREAM_CHECKERS:
            hint = close_to(str(key), STREAM_CHECKERS)
            known = ", ".join(STREAM_CHECKERS)
            raise ValueError(f"there is no checker {key!r} of {direction}; {hint}There are {known}")
    return {key: _bound(key, bound) for key, bound in given.items()}


def _bound(key: str, given: object) -> float | None:
    if given == REPORT:
        return None
    if key.startswith("recovery"):
        return parse_duration(given)  # type: ignore[arg-type]  # it refuses what is neither text nor number
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{key} is {given!r}: it may be a whole number, 0 or more, or {REPORT}")
    return float(given)


def _options(given: object) -> object:
    """Check the options of the proxy as the proxy will."""
    if not isinstance(given, dict):
        raise ValueError(f"{given!r} is not a mapping of options of `reconnect-proxy serve`")
    ours = ("upstream", "listen", "admin", "log_format")
    known = [name for name in Config.model_fields if name not in ours]
    for key in given:
        if key not in known:
            raise ValueError(f"there is no option {key!r}; {close_to(str(key), known)}There are {', '.join(known)}")
    try:
        Config(upstream="ws://127.0.0.1:1", **given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{first['loc'][0]}: {_sentence(dict(first))}") from None
    return given


class Scenario(_Section):
    """One scenario, checked. See the module's text for its keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    summary: str
    proxy: Annotated[dict[str, Any], BeforeValidator(_options)] = {}
    upstream: UpstreamSpec
    clients: ClientsSpec
    faults: list[Annotated[Fault, BeforeValidator(_fault)]] = []
    expect: Annotated[list[Expectation], BeforeValidator(_expectations)]
    settle: Seconds = Field(5.0, gt=0)

    @model_validator(mode="after")
    def _somebody_talks(self) -> Scenario:
        if not self.directions:
            raise ValueError("nobody says anything: give clients `send`, or the upstream `push`")
        return self

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
        targets = {fault.target for fault in self.faults if FAULTS[fault.do].target == "link"}
        return [link for link in LINKS if link in targets]


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: it cannot be read, or is wrong: the message names the file, the path in it, what was found and what
            is allowed.

    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as failure:
        raise ScenarioError(f"{path}: it cannot be read: {failure}") from None
    try:
        given = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader, see below
    except yaml.YAMLError as failure:
        raise ScenarioError(f"{path}: it is not YAML: {' '.join(str(failure).split())}") from None
    return parse(given, str(path))


def parse(given: object, origin: str) -> Scenario:
    """Make a scenario of what a file says; `origin` is what errors call the file."""
    try:
        return Scenario.model_validate(given)
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
    if wanted == "all":
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
    hint = close_to(wanted, shipped())
    raise ScenarioError(
        f"there is no scenario {wanted!r}: {hint}It may be a file, a folder, all, or one of {', '.join(shipped())}"
    )


def shipped() -> dict[str, Path]:
    """Return the scenarios that come with the harness, by name: in the wheel, or else in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "scenarios", package.parent / "scenarios"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    return {}


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
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
