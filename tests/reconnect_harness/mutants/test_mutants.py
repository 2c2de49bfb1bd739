"""Relays with one bug each, and the shipped scenario that has to find it; and correct ones, which have to pass."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from reconnect_harness.checks.judgement import Verdict
from reconnect_harness.report import summary
from reconnect_harness.report.run_result import RunResult
from reconnect_harness.run.results_folder import write_run
from reconnect_harness.run.runner import ScenarioRunner
from reconnect_harness.scenario.find import load_scenario, shipped_scenarios
from reconnect_harness.sut.choose import system_under_test
from reconnect_harness.toxiproxy.server import ToxiproxyServer

PROGRAM = Path(__file__).parents[1] / "broken_proxy.py"
RELAY = f"{shlex.quote(sys.executable)} {shlex.quote(str(PROGRAM))} {{listen}} {{upstream}}"

#: How long nothing new may arrive before a run is over, in seconds: nothing is late here.
SETTLE_SECONDS = 1.5


class Mutant(NamedTuple):
    """A relay that is wrong in one way; `words` is part of what the check `check` says about it."""

    options: str
    scenario: str
    check: str
    words: str


#: Wrong in what they do to messages, without any fault.
MESSAGES = (
    Mutant("--drop 1000", "steady", "lost", "was sent and never arrived"),
    Mutant("--swap 1000", "steady", "reordered", "after number"),
    Mutant("--repeat 1000", "steady", "duplicated", "arrived again at"),
    Mutant("--repeat 500 --only u2c", "steady-echo", "duplicated", "arrived again at c"),
    Mutant("--merge 1000", "steady", "corrupted", "longer than sent"),
    Mutant("--flip 1000", "steady", "corrupted", "its checksum does not match"),
    Mutant("--truncate 1000 --only text", "steady", "corrupted", "truncated"),
    Mutant("--retype 1000 --only binary", "steady", "corrupted", "sent as binary, came as text"),
    Mutant("--retype 1000 --only text", "steady", "corrupted", "sent as text, came as binary"),
    Mutant("--stop 1500 --only c2u", "steady", "lost", "was sent and never arrived"),
    Mutant("--stop 1500 --only u2c", "steady", "lost", "was sent and never arrived at c"),
    Mutant("--hold 1500", "steady", "latency_max", "took 5."),
    Mutant("--cross 1000", "steady", "misdelivered", "was misdelivered"),
    Mutant("--cross 1 --only u2c", "steady", "misdelivered", "which was not to receive it"),
    Mutant("--cross 1 --only u2c", "steady-echo", "misdelivered", "which was not to receive it"),
    Mutant("--cross 500 --only c2u", "steady-echo", "misdelivered", "in a session of c"),
    Mutant("--cross 1 --only busy", "steady", "misdelivered", "was misdelivered"),
    Mutant("--spill 1000", "steady", "misdelivered", "was misdelivered"),
    Mutant("--turn 1000 --only u2c", "steady", "misdelivered", "it came back c2u to u1"),
    Mutant("--turn 1000 --only c2u", "steady", "misdelivered", "it came back u2c to c"),
)

#: Wrong in messages of some shape only.
SHAPES = (
    Mutant("--drop 40 --only large", "steady-large", "lost", "was sent and never arrived"),
    Mutant("--flip 40 --only large", "steady-large", "corrupted", "its checksum does not match"),
    Mutant("--split 40 --only large", "steady-large", "corrupted", "it was cut to blocks of 16 KiB"),
    Mutant("--block64 40 --only large", "steady-large", "corrupted", "it was cut to blocks of 64 KiB"),
    Mutant("--block16 1 --only large", "message-shapes", "corrupted", "it was cut to blocks of 16 KiB"),
    Mutant("--drop 1 --only empty", "message-shapes", "lost", "an empty message was swallowed"),
    Mutant("--repeat 1 --only empty", "message-shapes", "corrupted", "an empty message came"),
    Mutant("--retype 1 --only empty", "message-shapes", "corrupted", "sent as text, came as binary"),
    Mutant("--drop 1 --only 126", "message-shapes", "lost", "126 bytes) was sent and never arrived"),
    Mutant("--truncate 1 --only 65536", "message-shapes", "corrupted", "truncated: 32768 of 65536 bytes"),
    Mutant("--drop 1 --only huge", "message-shapes", "lost", "4194305 bytes) was sent and never arrived"),
    Mutant("--reencode 1 --only text", "message-shapes", "corrupted", "its text was re-encoded"),
    Mutant("--narrow 1", "message-shapes", "corrupted", "its text was re-encoded"),
    Mutant("--trim 1", "message-shapes", "corrupted", "truncated"),
    Mutant("--strip 1", "message-shapes", "corrupted", "truncated"),
    Mutant("--compose 1", "message-shapes", "corrupted", "truncated"),
    Mutant("--flaw forget-after-ping", "message-shapes", "corrupted", "truncated"),
    Mutant("--flaw decode-fragments", "message-shapes", "corrupted", "its text was re-encoded"),
)

#: Wrong when a connection begins, ends, or is over.
CONNECTIONS = (
    Mutant("--drop 1 --only early", "last-words", "lost", "was sent and never arrived"),
    Mutant("--flaw drop-last", "last-words", "lost", "was sent and never arrived"),
    Mutant("--flaw drop-reason", "last-words", "upstream_close", "was closed with 1000, rather than"),
    Mutant("--flaw drop-close", "last-words", "upstream_close", "was closed with 1006"),
    Mutant("--flaw swallow-pings", "steady-echo", "client_disconnects", "keepalive ping timeout"),
    Mutant("--flaw swallow-upstream-pings", "steady-echo", "client_disconnects", "keepalive ping timeout"),
    Mutant("--flaw swallow-closes", "steady-echo", "breaches", "its close frame was not answered"),
    Mutant("--flaw copy-extensions", "steady-echo", "client_disconnects", "1002"),
    Mutant("--flaw dial-twice", "steady-echo", "upstream_connections", "was made"),
    Mutant("--drop 1 --only early --only u2c", "steady", "lost", "was sent and never arrived at c"),
    Mutant("--leak socket", "last-words", "leaks", "open files and sockets"),
    Mutant("--leak thread", "steady", "leaks", "threads"),
    Mutant("--leak process", "steady", "leaks", "processes other than the first"),
    Mutant("--leak memory", "steady-large", "leaks", "MB of memory"),
)

#: Wrong in what they pass on of handshakes and closes.
HANDSHAKES = (
    Mutant("--flaw drop-path", "handshake-passes", "handshake_changes", "its path /rooms/c01 was changed to /"),
    Mutant("--flaw drop-query", "handshake-passes", "handshake_changes", "its query ?token=a%20b%26c&token=d was"),
    Mutant("--flaw decode-query", "handshake-passes", "handshake_changes", "was changed to ?token=a+b%26c&token=d"),
    Mutant("--flaw drop-cookie", "handshake-passes", "handshake_changes", "its cookie session was dropped"),
    Mutant("--flaw cut-cookie", "handshake-passes", "handshake_changes", "its cookie theme was dropped"),
    Mutant("--flaw drop-authorization", "handshake-passes", "handshake_changes", "header authorization was dropped"),
    Mutant("--flaw drop-headers", "handshake-passes", "handshake_changes", "its header x-tenant was dropped"),
    Mutant("--flaw cut-headers", "handshake-passes", "handshake_changes", "tenant: north, south was changed to north"),
    Mutant("--flaw drop-subprotocol", "handshake-passes", "handshake_changes", "its subprotocol chat.v2 was dropped"),
    Mutant("--flaw drop-subprotocols", "handshake-passes", "handshake_changes", "its subprotocol chat.v1 was dropped"),
    Mutant("--flaw drop-choice", "handshake-passes", "handshake_changes", "chat.v2, and the client was told none"),
    Mutant("--flaw drop-code", "handshake-passes", "passed_on", "was closed with 1000 rude close 2 of u1, which no"),
    Mutant("--flaw drop-reason", "handshake-passes", "passed_on", "is the code of its upstream, and the reason was dr"),
    Mutant("--flaw drop-code", "handshake-passes", "passed_up", "3001 client c02 leaves, which reached no upstream"),
    Mutant("--flaw drop-reason", "handshake-passes", "passed_up", "reached an upstream, but the reason was dropped"),
)

#: Wrong while connections are lost, which may lose messages.
CUTS = (
    Mutant("--drop 60", "connections-cut", "within_connection", "which was sent after it on the same connection"),
    Mutant("--swap 60", "connections-cut", "within_connection", "which was sent after it on the same connection"),
    Mutant("--repeat 60", "connections-cut", "duplicated", "arrived again"),
    Mutant("--cross 60", "connections-cut", "misdelivered", "was misdelivered"),
    Mutant("--truncate 60", "connections-cut", "corrupted", "truncated"),
    Mutant("--leak thread", "connections-cut", "leaks", "threads"),
)

#: Wrong when a reader is slow.
SLOW = (
    Mutant("--flaw hoard", "upstream-stops-reading", "memory", "MB of memory"),
    Mutant("--drop 1 --only pressed", "upstream-stops-reading", "lost", "was sent and never arrived"),
    Mutant("--swap 1 --only pressed", "upstream-stops-reading", "reordered", "after number"),
    Mutant("--cross 1 --only pressed", "upstream-stops-reading", "misdelivered", "was misdelivered"),
    Mutant("--in-step", "slow-consumer", "latency_p90", "took"),
)

#: Relays that dial their upstream again, and are wrong when it closes or is lost.
REDIALS = (
    Mutant("--flaw drop-code", "upstream-close-codes", "passed_on", "was closed with 1002"),
    Mutant("--flaw drop-reason", "upstream-close-codes", "passed_on", "which reached no client"),
    Mutant("--flaw drop-close", "upstream-close-codes", "passed_on", "was closed with 1006"),
    Mutant("--flaw drop-last", "upstream-close-codes", "lost", "was sent and never arrived at c"),
    Mutant("--flaw impatient", "upstream-close-retryable", "client_disconnects", "1014 the upstream is lost"),
    Mutant("--flaw leak-redials", "upstream-close-retryable", "leaks", "open files and sockets"),
    Mutant("--drop 1 --only first", "upstream-close-retryable", "lost", "was sent and never arrived"),
    Mutant("--swap 1 --only first", "upstream-close-retryable", "reordered", "after number"),
    Mutant("--repeat 1 --only redialled --only u2c", "upstream-close-retryable", "duplicated", "arrived again"),
    Mutant("--cross 1 --only redialled --only u2c", "upstream-close-retryable", "misdelivered", "was misdelivered"),
    Mutant("--flip 1 --only first", "upstream-close-retryable", "corrupted", "its checksum does not match"),
    Mutant("--flaw short-queue", "upstream-down-at-first", "lost", "was sent and never arrived"),
    Mutant("--flaw forget-queue", "upstream-killed", "lost", "was sent and never arrived"),
    Mutant("--flaw backwards", "upstream-killed", "reordered", "after number"),
    Mutant("--flaw trust-writes", "upstream-flap-plain", "lost", "was sent and never arrived"),
    Mutant("--flaw forget-headers", "handshake-passes", "handshake_changes", "x-tenant was dropped when its upstream"),
    Mutant("--flaw short-queue", "long-queue", "lost", "was sent and never arrived"),
    Mutant("--flaw leak-redials", "long-queue", "leaks", "open files and sockets"),
    Mutant("--flaw recall", "trickle", "repeat_age", "before a fault"),
)

#: Those of a relay that keeps nothing.
FORGETFUL = (*MESSAGES, *SHAPES, *CONNECTIONS, *HANDSHAKES, *CUTS, *SLOW)

MUTANTS = (
    *FORGETFUL,
    *(each._replace(options=f"--keep {each.options}") for each in REDIALS),
)


async def _run(folder: Path, name: str, options: str, toxiproxy: ToxiproxyServer | None) -> RunResult:
    chosen = load_scenario(shipped_scenarios()[name])
    chosen = chosen.model_copy(update={"settle": min(chosen.settle, SETTLE_SECONDS)})
    done = await ScenarioRunner(chosen, system_under_test(f"{RELAY} {options}"), toxiproxy, 1, folder).run()
    write_run(done)
    return done


def _id(mutant: Mutant) -> str:
    return f"{mutant.options.replace('--', '').replace(' ', '-')}-{mutant.scenario}-{mutant.check}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=_id)
async def test_a_relay_with_a_bug_is_invalid(tmp_path: Path, server: ToxiproxyServer, mutant: Mutant) -> None:
    """By the check for the bug, whose message says what it is."""
    done = await _run(tmp_path, mutant.scenario, mutant.options, server)
    assert done.judgement.verdict is Verdict.INVALID, list(summary.reasons(done))
    failed = [found for found in done.judgement.results if found.verdict is Verdict.INVALID]
    assert mutant.check in {found.check for found in failed}, list(summary.reasons(done))
    said = [violation.what for found in failed if found.check == mutant.check for violation in found.violations]
    assert any(mutant.words in what for what in said), said[:20]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *(("", name) for name in sorted({each.scenario for each in FORGETFUL})),
        *(("--keep", name) for name in sorted({each.scenario for each in (*SHAPES, *CONNECTIONS, *REDIALS)})),
    ],
)
async def test_a_correct_relay_is_valid(tmp_path: Path, server: ToxiproxyServer, options: str, name: str) -> None:
    """In each of the scenarios that a broken one fails: one that keeps nothing, and one that dials again."""
    done = await _run(tmp_path, name, options, server)
    assert done.judgement.verdict is Verdict.VALID, list(summary.reasons(done))
