"""The proxy: holds the sessions, lets clients in, starts, drains, stops.

`Proxy` runs any mode; `Sender` and `Receiver` are the two of the original design, each a `Proxy` with its mode fixed.
What a session does is in `core.context`; here is only which session a request belongs to, and what ends them all.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import socket
from collections.abc import Callable, Collection
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from multidict import CIMultiDict

from .config.model import Address, Compression, Config, Dial
from .core.budget import MemoryBudget
from .core.context import Context
from .core.filtered import FilteredContext
from .core.opening import Opening
from .core.policy import POLICIES, GateKind, Mode, Policy
from .core.pool import Pool
from .core.target import UpstreamInfo
from .core.timers import Timers
from .core.wire import Claim, Refusal, new_id, stopping
from .draining import Backlog, Stopped, wait_until
from .events import EndedByOperator, Observe, Refused, TlsHandshakeFailed, short_id
from .hooks.api import Session
from .hooks.calls import HookCalls, as_seen
from .introspection import SessionInfo, Usage, info_of
from .net.accept import Acceptor
from .net.client_address import SessionsByAddress, client_address, counted_as
from .net.deflate import accept
from .net.forwarding import forwarded, replaced
from .net.handshake import SessionRequest
from .net.head import RequestHead
from .net.http_exchange import HttpSettings
from .net.http_relay import HttpRelay
from .net.leg import WebSocketLeg
from .net.outgoing import UpstreamDialler
from .net.pending import PendingConnections, descriptors_for_clients
from .net.reach import reach
from .net.tls import Tls

#: Seconds after a stop in which closing handshakes may end; then sockets are dropped.
GOODBYE = 1.0
#: Seconds for which an upstream that has answered a handshake counts as there, though it carries no session any more.
RECENTLY = 10.0
#: Seconds before that in which peers may confirm what they were sent last.
SETTLE = 1.0
#: How a session ends that an operator has ended. RFC 6455 section 7.4.1 has no code for it but the general "policy";
#: unlike 1001, which would be more polite, it says to clients and to proxies that coming back is of no use.
END_CODE, END_REASON = 1008, "ended by operator"
#: Connections that may wait to be accepted: after an outage clients come back all at once.
BACKLOG = 4096


class Proxy:
    """A WebSocket proxy whose sessions outlive dropped connections.

    `async with Proxy(upstream="ws://127.0.0.1:8080") as proxy:` listens from then on at `proxy.url`, and stops at the
    end of the block.
    """

    def __init__(self, config: Config | None = None, observe: Observe | None = None, **options: Any) -> None:
        """Make a proxy that does not listen yet.

        Args:
            config: the whole configuration; or else
            options: the options of `Config`, by name.
            observe: hears each event of the sessions' lives, see `core.events`.

        Raises:
            ValueError: an option is not valid, a certificate cannot be used, or both `config` and options are given.
        """
        if config is not None and options:
            raise ValueError("give a Config or options, not both")
        self.config = config if config is not None else Config(**options)
        if self.config.workers > 1:
            raise ValueError(f"workers is {self.config.workers}, but a Proxy is one process: that is for the program")
        # The open sockets of all sessions.
        self.legs: set[WebSocketLeg] = set()
        self.max_message = self.config.max_message
        # The upstreams, and the clock of all that happens here; there from the start of the listener on.
        self.pool: Pool
        self.timers: Timers
        # How TLS is spoken on either leg.
        self.tls = Tls(self.config.tls_files)
        self.allow_origin = self.config.allow_origin
        self.allow_path = self.config.allow_path
        self.max_head = self.config.max_head
        self.head_timeout = self.config.head_timeout
        # The connections that no session has taken yet.
        self.pending = PendingConnections(self.config.max_handshakes)
        # What all sessions hold; made anew with the loop that keeps its time.
        self._budget = MemoryBudget()
        # No new sessions are made any more; and those that there are take no more messages.
        self.draining = False
        self._settling = False
        self._observe = observe or _ignore
        # What is no WebSocket.
        self.http = HttpRelay(_http_settings_of(self.config), lambda: self.pool, self.tls, self._observe, self.refused)
        self._hooks = HookCalls(self.config.hooks, self._observe, self.max_message)
        self._policy = _policy_of(self.config, self._hooks.filtering)
        self._shared_policy = dataclasses.replace(self._policy, shared=True)
        # Each session as hooks see it, where there are any.
        self._seen: dict[Context, Session] = {}
        self._contexts: dict[str, Context] = {}
        # All that have not ended, the oldest first: also those no client can come back to.
        self._alive: dict[Context, None] = {}
        # The session of `receiver` clients that name none.
        self._shared: Context | None = None
        # For each session, a digest of what the headers in `bind` said in its first request.
        self._bound: dict[Context, bytes] = {}
        # What each session counts for.
        self._addresses: dict[Context, str] = {}
        self._by_address = SessionsByAddress(self.config.max_sessions_per_address)
        self._server: asyncio.Server | None = None
        self._address = self.config.listen

    async def __aenter__(self) -> Self:
        """Start listening. Raises OSError if the address cannot be had."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    @property
    def url(self) -> str:
        """Where clients connect, with the port that was taken."""
        return f"{'ws' if self.tls.listener is None else 'wss'}://{self._address}"

    async def start(self) -> None:
        """Start listening. Raises OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        self.timers = Timers(loop)
        self.pool = Pool(self.config.servers, self.timers, self._observe, self.config.max_dials)
        self.pending = PendingConnections(self.config.max_handshakes, descriptors_for_clients())
        self._budget = MemoryBudget(self.config.max_held, self.timers, self._observe)
        listener = self._make_listener()
        self._server = await loop.create_server(lambda: Acceptor(self), sock=listener, backlog=BACKLOG)
        self._address = Address(self.config.listen.host, listener.getsockname()[1])
        if self.config.dial is Dial.START:
            self._shared = self._new_context(_no_request(str(self._address)), None, shared=True, asked=False)
            self._shared.open()

    def _make_listener(self) -> socket.socket:
        """Return the socket that clients connect to. Raises OSError if the address cannot be had."""
        host, port = self.config.listen
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)

    async def drain(self, seconds: float) -> None:
        """Make no new sessions, and wait until all has arrived that was accepted so far, or the time is over.

        The sessions go on meanwhile, and clients may come back to them: the talk of peers that are there does not keep
        this from ending, what is kept for one that is not does (see `Backlog`). In the end the sessions take no more
        messages, and SETTLE seconds at the most go by until the last ones are confirmed. Then `stop` loses nothing.
        """
        self.draining = True
        self.http.drain()
        backlog = Backlog(self._alive)
        await wait_until(lambda: not self.http.busy and backlog.delivered(self._alive), seconds)
        self._settling = True
        for leg in list(self.legs):
            leg.settle()
        await wait_until(lambda: all(link.settled for context in self._alive for link in context.links), SETTLE)

    async def stop(self) -> Stopped:
        """Close the listener and end all sessions: clients are closed with 1012 "service restart".

        Returns what was not delivered. After a `drain` that is what could not be in its time; without one it is also
        what was still on its way.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        await self.http.stop()
        ended = list(self._alive)
        for context in ended:
            context.close(1012, "service restart")
        await wait_until(lambda: not self.legs and not self.pending, GOODBYE)
        for leg in list(self.legs):
            leg.abort()
        for connection in list(self.pending):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None
            self.timers.close()
        return Stopped(
            len(ended), sum(each.undelivered_c2u for each in ended), sum(each.undelivered_u2c for each in ended)
        )

    def reload_tls(self) -> None:
        """Read the certificates anew; what will not do is left as it was. How it went is told by events.

        Connections that are open, and handshakes that are under way, keep what they began with.
        """
        for event in self.tls.reload():
            self._observe(event)

    @property
    def contexts(self) -> Collection[Context]:
        """All sessions that have not ended, the oldest first."""
        return self._alive.keys()

    def upstreams(self) -> list[UpstreamInfo]:
        """Return what an operator may see of each upstream."""
        return self.pool.info()

    async def ready(self) -> str | None:
        """Return None if new sessions would be served, or the reason why not: for `/readyz`.

        Where it is not known from the sessions that an upstream can be reached, each is asked for a TCP connection, for
        up to the connect timeout.
        """
        if self._server is None:
            return "the proxy does not listen"
        if self.draining:
            return "the proxy is being stopped"
        if any(self.pool.reachable(target, RECENTLY) for target in self.pool.targets):
            return None
        return await reach([target.url for target in self.pool.targets], self.config.connect_timeout)

    def sessions(self) -> list[SessionInfo]:
        """Return what an operator may see of each session, the oldest first."""
        now = self.timers.time()
        return [info_of(context, self.config.mode, now) for context in self._alive]

    def find(self, name: str) -> list[Context]:
        """Return the sessions that an operator may mean with `name`: a whole id, or one as it is shown, cut short."""
        whole = self._contexts.get(name)
        if whole is not None:
            return [whole]
        ids = ((context, context.session_id) for context in self._alive if context.session_id is not None)
        return [context for context, id in ids if name in (id, short_id(id), short_id(id)[:-1])]

    def end(self, context: Context, operator: str) -> None:
        """End a session because an operator, at the address `operator`, wants it: both legs are closed with END_CODE.

        What is still owed is given up, and counted as undelivered.
        """
        self._observe(EndedByOperator(context.session_id or "", operator))
        context.close(END_CODE, END_REASON, "ended-by-operator")

    def usage(self) -> list[Usage]:
        """Return how much of each limit of the whole proxy is used."""
        return [
            Usage("sessions", len(self._alive), self.config.max_sessions),
            Usage("handshakes", len(self.pending), self.config.max_handshakes),
            Usage("held", self._budget.held, self._budget.limit),
        ]

    # Which session (net.accept.AcceptorHost).

    def hand_on(self, acceptor: Acceptor, request: SessionRequest, data: bytes) -> bool:
        """Let another process have the client, where its session is there, and tell whether it has; see `workers`."""
        return False

    def when_named(self, context: Context, then: Callable[[], None]) -> None:
        """Call `then` when it is settled under which id a session that has opened can be come back to."""
        then()

    def enter(self, request: SessionRequest) -> tuple[Context, bool]:
        """Return the session that a request belongs to, and whether it was made for it.

        Raises:
            Refusal: PROTOCOL.md section 3.
        """
        if self._settling:
            raise stopping()
        claim = request.claim
        if self._policy.mode is Mode.RECEIVER:
            shared = self._shared
            if claim.session_id is None or (shared is not None and claim.session_id == shared.session_id):
                return self._enter_shared(request)
        if self._policy.resumable and claim.session_id is not None:
            context = self._contexts.get(claim.session_id)
            if context is not None and context.resumable:
                self._check_bound(context, request)
                self._hooks.joining(self._seen.get(context), request)
                return context, False
        if claim.resume_or_fail:
            raise Refusal(
                HTTPStatus.GONE, "session-gone", "no living session has this id; connect without X-Reconnect-Id"
            )
        if claim.received:
            detail = f"X-Reconnect-Received is {claim.received}, but this is a new session: the count must be 0"
            raise Refusal(HTTPStatus.CONFLICT, "histories-disagree", detail)
        return self._open_new(request, shared=False), True

    def _enter_shared(self, request: SessionRequest) -> tuple[Context, bool]:
        if self._shared is not None and self._shared.resumable:
            self._check_bound(self._shared, request)
            self._hooks.joining(self._seen.get(self._shared), request)
            return self._shared, False
        self._shared = self._open_new(request, shared=True)
        return self._shared, True

    def _open_new(self, request: SessionRequest, shared: bool) -> Context:
        if self.draining:
            raise stopping()
        limit = self.config.max_sessions
        if limit is not None and not self._room_for_another(limit):
            detail = f"there are {limit} sessions, and no more are allowed"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-sessions", detail, retry_after=1)
        if self._budget.exceeded:
            detail = f"the sessions hold {self._budget.held} bytes, and no more than {self._budget.limit} are allowed"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too-many-bytes-held", detail, retry_after=1)
        address = self._counted_as(request)
        if address is not None:
            self._by_address.check(address)
        named = request.claim.session_id if self._policy.resumable and not shared else None
        context = self._new_context(request, named, shared, asked=True)
        if address is not None:
            self._addresses[context] = address
            self._by_address.add(address)
        if self.config.bind:
            self._bound[context] = self._credentials(request)
        context.open()
        return context

    def _room_for_another(self, limit: int) -> bool:
        """Tell whether there are fewer sessions than `limit`."""
        return len(self._alive) < limit

    def _new_id(self) -> str:
        """Make an id for a session whose client has chosen none."""
        return new_id()

    def _counted_as(self, request: SessionRequest) -> str | None:
        """Return the address that a session of `request` counts for, None where they are not counted."""
        if self.config.max_sessions_per_address is None:
            return None
        forwarded_for = request.head.headers.getall("X-Forwarded-For", ())
        return counted_as(client_address(request.peer, forwarded_for, self.config.trust_forwarded_for))

    def _new_context(self, request: SessionRequest, named: str | None, shared: bool, asked: bool) -> Context:
        """Make a session; with `asked`, if hooks allow it (else Refusal is raised, and nothing was made)."""
        if named is None and self._policy.gate.kind is not GateKind.FIRST_MESSAGE:
            named = self._new_id()
        policy = self._shared_policy if shared else self._policy
        seen = Session(named, as_seen(request)) if self._hooks.present else None
        headers = forwarded(request.head, request.peer, "http" if self.tls.listener is None else "https")
        if seen is not None and asked:
            self._hooks.opening(seen)
            headers = replaced(headers, seen.upstream_headers)
        dialler = UpstreamDialler(
            request.target,
            headers,
            request.head.subprotocols,
            policy.deflate and accept(request.head.headers) is not None,
            self.max_message,
            self.legs,
            self.tls,
            request.head.headers.get("Host") if self.config.keep_host else None,
        )
        observe = self._observe if seen is None else self._hooks.observer_of(seen)
        settings = named, self.pool, dialler, self.timers, policy, observe, self._forget
        passes = None if seen is None else self._hooks.filter_of(seen)
        context = (
            Context(*settings, self._budget) if passes is None else FilteredContext(*settings, passes, self._budget)
        )
        if seen is not None:
            seen.begin(context)
            self._seen[context] = seen
        self._alive[context] = None
        if named is not None and not shared:
            self._contexts[named] = context
        elif not shared:
            context.when_opened(lambda opening: self._register(context, opening))
        return context

    def _register(self, context: Context, opening: Opening) -> None:
        """Enter a session whose id came with its upstream's first message."""
        if opening.refusal is None and opening.failure is None:
            assert context.session_id is not None, "a session that has opened has an id"
            if context.session_id in self._contexts:
                # An upstream gave one id twice. The session that has it already keeps it.
                context.session_id = self._new_id()
            self._contexts[context.session_id] = context

    def _forget(self, context: Context) -> None:
        self._alive.pop(context, None)
        self._bound.pop(context, None)
        address = self._addresses.pop(context, None)
        if address is not None:
            self._by_address.remove(address)
        if self._shared is context:
            self._shared = None
        if context.session_id is not None and self._contexts.get(context.session_id) is context:
            del self._contexts[context.session_id]
        seen = self._seen.pop(context, None)
        if seen is not None:
            self._hooks.closed(seen, context)

    def _check_bound(self, context: Context, request: SessionRequest) -> None:
        """Raise Refusal where a session was opened with other credentials. One that no client has opened has none."""
        bound = self._bound.get(context)
        if bound is not None and not hmac.compare_digest(bound, self._credentials(request)):
            names = ", ".join(self.config.bind)
            raise Refusal(
                HTTPStatus.FORBIDDEN, "other-credentials", f"the session was opened with other values of: {names}"
            )

    def _credentials(self, request: SessionRequest) -> bytes:
        """Return a digest of the headers in `bind`: how often each is there, in which order, and what it says."""
        values = [request.head.headers.getall(name, ()) for name in self.config.bind]
        return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).digest()

    def refused(self, refusal: Refusal) -> None:
        """Take note of a refusal that is being sent."""
        self._observe(Refused(int(refusal.status), refusal.error, refusal.detail))

    def tls_failed(self, peer: str, detail: str) -> None:
        """Take note of a client that came to no TLS."""
        self._observe(TlsHandshakeFailed(peer, detail))


class Sender(Proxy):
    """A proxy that reconnects to the upstream on behalf of clients that hold their connection: `mode="sender"`."""

    def __init__(self, *, observe: Observe | None = None, **options: Any) -> None:
        """Make a sender; `options` are those of `Config` but for the mode."""
        super().__init__(observe=observe, mode=Mode.SENDER, **options)


class Receiver(Proxy):
    """A proxy that holds one upstream for clients that come and go: `mode="receiver"`."""

    def __init__(self, *, observe: Observe | None = None, **options: Any) -> None:
        """Make a receiver; `options` are those of `Config` but for the mode."""
        super().__init__(observe=observe, mode=Mode.RECEIVER, **options)


def _ignore(event: object) -> None:
    """Observe nothing."""


def _policy_of(config: Config, filtering: bool) -> Policy:
    """Return the policy that a configuration asks for. Where hooks are `filtering` messages, those must come plain."""
    return dataclasses.replace(
        POLICIES[config.mode],
        grace=config.grace,
        grace_on=config.grace_on,
        retry_for=config.retry_for,
        retry_on=config.retry_on,
        gate=config.gate,
        uncertain=config.uncertain,
        accept_when_down=config.accept_when_down,
        connect_timeout=config.connect_timeout,
        ping_interval=config.ping_interval,
        ping_timeout=config.ping_timeout,
        max_queue=config.max_queue,
        idle_timeout=config.idle_timeout,
        max_rate=config.max_rate,
        compression=config.compression is Compression.ON and not filtering,
    )


def _http_settings_of(config: Config) -> HttpSettings:
    return HttpSettings(
        connect_timeout=config.connect_timeout,
        timeout=config.http_timeout,
        idle=config.http_idle,
        limit=config.max_http,
        keep_host=config.keep_host,
    )


def _no_request(host: str) -> SessionRequest:
    """Return what stands for a client's request where the upstream is dialled before there is a client."""
    return SessionRequest(RequestHead("/", CIMultiDict({"Host": host})), "/", Claim(), "127.0.0.1")
