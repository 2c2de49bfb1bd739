"""Every line that the proxy writes to its log, as docs/operations.md shows it.

Most lines are events: their row and their docstring say everything. The other lines, about the process, are listed
here, and `test_log_table` compares the list with the calls in the code.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple

from reconnect_proxy.observe.event_table import EVENTS


class LogLine(NamedTuple):
    """A kind of line: the text of its `event`, its fields in their order, and what it tells."""

    event: str
    fields: tuple[str, ...]
    meaning: str


#: Lines that are not events. A fault of this program is an error, with a traceback.
NOTICES = (
    LogLine("admin listening", ("url",), "The admin listener accepts requests."),
    LogLine(
        "admin unprotected", ("url", "remedy"), "Other machines can reach the admin listener, and it asks for no token."
    ),
    LogLine(
        "admin token visible",
        ("where", "remedy"),
        "Every user who can list this machine's processes can read the token.",
    ),
    LogLine(
        "too few descriptors",
        ("limit", "sessions", "wanted", "remedy"),
        "A process may have `limit` descriptors, too few for `wanted` (--max-sessions): enough for `sessions`.",
    ),
    LogLine("admin connection lost", ("reason",), "A peer of the admin listener left, or did not read its answer."),
    LogLine(
        "stopping", ("drain", "sessions"), "A stop signal came. There are `sessions`, and at most `drain` seconds."
    ),
    LogLine(
        "stopped",
        ("sessions", "undelivered_c2u", "undelivered_u2c", "uncertain_c2u", "uncertain_u2c"),
        "The stop has ended `sessions`. A warning if messages could not be delivered, or may not have arrived.",
    ),
    LogLine("nothing to reload", ("reason",), "SIGHUP came, and no certificates are configured."),
    LogLine("message to worker not sent", ("detail",), "A worker could not hand a client over, and refused it."),
    LogLine("hook failed", ("session", "hook", "not_logged"), "The error of a hook, with its traceback; one a second."),
    LogLine(
        "a hook's own message came too late", ("session", "leg"), "The session had ended, so the message is dropped."
    ),
    LogLine("a dial died of a fault of this program", (), "Please report it. The session dials again."),
    LogLine("taking over a connected socket failed; it is dropped", (), "Please report it. The peer may come back."),
    LogLine("a request failed with an unexpected error", (), "Please report it. The client was answered with 500."),
    LogLine("an HTTP exchange died of a fault of this program; its client is cut off", (), "Please report it."),
)

#: What fields mean. Fields of one kind of line only are explained in the meaning of that line.
FIELDS = {
    "session": "the first 6 characters of the session's id, which is a secret",
    "leg": "client or upstream",
    "upstream": "its URL",
    "connected": "whether the upstream was connected",
    "code": "a close code (RFC 6455 section 7.4.1); 1006: there was none",
    "reason": "why; the words of the peer if it gave a reason",
    "detail": "what exactly happened",
    "waiting": "messages that are owed to that leg",
    "attempt": "its number since the upstream was lost",
    "delay": "seconds",
    "age": "seconds since the session was opened",
    "away": "seconds without a link",
    "seconds": "how long it took",
    "resent": "messages sent again",
    "aware": "whether the peer counts what it receives",
    "count": "number of messages",
    "status": "of the HTTP answer",
    "error": "the short name of the refusal, as in the answer's body",
    "peer": "its IP address",
    "address": "the IP address of the request",
    "operator": "the IP address of the request",
    "path": "of the request, without its query",
    "method": "of the HTTP request",
    "outcome": "how it ended",
    "url": "the address to connect to",
    "limit": "the limit that was reached",
    "held": "bytes held for all peers",
    "more": "further lines of that kind that were left out",
    "hook": "the name of the method",
    "not_logged": "failures since the last line that were not logged",
    "c2u": "messages from the client to the upstream",
    "u2c": "messages from the upstream to the client",
    "undelivered_c2u": "messages of the client that were accepted and never sent",
    "undelivered_u2c": "messages of the upstream that were accepted and never sent",
    "uncertain_c2u": "messages that were sent to the upstream and not confirmed",
    "uncertain_u2c": "messages that were sent to the client and not confirmed",
    "c2u_messages": "messages received from clients in all",
    "c2u_bytes": "their payloads, in bytes",
    "u2c_messages": "messages received from the upstream in all",
    "u2c_bytes": "their payloads, in bytes",
    "drain": "seconds that a stop may take",
    "sessions": "number of sessions",
    "worker": "its number, from 0 on",
    "where": "the place where it can be read",
    "remedy": "what to use instead",
}


def log_table() -> Iterator[LogLine]:
    """Yield every kind of line, the events first."""
    for kind, row in EVENTS.items():
        fields = tuple("session" if name == "session_id" else name for name in row.fields)
        yield LogLine(row.name, fields, " ".join((inspect.getdoc(kind) or "").split()))
    yield from NOTICES
