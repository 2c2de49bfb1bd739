"""Presets: values of several options together, for a kind of server (PROTOCOL.md section 9).

An option that is given by itself, in whichever way, outranks its preset, also if it is given its default value.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Preset(StrEnum):
    """The kind of server behind the proxy."""

    #: Keeps nothing of a connection, or knows clients by what is in their handshakes: a redial is harmless.
    STATELESS = "stateless"
    #: Keeps a login, subscriptions or the like for each connection: a redial would do harm.
    STATEFUL = "stateful"
    #: A browser's DevTools, or another server of remote debugging: stateful, with large messages.
    CDP = "cdp"


_STATEFUL = {"retry_on": "none", "grace_on": "abnormal"}

#: The options that each preset sets.
PRESETS: Mapping[str, Mapping[str, object]] = {
    Preset.STATELESS: {},
    Preset.STATEFUL: _STATEFUL,
    Preset.CDP: {
        **_STATEFUL,
        "final_status": "404",
        "keep_host": True,
        "max_message": "256MiB",
        "max_queue": "256MiB",
        "rewrite_debugger_url": True,
    },
}


def with_preset(options: Mapping[str, object]) -> dict[str, object]:
    """Return `options`, and those of their preset that are not among them."""
    preset = options.get("preset")
    values = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    return {**values, **options}
