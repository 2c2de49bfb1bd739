"""An embedded Toxiproxy: a server that speaks Toxiproxy 2.12's HTTP API, for machines that have no real one.

    python -m harness.toxics --host 127.0.0.1 --port 8474

The names are the original's where the thing is the same thing: a `Proxy` listens and dials; each of its
connections is two `ToxicLink`s, one for each direction; a link is a pipe with a `ToxicStub` for each `Toxic`
on it; a `ToxicCollection` keeps the toxics of a proxy and the links that they are on.

    __main__ -> server -> http, api -> proxies -> proxy -> collection, connection -> link -> stub -> toxic

A new toxic is a new file like `latency`, and a line here.

Toxiproxy is at https://github.com/Shopify/toxiproxy. Where this server knowingly differs from it, the docstring
of the place says so.
"""

from harness.toxics.bandwidth import BandwidthToxic
from harness.toxics.latency import LatencyToxic
from harness.toxics.limit_data import LimitDataToxic
from harness.toxics.noop import NoopToxic
from harness.toxics.reset_peer import ResetToxic
from harness.toxics.slicer import SlicerToxic
from harness.toxics.slow_close import SlowCloseToxic
from harness.toxics.timeout import TimeoutToxic

__all__ = [
    "VERSION",
    "BandwidthToxic",
    "LatencyToxic",
    "LimitDataToxic",
    "NoopToxic",
    "ResetToxic",
    "SlicerToxic",
    "SlowCloseToxic",
    "TimeoutToxic",
]

VERSION = "2.12.0"
"""The Toxiproxy whose behaviour this is, and what /version answers."""
