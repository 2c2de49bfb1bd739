"""The proxy: what it is made of, and how it starts, drains and stops.

    Acceptor ── enter ──► Registry ── open ──► SessionFactory ──► Context ──► UpstreamDialler
    reads a head          which session?       makes a new one    the session  reaches the upstream

`Proxy` runs any mode; `Sender` and `Receiver` are the two of the original design, each a `Proxy` with its mode fixed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from .config.model import Config, Dial
from .config.session_policy import policy_of
from .core.budget import make_budget
from .core.context import Context
from .core.interfaces import SessionCounts, SessionIds
from .core.policy import Mode
from .core.pool import Pool
from .core.pressure import Pressure
from .core.registry import LocalCounts, LocalIds, Registry, RegistryState
from .core.target import UpstreamInfo
from .core.timers import Timers
from .core.wire import Refusal
from .descriptors import session_limits
from .draining import Backlog, Stopped, wait_until
from .events import EndedByOperator, HeaderDropped, Observe, Refused, TlsHandshakeFailed, short_id
from .hooks.calls import HookCalls
from .introspection import SessionInfo, Usage, info_of
from .net.accept import Acceptor, LocalRouter, Router
from .net.connector import Connector
from .net.handshake import SessionRequest
from .net.http_exchange import HttpSettings
from .net.http_relay import HttpRelay
from .net.leg import WebSocketLeg
from .net.listeners import BACKLOG, listen
from .net.outgoing import DialResources
from .net.pending import PendingConnections, descriptors_for_clients
from .net.reach import reach
from .net.tls import Tls
from .session_factory import SessionFactory

#: Seconds after a stop in which closing handshakes may complete; then sockets are dropped.
GOODBYE = 1.0
#: Seconds for which an upstream that answered a handshake counts as reachable, even if it carries no session any more.
RECENTLY = 10.0
#: Seconds before a stop in which peers may confirm what they were sent last.
SETTLE = 1.0
#: How a session ends that an operator has ended. RFC 6455 section 7.4.1 has only the general "policy" code for it. 1001
#: would be more polite, but 1008 tells clients and proxies that there is no point in coming back.
END_CODE, END_REASON = 1008, "ended by operator"


@dataclass(frozen=True, slots=True)
class ProxyParts:
    """The parts of which a worker of `--workers`, or a test, has its own version.

    The defaults are those of a single process.
    """

    ids: SessionIds = field(default_factory=LocalIds)
    counts: SessionCounts = field(default_factory=LocalCounts)
    router: Router = field(default_factory=LocalRouter)
    #: Where clients connect; None: the proxy opens the addresses of its configuration.
    listeners: list[socket.socket] | None = None
    #: Opens the connections to upstreams.
    connector: Connector = field(default_factory=Connector)


class Proxy:
    """A WebSocket proxy whose sessions outlive dropped connections.

    `async with Proxy(upstream="ws://127.0.0.1:8080") as proxy:` listens at `proxy.url` from then on, and stops at the
    end of the block.
    """

    def __init__(
        self,
        config: Config | None = None,
        observe: Observe | None = None,
        parts: ProxyParts | None = None,
        **options: Any,
    ) -> None:
        """Make a proxy that does not listen yet.

        Args:
            config: the whole configuration; or else
            options: the options of `Config`, by name.
            observe: hears each event of the sessions' lives, see `events`.
            parts: those of a worker.

        Raises:
            ValueError: an option is not valid, a certificate cannot be used, or both `config` and options are given.
        """
        if config is not None and options:
            raise ValueError("give a Config or options, not both")
        self.config = config = config if config is not None else Config(**options)
        if config.workers > 1:
            raise ValueError(
                f"workers is {config.workers}, but a Proxy is one process; the command `serve` runs several"
            )
        self._observe = observe or _ignore
        self._parts = parts = parts or ProxyParts()
        # What an `Acceptor` asks for (`AcceptorHost`): the open sockets of all sessions, the connections that no
        # session has taken yet, limits, TLS on either leg, plain HTTP, and the way to other processes.
        self.legs: set[WebSocketLeg] = set()
        self.pending = PendingConnections(config.max_handshakes)
        self.max_message = config.max_message
        self.max_head = config.max_head
        self.head_timeout = config.head_timeout
        self.allow_origin = config.allow_origin
        self.allow_path = config.allow_path
        self.underscores = config.underscores_in_headers
        self.tls = Tls(config.tls_files)
        self.http = HttpRelay(
            _http_settings_of(config), lambda: self.pool, parts.connector, self.tls, self._observe, self.refused
        )
        self.router = parts.router
        # The sessions, and the hooks that are asked about them.
        self._hooks = HookCalls(config.hooks, self._observe, config.max_message)
        self._limits = session_limits(config)
        self._policy = policy_of(config, self._hooks.filtering)
        self.registry = Registry(
            self._policy,
            parts.ids,
            parts.counts,
            self._limits,
            self._hooks.closed,
        )
        # From the start of the listener on: the clock of all that happens here, the upstreams, what makes sessions.
        self.timers: Timers
        self.pool: Pool
        self._factory: SessionFactory
        # One for each address.
        self._servers: list[asyncio.Server] = []
        self._has_dropped_headers = False
        self._address = config.listen

    # Start, drain, stop.

    async def __aenter__(self) -> Self:
        """Start listening. Raises OSError: the address cannot be opened."""
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
        """Start listening. Raises OSError: the address cannot be opened."""
        config = self.config
        loop = asyncio.get_running_loop()
        self.timers = Timers(loop)
        self.pool = Pool(config.servers, self.timers, self._observe, config.max_dials, eject_on=config.eject_on)
        self.pending = PendingConnections(config.max_handshakes, descriptors_for_clients())
        budget = self.registry.budget = make_budget(config.max_held, self.timers, self._observe)
        budget.on_tight = Pressure(budget, lambda: self.registry.unshared, self.timers).begin
        self._factory = SessionFactory(
            config,
            self._policy,
            self._hooks,
            self._observe,
            DialResources(self._parts.connector, self.tls, self.legs, self.max_message),
            self.pool,
            self.timers,
            self.registry.budget,
        )
        listeners = self._parts.listeners or listen(*config.listen)[0]
        self._address = config.listen._replace(port=listeners[0].getsockname()[1])
        for listener in listeners:
            self._servers.append(await loop.create_server(lambda: Acceptor(self), sock=listener, backlog=BACKLOG))
        if config.dial is Dial.START:
            self.registry.open_shared(self._factory.without_client(str(self._address)))

    async def drain(self, seconds: float) -> None:
        """Open no new sessions, and wait until all has arrived that was accepted so far, or the time is over.

        The sessions go on meanwhile, and clients may return to them. Messages between peers that are connected do not
        keep this from ending; messages that are kept for a peer that is away do (see `Backlog`). At the end the
        sessions take no more messages, and peers have SETTLE seconds to confirm the last ones. Then `stop` loses
        nothing.
        """
        contexts = self.registry.contexts
        self.registry.state = RegistryState.DRAINING
        self.http.drain()
        backlog = Backlog(contexts)
        await wait_until(lambda: not self.http.busy and backlog.delivered(contexts), seconds)
        self.registry.state = RegistryState.SETTLING
        for leg in list(self.legs):
            leg.settle()
        await wait_until(lambda: all(link.settled for context in contexts for link in context.links), SETTLE)

    async def stop(self) -> Stopped:
        """Close the listener and end all sessions: clients are closed with 1012 "service restart".

        Returns what was not delivered. After a `drain` that is what could not be delivered in its time; without one it
        includes what was still on its way.
        """
        if self.registry.state is RegistryState.OPEN:
            self.registry.state = RegistryState.DRAINING
        for server in self._servers:
            server.close()
        await self.http.stop()
        ended = list(self.registry.contexts)
        for context in ended:
            context.close(1012, "service restart")
        await wait_until(lambda: not self.legs and not self.pending, GOODBYE)
        for leg in list(self.legs):
            leg.abort()
        for connection in list(self.pending):
            connection.abort()
        if self._servers:
            await asyncio.gather(*(server.wait_closed() for server in self._servers))
            self._servers.clear()
            self.timers.close()
        return Stopped.of(ended)

    @property
    def draining(self) -> bool:
        """Whether no new sessions are opened any more."""
        return self.registry.state is not RegistryState.OPEN

    def reload_tls(self) -> None:
        """Read the certificates again. One that cannot be used is not replaced. Events report the outcome.

        Open connections and handshakes in progress keep the certificate that they began with.
        """
        for event in self.tls.reload():
            self._observe(event)

    # What an `Acceptor` asks (net.accept.AcceptorHost).

    def enter(self, request: SessionRequest) -> tuple[Context, bool]:
        """Return the session that a request belongs to, and whether it was made for it. Raises Refusal."""
        return self.registry.enter(self._factory.applicant(request))

    def when_named(self, context: Context, then: Callable[[], None]) -> None:
        """Call `then` when it is decided under which id a session that has opened can be resumed."""
        self.registry.when_named(context, then)

    def header_dropped(self, name: str) -> None:
        """Report, once, that headers with an underscore in their names are dropped; `name` is the first one."""
        if not self._has_dropped_headers:
            self._has_dropped_headers = True
            self._observe(HeaderDropped(name[:100]))

    def refused(self, refusal: Refusal) -> None:
        """Report a refusal that is being sent."""
        self._observe(Refused(int(refusal.status), refusal.error, refusal.detail))

    def tls_failed(self, peer: str, detail: str) -> None:
        """Report a failed TLS handshake of a client."""
        self._observe(TlsHandshakeFailed(peer, detail))

    # What an operator asks.

    @property
    def contexts(self) -> Collection[Context]:
        """All sessions that have not ended, the oldest first."""
        return self.registry.contexts

    def sessions(self) -> list[SessionInfo]:
        """Return what an operator may see of each session, the oldest first."""
        now = self.timers.time()
        return [info_of(context, self.config.mode, now) for context in self.contexts]

    def upstreams(self) -> list[UpstreamInfo]:
        """Return what an operator may see of each upstream."""
        return self.pool.info()

    def usage(self) -> list[Usage]:
        """Return how much of each limit is used here; the workers of one program have parts of them."""
        most = self._limits.sessions
        budget = self.registry.budget
        return [
            Usage("sessions", len(self.contexts), None if most is None else self._parts.counts.part(most)),
            Usage("handshakes", len(self.pending), self.config.max_handshakes),
            Usage("held", budget.held, budget.limit),
        ]

    async def ready(self) -> str | None:
        """Return None if new sessions would be served, or the reason why not: for `/readyz`.

        If no session shows that an upstream can be reached, each is asked for a TCP connection, for up to the connect
        timeout.
        """
        if not self._servers:
            return "the proxy does not listen"
        if self.draining:
            return "the proxy is being stopped"
        if any(self.pool.reachable(target, RECENTLY) for target in self.pool.targets):
            return None
        urls = [target.url for target in self.pool.targets]
        return await reach(urls, self.config.connect_timeout, self._parts.connector)

    def find(self, name: str) -> list[Context]:
        """Return the sessions that an operator may mean with `name`: a whole id, or one in its short form."""
        whole = self.registry.get(name)
        if whole is not None:
            return [whole]
        ids = ((context, context.session_id) for context in self.contexts if context.session_id is not None)
        return [context for context, id in ids if name in (id, short_id(id), short_id(id)[:-1])]

    def end(self, context: Context, operator: str) -> None:
        """End a session for the operator at the address `operator`: both legs are closed with END_CODE.

        Messages that are not delivered yet are given up, and counted as undelivered.
        """
        self._observe(EndedByOperator(context.session_id or "", operator))
        context.close(END_CODE, END_REASON, "ended-by-operator")


class Sender(Proxy):
    """A proxy that reconnects to the upstream on behalf of clients that keep their connection: `mode="sender"`."""

    def __init__(self, *, observe: Observe | None = None, **options: Any) -> None:
        """Make a sender; `options` are those of `Config` except the mode."""
        super().__init__(observe=observe, mode=Mode.SENDER, **options)


class Receiver(Proxy):
    """A proxy that holds one upstream for clients that come and go: `mode="receiver"`."""

    def __init__(self, *, observe: Observe | None = None, **options: Any) -> None:
        """Make a receiver; `options` are those of `Config` except the mode."""
        super().__init__(observe=observe, mode=Mode.RECEIVER, **options)


def _ignore(event: object) -> None:
    """Observe nothing."""


def _http_settings_of(config: Config) -> HttpSettings:
    return HttpSettings(
        connect_timeout=config.connect_timeout,
        timeout=config.http_timeout,
        idle=config.http_idle,
        limit=config.max_http,
        keep_host=config.keep_host,
        trusted=config.trust_forwarded,
        rewrite_debugger_url=config.rewrite_debugger_url,
        underscores=config.underscores_in_headers,
    )
