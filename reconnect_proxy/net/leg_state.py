"""What a leg does with a frame, by its state.

| state | data | Ping | Pong | Close | left when |
| --- | --- | --- | --- | --- | --- |
| `CONNECTING` | - | - | - | - | picows has the socket |
| `OPEN` | to the link | answered | to the link | answered; the link is told | a close frame is sent, or `settle` |
| `HELD` | is kept | is kept | is kept | is kept | there is time to inflate a message, see `compressed_input` |
| `SETTLING` | dropped | no answer | to the link | answered; the link is told | a close frame is sent |
| `CLOSING` | dropped | no answer | dropped | ends the socket | the socket is gone |
| `CLOSED` | - | - | - | - | never |
"""

from __future__ import annotations

from enum import Enum, auto


class LegState(Enum):
    """What becomes of a frame, see the table above."""

    CONNECTING = auto()
    OPEN = auto()
    HELD = auto()
    SETTLING = auto()
    CLOSING = auto()
    CLOSED = auto()
