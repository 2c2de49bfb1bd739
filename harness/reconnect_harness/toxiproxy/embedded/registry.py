"""The toxics by the name of their type. A new toxic is a new file like `latency`, and an entry here."""

from __future__ import annotations

from collections.abc import Mapping

from reconnect_harness.toxiproxy.embedded.bandwidth import BandwidthToxic
from reconnect_harness.toxiproxy.embedded.latency import LatencyToxic
from reconnect_harness.toxiproxy.embedded.limit_data import LimitDataToxic
from reconnect_harness.toxiproxy.embedded.noop import NoopToxic
from reconnect_harness.toxiproxy.embedded.reset_peer import ResetToxic
from reconnect_harness.toxiproxy.embedded.slicer import SlicerToxic
from reconnect_harness.toxiproxy.embedded.slow_close import SlowCloseToxic
from reconnect_harness.toxiproxy.embedded.timeout import TimeoutToxic
from reconnect_harness.toxiproxy.embedded.toxic import EmbeddedToxic

TOXIC_TYPES: Mapping[str, type[EmbeddedToxic]] = {
    "bandwidth": BandwidthToxic,
    "latency": LatencyToxic,
    "limit_data": LimitDataToxic,
    "noop": NoopToxic,
    "reset_peer": ResetToxic,
    "slicer": SlicerToxic,
    "slow_close": SlowCloseToxic,
    "timeout": TimeoutToxic,
}
