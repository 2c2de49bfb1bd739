"""The one queue of the system: four counts that never get out of order, and messages that never do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconnect_proxy.core.message import Message, Opcode
from reconnect_proxy.core.outbox import MESSAGE_COST, Outbox, OutOfRange


def message(n: int) -> Message:
    """Return a message that says which one it is."""
    return (Opcode.BINARY, b"%d" % n)


def filled(pushed: int, sent: int = 0, confirmed: int = 0) -> Outbox:
    """Return an outbox with these counts."""
    outbox = Outbox(1_000_000)
    for n in range(1, pushed + 1):
        outbox.push(message(n))
    for _ in range(sent):
        outbox.mark_sent()
    outbox.confirm(confirmed)
    return outbox


def counts(outbox: Outbox) -> tuple[int, int, int, int]:
    """Return the four counts that cut the stream."""
    return outbox.confirmed, outbox.sent, outbox.furthest, outbox.pushed


def rest(outbox: Outbox) -> list[int]:
    """Send all that is pending and return which messages that was."""
    return [int(outbox.mark_sent()[1]) for _ in range(outbox.pending)]


def test_messages_are_sent_in_the_order_in_which_they_were_pushed_with_their_kind() -> None:
    """What comes out is what went in."""
    outbox = Outbox(1000)
    messages: list[Message] = [(Opcode.TEXT, b"a"), (Opcode.BINARY, b""), (Opcode.TEXT, b"c")]
    for each in messages:
        outbox.push(each)
    assert [outbox.mark_sent() for _ in range(3)] == messages


def test_a_message_is_held_until_it_is_confirmed_not_until_it_is_sent() -> None:
    """Sending frees nothing; confirming does."""
    outbox = filled(pushed=3, sent=3)
    assert (len(outbox), outbox.pending, outbox.unconfirmed) == (3, 0, 3)
    outbox.confirm(2)
    assert (len(outbox), outbox.unconfirmed, outbox.bytes_held) == (1, 1, 1 + MESSAGE_COST)


def test_sending_when_nothing_is_pending_is_an_error() -> None:
    """An empty outbox has nothing to send, sent or not."""
    with pytest.raises(IndexError):
        Outbox(1000).mark_sent()
    with pytest.raises(IndexError):
        filled(pushed=1, sent=1).mark_sent()


def test_a_rewind_makes_what_a_dead_link_had_sent_pending_again_in_order() -> None:
    """The messages after the confirmed ones go out once more, before those that were never sent."""
    outbox = filled(pushed=5, sent=4, confirmed=1)
    outbox.rewind(1)
    assert counts(outbox) == (1, 1, 4, 5)
    assert outbox.uncertain == 3
    assert rest(outbox) == [2, 3, 4, 5]


def test_a_rewind_to_the_middle_keeps_what_lies_before() -> None:
    """Only what comes after the given number is pending again."""
    outbox = filled(pushed=5, sent=5, confirmed=1)
    outbox.rewind(3)
    assert outbox.unconfirmed == 2
    assert rest(outbox) == [4, 5]


def test_a_peer_may_confirm_after_a_rewind_what_an_earlier_link_brought_it() -> None:
    """Its count may lie anywhere up to the furthest message that was ever sent."""
    outbox = filled(pushed=6, sent=4)
    outbox.rewind(0)
    outbox.confirm(3)
    assert counts(outbox) == (3, 3, 4, 6)
    assert rest(outbox) == [4, 5, 6]


def test_a_confirm_reaches_past_what_the_new_link_has_sent_again() -> None:
    """Messages sent once more and messages still pending are forgotten alike."""
    outbox = filled(pushed=6, sent=4)
    outbox.rewind(0)
    outbox.mark_sent()
    outbox.confirm(3)
    assert counts(outbox) == (3, 3, 4, 6)
    assert outbox.bytes_held == 3 * (1 + MESSAGE_COST)


@pytest.mark.parametrize("n", [-1, 1, 5, 6, 100])
def test_a_confirm_outside_of_confirmed_to_furthest_is_refused_and_names_both(n: int) -> None:
    """The error says what was given and between which numbers it must be, and nothing changes."""
    outbox = filled(pushed=6, sent=4, confirmed=2)
    with pytest.raises(OutOfRange, match=f"confirm {n}: the peer has confirmed 2 and was sent 4, so .* from 2 to 4"):
        outbox.confirm(n)
    assert counts(outbox) == (2, 4, 4, 6)
    assert len(outbox) == 4


@pytest.mark.parametrize("n", [1, 5])
def test_a_rewind_outside_of_confirmed_to_sent_is_refused(n: int) -> None:
    """What is confirmed is gone, and what was not sent cannot be unsent."""
    outbox = filled(pushed=6, sent=4, confirmed=2)
    with pytest.raises(OutOfRange):
        outbox.rewind(n)
    assert counts(outbox) == (2, 4, 4, 6)


def test_confirming_the_same_count_twice_changes_nothing() -> None:
    """A confirmation is a state, not a step."""
    outbox = filled(pushed=3, sent=3, confirmed=2)
    outbox.confirm(2)
    assert counts(outbox) == (2, 3, 3, 3)


def test_numbering_starts_behind_the_given_number() -> None:
    """A client that joins a stream later owes nothing for what came before."""
    outbox = Outbox(1000, start=7, start_bytes=70)
    assert (outbox.bytes_held, outbox.pushed_bytes) == (0, 70)
    outbox.push(message(8))
    assert counts(outbox) == (7, 7, 7, 8)
    assert outbox.pushed_bytes == 71
    assert outbox.uncertain == 0
    outbox.mark_sent()
    outbox.confirm(8)
    with pytest.raises(OutOfRange):
        outbox.confirm(7)


def test_full_is_set_above_the_mark_and_cleared_below_half_of_it() -> None:
    """In between it stays what it was, so that the leg that feeds it does not flutter."""
    cost = MESSAGE_COST + 100
    outbox = Outbox(4 * cost)
    for _ in range(4):
        outbox.push((Opcode.BINARY, bytes(100)))
    assert not outbox.full, "at the mark is not above it"
    outbox.push((Opcode.BINARY, bytes(100)))
    assert outbox.full
    for _ in range(5):
        outbox.mark_sent()
    outbox.confirm(3)
    assert outbox.full, "at half of the mark is not below it"
    outbox.confirm(4)
    assert not outbox.full


def test_empty_messages_fill_an_outbox_too() -> None:
    """Each costs its bookkeeping, so a flood of nothing meets the same limit."""
    outbox = Outbox(10 * MESSAGE_COST)
    for _ in range(11):
        outbox.push((Opcode.TEXT, b""))
    assert outbox.full


@given(st.lists(st.tuples(st.sampled_from(["push", "send", "confirm", "rewind"]), st.integers(0, 20))))
def test_an_outbox_agrees_with_a_plain_list(steps: list[tuple[str, int]]) -> None:
    """After any operations it behaves as a list of all messages with three numbers."""
    outbox = Outbox(500)
    stream: list[Message] = []
    confirmed = sent = furthest = 0
    full = False
    for step, n in steps:
        if step == "push":
            stream.append((Opcode.BINARY, bytes(n)))
            outbox.push(stream[-1])
        elif step == "send" and sent < len(stream):
            opcode, payload = outbox.mark_sent()
            assert opcode == stream[sent][0]
            # The same object: it is not copied.
            assert payload is stream[sent][1]
            sent += 1
            furthest = max(furthest, sent)
        elif step == "confirm" and confirmed <= n <= furthest:
            outbox.confirm(n)
            confirmed, sent = n, max(sent, n)
        elif step == "rewind" and confirmed <= n <= sent:
            outbox.rewind(n)
            sent = n
        held = sum(len(payload) + MESSAGE_COST for _, payload in stream[confirmed:])
        full = held > 500 or (full and held >= 250)
        assert counts(outbox) == (confirmed, sent, furthest, len(stream))
        assert (outbox.bytes_held, outbox.full) == (held, full)
        assert outbox.pushed_bytes == sum(len(payload) for _, payload in stream)
        assert (len(outbox), outbox.pending) == (len(stream) - confirmed, len(stream) - sent)
        assert (outbox.unconfirmed, outbox.uncertain) == (sent - confirmed, furthest - confirmed)


def test_an_outbox_that_lets_go_keeps_its_counts_and_no_payload() -> None:
    """What was received stays received, and what is owed stays owed."""
    outbox = Outbox(10)
    for payload in (b"one", b"two", b"three"):
        outbox.push((1, payload))
    outbox.mark_sent()
    outbox.drop_payloads()
    assert (outbox.unconfirmed, outbox.pending, outbox.sent, outbox.pushed) == (1, 2, 1, 3)
    assert outbox.mark_sent() == (2, b"")
