"""What an operator can see of a session (never the id that resumes it), and how much of each limit is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .core.context import Context
from .core.link import Link
from .core.policy import Mode
from .events import short_id
from .net.incoming import IncomingWebSocket


class Usage(NamedTuple):
    """How much of `limit` (its name) is `used`, and how much there may be at `most`; None: there is no limit."""

    limit: str
    used: int
    most: int | None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as an operator can see it: ages in seconds, sizes in bytes, the beginning of the id."""

    id_short: str
    mode: str
    # opening (its first dial is not decided), open, or ending (messages that are owed are being delivered).
    state: str
    age: float
    # Connected clients: one at most, except in a shared session. The next fields are about the one attached first.
    clients: int
    client_connected: bool
    client_address: str | None
    client_link_age: float | None
    # Seconds without a client.
    client_away: float | None
    # It says how many messages it has received, so it gets each exactly once.
    client_aware: bool
    # It answers no Ping and its queue was full, so it gets each message at most once.
    client_mute: bool
    # It is not read, because `c2u` is full.
    client_paused: bool
    upstream_connected: bool
    # The URL of the upstream that is connected, or dialled next.
    upstream: str
    upstream_link_age: float | None
    upstream_aware: bool
    upstream_mute: bool
    upstream_paused: bool
    # Received in all, and the bytes of the payloads.
    c2u_messages: int
    c2u_bytes: int
    # Sent again on a new link.
    c2u_resent: int
    # Received without a peer left to deliver to.
    c2u_undelivered: int
    # Sent once, by a link that has ended or to a mute peer, and nothing proves that they have arrived.
    c2u_uncertain: int
    # Not confirmed yet, and the memory for them.
    c2u_queued: int
    c2u_bytes_held: int
    # Above its limit: the peer that fills this queue is not read.
    c2u_full: bool
    u2c_messages: int
    u2c_bytes: int
    u2c_resent: int
    u2c_undelivered: int
    u2c_uncertain: int
    u2c_queued: int
    u2c_bytes_held: int
    u2c_full: bool


def info_of(context: Context, mode: Mode, now: float) -> SessionInfo:
    """Return what an operator can see of `context`, a session of a proxy in `mode`, at `now` by its clock."""
    clients = context.clients.links
    client = clients[0] if clients else None
    upstream = context.upstream.link
    if upstream is not None and not upstream.open:
        upstream = None
    c2u, u2c = context.c2u, context.u2c
    return SessionInfo(
        id_short=short_id(context.session_id or ""),
        mode=mode.value,
        state=context.state.name.lower(),
        age=round(now - context.opened_at, 3),
        clients=len(clients),
        client_connected=client is not None,
        client_address=client.leg.peer if client is not None and isinstance(client.leg, IncomingWebSocket) else None,
        client_link_age=_since(client, now),
        client_away=None if context.client_away_since is None else round(now - context.client_away_since, 3),
        client_aware=client is not None and client.aware,
        client_mute=client is not None and client.mute,
        client_paused=client is not None and client.paused,
        upstream_connected=upstream is not None,
        upstream=context.upstream.url,
        upstream_link_age=_since(upstream, now),
        upstream_aware=upstream is not None and upstream.aware,
        upstream_mute=upstream is not None and upstream.mute,
        upstream_paused=upstream is not None and upstream.paused,
        c2u_messages=c2u.volume.messages,
        c2u_bytes=c2u.volume.bytes,
        c2u_resent=c2u.resent,
        c2u_undelivered=c2u.undelivered,
        c2u_uncertain=c2u.uncertain,
        c2u_queued=len(c2u.outbox),
        c2u_bytes_held=c2u.outbox.bytes_held,
        c2u_full=c2u.outbox.full,
        u2c_messages=u2c.volume.messages,
        u2c_bytes=u2c.volume.bytes,
        u2c_resent=u2c.resent,
        u2c_undelivered=u2c.undelivered,
        u2c_uncertain=u2c.uncertain,
        u2c_queued=len(u2c.outbox),
        u2c_bytes_held=u2c.outbox.bytes_held,
        u2c_full=u2c.outbox.full,
    )


def _since(link: Link | None, now: float) -> float | None:
    return None if link is None else round(now - link.opened_at, 3)
