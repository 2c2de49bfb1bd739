"""Load runs with locust, in which every message is accounted for. docs/load.md shows how.

    from reconnect_harness.load import WebSocketUser

Names are imported when they are first used: importing locust replaces Python's blocking calls by gevent's, and
`load.testbed_process`, which is a program for asyncio, must not have that.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconnect_harness.history.audience import To

    from .user import Message, NotConnected, NotReceived, Stamp, WebSocketUser
    from .users import AwareUser, PlainUser

__all__ = ["AwareUser", "Message", "NotConnected", "NotReceived", "PlainUser", "Stamp", "To", "WebSocketUser"]

_MODULES = {
    "user": ("Message", "NotConnected", "NotReceived", "Stamp", "To", "WebSocketUser"),
    "users": ("AwareUser", "PlainUser"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            try:
                import_module(".listen", __name__)
                return getattr(import_module(f".{module}", __name__), name)
            except ModuleNotFoundError as missing:
                if (missing.name or "").partition(".")[0] not in ("gevent", "locust", "websocket"):
                    raise
                raise ModuleNotFoundError(
                    f"reconnect_harness.load needs {missing.name}, which is not installed: "
                    "pip install 'reconnect-proxy[load]'",
                    name=missing.name,
                ) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
