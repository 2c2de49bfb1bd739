"""What the protocol says on the wire, PROTOCOL.md sections 3 to 5: what is read, and what is refused and how."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconnect_proxy.core.wire import (
    CONNECTION_ID,
    RECEIVED,
    RECONNECT,
    RECONNECT_ID,
    REPLAY_ID,
    Claim,
    Refusal,
    bad_request,
    decode_token,
    encode_token,
    id_from_control,
    is_id,
    new_id,
    parse_count,
    parse_id,
    split_query,
)

ID = "abcdefghij.0-_~Z"


def test_the_headers_are_called_as_the_contract_calls_them() -> None:
    """A renamed header is another protocol."""
    assert (CONNECTION_ID, RECONNECT_ID, RECEIVED, RECONNECT, REPLAY_ID) == (
        "X-Connection-Id",
        "X-Reconnect-Id",
        "X-Reconnect-Received",
        "X-Reconnect",
        "X-Replay-Id",
    )


@pytest.mark.parametrize("text", [ID, "a" * 16, "a" * 128, "A0._~-A0._~-A0._"])
def test_a_legal_id_is_taken_as_it_is(text: str) -> None:
    """16 to 128 of A-Z a-z 0-9 . _ ~ -"""
    assert is_id(text)
    assert parse_id("X-Connection-Id", text) == text


@pytest.mark.parametrize(
    "text", ["", "a" * 15, "a" * 129, "a" * 15 + " ", "a" * 16 + "\n", "ä" * 16, "a" * 15 + "/", "٣" * 16]
)
def test_an_illegal_id_is_answered_400_without_being_repeated(text: str) -> None:
    """The detail names the header and what an id is, not the id: it may be a secret with a typing error."""
    assert not is_id(text)
    with pytest.raises(Refusal, match=r"X-Connection-Id is .*16 to 128") as caught:
        parse_id("X-Connection-Id", text)
    assert caught.value.status is HTTPStatus.BAD_REQUEST
    assert not text or text not in caught.value.detail


def test_a_made_id_is_legal_and_never_the_same() -> None:
    """128 random bits, URL-safe."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_id(each) and len(each) == 22 for each in ids)


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("7", 7), ("18446744073709551", 18446744073709551)])
def test_a_count_is_a_decimal_number(text: str, count: int) -> None:
    """Nothing but digits."""
    assert parse_count("X-Reconnect-Received", text) == count


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "1.0", " 1", "1 ", "1\n", "0x1", "1_000", "٣", "1" * 21])
def test_a_malformed_count_is_answered_400(text: str) -> None:
    """The detail repeats what was given and says what would be right."""
    with pytest.raises(Refusal, match=r"X-Reconnect-Received is .*decimal number") as caught:
        parse_count("X-Reconnect-Received", text)
    assert caught.value.status is HTTPStatus.BAD_REQUEST


def test_a_refusal_has_a_json_body() -> None:
    """`{"error": "...", "detail": "..."}`"""
    body = json.loads(bad_request('say "please" – ä').body)
    assert body == {"error": "bad-request", "detail": 'say "please" – ä'}


@pytest.mark.parametrize(
    ("target", "forwarded", "named"),
    [
        ("/a/b", "/a/b", {}),
        ("/a?", "/a?", {}),
        ("/a?x=1&y=%20&x=2", "/a?x=1&y=%20&x=2", {}),
        (f"/a?connection-id={ID}", "/a", {CONNECTION_ID: ID}),
        (f"/a?x=1&connection-id={ID}&y", "/a?x=1&y", {CONNECTION_ID: ID}),
        (f"/?reconnect-id={ID}&&x=?", "/?&x=?", {RECONNECT_ID: ID}),
        (f"/?reconnect-id={ID}&connection-id={ID}", "/", {RECONNECT_ID: ID, CONNECTION_ID: ID}),
        ("/?connection%2Did=a%7Eb", "/", {CONNECTION_ID: "a~b"}),
        ("/?connection-id", "/", {CONNECTION_ID: ""}),
        ("/?connection-idx=1&xconnection-id=2", "/?connection-idx=1&xconnection-id=2", {}),
    ],
)
def test_the_ids_are_taken_out_of_the_query_and_the_rest_stays_byte_for_byte(
    target: str, forwarded: str, named: dict[str, str]
) -> None:
    """For clients that cannot set headers; the upstream never sees the parameters."""
    assert split_query(target) == (forwarded, named)


def test_an_id_given_twice_in_the_query_is_answered_400() -> None:
    """Which of the two would count is anybody's guess."""
    with pytest.raises(Refusal, match="connection-id is given twice"):
        split_query("/?connection-id=a&connection-id=b")


@given(st.text(alphabet="ab=&?%+/", max_size=30))
def test_a_query_without_ids_is_forwarded_unchanged(target: str) -> None:
    """Even if it has an odd shape."""
    assert split_query(target) == (target, {})


def test_a_token_is_eight_bytes_big_endian() -> None:
    """As section 4 says, so that any peer's debugger can read it."""
    assert encode_token(258) == b"\0\0\0\0\0\0\1\2"
    assert decode_token(b"\0\0\0\0\0\0\1\2") == 258


@pytest.mark.parametrize("payload", [b"", b"\0" * 7, b"\0" * 9, b"keepalive"])
def test_another_payload_is_no_token(payload: bytes) -> None:
    """A Pong may carry anything (RFC 6455 section 5.5.3)."""
    assert decode_token(payload) is None


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (ID.encode(), ID),
        (b"RECONNECT:" + ID.encode(), ID),
        (b"RECONNECT#" + ID.encode(), ID),
        (b"a:b#" + ID.encode(), None),
        (b"#a:" + ID.encode(), None),
        (b"RECONNECT:short", None),
        (b"RECONNECT " + ID.encode(), None),
        (b"RECONNECT:" + ID.encode() + b"\n", None),
        (b"RECONNECT:" + "ä".encode() * 16, None),
        (b"", None),
        (b"\xff" * 20, None),
    ],
)
def test_the_id_in_a_first_message_is_the_message_or_what_is_behind_its_first_mark(
    payload: bytes, found: str | None
) -> None:
    """Section 5: the message itself where it is a legal id, else the part behind its first `:` or `#`."""
    assert id_from_control(payload) == found


def test_either_name_carries_an_id_but_only_one_of_them_means_resume_or_fail() -> None:
    """X-Reconnect-Id alone wants its session or nothing."""
    assert Claim().session_id is None
    assert Claim(connection_id=ID).session_id == Claim(reconnect_id=ID).session_id == ID
    assert Claim(reconnect_id=ID).resume_or_fail
    assert not Claim(connection_id=ID).resume_or_fail
    assert not Claim(connection_id=ID, reconnect_id=ID).resume_or_fail
    assert not Claim().resume_or_fail


def test_control_messages_are_wanted_by_who_names_either_header_of_section_5() -> None:
    """X-Reconnect-Id or X-Replay-Id; an aware client must say X-Replay-Id, for it counts what it is sent."""
    assert Claim(reconnect_id=ID).wants_control
    assert Claim(replay=True).wants_control
    assert Claim(received=0, replay=True).wants_control
    assert not Claim(reconnect_id=ID, received=0).wants_control
    assert not Claim(connection_id=ID).wants_control
