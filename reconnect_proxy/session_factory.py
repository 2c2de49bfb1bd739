"""How the session of a request is made: its policy, its headers for the upstream, its hooks.

Which session a request belongs to is decided by `core.registry`; it calls this when a new one is due.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from multidict import CIMultiDict

from .config.model import Config
from .core.budget import MemoryBudget
from .core.context import Context
from .core.policy import Policy
from .core.pool import Pool
from .core.registry import Binding
from .core.timers import Timers
from .core.wire import Claim
from .events import Observe
from .hooks.api import Session
from .hooks.calls import HookCalls, as_seen
from .net.client_address import client_address, counted_as, is_trusted
from .net.deflate import accept
from .net.forwarding import forwarded, replaced
from .net.handshake import SessionRequest
from .net.head import RequestHead
from .net.outgoing import DialResources, UpstreamDialler


class SessionFactory:
    """Makes the sessions of one proxy."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        hooks: HookCalls,
        observe: Observe,
        resources: DialResources,
        pool: Pool,
        timers: Timers,
        budget: MemoryBudget,
    ) -> None:
        """Make a factory.

        Args:
            config: the options of the proxy.
            policy: of its sessions.
            hooks: are asked for each session and each client that joins one.
            observe: hears each event of the sessions' lives.
            resources: those of all diallers; its TLS also says whether clients come with TLS.
            pool: the upstreams.
            timers: the clock of the sessions.
            budget: what all sessions may hold together.
        """
        self._policy = policy
        self._shared_policy = dataclasses.replace(policy, shared=True)
        self._config = config
        self._hooks = hooks
        self._observe = observe
        self._resources = resources
        self._pool = pool
        self._timers = timers
        self._budget = budget

    def applicant(self, request: SessionRequest) -> ClientApplicant:
        """Return the client of a request as the registry sees it."""
        return ClientApplicant(self, request, self._binding_of(request), self._address_of(request))

    def without_client(self, host: str) -> ClientApplicant:
        """Return what opens the shared session before the first client is there.

        The session is bound to nothing, and no hook is asked. `host` stands in the Host header.
        """
        request = SessionRequest(RequestHead("/", CIMultiDict({"Host": host})), "/", Claim(), "127.0.0.1")
        return ClientApplicant(self, request, None, None, has_client=False)

    def _binding_of(self, request: SessionRequest) -> Binding | None:
        """Return what ties a session to its client; None if no client can return to it.

        Visitors of the shared session come with any path and Origin.
        """
        if not self._policy.resumable:
            return None
        headers = request.head.headers
        names = self._config.bind
        values: dict[str, Sequence[str]] = {}
        if not self._policy.shares(request.claim.session_id):
            values["path"] = (request.target.partition("?")[0],)
            names = ("origin", *names)
        values |= {name: headers.getall(name, ()) for name in names}
        return Binding.of(values) if values else None

    def _address_of(self, request: SessionRequest) -> str | None:
        if self._config.max_sessions_per_address is None:
            return None
        forwarded_for = request.head.headers.getall("X-Forwarded-For", ())
        return counted_as(client_address(request.peer, forwarded_for, self._config.trust_forwarded))

    def make(
        self,
        request: SessionRequest,
        session_id: str | None,
        shared: bool,
        on_ended: Callable[[Context], None],
        has_client: bool,
    ) -> Context:
        """Make a session; see `SessionApplicant.open`. Raises Refusal: a hook refuses the client, or has failed."""
        policy = self._shared_policy if shared else self._policy
        seen = Session(session_id, as_seen(request)) if self._hooks.present else None
        scheme = "http" if self._resources.tls.listener is None else "https"
        headers = forwarded(request.head, request.peer, scheme, is_trusted(request.peer, self._config.trust_forwarded))
        if seen is not None and has_client:
            self._hooks.opening(seen)
            headers = replaced(headers, seen.upstream_headers)
        dialler = UpstreamDialler(
            request.target,
            headers,
            request.head.subprotocols,
            policy.deflate and accept(request.head.headers) is not None,
            self._resources,
            request.head.headers.get("Host") if self._config.keep_host else None,
        )
        observe = self._observe if seen is None else self._hooks.observer_of(seen)
        message_filter = None if seen is None else self._hooks.filter_of(seen)
        around = (self._pool, dialler, self._timers, policy, observe, on_ended, self._budget)
        on_redial = None if seen is None else self._hooks.introduction_of(seen)
        context = Context(session_id, *around, message_filter, on_redial)
        if seen is not None:
            self._hooks.opened(seen, context)
        return context

    def join(self, context: Context, request: SessionRequest) -> None:
        """Ask whether a client may attach to a session. Raises Refusal: a hook refuses the client, or has failed."""
        self._hooks.joining(context, request)


class ClientApplicant:
    """The client of a request as the registry sees it (`core.registry.SessionApplicant`)."""

    __slots__ = ("_factory", "_has_client", "_request", "address", "binding", "claim")

    def __init__(
        self,
        factory: SessionFactory,
        request: SessionRequest,
        binding: Binding | None,
        address: str | None,
        has_client: bool = True,
    ) -> None:
        self.claim = request.claim
        self.binding = binding
        self.address = address
        self._factory = factory
        self._request = request
        self._has_client = has_client

    def open(self, session_id: str | None, shared: bool, on_ended: Callable[[Context], None]) -> Context:
        """Make a new session for this client. Raises Refusal."""
        return self._factory.make(self._request, session_id, shared, on_ended, self._has_client)

    def join(self, context: Context) -> None:
        """Ask whether this client may attach to a session that exists. Raises Refusal."""
        self._factory.join(context, self._request)
