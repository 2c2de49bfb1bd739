"""The faults of links. A new one is one entry in `LINK_FAULTS`; `toxiproxy.link` implements the calls behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reconnect_harness.faults.fault import (
    Extent,
    FaultAction,
    FaultKind,
    FaultTarget,
    Number,
    Occurrence,
    TargetKind,
    table,
)

if TYPE_CHECKING:
    from reconnect_harness.toxiproxy.link import ToxiproxyLink


def _heal(target: FaultTarget[ToxiproxyLink]) -> None:
    target.handle.heal()
    target.holds.clear()


LINK = TargetKind("link", _heal)


def _down(occurrence: Occurrence, target: FaultTarget[ToxiproxyLink]) -> FaultAction:
    def begin() -> None:
        target.handle.down()
        target.holds["down"] += 1

    def end() -> None:
        if target.holds["down"] == 1:
            target.handle.up()
        target.holds["down"] -= 1

    return FaultAction(begin, end)


def _reset(occurrence: Occurrence, target: FaultTarget[ToxiproxyLink]) -> FaultAction:
    return FaultAction(target.handle.reset)


def _silence(occurrence: Occurrence, target: FaultTarget[ToxiproxyLink]) -> FaultAction:
    link, stream = target.handle, occurrence.fault.stream
    return FaultAction(lambda: link.silence(stream), lambda: link.end_silence(stream))


def _put_toxic(occurrence: Occurrence, target: FaultTarget[ToxiproxyLink]) -> FaultAction:
    link, toxic = target.handle, occurrence.toxic
    assert toxic is not None
    return FaultAction(lambda: link.add(toxic), lambda: link.remove(toxic))


def _toxic(
    name: str,
    text: str,
    *,
    toxic: str | None = None,
    defaults: Mapping[str, Number] | None = None,
    needs_resets: bool = False,
) -> FaultKind:
    """Return the fault that puts a toxic on its link: the toxic of the same name, if no other is given."""
    return FaultKind(
        name,
        LINK,
        text,
        _put_toxic,
        one_way=True,
        toxic=toxic or name,
        defaults=defaults or {},
        needs_resets=needs_resets,
    )


LINK_FAULTS: Mapping[str, FaultKind] = table(
    FaultKind(
        "down",
        LINK,
        "connections are closed (FIN), and new ones are refused, until it is over",
        _down,
    ),
    FaultKind(
        "reset",
        LINK,
        "connections end in an RST; the link is up again at once",
        _reset,
        Extent.MOMENT,
        needs_resets=True,
    ),
    FaultKind(
        "silence",
        LINK,
        "nothing is carried any more: no data, no FIN, no RST, as when a cable is pulled. New connections are accepted "
        "and silent. At its end the connections that were on it are closed: they have lost bytes",
        _silence,
        one_way=True,
    ),
    # The number of bytes is drawn for each occurrence, so that connections end in the middle of a frame.
    _toxic(
        "cut",
        "each connection is closed after a number of further bytes, in the middle of a frame",
        toxic="limit_data",
        defaults={"bytes": (1, 2000)},
    ),
    _toxic("latency", "every chunk of bytes is late by `latency` +- `jitter`"),
    _toxic("bandwidth", "at most `rate` passes; 0 holds everything back for as long as it is on, and loses nothing"),
    _toxic("slow_close", "the end of a connection is passed on `delay` late"),
    _toxic("timeout", "data is dropped, and the connection closed after `timeout`; 0 never closes it"),
    _toxic("reset_peer", "at the next data, and `timeout` after it, the connection ends in an RST", needs_resets=True),
    _toxic("slicer", "data is cut into packets of `average_size` +- `size_variation`, each `delay` after the last"),
    _toxic("limit_data", "as `cut`, with a number of `bytes` of your own"),
)
"""Every fault of a link by name; all toxics of Toxiproxy are among them."""
