"""Which session a client's request belongs to, and whether it may have it. PROTOCOL.md section 3 as code.

| the request names | its session can be resumed | there is no such session |
| --- | --- | --- |
| no id | - | a new session; in `receiver` mode the shared one |
| `X-Connection-Id` | resume it | a new session under this id |
| `X-Reconnect-Id` | resume it | 410 |

In `sender` mode no session can be resumed, and no client chooses an id. A second client that names an id resumes like
the first; `Context` then lets it take the session over. Further refusals:

| client | status | why |
| --- | --- | --- |
| resumes | 403 | the session was opened with another path or Origin, or other headers of `bind` (`Binding`) |
| opens | 403 | it chooses an id, and `client_ids` is `refuse` |
| opens | 409 | it has received messages of a session that does not exist. (`Context.admit` compares other counts) |
| opens | 503 | a limit is reached: sessions, bytes that they hold, sessions of one address (`SessionLimits`) |
| any | 503 | the proxy is being stopped (`RegistryState`) |

**One rule, three users.** The proxy, each worker of `--workers` and the simulation have a `Registry`. Where they differ
is behind four protocols: how the session of a client is made (`SessionApplicant`), where ids come from (`SessionIds`),
what is counted (`SessionCounts`), and the clock that the sessions have.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from http import HTTPStatus
from typing import NamedTuple, Protocol, Self

from .budget import MemoryBudget
from .context import Context
from .interfaces import SessionCounts, SessionIds
from .opening import Opening
from .policy import ClientIds, GateKind, Policy
from .wire import Claim, Refusal, limit_reached, new_id, stopping


class RegistryState(Enum):
    """Which clients are let in: all; those that resume a session; none."""

    OPEN = auto()
    DRAINING = auto()
    SETTLING = auto()


@dataclass(frozen=True, slots=True)
class Binding:
    """What a client has to repeat to come back to its session: names of values of its request, and their digest."""

    names: tuple[str, ...]
    digest: bytes

    @classmethod
    def of(cls, values: Mapping[str, Sequence[str]]) -> Self:
        """Bind to values by name, such as headers: how often each is there, in which order, and with which values."""
        text = repr([list(each) for each in values.values()])
        return cls(tuple(values), sha256(text.encode("utf-8", "surrogateescape")).digest())

    def check(self, other: Binding | None) -> None:
        """Check that a request which comes back has the same. Raises Refusal: 403."""
        if other is None or not hmac.compare_digest(self.digest, other.digest):
            detail = f"the session was opened with other values of: {', '.join(self.names)}"
            raise Refusal(HTTPStatus.FORBIDDEN, "other-credentials", detail)


class SessionApplicant(Protocol):
    """A client that asks for a session: what the registry has to know of it, and the way to make its session."""

    claim: Claim
    #: What a resume has to match; None: any client that knows the id may resume the session.
    binding: Binding | None
    #: The address that a new session counts for; None: sessions are not counted by address.
    address: str | None

    def open(self, session_id: str | None, shared: bool, on_ended: Callable[[Context], None]) -> Context:
        """Make a new session for this client, which is dialled later (`Context.open`).

        Args:
            session_id: its id; None: the upstream's first message will bring it.
            shared: any number of clients may attach to it.
            on_ended: to be called once, when it has ended.

        Raises:
            Refusal: the embedding program refuses the client. No session was made.
        """

    def join(self, context: Context) -> None:
        """Ask whether this client may attach to a session that exists. Raises Refusal."""


class LocalIds:
    """The `SessionIds` of a single process."""

    def new_id(self) -> str:
        """Return an unguessable id."""
        return new_id()

    def claim(self, session_id: str, then: Callable[[bool], None]) -> None:
        """Grant any id: what is taken here the registry knows itself."""
        then(True)

    def release(self, session_id: str) -> None:
        """Do nothing: no other process knew of it."""


class SessionLimits(NamedTuple):
    """How many sessions there may be, and how many of one address; None: no limit."""

    sessions: int | None
    per_address: int | None


NO_LIMITS = SessionLimits(None, None)


class LocalCounts:
    """The `SessionCounts` of a single process."""

    def __init__(self) -> None:
        self._total = 0
        self._by_address: dict[str, int] = {}

    @property
    def total(self) -> int:
        """How many sessions there are."""
        return self._total

    def of(self, address: str) -> int:
        """Return how many sessions an address has."""
        return self._by_address.get(address, 0)

    def add(self, address: str | None) -> None:
        """Count one session more."""
        self._total += 1
        if address is not None:
            self._by_address[address] = self.of(address) + 1

    def remove(self, address: str | None) -> None:
        """Count one session less. An address without sessions is forgotten."""
        self._total -= 1
        if address is not None:
            left = self._by_address.pop(address) - 1
            if left:
                self._by_address[address] = left

    def part(self, limit: int) -> int:
        """Return all of it."""
        return limit


class _Entry(NamedTuple):
    """What the registry keeps of the client that opened a session."""

    binding: Binding | None
    address: str | None


class Registry:
    """The sessions of one process: by id, the shared one, and those that no client can name yet."""

    def __init__(
        self,
        policy: Policy,
        ids: SessionIds,
        counts: SessionCounts,
        limits: SessionLimits = NO_LIMITS,
        on_ended: Callable[[Context], None] | None = None,
    ) -> None:
        """Begin without sessions.

        Args:
            policy: says how new sessions are opened, and whether they can be resumed.
            ids: makes ids, and knows those of other processes.
            counts: is told of each session.
            limits: what `counts` are compared with.
            on_ended: called with each session that has ended.
        """
        self.state = RegistryState.OPEN
        # What all sessions hold. Above its limit no session is opened; this one has no limit.
        self.budget = MemoryBudget()
        self._policy = policy
        self._ids = ids
        self._counts = counts
        self._limits = limits
        self._tell_ended = on_ended
        # All that have not ended, the oldest first.
        self._entries: dict[Context, _Entry] = {}
        self._by_id: dict[str, Context] = {}
        # The session of `receiver` clients that name none.
        self._shared: Context | None = None
        # Sessions whose id is being claimed, and what is to be called when it is decided.
        self._naming: dict[Context, list[Callable[[], None]]] = {}

    @property
    def contexts(self) -> Collection[Context]:
        """All sessions that have not ended, the oldest first."""
        return self._entries.keys()

    @property
    def unshared(self) -> list[Context]:
        """Those of them that belong to one client each."""
        return [context for context in self._entries if context is not self._shared]

    def get(self, session_id: str) -> Context | None:
        """Return the session of this process that has an id."""
        return self._by_id.get(session_id)

    def __contains__(self, session_id: str) -> bool:
        """Tell whether a session of this process has an id."""
        return session_id in self._by_id

    # Clients.

    def enter(self, applicant: SessionApplicant) -> tuple[Context, bool]:
        """Return the session that a client belongs to, and whether it was made for it.

        Raises:
            Refusal: see the tables above.
        """
        if self.state is RegistryState.SETTLING:
            raise stopping()
        session_id = applicant.claim.session_id
        shared = self._policy.shares(session_id)
        context = self._shared if session_id is None else self._by_id.get(session_id)
        if context is not None and context.resumable:
            binding = self._entries[context].binding
            if binding is not None:
                binding.check(applicant.binding)
            applicant.join(context)
            return context, False
        if not shared:
            self._check_new(applicant.claim)
        return self._open(applicant, shared), True

    def _check_new(self, claim: Claim) -> None:
        """Check that a claim can be one to a new session. Raises Refusal: 410, 409 or 403."""
        if claim.resume_or_fail:
            detail = "no living session has this id; connect without X-Reconnect-Id"
            raise Refusal(HTTPStatus.GONE, "session-gone", detail)
        if claim.received:
            detail = f"X-Reconnect-Received is {claim.received}, but this is a new session: the count must be 0"
            raise Refusal(HTTPStatus.CONFLICT, "histories-disagree", detail)
        if claim.session_id is not None and self._policy.client_ids is ClientIds.REFUSE:
            detail = "no session has this id, and clients cannot choose ids here; connect without X-Connection-Id"
            raise Refusal(HTTPStatus.FORBIDDEN, "client-id-refused", detail)

    def _open(self, applicant: SessionApplicant, shared: bool) -> Context:
        """Make and dial a session, if the limits allow one more."""
        if self.state is not RegistryState.OPEN:
            raise stopping()
        self._counts.add(applicant.address)
        try:
            self._check_limits(applicant.address)
            chosen = applicant.claim.session_id if self._policy.resumable and not shared else None
            context = self._add(applicant, chosen, shared)
        except BaseException:
            self._counts.remove(applicant.address)
            raise
        context.open()
        return context

    def _check_limits(self, address: str | None) -> None:
        """Compare the counts, with the new session in them, with the limits. Raises Refusal."""
        sessions, per_address = self._limits
        if sessions is not None and self._counts.total > sessions:
            raise limit_reached("too-many-sessions", f"there are {sessions} sessions, and no more are allowed")
        if self.budget.exceeded:
            held, most = self.budget.held, self.budget.limit
            detail = f"the sessions hold {held} bytes, and no more than {most} are allowed"
            raise limit_reached("too-many-bytes-held", detail)
        if address is not None and per_address is not None and self._counts.of(address) > per_address:
            detail = f"{address} has {per_address} sessions, and no more are allowed for one address"
            raise limit_reached("too-many-sessions-of-address", detail)

    def open_shared(self, applicant: SessionApplicant) -> None:
        """Make and dial the shared session before the first client is there. No limit can be reached yet."""
        self._counts.add(applicant.address)
        self._add(applicant, None, shared=True).open()

    def _add(self, applicant: SessionApplicant, session_id: str | None, shared: bool) -> Context:
        if session_id is None and self._policy.gate.kind is not GateKind.FIRST_MESSAGE:
            session_id = self._ids.new_id()
        context = applicant.open(session_id, shared, self._on_ended)
        self._entries[context] = _Entry(applicant.binding, applicant.address)
        if shared:
            self._shared = context
        if session_id is not None:
            self._by_id[session_id] = context
        else:
            context.when_opened(lambda opening: self._on_opened(context, opening))
        return context

    def _on_ended(self, context: Context) -> None:
        self._counts.remove(self._entries.pop(context).address)
        if self._shared is context:
            self._shared = None
        session_id = context.session_id
        if session_id is not None:
            if self._by_id.get(session_id) is context:
                del self._by_id[session_id]
            if context not in self._naming:
                self._ids.release(session_id)
        if self._tell_ended is not None:
            self._tell_ended(context)

    # Ids that an upstream gives with its first message.

    def when_named(self, context: Context, then: Callable[[], None]) -> None:
        """Call `then` when it is decided under which id a session that has opened can be resumed: at once, or later."""
        waiting = self._naming.get(context)
        if waiting is None:
            then()
        else:
            waiting.append(then)

    def _on_opened(self, context: Context, opening: Opening) -> None:
        """Claim the id of a session that has opened."""
        session_id = context.session_id
        if not opening.accepted or session_id is None:
            return
        self._naming[context] = []
        if self._policy.resumable:
            self._ids.claim(session_id, lambda granted: self._on_claimed(context, session_id, granted))
        else:
            # Other processes need not know it.
            self._on_claimed(context, session_id, granted=True)

    def _on_claimed(self, context: Context, session_id: str, granted: bool) -> None:
        """Enter a session under its id. If another session has that id, this one gets a new one."""
        waiting = self._naming.pop(context)
        living = context in self._entries
        usable = living and session_id not in self._by_id
        if granted and not usable:
            self._ids.release(session_id)
        if living:
            if not granted or not usable:
                session_id = context.session_id = self._ids.new_id()
            self._by_id[session_id] = context
        for then in waiting:
            then()
