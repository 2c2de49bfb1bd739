"""reconnect-proxy: a WebSocket proxy whose sessions outlive dropped connections.

    async with Sender(upstream="ws://127.0.0.1:8080") as proxy:
        print(proxy.url)

`Proxy` runs any mode, `Sender` and `Receiver` fix it, `Config` holds every option. `connect` is a client that resumes
its session through drops; it raises `SessionLost` when there is nothing left to resume.
"""

from .client import SessionLost, connect
from .config import Config
from .hooks import ClientRequest, Hooks, Message, Refuse, Session
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
