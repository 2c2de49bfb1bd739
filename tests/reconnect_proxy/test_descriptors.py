"""How many descriptors sessions need, and for how many sessions there are enough."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import pytest

from reconnect_proxy import descriptors
from reconnect_proxy.config.model import Config
from reconnect_proxy.descriptors import needed_for, session_limits, sessions_within, take_descriptors
from reconnect_proxy.net.pending import with_spare, without_spare


def config(**options: object) -> Config:
    """Make a configuration."""
    return Config(upstream=["ws://127.0.0.1:1"], **options)


class System:
    """A system that keeps the limits of one process, which may raise them or not: that of these tests may not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, privileged: bool) -> None:
        self.limits = (1024, 4096)
        self.privileged = privileged
        monkeypatch.setattr(resource, "getrlimit", lambda which: self.limits)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, which: int, limits: tuple[int, int]) -> None:
        soft, hard = limits
        if soft > hard or (hard > self.limits[1] and not self.privileged):
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("privileged", "most", "options", "limit", "enough"),
    [
        (True, "1048576", {"max_sessions": 10_000}, needed_for(config(), 10_000), True),
        (True, "1048576", {"max_sessions": 1_000_000}, 1_048_576, False),
        (True, "1048576", {"max_sessions": 500, "max_handshakes": 100, "max_http": 100}, 4096, True),
        (True, "1048576", {}, 4096, True),
        (True, "2000", {"max_sessions": 10_000}, 4096, False),
        (True, None, {"max_sessions": 10_000}, needed_for(config(), 10_000), True),
        (False, "1048576", {"max_sessions": 1800}, 4096, True),
        (False, "1048576", {"max_sessions": 3600}, 4096, False),
        (False, "1048576", {"max_sessions": 3600, "workers": 2}, 4096, True),
        (False, "1048576", {}, 4096, True),
    ],
)
def test_the_limit_is_raised_as_far_as_is_needed_and_allowed(
    privileged: bool,
    most: str | None,
    options: dict[str, object],
    limit: int,
    enough: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """It is never lowered; a warning says where it is not enough."""
    system = System(monkeypatch, privileged)
    if most is not None:
        (tmp_path / "nr_open").write_text(f"{most}\n")
    monkeypatch.setattr(descriptors, "LARGEST", tmp_path / "nr_open")
    with caplog.at_level(logging.WARNING, "reconnect_proxy"):
        take_descriptors(config(**options))
    assert system.limits == (limit, limit)
    assert [record.message for record in caplog.records] == ([] if enough else ["too few descriptors"])


@pytest.mark.parametrize("count", [1, 15, 16, 100, 119, 120, 121, 1000, 23_050, 10**6])
def test_what_is_kept_back_is_added(count: int) -> None:
    """Of a limit with it so many are left for clients, and hardly more."""
    assert count <= without_spare(with_spare(count)) <= count + 2


def test_all_sessions_fit_into_what_is_needed_for_them() -> None:
    """With room for what else the proxy may have open at a time; and a tight limit has some all the same."""
    needed = needed_for(config(), 10_000)
    assert needed > 2 * 10_000 + 1000 + 2 * 1000
    assert sessions_within(needed) >= 10_000
    assert sessions_within(20_000) == 9350
    assert sessions_within(30) == 0


@pytest.mark.parametrize(
    ("soft", "options", "limits"),
    [
        (4096, {}, (sessions_within(4096), sessions_within(4096) // 2)),
        (4096, {"workers": 3}, (3 * sessions_within(4096), 3 * sessions_within(4096) // 2)),
        (1_048_576, {}, (sessions_within(1_048_576), 10_000)),
        (resource.RLIM_INFINITY, {}, (None, 10_000)),
        (64, {}, (3, 1)),
        (8, {}, (1, 1)),
        (4096, {"max_sessions": 100}, (100, 10_000)),
        (4096, {"max_sessions_per_address": 9000}, (sessions_within(4096), 9000)),
        (4096, {"max_sessions_per_address": None}, (sessions_within(4096), None)),
    ],
)
def test_by_default_there_are_as_many_sessions_as_descriptors_and_half_of_them_for_one_address(
    soft: int, options: dict[str, object], limits: tuple[int | None, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given is not changed."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert session_limits(config(**options)) == limits
