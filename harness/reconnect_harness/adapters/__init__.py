"""Adapters: how a numbered message looks in an application's own protocol.

| name | the messages |
| --- | --- |
| `text` | plain text, alone or within other text |
| `json` | a field of a JSON object |
| `socketio` | Socket.IO events |
| `graphql-ws` | GraphQL mutations and a subscription |
| `stomp` | STOMP frames |
| `my_tests.chat:ChatAdapter` | a class of your own |
"""

from reconnect_harness.adapters.adapter import Adapter, Login
from reconnect_harness.history.audience import To

__all__ = ["Adapter", "Login", "To"]
