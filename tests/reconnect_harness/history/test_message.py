"""Messages that describe themselves."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from reconnect_harness.history.message import (
    UNREADABLE,
    Direction,
    LabelReader,
    MessageKind,
    decode,
    encode,
    payload,
    stamp,
)


def _message(kind: MessageKind = MessageKind.TEXT, size: int = 500) -> str | bytes:
    return encode("c07", Direction.C2U, 12, size, kind)


@pytest.mark.parametrize("kind", MessageKind)
@pytest.mark.parametrize("size", [60, 125, 126, 65_535, 65_536, 200_000])
def test_a_message_describes_itself(kind: MessageKind, size: int) -> None:
    """A label that is read is the one that was written, with size and type."""
    read = decode(_message(kind, size))
    assert read == ("c07", "c2u", 12, size, kind, None, None)


@pytest.mark.parametrize("kind", MessageKind)
def test_a_message_is_never_smaller_than_its_header(kind: MessageKind) -> None:
    """A size that leaves no room for the header is raised to it."""
    read = decode(_message(kind, 0))
    assert read.wrong is None
    assert 0 < read.size < 40


def test_messages_of_every_small_size_are_whole() -> None:
    """Also with filler of no, one or two bytes."""
    for size in range(70):
        for kind in MessageKind:
            assert decode(_message(kind, size)).wrong is None


def test_text_has_wide_characters_and_binary_is_not_utf8() -> None:
    """So that a proxy which confuses the two types cannot pass."""
    text, binary = _message(MessageKind.TEXT), _message(MessageKind.BINARY)
    assert isinstance(text, str)
    assert not text.isascii()
    assert isinstance(binary, bytes)
    with pytest.raises(UnicodeDecodeError):
        binary.decode()


@pytest.mark.parametrize("kind", MessageKind)
def test_a_truncated_message_is_found(kind: MessageKind) -> None:
    """The header has the size that was sent."""
    read = decode(_message(kind)[:-100])
    assert (read.stream, read.number) == ("c07", 12)
    assert read.wrong == "truncated: 400 of 500 bytes came"


def test_a_message_with_trailing_bytes_is_found() -> None:
    """Two messages that are joined are one wrong message."""
    whole = _message()
    assert isinstance(whole, str)
    wrong = decode(whole + whole).wrong
    assert wrong == "longer than sent: 1000 bytes came, 500 were sent"


def test_a_changed_byte_breaks_the_checksum() -> None:
    """In the filler or in the header."""
    whole = _message(MessageKind.BINARY)
    assert isinstance(whole, bytes)
    for at in (0, 5, 9, 60, 499):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert decode(changed).wrong is not None


def test_a_message_of_the_other_type_is_wrong() -> None:
    """Text that arrives as binary, with the same bytes, is not what was sent."""
    text = _message(MessageKind.TEXT)
    assert isinstance(text, str)
    assert decode(text.encode()).wrong == "sent as text, came as binary"


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda text: text.replace("é", "?"), "its text was re-encoded: truncated"),
        (lambda text: text.encode().decode("latin-1"), "its text was re-encoded: longer than sent"),
        (lambda text: text.replace("é", "e\u0301"), None),
        (lambda text: text.encode()[: 16 * 1024].decode(), "it was cut to blocks of 16 KiB"),
        (lambda text: text.encode(), "sent as text, came as binary"),
    ],
)
def test_damage_says_how(change: Callable[[str], str | bytes], how: str | None) -> None:
    """What a developer needs to find the place."""
    whole = _message(MessageKind.TEXT, 20_000)
    assert isinstance(whole, str)
    wrong = decode(change(whole)).wrong
    assert wrong is not None
    assert (how or "longer than sent") in wrong
    assert ("re-encoded" in wrong) is ("re-encoded" in (how or ""))


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda text: text.encode("ascii", "replace").decode(), "its text was re-encoded"),
        (lambda text: text.replace("\U0001f600", "\ufffd"), "its text was re-encoded"),
        (lambda text: text.replace("\ufeff", ""), "its text was re-encoded"),
        (lambda text: unicodedata.normalize("NFC", text), "truncated"),
        (str.rstrip, "truncated"),
        (lambda text: text.replace("\r\n", "\n"), "truncated"),
        (lambda text: text.partition("\0")[0], "truncated"),
    ],
)
def test_a_rich_text_has_what_careless_programs_change(change: Callable[[str], str], how: str) -> None:
    """As it was sent it is right."""
    whole = encode("c07", Direction.C2U, 12, 126, MessageKind.TEXT, rich=True)
    assert isinstance(whole, str)
    assert decode(whole) == ("c07", "c2u", 12, 126, MessageKind.TEXT, None, None)
    assert how in (decode(change(whole)).wrong or "")


def test_an_empty_message_follows_the_one_before_it() -> None:
    """The first one of all follows none, and no other program's."""
    reader = LabelReader()
    assert reader.read("").stream == UNREADABLE
    assert reader.read(encode("c07", Direction.C2U, 8, 60, MessageKind.TEXT)).number == 8
    assert reader.read(b"") == ("c07", "c2u", 9, 0, MessageKind.BINARY, None, None)
    assert reader.read("hello").stream == UNREADABLE
    assert reader.read("")[:4] == ("c07", "c2u", 10, 0)


@pytest.mark.parametrize("message", ["", b"", "hello", b"\x00\xff", "c07 c2u twelve 00000500 t 00000000\n"])
def test_a_message_without_a_header_is_unreadable(message: str | bytes) -> None:
    """Any bytes can be decoded without an exception."""
    read = decode(message)
    assert read.stream == UNREADABLE
    assert read.wrong is not None


def test_a_message_may_say_when_it_was_sent() -> None:
    """Its size is still the requested one."""
    read = decode(encode("c07", "c2u", 12, 200, MessageKind.TEXT, 1764000000.25))
    assert (read.size, read.wrong, read.sent_at) == (200, None, 1764000000.25)


@pytest.mark.parametrize("said", ["", "hello\nworld", "é" * 40, b"", b"\xff\xfe\n"])
def test_a_payload_follows_a_stamp(said: str | bytes) -> None:
    """It is extracted unchanged, and the stamp describes it."""
    message = stamp("c07", "c2u", 3, said, 2.5)
    read = decode(message)
    assert payload(message) == said
    assert (read.stream, read.number, read.wrong, read.sent_at) == ("c07", 3, None, 2.5)


def test_a_damaged_stamp_is_found() -> None:
    """The checksum covers the time and the payload too."""
    message = stamp("c07", "c2u", 3, "hello", 2.5)
    assert isinstance(message, str)
    assert decode(message.replace("2.5", "2.6")).wrong == "its checksum does not match"
    assert decode(message.replace("hello", "hullo")).wrong == "its checksum does not match"
