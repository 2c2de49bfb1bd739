"""Random scenarios: Hypothesis strategies for scenario files, and what every correct proxy guarantees in each of them.

A strategy draws the mapping that a YAML file would contain, so a failure is a scenario file already. In every choice
the simplest value comes first, since Hypothesis shrinks towards it.

`guarantees` derives `expect` from what was drawn, by the table of PROTOCOL.md section 2. It depends on the side that
has faults: a slow link loses nothing, a link that is cut loses what an ordinary peer had written into it, and only a
peer that counts gets each message once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from hypothesis import strategies as st

from reconnect_harness.profile import Profile
from reconnect_harness.scenario.model import numbered

#: The content of a scenario file.
Said = dict[str, Any]


class Level(StrEnum):
    """How timelines are run: with sockets and processes, or by `simulate.simulation`."""

    REAL = "real"
    SIMULATED = "simulated"


#: Mode, kind of client, kind of upstream. The clients of a receiver must name their sessions: otherwise, also if they
#: are aware, they would share one.
_ONE_PROXY = (
    ("duplex", "aware", "aware"),
    ("duplex", "plain", "record"),
    ("duplex", "plain", "aware"),
    ("duplex", "aware", "record"),
    ("duplex", "reconnecting", "record"),
    ("duplex", "reconnecting", "aware"),
    ("sender", "plain", "aware"),
    ("sender", "plain", "record"),
    ("receiver", "reconnecting", "aware"),
    ("receiver", "reconnecting", "record"),
)

#: The combinations of each level. A chain is a sender before a receiver.
SETUPS: Mapping[Level, tuple[tuple[str, str, str], ...]] = {
    Level.SIMULATED: _ONE_PROXY,
    Level.REAL: (*_ONE_PROXY, ("chain", "plain", "record"), ("chain", "plain", "aware")),
}

#: The combinations for systems that claim less than this project's proxy.
CLAIMED: Mapping[Profile, tuple[tuple[str, str, str], ...]] = {
    Profile.TRANSPARENT: (("duplex", "reconnecting", "record"), ("duplex", "plain", "record")),
    Profile.RECONNECTING: (("duplex", "plain", "record"), ("duplex", "reconnecting", "record")),
    Profile.AT_LEAST_ONCE: (("duplex", "plain", "record"),),
}

#: Faults that make a link lose bytes or end; faults that only make it slow; faults of the process of an upstream.
LETHAL = ("down", "reset", "silence", "cut")
SLOW = ("latency", "bandwidth")
PROCESS = ("stop", "kill")

#: Options with which a silent peer is noticed soon.
BRISK = {"ping_interval": "1s", "ping_timeout": "1s", "connect_timeout": "1s"}

#: How long a fault may last, in milliseconds: less than any grace or retry budget that is drawn.
_LASTING = (50, 1500)

#: In the worst case all queued messages have been delivered so long after the last fault.
_RECOVERY = "15s"


@st.composite
def scenarios(draw: st.DrawFn, level: Level, profile: Profile | None = None) -> Said:
    """Draw a scenario for a level: a topology, a workload, and a timeline of faults.

    `profile` is what the system under test claims; None is this project's proxy, or one that claims the same.
    """
    less = None if profile is Profile.EXACTLY_ONCE else profile
    mode, client, upstream = draw(st.sampled_from(CLAIMED[less] if less else SETUPS[level]))
    lasts = draw(st.integers(10, 30 if level is Level.SIMULATED else 40)) * 100
    count = draw(st.integers(1, 3)) if level is Level.SIMULATED else draw(st.integers(1, 8))
    several = 1
    if level is Level.REAL and upstream == "record" and less is None:
        several = draw(st.sampled_from([1, 1, 2]))
    upstreams = numbered("upstream", several)
    # A client that does not return would have nothing more to say.
    ends = less is Profile.TRANSPARENT and client == "plain"
    faults = _faults(mode, client, upstream, upstreams, lasts, only_slow=ends)
    said: Said = {
        "name": "fuzz",
        "summary": "A random timeline.",
        "upstream": {"kind": upstream, "count": several, **_talk(draw, "push")},
        "clients": {"kind": client, "count": count, **_talk(draw, "send"), "for": f"{lasts}ms"},
        "faults": draw(st.lists(faults, min_size=1, max_size=8 if level is Level.SIMULATED else 6)),
    }
    if draw(st.booleans()):
        # With a high latency, many messages are in flight when a link is cut.
        far = {"do": "latency", "at": "0ms", "for": f"{lasts}ms", "latency": draw(st.integers(10, 200))}
        said["faults"].append({"link": draw(st.sampled_from([*upstreams, "client"])), **far})
    options = {} if less else _options(draw, said, mode)
    if mode == "chain":
        said["chain"] = [{"mode": "sender", **options}, {"mode": "receiver", **options}]
    else:
        said["proxy"] = {"mode": mode, **options}
        if level is Level.SIMULATED and mode == "duplex" and draw(st.booleans()):
            # Then a session ends when its client closes it, and nothing of it may be left.
            said["proxy"]["grace_on"] = "abnormal"
    # A peer that gives a slow link up loses what it had written into it, unless it counts.
    gives_up = {"aware": (*LETHAL, *SLOW), "reconnecting": LETHAL, "plain": ()}[client]
    if "client" in harmed(said, gives_up) and draw(st.booleans()):
        said["clients"]["ping"] = "500ms"
    said["expect"] = guarantees(said, level, less)
    return said


def harmed(said: Said, kinds: Iterable[str]) -> set[str]:
    """Return the sides with one of these faults: client, middle, upstream."""
    named = frozenset(kinds)
    return {_side(fault) for fault in said["faults"] if fault["do"] in named}


def _side(fault: Said) -> str:
    name: str = fault.get("link") or fault["process"]
    return name.partition("-")[0]


def guarantees(said: Said, level: Level, profile: Profile | None = None) -> Said:
    """Return the `expect` of a scenario that was drawn: what every correct proxy of a profile guarantees."""
    if profile is not None:
        return _claimed(said, profile)
    client_counts, upstream_counts = said["clients"]["kind"] == "aware", said["upstream"]["kind"] == "aware"
    lossy = harmed(said, LETHAL) | harmed(said, PROCESS)
    drops = said.get("proxy", {}).get("uncertain") == "drop"
    # An ordinary peer of a cut link: what it had written may be lost, and what was sent to it may arrive twice.
    bad_client = "client" in lossy and not client_counts
    bad_upstream = "upstream" in lossy and not upstream_counts
    c2u, u2c = (
        {
            "reordered": 0,
            "lost": "report" if bad_source or (bad_target and drops) else 0,
            "duplicated": "report" if bad_target and not drops else 0,
        }
        for bad_source, bad_target in ((bad_client, bad_upstream), (bad_upstream, bad_client))
    )
    expect: Said = {"client_disconnects": "report" if bad_client else 0, "c2u": c2u, "u2c": u2c}
    if "report" not in (c2u["lost"], u2c["lost"]):
        expect["recovery_max"] = _RECOVERY
    if level is Level.SIMULATED and _forgets(said):
        expect["leaks"] = 0
    return expect


def _claimed(said: Said, profile: Profile) -> Said:
    """Return what a proxy of a lesser profile guarantees between ordinary peers: see the table of docs/fuzzing.md."""
    lossy = harmed(said, LETHAL) | harmed(said, PROCESS)
    returns, redials = "client" in lossy, "upstream" in lossy
    repeats = profile is Profile.AT_LEAST_ONCE and bool(lossy)
    transparent = profile is Profile.TRANSPARENT
    way: Said = {
        # Two connections of one client may overlap, and no proxy of these knows that they are of one.
        "reordered": "report" if returns or (redials and transparent) else 0,
        "lost": "report" if lossy else 0,
        "duplicated": "report" if repeats else 0,
    }
    kept = repeats and not returns
    expect: Said = {"client_disconnects": "report" if way["reordered"] == "report" else 0}
    expect |= {"c2u": {**way, "lost": 0} if kept else way, "u2c": {**way, "duplicated": 0} if kept else way}
    if transparent:
        expect["within_connection"] = 0
    return expect if lossy else {**expect, "recovery_max": _RECOVERY}


def _forgets(said: Said) -> bool:
    """Return whether a session ends as soon as its client has closed it."""
    proxy = said.get("proxy", {})
    return bool(proxy.get("mode") == "sender" or proxy.get("grace_on") == "abnormal")


def _talk(draw: st.DrawFn, verb: str) -> Said:
    """Draw how many messages a peer sends, and their sizes."""
    most = draw(st.sampled_from([100, 1000, 20_000]))
    return {verb: f"{draw(st.sampled_from([10, 5, 30, 100]))}/s", "size": [16, most]}


def _options(draw: st.DrawFn, said: Said, mode: str) -> Said:
    """Draw options of the proxy that fit the faults of its links."""
    options: Said = {}
    if all(fault.get("link") != "client" for fault in said["faults"]) and draw(st.booleans()):
        options["max_queue"] = "256KiB"
    if draw(st.booleans()):
        ordinary = {
            name
            for name, kind in (("client", said["clients"]["kind"]), ("upstream", said["upstream"]["kind"]))
            if kind != "aware"
        }
        delayed = {
            _side(fault)
            for fault in said["faults"]
            if fault["do"] in (*SLOW, "stop") or fault.get("stream", "both") != "both"
        }
        # A peer that talks, does not answer Pings in time and has a full queue is mute, and its messages are sent at
        # most once from then on. If a fault may cause that, only a peer that counts has a stronger guarantee.
        if "max_queue" not in options or not ordinary & delayed:
            options |= BRISK
    if mode == "duplex" and draw(st.sampled_from([False, False, False, True])):
        options["uncertain"] = "drop"
    return options


def _faults(
    mode: str, client: str, upstream: str, upstreams: list[str], lasts: int, *, only_slow: bool
) -> st.SearchStrategy[Said]:
    """Return the strategy for one fault of a timeline of `lasts` milliseconds; `upstreams` are their names."""
    links: dict[str, tuple[str, ...]] = dict.fromkeys(upstreams, SLOW if only_slow else (*LETHAL, *SLOW))
    links["client"] = SLOW if client == "plain" else (*LETHAL, *SLOW)
    if mode == "chain":
        links["middle"] = (*LETHAL, *SLOW)
    # An aware upstream that is killed forgets its sessions, and then ends them.
    done = dict.fromkeys(upstreams, ("stop",) if upstream == "aware" or only_slow else PROCESS)
    choices = [_fault("link", name, do, lasts) for name, kinds in links.items() for do in kinds]
    choices += [_fault("process", name, do, lasts) for name, kinds in done.items() for do in kinds]
    return st.one_of(choices)


def _fault(sort: str, name: str, do: str, lasts: int) -> st.SearchStrategy[Said]:
    fixed: dict[str, st.SearchStrategy[Any]] = {sort: st.just(name), "do": st.just(do)}
    fixed["at"] = st.integers(1, lasts // 50 - 6).map(lambda n: f"{n * 50}ms")
    if do != "reset":
        fixed["for"] = st.integers(*_LASTING).map(lambda n: f"{n}ms")
    if do == "latency":
        fixed |= {"latency": st.integers(10, 300), "jitter": st.integers(0, 100)}
    elif do == "bandwidth":
        fixed["rate"] = st.integers(20, 500)
    elif do == "cut":
        fixed["bytes"] = st.integers(0, 3000)
    # `stream` may be left out.
    ways = {"stream": st.sampled_from(["upstream", "downstream"])} if do in ("silence", "cut", *SLOW) else {}
    return st.fixed_dictionaries(fixed, optional=ways)
