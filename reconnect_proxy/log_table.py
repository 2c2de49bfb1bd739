"""Every line that the proxy writes to its log, as a table: what documents it, and what a test holds the code to.

Most lines are events of `core.events`, which say themselves what they mean. The rest, about the process, is listed
here. An event's name is stable: it is what alerts are made of.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple, get_args

from .events import Event
from .observe.logs import event_name, field_names

__all__ = ["FIELDS", "NOTICES", "LogLine", "log_table"]


class LogLine(NamedTuple):
    """A kind of line: the text of its `event`, its fields in their order, and what it tells."""

    event: str
    fields: tuple[str, ...]
    meaning: str


#: Lines that are no events of sessions. A fault of this program is an error, with a traceback.
NOTICES = (
    LogLine("admin listening", ("url",), "The admin listener is there."),
    LogLine("admin unprotected", ("url", "remedy"), "It can be reached from other machines, and asks for no token."),
    LogLine("admin token visible", ("where", "remedy"), "Whoever lists this machine's processes can read the token."),
    LogLine(
        "too few descriptors",
        ("limit", "sessions", "wanted", "remedy"),
        "A process may have `limit` descriptors, too few for --max-sessions (`wanted`): some `sessions` have them.",
    ),
    LogLine("admin connection lost", ("reason",), "A peer of the admin listener left, or did not read its answer."),
    LogLine("stopping", ("drain", "sessions"), "A stop signal came: there are so many sessions, and as many seconds."),
    LogLine(
        "stopped",
        ("sessions", "undelivered_c2u", "undelivered_u2c"),
        "What the stop has ended; a warning if messages could not be delivered.",
    ),
    LogLine("nothing to reload", ("reason",), "SIGHUP came, and there is nothing that could be read anew."),
    LogLine("letter not sent", ("detail",), "A worker could not hand a client on: it was refused."),
    LogLine("hook failed", ("session", "hook", "not_logged"), "The error of a hook, with its traceback; one a second."),
    LogLine("a hook's own message came too late", ("session", "leg"), "Its session had ended: the message is dropped."),
    LogLine("a dial died of a fault of this program", (), "Please report it. The session dials again."),
    LogLine("taking over a connected socket failed; it is dropped", (), "Please report it. The peer may come back."),
    LogLine("an HTTP exchange died of a fault of this program; its client is cut off", (), "Please report it."),
)

#: What fields mean that do not explain themselves where they are; the others are told of in the meaning of their event.
FIELDS = {
    "session": "the first 6 characters of the session's id, which is a secret",
    "leg": "client or upstream",
    "upstream": "its URL",
    "connected": "whether the upstream was there",
    "code": "a close code (RFC 6455 section 7.4.1); 1006: there was none",
    "reason": "why, in words: where a peer said it, they are the peer's",
    "detail": "what exactly happened",
    "waiting": "messages that are owed to that leg",
    "attempt": "its number since the upstream was lost",
    "delay": "seconds",
    "age": "seconds since the session was opened",
    "away": "seconds without a link",
    "seconds": "how long it took",
    "resent": "messages sent again",
    "aware": "whether the peer counts what it receives",
    "count": "how many",
    "status": "of the HTTP answer",
    "error": "the short name of the refusal, as in the answer's body",
    "peer": "its IP address",
    "address": "the IP address that asked",
    "operator": "the IP address that asked",
    "path": "of the request, without its query",
    "method": "of the HTTP request",
    "outcome": "how it ended",
    "url": "where to",
    "limit": "the limit that was met",
    "held": "bytes that are held",
    "more": "further lines of that kind that were left out",
    "hook": "the name of the method",
    "not_logged": "failures that were not logged since the last",
    "c2u": "messages from the client to the upstream",
    "u2c": "messages from the upstream to the client",
    "undelivered_c2u": "messages of the client that were accepted, and lost with the session",
    "undelivered_u2c": "messages of the upstream that were accepted, and lost with the session",
    "c2u_messages": "messages received from clients in all",
    "c2u_bytes": "their payloads, in bytes",
    "u2c_messages": "messages received from the upstream in all",
    "u2c_bytes": "their payloads, in bytes",
    "drain": "seconds that a stop may take",
    "sessions": "how many there are",
    "worker": "its number, from 0 on",
    "where": "where it can be read",
    "remedy": "what to use instead",
}


def log_table() -> Iterator[LogLine]:
    """Yield every kind of line, the events of sessions first."""
    for kind in get_args(Event):
        yield LogLine(event_name(kind), field_names(kind), " ".join((inspect.getdoc(kind) or "").split()))
    yield from NOTICES
