"""reconnect-proxy: a WebSocket proxy whose sessions outlive dropped connections.

    async with Sender(upstream="ws://127.0.0.1:8080") as proxy:
        print(proxy.url)

`Proxy` runs any mode, `Sender` and `Receiver` fix it, `Config` holds every option. `connect` is a client that resumes
its session through drops; it raises `SessionLost` when there is nothing left to resume.

Each name is imported when it is first asked for: a program that only connects does not load a proxy, and vice versa.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.connect import SessionLost, connect
    from .config.model import Config
    from .hooks.api import ClientRequest, Hooks, Message, Refuse, Session
    from .proxy import Proxy, Receiver, Sender

__all__ = [
    "ClientRequest",
    "Config",
    "Hooks",
    "Message",
    "Proxy",
    "Receiver",
    "Refuse",
    "Sender",
    "Session",
    "SessionLost",
    "connect",
]
__version__ = "0.1.0"

_MODULES = {
    "client.connect": ("SessionLost", "connect"),
    "config.model": ("Config",),
    "hooks.api": ("ClientRequest", "Hooks", "Message", "Refuse", "Session"),
    "proxy": ("Proxy", "Receiver", "Sender"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
