"""permessage-deflate (RFC 7692) on the wire: passed on as it came where both legs agree, inflated where not."""

import re
import zlib

import pytest

from .conftest import Serve
from .frames import Closed, Frame, Headers, Opcode, Refused
from .nemesis import flap
from .ordinary import Talker, conversation, ordinary_server
from .process import Serving
from .rawserver import Answer, RawServer
from .rawsocket import RawSocket, dial
from .relay import Relay
from .waiting import eventually, numbered

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
EXTENSIONS = "Sec-WebSocket-Extensions"
#: What Chromium offers.
OFFER: Headers = [(EXTENSIONS, "permessage-deflate; client_max_window_bits")]
IDENTITY = [("X-Connection-Id", "a-client-chosen-id")]
MIB = 1024 * 1024


def deflated(plain: bytes, level: int = 9) -> bytes:
    """Compress a message as RFC 7692 section 7.2.1 says."""
    work = zlib.compressobj(level, wbits=-15)
    return (work.compress(plain) + work.flush(zlib.Z_SYNC_FLUSH))[:-4]


def agreeing(upstream: RawServer, answer: str = AGREED) -> None:
    """Have the upstream accept what it is offered with `answer`."""
    upstream.answer = lambda request: Answer(headers=[(EXTENSIONS, answer)] if request.get(EXTENSIONS) else ())


async def compressed(sock: RawSocket, count: int = 1) -> list[Frame]:
    """Wait for so many compressed messages in all."""
    await sock.until(lambda: len(sock.compressed) >= count or sock.end is not None)
    return sock.compressed


async def talking(proxy: Serving, upstream: RawServer, headers: Headers = OFFER) -> tuple[RawSocket, RawSocket]:
    """Connect a client, and give both ends."""
    client = await dial(f"{proxy.url}/", headers)
    return client, await upstream.accept()


async def test_both_legs_agree_and_payloads_pass_untouched(serve: Serve, upstream: RawServer) -> None:
    """Each leg is without context takeover; what one peer has compressed reaches the other bit for bit, both ways."""
    agreeing(upstream)
    client, server = await talking(await serve(upstream.url), upstream)
    assert client.response.get(EXTENSIONS) == AGREED
    assert server.request.get(EXTENSIONS) == AGREED
    messages = [
        Frame(Opcode.TEXT, deflated(b"hello " * 9), rsv1=True),
        Frame(Opcode.BINARY, deflated(bytes(range(256)) * 300, level=1), rsv1=True),
        # Empty, in the two ways in which peers send that.
        Frame(Opcode.TEXT, deflated(b""), rsv1=True),
        Frame(Opcode.BINARY, b"", rsv1=True),
        # As it may be made without compressing anything (RFC 7692 section 7.2.3.3): its bytes show who has touched it.
        Frame(Opcode.BINARY, deflated(bytes(3 * MIB), level=0), rsv1=True),
    ]
    for one, other in ((client, server), (server, client)):
        for message in messages:
            await one.send_frame(message.opcode, message.payload, rsv1=True)
        assert await compressed(other, len(messages)) == messages
        await one.send("plain", b"in between")
        assert await other.take(2) == ["plain", b"in between"]


async def test_a_fragmented_compressed_message_arrives_whole(serve: Serve, upstream: RawServer) -> None:
    """RSV1 is on the first fragment alone; the message goes on with all its bytes, and still compressed."""
    agreeing(upstream)
    client, server = await talking(await serve(upstream.url), upstream)
    payload = deflated(b"the quick brown fox jumps over the lazy dog")
    await client.send_frame(Opcode.TEXT, payload[:5], fin=False, rsv1=True)
    await client.send_frame(Opcode.PING, b"in between")
    await client.send_frame(Opcode.CONTINUATION, payload[5:9], fin=False)
    await client.send_frame(Opcode.CONTINUATION, payload[9:])
    assert await compressed(server) == [Frame(Opcode.TEXT, payload, rsv1=True)]


async def test_an_upstream_without_it_gets_plain_messages(serve: Serve, upstream: RawServer) -> None:
    """An upstream that ignores the offer gets what the client compressed inflated, whole or in fragments."""
    client, server = await talking(await serve(upstream.url), upstream)
    assert client.response.get(EXTENSIONS) == AGREED
    large = bytes(range(256)) * 4096
    await client.send_frame(Opcode.TEXT, deflated("größer".encode()), rsv1=True)
    await client.send_frame(Opcode.BINARY, deflated(large)[:100], fin=False, rsv1=True)
    await client.send_frame(Opcode.CONTINUATION, deflated(large)[100:])
    await client.send_frame(Opcode.TEXT, deflated(b""), rsv1=True)
    assert await server.take(3) == ["größer", large, ""]
    assert not server.compressed


async def test_a_client_without_it_costs_no_offer(serve: Serve, upstream: RawServer) -> None:
    """Where the client offers nothing, nothing is offered to the upstream."""
    agreeing(upstream)
    client, server = await talking(await serve(upstream.url), upstream, ())
    assert client.response.get(EXTENSIONS) is None
    assert server.request.get(EXTENSIONS) is None


OFFERS_TO_DECLINE = (
    "permessage-deflate; server_max_window_bits=10",
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; unknown",
    "permessage-deflate; client_max_window_bits; client_max_window_bits",
    "x-webkit-deflate-frame",
    ";=,",
)


async def test_an_offer_that_cannot_be_kept_is_declined(serve: Serve, upstream: RawServer) -> None:
    """A smaller window, or parameters that are not known: no extension on either leg, and the next offer counts."""
    agreeing(upstream)
    proxy = await serve(upstream.url)
    for offer in OFFERS_TO_DECLINE:
        client, server = await talking(proxy, upstream, [(EXTENSIONS, offer)])
        assert client.response.get(EXTENSIONS) is None, offer
        assert server.request.get(EXTENSIONS) is None, offer
        client, server = await talking(proxy, upstream, [(EXTENSIONS, f"{offer}, permessage-deflate")])
        assert client.response.get(EXTENSIONS) == AGREED, offer
        assert server.request.get(EXTENSIONS) == AGREED, offer


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("permessage-deflate", "lacks server_no_context_takeover"),
        (f"{AGREED}; client_max_window_bits=15", "client_max_window_bits, which was not offered"),
        (f"{AGREED}; server_max_window_bits=7", "malformed"),
        (f"{AGREED}; server_no_context_takeover", "malformed"),
        (f"{AGREED}, {AGREED}", "not offered"),
        ("x-other", "not offered"),
    ],
)
async def test_a_wrong_answer_of_the_upstream_is_no_handshake(
    serve: Serve, upstream: RawServer, answer: str, complaint: str
) -> None:
    """An upstream that accepts what was not offered, or not all that was, is not waited for: 502."""
    agreeing(upstream, answer)
    proxy = await serve(upstream.url)
    with pytest.raises(Refused) as refused:
        await dial(f"{proxy.url}/", OFFER)
    assert refused.value.status == 502
    assert complaint in refused.value.body.decode()


async def test_an_extension_that_was_not_offered_is_no_handshake(serve: Serve, upstream: RawServer) -> None:
    """Where nothing was offered, an upstream that accepts it all the same has not understood."""
    upstream.answer = lambda _: Answer(headers=[(EXTENSIONS, AGREED)])
    proxy = await serve(upstream.url)
    with pytest.raises(Refused) as refused:
        await dial(f"{proxy.url}/")
    assert refused.value.status == 502


@pytest.mark.parametrize(
    "options",
    [
        ("--compression", "off"),
        ("--gate", "prefix:STATE"),
        ("--mode", "receiver"),
    ],
)
async def test_where_it_is_off_or_the_proxy_reads_nothing_is_agreed(
    serve: Serve, upstream: RawServer, options: tuple[str, str]
) -> None:
    """Switched off, with a gate, or in a session of several clients, messages come plain."""
    agreeing(upstream)
    client, server = await talking(await serve(upstream.url, *options), upstream)
    assert client.response.get(EXTENSIONS) is None
    assert server.request.get(EXTENSIONS) is None
    await client.send("plain")
    assert await server.recv() == "plain"
    await client.send_frame(Opcode.TEXT, deflated(b"no"), rsv1=True)
    assert (await client.ended()).code == 1002


@pytest.mark.parametrize(
    "frames",
    [
        [(Opcode.PING, b"", True, True)],
        [(Opcode.CLOSE, b"\x03\xe8", True, True)],
        [(Opcode.TEXT, b"a", False, True), (Opcode.CONTINUATION, b"b", True, True)],
        [(Opcode.TEXT, b"a", False, False), (Opcode.CONTINUATION, b"b", True, True)],
        [(Opcode.TEXT, b"a", False, False), (Opcode.TEXT, b"b", True, True)],
    ],
)
async def test_rsv1_is_for_the_first_frame_of_a_message(
    serve: Serve, upstream: RawServer, frames: list[tuple[Opcode, bytes, bool, bool]]
) -> None:
    """On a control frame, on a continuation, or on a message within another it is a protocol error."""
    agreeing(upstream)
    client, server = await talking(await serve(upstream.url), upstream)
    for frame in frames:
        await client.send_frame(*frame)
    assert (await client.ended()).code == 1002
    assert not server.compressed
    assert not server.left()


async def test_what_was_not_confirmed_is_sent_again_as_it_came(serve: Serve, upstream: RawServer) -> None:
    """A new link of the upstream that agrees gets the same bytes; one that does not gets them inflated."""
    agreeing(upstream)
    client, server = await talking(await serve(upstream.url), upstream)
    server.answer_pings = False
    messages = [Frame(Opcode.TEXT, deflated(f"message {n} ".encode() * 20), rsv1=True) for n in range(5)]
    for message in messages:
        await client.send_frame(message.opcode, message.payload, rsv1=True)
    assert await compressed(server, 5) == messages
    server.reset()
    again = await upstream.accept()
    again.answer_pings = False
    assert again.request.get(EXTENSIONS) == AGREED
    assert await compressed(again, 5) == messages
    upstream.answer = lambda _: Answer()
    again.reset()
    plain = await upstream.accept()
    assert await plain.take(5) == [f"message {n} " * 20 for n in range(5)]
    assert not plain.compressed
    # From here on the client's messages are inflated when they come, and the count is what it was.
    await client.send_frame(Opcode.TEXT, deflated(b"the sixth"), rsv1=True)
    assert await plain.recv() == "the sixth"
    await plain.until(lambda: 6 in plain.tokens())


async def test_a_client_may_come_back_without_it_and_with_it_again(serve: Serve, upstream: RawServer) -> None:
    """Each link of an aware client negotiates anew; what waits for it arrives once, in the form that it can read."""
    agreeing(upstream)
    proxy = await serve(upstream.url)
    client, server = await talking(proxy, upstream, [*OFFER, *IDENTITY, ("X-Reconnect-Received", "0")])
    await server.send_frame(Opcode.TEXT, deflated(b"one"), rsv1=True)
    await compressed(client)
    client.reset()
    for word in (b"two", b"three"):
        await server.send_frame(Opcode.TEXT, deflated(word), rsv1=True)
    await server.fence()
    client = await dial(f"{proxy.url}/", [*IDENTITY, ("X-Reconnect-Received", "1")])
    assert client.response.get(EXTENSIONS) is None
    assert await client.take(2) == ["two", "three"]
    await server.send_frame(Opcode.TEXT, deflated(b"four"), rsv1=True)
    assert await client.recv() == "four"
    client.reset()
    client = await dial(f"{proxy.url}/", [*OFFER, *IDENTITY, ("X-Reconnect-Received", "4")])
    assert client.response.get(EXTENSIONS) == AGREED
    await server.send_frame(Opcode.TEXT, deflated(b"five"), rsv1=True)
    assert await compressed(client) == [Frame(Opcode.TEXT, deflated(b"five"), rsv1=True)]


@pytest.mark.parametrize(
    "payload", [b"\xff\xff\xff\xff", deflated(b"cut off in the middle of it")[:-7], deflated(b"\xff\xfe no UTF-8")]
)
async def test_what_cannot_be_read_is_its_senders_fault(serve: Serve, upstream: RawServer, payload: bytes) -> None:
    """Found where it is inflated on arrival: 1007 to the client that sent it, and nothing of it to the upstream."""
    client, server = await talking(await serve(upstream.url), upstream)
    await client.send_frame(Opcode.TEXT, payload, rsv1=True)
    assert (await client.ended()).code == 1007
    assert not server.left()


async def test_corruption_that_is_found_too_late_ends_the_session(serve: Serve, upstream: RawServer) -> None:
    """What came from an upstream and turns out corrupt for a client without deflate: 1007 to both, and it is told."""
    agreeing(upstream)
    proxy = await serve(upstream.url)
    client, server = await talking(proxy, upstream, [*OFFER, *IDENTITY])
    client.reset()
    await server.send_frame(Opcode.TEXT, deflated(b"good"), rsv1=True)
    await server.send_frame(Opcode.TEXT, b"\xff\xff\xff\xff", rsv1=True)
    await server.send_frame(Opcode.TEXT, deflated(b"never seen"), rsv1=True)
    await server.fence()
    client = await dial(f"{proxy.url}/", IDENTITY)
    assert await client.recv() == "good"
    with pytest.raises(Closed) as end:
        await client.recv()
    assert end.value.code == 1007
    assert (await server.ended()).code == 1007
    await eventually(lambda: "session ended" in proxy.log, "the end of the session is logged")
    (line,) = [line for line in proxy.lines if "session ended" in line]
    assert " WARNING " in line
    assert 'code=1007 reason="a compressed message is ' in line
    assert sum(int(count) for count in re.findall(r"(?:undelivered|uncertain)_u2c=(\d+)", line)) in (2, 3)


@pytest.mark.parametrize("agrees", [True, False])
async def test_a_bomb_is_refused_before_it_is_big(serve: Serve, upstream: RawServer, agrees: bool) -> None:
    """A message above the limit once inflated: 1009, whether it would be passed on or inflated, and no memory spent."""
    if agrees:
        agreeing(upstream)
    proxy = await serve(upstream.url)
    client, server = await talking(proxy, upstream)
    await client.send_frame(Opcode.BINARY, deflated(bytes(16 * MIB)), rsv1=True)
    await client.fence()
    before = proxy.rss()
    await client.send_frame(Opcode.BINARY, deflated(bytes(512 * MIB), level=1), rsv1=True)
    assert (await client.ended()).code == 1009
    assert proxy.rss() - before < 32 * MIB
    assert (await server.ended()).code == 1009
    assert sum(1 for opcode, _ in server.journal if opcode is Opcode.BINARY) == 1


async def test_a_slow_reader_without_it_costs_no_more_than_it_takes(serve: Serve, upstream: RawServer) -> None:
    """What is held is held compressed; it is inflated as the reader takes it, not all at once."""
    agreeing(upstream)
    proxy = await serve(upstream.url)
    client, server = await talking(proxy, upstream, [*OFFER, *IDENTITY, ("X-Reconnect-Received", "0")])
    client.reset()
    payload = deflated(bytes(4 * MIB))
    for _ in range(100):
        await server.send_frame(Opcode.BINARY, payload, rsv1=True)
    await server.fence()
    before = proxy.rss()
    client = await dial(f"{proxy.url}/", [*IDENTITY, ("X-Reconnect-Received", "0")], receive_buffer=65536)
    peak = before
    for _ in range(100):
        assert await client.recv() == bytes(4 * MIB)
        peak = max(peak, proxy.rss())
    assert peak - before < 64 * MIB


async def test_a_sender_in_front_of_a_receiver_passes_it_through(serve: Serve, upstream: RawServer) -> None:
    """Two proxies in a row agree with each other, and neither opens a message."""
    agreeing(upstream)
    receiver = await serve(upstream.url, "--mode", "receiver")
    sender = await serve(receiver.url, "--mode", "sender")
    client, server = await talking(sender, upstream)
    assert client.response.get(EXTENSIONS) == server.request.get(EXTENSIONS) == AGREED
    message = Frame(Opcode.BINARY, deflated(b"0123456789" * 5000, level=1), rsv1=True)
    for one, other in ((client, server), (server, client)):
        await one.send_frame(message.opcode, message.payload, rsv1=True)
        assert await compressed(other) == [message]


async def test_a_bad_network_between_two_proxies_loses_nothing_that_is_compressed(serve: Serve) -> None:
    """Ordinary programs that compress, at both ends of a network that flaps: complete, in order, exactly once."""
    said = {way: numbered(way, 800, pad=400) for way in ("u2c", "c2u")}
    server, client = Talker(said["u2c"], 500), Talker(said["c2u"], 500)
    async with ordinary_server(server.converse, compression="deflate") as port:
        receiver = await serve(f"ws://127.0.0.1:{port}", "--mode", "receiver")
        async with Relay(int(receiver.url.rpartition(":")[2])) as network:
            sender = await serve(network.url, "--mode", "sender")
            async with conversation(sender.url, client, compression="deflate") as connection:
                assert connection.response is not None
                assert connection.response.headers[EXTENSIONS] == AGREED
                await flap(network, times=3)
                await server.heard.reaches(800)
                await client.heard.reaches(800)
    assert (server.connections, client.connections) == (1, 1)
    assert server.heard.items == said["c2u"]
    assert client.heard.items == said["u2c"]
