"""permessage-deflate: what is agreed on, and what becomes of a compressed payload."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from reconnect_proxy.core.message import COMPRESSED, Opcode
from reconnect_proxy.net.deflate import (
    EXTENSIONS,
    OFFER,
    Corrupt,
    TooBig,
    accept,
    agreed,
    inflate,
    measure,
    open_message,
)
from reconnect_proxy.net.head import MalformedHead
from reconnect_proxy.proxy import Proxy, Receiver, Sender

MIB = 1024 * 1024


def header(*values: str) -> CIMultiDict[str]:
    """Return headers with these values of Sec-WebSocket-Extensions."""
    return CIMultiDict([(EXTENSIONS, value) for value in values])


def deflated(plain: bytes, level: int = 6, wbits: int = 15) -> bytes:
    """Compress a message (RFC 7692 section 7.2.1)."""
    work = zlib.compressobj(level, wbits=-wbits)
    return (work.compress(plain) + work.flush(zlib.Z_SYNC_FLUSH))[:-4]


# What is agreed on.


@pytest.mark.parametrize(
    "offers",
    [
        ["permessage-deflate"],
        ["permessage-deflate; client_max_window_bits"],
        ['permessage-deflate ;client_max_window_bits = "10"'],
        ["permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=8"],
        ["x-webkit-deflate-frame, permessage-deflate"],
        ["bbf-usp-protocol; p=1", "permessage-deflate"],
        ["permessage-deflate; server_max_window_bits=14, permessage-deflate"],
        ["permessage-deflate; server_max_window_bits, permessage-deflate; nonsense=1, , permessage-deflate"],
    ],
)
def test_the_first_offer_that_can_be_kept_is_accepted(offers: list[str]) -> None:
    """No context is kept in either direction, with all other parameters of an offer."""
    assert accept(header(*offers)) == OFFER


def test_the_largest_window_is_accepted_by_being_repeated() -> None:
    """RFC 7692 section 7.1.2.1: an offer with server_max_window_bits is accepted by an answer that has it."""
    assert accept(header("permessage-deflate; server_max_window_bits=15")) == f"{OFFER}; server_max_window_bits=15"


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=015",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_no_context_takeover=yes",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; mux",
        "permessage-deflate;",
        "permessage-deflate-2",
        "deflate-frame",
    ],
)
def test_an_offer_that_cannot_be_kept_is_declined(offer: str) -> None:
    """A smaller window, an invalid value, a parameter twice or unknown, another extension."""
    assert accept(header(offer)) is None


@pytest.mark.parametrize("more", ["", "; client_no_context_takeover", "; server_max_window_bits=9"])
def test_an_upstream_may_add_what_any_client_can_do(more: str) -> None:
    """It must keep no context; beyond that it may promise a smaller window, or ask for what is done anyway."""
    assert agreed(header(f"permessage-deflate; server_no_context_takeover{more}"), offered=True)


def test_an_upstream_may_ignore_the_offer() -> None:
    """No answer means no extension, whether there was an offer or not."""
    assert not agreed(CIMultiDict(), offered=True)
    assert not agreed(CIMultiDict(), offered=False)


@pytest.mark.parametrize(
    "answer",
    [
        "permessage-deflate",
        "permessage-deflate; client_no_context_takeover",
        f"{OFFER}; client_max_window_bits",
        f"{OFFER}; client_max_window_bits=15",
        f"{OFFER}; server_max_window_bits=16",
        f"{OFFER}; server_max_window_bits",
        f"{OFFER}; nonsense",
        f"{OFFER}, {OFFER}",
        f"{OFFER}, x-other",
        "x-other",
    ],
)
def test_an_answer_to_another_offer_is_no_handshake(answer: str) -> None:
    """RFC 7692 section 7.1: a client that is answered what it did not offer fails the connection."""
    with pytest.raises(MalformedHead):
        agreed(header(answer), offered=True)


def test_an_answer_without_an_offer_is_no_handshake() -> None:
    """RFC 6455 section 4.1: nor may a server use an extension that the client did not ask for."""
    with pytest.raises(MalformedHead, match="not offered"):
        agreed(header(OFFER), offered=False)


windows = st.none() | st.integers(9, 15)


@given(st.booleans(), st.booleans(), windows, windows | st.just(True))
def test_websockets_as_a_client_takes_our_answers(
    server_alone: bool, client_alone: bool, server_window: int | None, client_window: int | None
) -> None:
    """The answer to every offer is valid; only a small window is declined."""
    factory = ClientPerMessageDeflateFactory(server_alone, client_alone, server_window, client_window)
    offer = build_extension([(factory.name, list(factory.get_request_params()))])
    answer = accept(header(offer))
    if answer is None:
        assert server_window is not None
        assert server_window < 15
    else:
        (_, parameters) = parse_extension(answer)[0]
        extension = factory.process_response_params(parameters, [])
        assert extension.local_no_context_takeover
        assert extension.remote_no_context_takeover


@given(st.booleans(), st.booleans(), windows, windows, st.booleans())
def test_websockets_as_an_upstream_takes_our_offer(
    server_alone: bool, client_alone: bool, server_window: int | None, client_window: int | None, strict: bool
) -> None:
    """However it is set up: unless it insists on a small window of its client, it accepts, and is understood."""
    strict = strict and client_window is not None
    factory = ServerPerMessageDeflateFactory(
        server_alone, client_alone, server_window, client_window, require_client_max_window_bits=strict
    )
    (_, parameters) = parse_extension(OFFER)[0]
    try:
        answer, extension = factory.process_request_params(parameters, [])
    except NegotiationError:
        assert strict
        return
    assert agreed(header(build_extension([(factory.name, answer)])), offered=True)
    assert extension.local_no_context_takeover
    assert extension.remote_no_context_takeover


# What becomes of a payload.


@pytest.mark.parametrize(
    "payload",
    [
        "f2 48 cd c9 c9 07 00",
        "00 05 00 fa ff 48 65 6c 6c 6f 00",
        "f3 48 cd c9 c9 07 00 00",
        "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
        # Not in the RFC: nothing behind the final block, and final blocks that others follow.
        "f3 48 cd c9 c9 07 00",
        "01 02 00 fd ff 48 65 01 03 00 fc ff 6c 6c 6f 00",
    ],
)
def test_the_examples_of_the_rfc_are_inflated(payload: str) -> None:
    """RFC 7692 section 7.2.3: stored blocks, final blocks, several blocks."""
    assert inflate(bytes.fromhex(payload), 5) == b"Hello"


plain_data = st.binary(max_size=300) | st.builds(
    lambda part, times: part * times, st.binary(min_size=1, max_size=40), st.integers(1, 20_000)
)


@given(plain_data, st.integers(0, 9), st.integers(9, 15))
def test_what_was_compressed_is_inflated_up_to_the_limit(plain: bytes, level: int, wbits: int) -> None:
    """At any level and window the message comes back; one byte less of limit is too little."""
    payload = deflated(plain, level, wbits)
    assert inflate(payload, len(plain)) == plain
    measure(payload, len(plain))
    if plain:
        for check in (inflate, measure):
            with pytest.raises(TooBig):
                check(payload, len(plain) - 1)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_message_that_was_cut_off_is_corrupt(plain: bytes, data: st.DataObject) -> None:
    """Not a part of it is taken for the whole."""
    payload = deflated(plain)
    cut = data.draw(st.integers(1, len(payload) - 1))
    with pytest.raises(Corrupt):
        inflate(payload[:cut], 1000)


@given(st.binary(max_size=3000))
def test_any_bytes_are_inflated_or_refused(payload: bytes) -> None:
    """For all bytes only the two errors are raised."""
    with contextlib.suppress(Corrupt, TooBig):
        assert len(inflate(payload, 100_000)) <= 100_000


def test_a_message_that_cannot_be_too_big_is_not_opened() -> None:
    """Deflate makes at most 1032 bytes of one: what is smaller than that is passed on unseen, corrupt or not."""
    measure(b"\xff" * 1000, 1032 * 1009)
    with pytest.raises(Corrupt):
        measure(b"\xff" * 1000, 1032 * 1008)


def test_the_most_that_deflate_can_make_of_a_byte_is_known() -> None:
    """The bound that spares the opening holds for the best that zlib can do."""
    assert len(deflated(bytes(64 * MIB), 9)) * 1032 >= 64 * MIB


def test_a_bomb_takes_no_memory() -> None:
    """Half a gigabyte in half a megabyte is refused at the limit, and measured without being held."""
    bomb = deflated(bytes(512 * MIB), 1)
    largest = deflated(bytes(16 * MIB), 1)
    tracemalloc.start()
    try:
        with pytest.raises(TooBig):
            measure(bomb, 16 * MIB)
        measure(largest, 16 * MIB)
        assert tracemalloc.get_traced_memory()[1] < MIB
        with pytest.raises(TooBig):
            inflate(bomb, 16 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


def test_final_blocks_without_end_are_refused() -> None:
    """Each costs a zlib object, so there may not be millions of them in one message."""
    with pytest.raises(Corrupt, match="final blocks"):
        inflate(b"\x03\x00" * 1_000_000, MIB)


def test_a_text_message_is_utf_8_when_it_is_opened() -> None:
    """RFC 6455 section 8.1 holds for what is inflated; binary messages may hold anything."""
    kind = COMPRESSED | Opcode.TEXT
    assert open_message(kind, deflated("é".encode()), 10) == (Opcode.TEXT, "é".encode())
    with pytest.raises(Corrupt, match="UTF-8"):
        open_message(kind, deflated(b"\xff"), 10)
    assert open_message(COMPRESSED | Opcode.BINARY, deflated(b"\xff"), 10) == (Opcode.BINARY, b"\xff")


# Through the proxy, with another implementation at both ends.


async def echo(connection: ServerConnection) -> None:
    """Send everything back, in fragments where it is large."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message if len(message) < 1000 else [message[:999], message[999:]])


@contextlib.asynccontextmanager
async def stack(upstream: str | None, pair: bool) -> AsyncIterator[str]:
    """Run an echo server that compresses or not, and a proxy, or a pair of them; give the address."""
    async with serve(echo, "127.0.0.1", 0, compression=upstream) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if not pair:
            async with Proxy(upstream=url, listen="127.0.0.1:0") as proxy:
                yield proxy.url
        else:
            async with (
                Receiver(upstream=url, listen="127.0.0.1:0") as receiver,
                Sender(upstream=receiver.url, listen="127.0.0.1:0") as sender,
            ):
                yield sender.url


messages = st.lists(st.text(max_size=200) | plain_data, max_size=6)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("client", [None, "deflate"])
@pytest.mark.parametrize("upstream", [None, "deflate"])
def test_any_conversation_is_the_same_with_and_without_it(client: str | None, upstream: str | None, pair: bool) -> None:
    """With compression at one end, at both or at neither, each message comes back as it was sent."""

    async def converse(cases: asyncio.Queue[Sequence[str | bytes] | None], answers: asyncio.Queue[object]) -> None:
        async with stack(upstream, pair) as url, connect(url, compression=client, proxy=None) as connection:
            while (said := await cases.get()) is not None:
                for message in said:
                    await connection.send(message)
                answers.put_nowait([await connection.recv() for _ in said])

    with asyncio.Runner() as runner:
        cases: asyncio.Queue[Sequence[str | bytes] | None] = asyncio.Queue()
        answers: asyncio.Queue[object] = asyncio.Queue()
        conversation = runner.get_loop().create_task(converse(cases, answers))

        async def ask(said: Sequence[str | bytes]) -> object:
            cases.put_nowait(said)
            answer = asyncio.ensure_future(answers.get())
            await asyncio.wait([answer, conversation], timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert answer.done(), conversation
            return answer.result()

        @settings(max_examples=40, deadline=None)
        @given(messages)
        def check(said: Sequence[str | bytes]) -> None:
            assert runner.run(ask(said)) == said

        check()
        cases.put_nowait(None)
        runner.run(asyncio.wait_for(conversation, 20))
