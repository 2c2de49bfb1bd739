"""Each shipped adapter reads what it writes, within the answers of its protocol, and knows what is not one of ours."""

from __future__ import annotations

import json

import pytest

from reconnect_harness.adapters import Adapter, To
from reconnect_harness.adapters.find import SHIPPED, AdapterChoice
from reconnect_harness.history.message import MessageKind, decode, encode

STAMP = str(encode("c01", "c2u", 7, 200, MessageKind.TEXT))


def _adapter(name: str, **options: object) -> Adapter:
    return AdapterChoice.of({name: options}).for_client("c02", 2)


def _arrived(name: str, message: str) -> str | bytes:
    """Return what the server of the protocol sends to the members of the room for a message of `pack`."""
    if name == "graphql-ws":
        told = json.loads(message)
        text = told["payload"]["variables"]["text"]
        return json.dumps({"id": "subscription", "type": "next", "payload": {"data": {"said": {"text": text}}}})
    if name == "stomp":
        return "MESSAGE\nsubscription:0\nmessage-id:1\n" + message.partition("\n")[2]
    return message


@pytest.mark.parametrize("name", SHIPPED)
def test_an_adapter_reads_what_it_writes(name: str) -> None:
    """With the header, the filler and its characters of two bytes as they were sent."""
    adapter = _adapter(name)
    message = adapter.pack(7, STAMP)
    assert isinstance(message, str)
    stamp = adapter.unpack(_arrived(name, message))
    assert stamp == STAMP
    assert decode(stamp).wrong is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "ann has joined"),
        ("json", "no JSON"),
        ("json", "[1]"),
        ("json", '{"joined": "ann"}'),
        ("socketio", "2"),
        ("socketio", "42[broken"),
        ("socketio", '42["joined", "ann", 1]'),
        ("graphql-ws", '{"type": "complete", "id": "1"}'),
        ("graphql-ws", json.dumps({"type": "next", "id": "1", "payload": {"data": {"say": STAMP}}})),
        ("stomp", "\n"),
        ("stomp", "RECEIPT\nreceipt-id:1\n\n\0"),
    ],
)
def test_what_is_not_ours_is_left_out(name: str, message: str) -> None:
    """Notices, heartbeats, and the answers to mutations where a subscription carries the messages."""
    assert _adapter(name).unpack(message) is None


def test_a_stamp_is_found_in_other_text_and_may_be_cut_off() -> None:
    """What follows it is not part of it; a part that is missing is said to be."""
    assert _adapter("text").unpack(f"ann says: {STAMP} (edited)") == STAMP
    cut = _adapter("text").unpack(f"ann says: {STAMP[:150]}")
    assert cut is not None
    assert "truncated" in (decode(cut).wrong or "")


def test_the_attributes_of_an_adapter_can_be_given() -> None:
    """A nested field, further fields with names, rooms and receivers."""
    adapter = _adapter("json", field="payload.text", fields={"room": "{room}", "from": "{client}"}, rooms=2, to="all")
    message = json.loads(adapter.pack(1, STAMP))
    assert message == {"room": "r2", "from": "c02", "payload": {"text": STAMP}}
    assert adapter.unpack(json.dumps(message)) == STAMP
    assert adapter.to is To.ALL


@pytest.mark.parametrize(
    ("name", "options", "received", "sent"),
    [
        ("text", {}, [], []),
        ("socketio", {"join": "join"}, ['0{"sid":"x"}', '40{"sid":"y"}'], [None, "40", ['42["join", "r1"]']]),
        ("stomp", {}, ["CONNECTED\nversion:1.2\n\n\0"], ["CONNECT\naccept-version", ["SUBSCRIBE\nid:0"]]),
        ("graphql-ws", {}, ['{"type":"ping"}', '{"type":"connection_ack"}'], ['{"type": "conn', None, ['{"id": "sub']]),
    ],
)
def test_logins(name: str, options: dict[str, object], received: list[str], sent: list[str | list[str] | None]) -> None:
    """What is sent, and what is waited for."""
    login = _adapter(name, **options).login()
    steps: list[object] = [step] if (step := next(login, ...)) is not ... else []
    for message in received:
        steps.append(login.send(message))
    assert next(login, ...) is ...
    assert len(steps) == len(sent)
    for step, expected in zip(steps, sent, strict=True):
        if isinstance(expected, str):
            assert str(step).startswith(expected)
        elif expected:
            assert isinstance(step, list)
            assert step[0].startswith(expected[0])


def test_pings_are_answered() -> None:
    """Socket.IO and GraphQL have pings of their own."""
    assert _adapter("socketio").answer("2") == "3"
    assert _adapter("socketio").answer("42[]") is None
    assert _adapter("graphql-ws").answer('{"type":"ping"}') == '{"type": "pong"}'
    assert _adapter("text").answer("2") is None
