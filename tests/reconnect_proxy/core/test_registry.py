"""Which session a client belongs to: the tables of PROTOCOL.md section 3, with no socket and no proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import pytest

from reconnect_proxy.core.budget import LimitedBudget
from reconnect_proxy.core.context import Context, SessionState
from reconnect_proxy.core.interfaces import SessionCounts, SessionIds
from reconnect_proxy.core.policy import DUPLEX, RECEIVER, SENDER, ClientIds, Gate, GateKind, Policy
from reconnect_proxy.core.pool import Pool
from reconnect_proxy.core.registry import (
    NO_LIMITS,
    Binding,
    LocalCounts,
    LocalIds,
    Registry,
    RegistryState,
    SessionLimits,
)
from reconnect_proxy.core.target import UpstreamAddress
from reconnect_proxy.core.wire import Claim, Refusal, is_id

from .fakes import FakeClock, FakeDialler, FakeLeg, say

KNOWN = "the-id-of-a-session"
OTHER = "the-id-of-no-session"
FIRST_MESSAGE = Gate(GateKind.FIRST_MESSAGE)


@dataclass
class FakeApplicant:
    """A client whose sessions are made by a rig; hooks may refuse it."""

    rig: Rig
    claim: Claim
    binding: Binding | None = None
    address: str | None = None
    refused: bool = False
    joined: list[Context] = field(default_factory=list)

    def open(self, session_id: str | None, shared: bool, on_ended: Callable[[Context], None]) -> Context:
        """Make a session."""
        self._ask()
        return self.rig.make(session_id, shared, on_ended)

    def join(self, context: Context) -> None:
        """Record that this client was asked about."""
        self._ask()
        self.joined.append(context)

    def _ask(self) -> None:
        if self.refused:
            raise Refusal(HTTPStatus.FORBIDDEN, "refused", "a hook says no")


class Rig:
    """A registry with everything that its sessions need."""

    def __init__(
        self,
        policy: Policy = DUPLEX,
        limits: SessionLimits = NO_LIMITS,
        ids: SessionIds | None = None,
        counts: SessionCounts | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.policy = policy
        self.pool = Pool([UpstreamAddress("ws://one")], self.clock, lambda event: None)
        self.dialler = FakeDialler()
        self.ended: list[Context] = []
        self.counts = counts or LocalCounts()
        self.registry = Registry(policy, ids or LocalIds(), self.counts, limits, self.ended.append)

    def make(self, session_id: str | None, shared: bool, on_ended: Callable[[Context], None]) -> Context:
        """Make a session. Its dialler is `dialler` until the next one is made."""
        self.dialler = FakeDialler()
        policy = replace(self.policy, shared=shared)
        return Context(session_id, self.pool, self.dialler, self.clock, policy, lambda event: None, on_ended)

    def enter(self, claim: Claim | None = None, **details: object) -> tuple[Context, bool]:
        """Let a client in."""
        return self.registry.enter(FakeApplicant(self, claim or Claim(), **details))  # type: ignore[arg-type]

    def refused(self, claim: Claim | None = None, **details: object) -> tuple[int, str]:
        """Return the status and the error with which a client is refused, and check that nothing was changed."""
        before = list(self.registry.contexts), self.counts.total
        with pytest.raises(Refusal) as refusal:
            self.enter(claim, **details)
        assert (list(self.registry.contexts), self.counts.total) == before
        return int(refusal.value.status), refusal.value.error

    def opened(self, claim: Claim | None = None, message: str | None = None, **details: object) -> Context:
        """Let a client in and attach it: its upstream has answered, and sent `message` first."""
        claim = claim or Claim()
        context, _ = self.enter(claim, **details)
        if context.state is SessionState.OPENING:
            _, link = self.dialler.answer()
            if message is not None:
                assert link is not None
                say(link, message)
        context.attach(FakeLeg(), claim)
        return context


def named(connection: str | None = None, reconnect: str | None = None, received: int | None = None) -> Claim:
    """Return the claim of a client that names ids."""
    return Claim(connection, reconnect, received)


# The first table: which session.


@pytest.mark.parametrize("policy", [DUPLEX, RECEIVER], ids=["duplex", "receiver"])
@pytest.mark.parametrize(
    "claim",
    [
        named(KNOWN),
        named(reconnect=KNOWN),
        named(KNOWN, KNOWN),
        named(KNOWN, received=7),
        named(reconnect=KNOWN, received=7),
    ],
)
def test_an_id_of_a_session_resumes_it(policy: Policy, claim: Claim) -> None:
    """By either name. Whether the count is possible is checked when the client is admitted, not here."""
    rig = Rig(policy)
    context = rig.opened(named(KNOWN))
    applicant = FakeApplicant(rig, claim)
    assert rig.registry.enter(applicant) == (context, False)
    assert applicant.joined == [context]
    assert list(rig.registry.contexts) == [context]


@pytest.mark.parametrize("policy", [DUPLEX, RECEIVER], ids=["duplex", "receiver"])
@pytest.mark.parametrize(
    ("claim", "status", "error"),
    [
        (named(reconnect=OTHER), 410, "session-gone"),
        (named(reconnect=OTHER, received=0), 410, "session-gone"),
        (named(reconnect=OTHER, received=5), 410, "session-gone"),
        (named(OTHER, received=5), 409, "histories-disagree"),
        (named(OTHER, OTHER, received=5), 409, "histories-disagree"),
    ],
)
def test_an_id_of_no_session_is_refused_if_the_client_expects_one(
    policy: Policy, claim: Claim, status: int, error: str
) -> None:
    """`X-Reconnect-Id` alone means resume or fail, and a count above 0 belongs to a session that existed."""
    rig = Rig(policy)
    rig.opened(named(KNOWN))
    assert rig.refused(claim) == (status, error)


@pytest.mark.parametrize("policy", [DUPLEX, RECEIVER], ids=["duplex", "receiver"])
@pytest.mark.parametrize("claim", [named(OTHER), named(OTHER, OTHER), named(OTHER, received=0)])
def test_a_client_may_choose_the_id_of_a_new_session(policy: Policy, claim: Claim) -> None:
    """The session is dialled, and can be resumed by that id."""
    rig = Rig(policy)
    other = rig.opened(named(KNOWN))
    context, created = rig.enter(claim)
    assert (created, context.session_id) == (True, OTHER)
    assert [dial.session_id for dial in rig.dialler.dials] == [OTHER]
    assert list(rig.registry.contexts) == [other, context]
    assert rig.registry.get(OTHER) is context
    assert OTHER in rig.registry
    assert rig.enter(named(reconnect=OTHER)) == (context, False)


def test_clients_without_an_id_get_sessions_of_their_own() -> None:
    """Each with an id that the proxy makes."""
    rig = Rig()
    contexts = [rig.opened() for _ in range(3)]
    ids = {context.session_id for context in contexts}
    assert len(ids) == 3
    for context in contexts:
        assert context.session_id is not None
        assert is_id(context.session_id)
        assert rig.enter(named(reconnect=context.session_id)) == (context, False)


@pytest.mark.parametrize(
    ("claim", "refused"),
    [
        (named(KNOWN), None),
        (named(reconnect=KNOWN), (410, "session-gone")),
        (named(KNOWN, received=3), (409, "histories-disagree")),
    ],
)
def test_in_sender_mode_no_session_is_resumed_and_no_id_is_chosen(
    claim: Claim, refused: tuple[int, str] | None
) -> None:
    """Not even by the id that the proxy has made."""
    rig = Rig(SENDER)
    first = rig.opened(named(KNOWN))
    assert first.session_id not in (None, KNOWN)
    assert rig.refused(named(reconnect=first.session_id)) == (410, "session-gone")
    if refused is not None:
        assert rig.refused(claim) == refused
    else:
        context, created = rig.enter(claim)
        assert created
        assert context.session_id not in (KNOWN, first.session_id)


def test_in_receiver_mode_clients_without_an_id_share_a_session() -> None:
    """So does a client that names its id, by either name, with any count: it is plain there."""
    rig = Rig(RECEIVER)
    shared = rig.opened()
    own = rig.opened(named(KNOWN))
    assert shared is not own
    session_id = shared.session_id
    for claim in (
        Claim(),
        Claim(received=9),
        named(session_id),
        named(reconnect=session_id),
        named(session_id, received=9),
    ):
        assert rig.enter(claim) == (shared, False)


def test_a_client_without_an_id_opens_the_shared_session_whatever_count_it_states() -> None:
    """It is plain there, so its count means nothing."""
    rig = Rig(RECEIVER)
    shared, created = rig.enter(Claim(received=9))
    assert created
    assert rig.enter() == (shared, False)


def test_a_new_shared_session_follows_one_that_has_ended() -> None:
    """With an id of its own, so the earlier one leads nowhere."""
    rig = Rig(RECEIVER)
    first = rig.opened()
    first.close(1000, "")
    assert first.session_id is not None
    assert first.session_id not in rig.registry
    second, created = rig.enter()
    assert created
    assert second.session_id != first.session_id
    assert rig.refused(named(reconnect=first.session_id)) == (410, "session-gone")


def test_the_shared_session_can_be_opened_before_the_first_client() -> None:
    """`dial = start`: the first client finds it, and it counts as a session."""
    rig = Rig(RECEIVER)
    rig.registry.open_shared(FakeApplicant(rig, Claim()))
    assert len(rig.dialler.dials) == 1
    (shared,) = rig.registry.contexts
    assert rig.enter() == (shared, False)
    assert rig.counts.total == 1


@pytest.mark.parametrize("claim", [named(KNOWN), named(reconnect=KNOWN)])
def test_an_ended_session_is_not_resumed(claim: Claim) -> None:
    """Its id is as unknown as any other, and the embedding program hears of the end once."""
    rig = Rig()
    context = rig.opened(named(KNOWN))
    context.close(1000, "")
    assert rig.ended == [context]
    assert KNOWN not in rig.registry
    assert rig.counts.total == 0
    if claim.resume_or_fail:
        assert rig.refused(claim) == (410, "session-gone")
    else:
        again, created = rig.enter(claim)
        assert created
        assert again is not context


def test_a_session_that_has_given_its_client_up_is_not_resumed() -> None:
    """Its grace is over, and it only delivers the rest to its upstream. A new session takes the id over."""
    rig = Rig(replace(DUPLEX, grace=1.0, retry_for=1000.0))
    context = rig.opened(named(KNOWN))
    (client,) = context.clients.links
    assert context.upstream.link is not None
    context.upstream.link.on_lost(1006, "")
    say(client, "to be delivered")
    client.on_lost(1006, "")
    rig.clock.advance(1.5)
    assert context.state is SessionState.ENDING
    assert rig.refused(named(reconnect=KNOWN)) == (410, "session-gone")
    again, created = rig.enter(named(KNOWN))
    assert created
    context.close(1000, "")
    assert rig.registry.get(KNOWN) is again, "the end of the old session takes nothing from the new one"


# The second table: refusals.

MINE = Binding.of({"authorization": ["Bearer mine"], "cookie": ["a=1", "b=2"]})


@pytest.mark.parametrize(
    "other",
    [
        None,
        Binding.of({"authorization": [], "cookie": []}),
        Binding.of({"authorization": ["Bearer mine"], "cookie": ["b=2", "a=1"]}),
        Binding.of({"authorization": ["Bearer mine"], "cookie": ["a=1, b=2"]}),
        Binding.of({"authorization": ["a=1", "b=2"], "cookie": ["Bearer mine"]}),
    ],
)
@pytest.mark.parametrize("claim", [named(KNOWN), named(reconnect=KNOWN)])
def test_a_bound_session_is_not_resumed_with_other_values(claim: Claim, other: Binding | None) -> None:
    """403, which names the headers but no value; and the hooks of the program are not asked."""
    rig = Rig()
    context = rig.opened(named(KNOWN), binding=MINE)
    applicant = FakeApplicant(rig, claim, other)
    with pytest.raises(Refusal, match=r"opened with other values of: authorization, cookie$") as refusal:
        rig.registry.enter(applicant)
    assert (refusal.value.status, refusal.value.error) == (403, "other-credentials")
    assert applicant.joined == []
    same = Binding.of({"authorization": ["Bearer mine"], "cookie": ("a=1", "b=2")})
    assert rig.enter(claim, binding=same) == (context, False)


def test_clients_choose_no_ids_if_the_policy_says_so() -> None:
    """A chosen id is refused with 403; an id that the proxy made resumes its session under either name."""
    rig = Rig(replace(DUPLEX, client_ids=ClientIds.REFUSE))
    assert rig.refused(named(KNOWN)) == (403, "client-id-refused")
    assert rig.refused(named(reconnect=KNOWN)) == (410, "session-gone")
    context = rig.opened()
    assert context.session_id is not None
    for claim in (named(context.session_id), named(reconnect=context.session_id)):
        assert rig.enter(claim) == (context, False)


def test_the_shared_session_is_bound_like_any_other() -> None:
    """To the client that has opened it; one that was opened without a client is bound to nothing."""
    rig = Rig(RECEIVER)
    rig.opened(binding=MINE)
    assert rig.refused(binding=Binding.of({"authorization": ["Bearer other"]})) == (403, "other-credentials")
    rig = Rig(RECEIVER)
    rig.registry.open_shared(FakeApplicant(rig, Claim()))
    assert rig.enter(binding=MINE)[1] is False


def test_a_hook_may_refuse_each_client() -> None:
    """The one that opens a session, of which nothing is left then, and the one that joins it."""
    rig = Rig(limits=SessionLimits(1, 1))
    assert rig.refused(named(KNOWN), refused=True, address="192.0.2.1") == (403, "refused")
    rig.opened(named(KNOWN), address="192.0.2.1")
    assert rig.refused(named(reconnect=KNOWN), refused=True) == (403, "refused")


@pytest.mark.parametrize(
    ("state", "new", "returning"),
    [
        (RegistryState.OPEN, None, None),
        (RegistryState.DRAINING, (503, "stopping"), None),
        (RegistryState.SETTLING, (503, "stopping"), (503, "stopping")),
    ],
)
def test_a_proxy_that_stops_lets_fewer_clients_in(
    state: RegistryState, new: tuple[int, str] | None, returning: tuple[int, str] | None
) -> None:
    """While it drains clients may return to their sessions, while it settles they may not."""
    rig = Rig()
    rig.opened(named(KNOWN))
    rig.registry.state = state
    for claim, refused in ((named(OTHER), new), (named(KNOWN), returning)):
        if refused is None:
            rig.enter(claim)
        else:
            assert rig.refused(claim) == refused


def test_a_limit_of_sessions_refuses_new_ones_only() -> None:
    """A known session is resumed, and a session that ends makes room."""
    rig = Rig(limits=SessionLimits(2, None))
    first = rig.opened(named(KNOWN))
    rig.opened()
    assert rig.refused() == (503, "too-many-sessions")
    assert rig.enter(named(reconnect=KNOWN)) == (first, False)
    first.close(1000, "")
    rig.opened()
    assert rig.refused() == (503, "too-many-sessions")


def test_a_limit_for_each_address_does_not_concern_the_others() -> None:
    """Nor clients without an address: the shared session of `dial = start`."""
    rig = Rig(limits=SessionLimits(None, 2))
    first, _ = [rig.opened(address="192.0.2.1") for _ in range(2)]
    assert rig.refused(address="192.0.2.1") == (503, "too-many-sessions-of-address")
    rig.opened(address="192.0.2.2")
    rig.opened()
    first.close(1000, "")
    rig.opened(address="192.0.2.1")


def test_no_session_is_opened_while_too_much_is_held() -> None:
    """The refusal says how much it is, and how much it may be."""
    rig = Rig()
    rig.opened(named(KNOWN))
    rig.registry.budget = LimitedBudget(1000, rig.clock, lambda event: None)
    rig.registry.budget.held = 1001
    with pytest.raises(Refusal, match="the sessions hold 1001 bytes, and no more than 1000 are allowed") as refusal:
        rig.enter()
    assert (refusal.value.status, refusal.value.error, refusal.value.retry_after) == (503, "too-many-bytes-held", 1)
    assert rig.enter(named(KNOWN))[1] is False


class RacingCounts(LocalCounts):
    """Counts to which another process adds a session between any two steps of this one."""

    def add(self, address: str | None) -> None:
        """Count this one and another one."""
        super().add(address)
        super().add(address)


def test_a_limit_holds_if_another_process_adds_a_session_at_the_same_moment() -> None:
    """The session is counted before the limit is looked at, not the other way round."""
    rig = Rig(limits=SessionLimits(1, None), counts=RacingCounts())
    with pytest.raises(Refusal, match="there are 1 sessions"):
        rig.enter()


def test_counts_of_addresses_without_sessions_are_forgotten() -> None:
    """Else every address that ever connected would be kept."""
    counts = LocalCounts()
    for address in ("a", "a", "b", None):
        counts.add(address)
    assert (counts.total, counts.of("a"), counts.of("b"), counts.of("c")) == (4, 2, 1, 0)
    for address in ("a", "b", None, "a"):
        counts.remove(address)
    assert (counts.total, counts.of("a"), counts.of("b")) == (0, 0, 0)
    assert counts._by_address == {}


# Ids that an upstream gives with its first message.


class SlowIds:
    """Ids that other processes have too: claims are decided by the test."""

    def __init__(self) -> None:
        self.made = (f"made-by-the-proxy-{number}" for number in range(100))
        self.claims: dict[str, Callable[[bool], None]] = {}
        self.released: list[str] = []

    def new_id(self) -> str:
        """Return the next id."""
        return next(self.made)

    def claim(self, session_id: str, then: Callable[[bool], None]) -> None:
        """Wait for the test."""
        self.claims[session_id] = then

    def release(self, session_id: str) -> None:
        """Record it."""
        self.released.append(session_id)


def test_a_session_has_the_id_that_its_upstream_gives() -> None:
    """It can be resumed by it as soon as it is open."""
    rig = Rig(replace(DUPLEX, gate=FIRST_MESSAGE))
    context, _ = rig.enter()
    assert context.session_id is None
    _, link = rig.dialler.answer()
    assert link is not None
    say(link, KNOWN)
    assert rig.enter(named(reconnect=KNOWN)) == (context, False)


@pytest.mark.parametrize("policy", [DUPLEX, RECEIVER, SENDER], ids=["duplex", "receiver", "sender"])
def test_an_upstream_cannot_give_one_id_twice(policy: Policy) -> None:
    """The session that has it keeps it; the later one gets another."""
    rig = Rig(replace(policy, gate=FIRST_MESSAGE))
    first = rig.opened(named(KNOWN) if policy is RECEIVER else None, KNOWN)
    second = rig.opened(message=KNOWN)
    assert first.session_id == KNOWN
    assert rig.registry.get(KNOWN) is first
    assert second.session_id is not None
    assert second.session_id != KNOWN
    assert rig.registry.get(second.session_id) is second


def test_an_id_that_no_client_can_resume_is_not_claimed() -> None:
    """In sender mode other processes need not know it."""
    ids = SlowIds()
    rig = Rig(replace(SENDER, gate=FIRST_MESSAGE), ids=ids)
    context = rig.opened(message=KNOWN)
    assert ids.claims == {}
    assert rig.registry.get(KNOWN) is context


@pytest.mark.parametrize("granted", [True, False])
def test_a_client_waits_until_the_id_is_decided(granted: bool) -> None:
    """Then its session can be resumed by the id that it is told."""
    ids = SlowIds()
    rig = Rig(replace(DUPLEX, gate=FIRST_MESSAGE), ids=ids)
    context = rig.opened(message=KNOWN)
    told: list[str | None] = []
    rig.registry.when_named(context, lambda: told.append(context.session_id))
    assert told == []
    assert KNOWN not in rig.registry
    ids.claims.pop(KNOWN)(granted)
    assert told == [KNOWN if granted else "made-by-the-proxy-0"]
    assert rig.enter(named(reconnect=context.session_id)) == (context, False)
    context.close(1000, "")
    assert ids.released == [context.session_id]


def test_an_id_is_released_if_its_session_ends_before_the_claim_is_granted() -> None:
    """And the client that waits for it is called, to be refused."""
    ids = SlowIds()
    rig = Rig(replace(DUPLEX, gate=FIRST_MESSAGE), ids=ids)
    context = rig.opened(message=KNOWN)
    told: list[SessionState] = []
    rig.registry.when_named(context, lambda: told.append(context.state))
    context.close(1000, "")
    assert (ids.released, told) == ([], [])
    ids.claims.pop(KNOWN)(True)
    assert (ids.released, told) == ([KNOWN], [SessionState.ENDED])
    assert KNOWN not in rig.registry


def test_a_client_may_choose_an_id_while_it_is_claimed() -> None:
    """It keeps the id: the session that has claimed it gets another one, and releases the claim."""
    ids = SlowIds()
    rig = Rig(replace(DUPLEX, gate=FIRST_MESSAGE), ids=ids)
    claiming = rig.opened(message=KNOWN)
    chosen, created = rig.enter(named(KNOWN))
    assert created
    ids.claims.pop(KNOWN)(True)
    assert ids.released == [KNOWN]
    assert claiming.session_id == "made-by-the-proxy-0"
    assert rig.registry.get(KNOWN) is chosen


def test_sessions_are_listed_in_the_order_in_which_they_were_opened() -> None:
    """Also those whose id is not known yet."""
    rig = Rig(replace(DUPLEX, gate=FIRST_MESSAGE))
    contexts: Iterable[Context] = [rig.enter(claim)[0] for claim in (Claim(), named(KNOWN), Claim())]
    assert list(rig.registry.contexts) == contexts
