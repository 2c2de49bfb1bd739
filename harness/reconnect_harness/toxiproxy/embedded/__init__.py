"""An embedded Toxiproxy: a server that speaks Toxiproxy 2.12's HTTP API, for machines that have no real one.

    python -m reconnect_harness.toxiproxy.embedded --host 127.0.0.1 --port 8474

The names are the original's where the thing is the same thing: a `Proxy` listens and dials; each of its
connections is two `ToxicLink`s, one for each direction; a link is a pipe with a `ToxicStub` for each `Toxic`
on it; a `ToxicCollection` keeps the toxics of a proxy and the links that they are on.

    __main__ -> server -> http, api -> proxies -> proxy -> collection, connection -> link -> stub -> toxic

A new toxic is a new file like `latency`, and a line here.

Toxiproxy is at https://github.com/Shopify/toxiproxy. Where this server knowingly differs from it, the docstring
of the place says so.
"""

from reconnect_harness.toxiproxy.embedded.bandwidth import BandwidthToxic
from reconnect_harness.toxiproxy.embedded.latency import LatencyToxic
from reconnect_harness.toxiproxy.embedded.limit_data import LimitDataToxic
from reconnect_harness.toxiproxy.embedded.noop import NoopToxic
from reconnect_harness.toxiproxy.embedded.reset_peer import ResetToxic
from reconnect_harness.toxiproxy.embedded.slicer import SlicerToxic
from reconnect_harness.toxiproxy.embedded.slow_close import SlowCloseToxic
from reconnect_harness.toxiproxy.embedded.timeout import TimeoutToxic

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
