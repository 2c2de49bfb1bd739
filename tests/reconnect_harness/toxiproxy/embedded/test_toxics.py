"""What each toxic does to a connection, and what its changes do, with the real server and with the embedded one."""

from __future__ import annotations

import itertools
import socket
import threading
import time

import pytest

from tests.reconnect_harness.toxiproxy.embedded.client import Client
from tests.reconnect_harness.toxiproxy.wires import PATIENCE, exchange, hears_nothing, read

STREAMS = ("upstream", "downstream")

pytestmark = pytest.mark.parametrize("stream", STREAMS)


def seconds_to_pass(sender: socket.socket, receiver: socket.socket, data: bytes = b"x") -> float:
    """Send `data` and return how long it took to arrive, all of it and nothing else."""
    begun = time.monotonic()
    threading.Thread(target=sender.sendall, args=(data,)).start()
    assert read(receiver, len(data)) == data
    return time.monotonic() - begun


def is_reset(end: socket.socket) -> bool:
    """Wait for the end of the connection; return whether it is an RST."""
    try:
        while end.recv(1000):
            pass
    except ConnectionResetError:
        return True
    return False


def test_without_toxics_everything_is_carried(client: Client, stream: str) -> None:
    """Eight megabytes arrive unchanged, and the end after them."""
    sender, receiver = client.proxy().ends(stream)
    data = bytes(range(256)) * (32 * 1024)
    seconds_to_pass(sender, receiver, data)
    sender.close()
    assert receiver.recv(1) == b""


def test_the_end_of_one_half_ends_the_connection(client: Client, stream: str) -> None:
    """As in the original there are no half-closed connections: when one side ends, both directions are closed."""
    sender, receiver = client.proxy().ends(stream)
    sender.sendall(b"all")
    sender.shutdown(socket.SHUT_WR)
    assert read(receiver, 4) == b"all"
    assert sender.recv(1) == b""


def test_a_receiver_that_does_not_read_blocks_the_sender(client: Client, stream: str) -> None:
    """The data on its way is bounded, and none of it is lost."""
    sender, receiver = client.proxy().ends(stream)
    sender.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 64 << 20:
            sent += sender.send(bytes(1 << 16))
    sender.shutdown(socket.SHUT_WR)
    assert len(read(receiver, sent + 1)) == sent


def test_a_client_without_an_upstream_is_closed(client: Client, stream: str) -> None:
    """If nothing listens upstream, the client is accepted and closed."""
    proxy = client.proxy()
    proxy.listener.close()
    assert proxy.dial().recv(1) == b""
    del stream


def test_disabling_closes_connections_for_ever(client: Client, stream: str) -> None:
    """Both ends see the end, no connection is accepted until it is enabled, and toxics stay."""
    proxy = client.proxy()
    proxy.add("latency", stream, latency=100)
    ends = proxy.ends(stream)
    exchange(*ends)
    proxy.enable(False)
    assert [end.recv(1) for end in ends] == [b"", b""]
    with pytest.raises(ConnectionRefusedError):
        proxy.dial()
    proxy.enable(True)
    assert seconds_to_pass(*proxy.ends(stream)) >= 0.1


def test_noop_does_nothing(client: Client, stream: str) -> None:
    """Data and end pass."""
    proxy = client.proxy()
    proxy.add("noop", stream)
    sender, receiver = proxy.ends(stream)
    exchange(sender, receiver)
    sender.close()
    assert receiver.recv(1) == b""


def test_latency_delays_its_stream_only(client: Client, stream: str) -> None:
    """A byte takes the latency in one direction and almost no time in the other."""
    proxy = client.proxy()
    proxy.add("latency", stream, latency=700)
    sender, receiver = proxy.ends(stream)
    there = seconds_to_pass(sender, receiver)
    back = seconds_to_pass(receiver, sender)
    assert there >= 0.7 > back


def test_latency_costs_no_throughput(client: Client, stream: str) -> None:
    """Many chunks may be on their way: a hundred of them are late once, not a hundred times."""
    proxy = client.proxy()
    proxy.add("latency", stream, latency=100)
    sender, receiver = proxy.ends(stream)
    begun = time.monotonic()
    for _ in range(100):
        sender.sendall(b"x" * 1000)
        time.sleep(0.001)
    assert len(read(receiver, 100_000)) == 100_000
    assert 0.1 <= time.monotonic() - begun < 9


def test_latencies_add_up(client: Client, stream: str) -> None:
    """Two toxics of 100 ms are 200 ms."""
    proxy = client.proxy()
    for name in ("one", "two"):
        client("POST", f"{proxy.path}/toxics", _latency(name, stream, 100))
    assert seconds_to_pass(*proxy.ends(stream)) >= 0.2


def test_jitter_is_around_the_latency(client: Client, stream: str) -> None:
    """Some bytes are faster than the latency, none faster than it less the jitter, and their order stays."""
    proxy = client.proxy()
    proxy.add("latency", stream, latency=60, jitter=50)
    ends = proxy.ends(stream)
    times = [seconds_to_pass(*ends) for _ in range(20)]
    # What is drawn is chance, and a busy machine adds to it.
    while min(times) >= 0.06 or max(times) <= min(times) + 0.02:
        times.append(seconds_to_pass(*ends))
    assert min(times) >= 0.01


def test_a_change_of_latency_passes_on_what_waits(client: Client, stream: str) -> None:
    """A byte that is held for an hour arrives when the latency is changed; the next byte has the new latency."""
    proxy = client.proxy()
    toxic = proxy.add("latency", stream, latency=3_600_000)
    sender, receiver = proxy.ends(stream)
    sender.sendall(b"a")
    assert hears_nothing(receiver)
    proxy.update(toxic, latency=100)
    assert read(receiver, 1) == b"a"
    assert seconds_to_pass(sender, receiver) >= 0.1


def test_removing_latency_passes_on_what_waits_in_order(client: Client, stream: str) -> None:
    """Held data arrives at once, then later data."""
    proxy = client.proxy()
    toxic = proxy.add("latency", stream, latency=3_600_000)
    sender, receiver = proxy.ends(stream)
    said = b""
    for number in range(50):
        said += b"%04d" % number
        sender.sendall(b"%04d" % number)
    assert hears_nothing(receiver)
    proxy.remove(toxic)
    sender.sendall(b"last")
    assert read(receiver, len(said) + 4) == said + b"last"


@pytest.mark.parametrize("rate", [100, 200])
def test_bandwidth_is_a_rate(client: Client, stream: str, rate: int) -> None:
    """A hundred kilobytes take the expected time; the last slice, of 100 ms, may be early."""
    proxy = client.proxy()
    proxy.add("bandwidth", stream, rate=rate)
    assert 100 / rate - 0.11 <= seconds_to_pass(*proxy.ends(stream), bytes(100_000)) < 10


def test_bandwidth_limits_small_messages_too(client: Client, stream: str) -> None:
    """Messages that are sent faster than the rate wait."""
    proxy = client.proxy()
    proxy.add("bandwidth", stream, rate=10)
    sender, receiver = proxy.ends(stream)
    begun = time.monotonic()
    for _ in range(40):
        sender.sendall(bytes(100))
        time.sleep(0.001)
    assert len(read(receiver, 4000)) == 4000
    assert time.monotonic() - begun >= 0.3


def test_a_bandwidth_of_zero_holds_everything_until_it_is_changed(client: Client, stream: str) -> None:
    """Nothing passes and nothing is lost."""
    proxy = client.proxy()
    toxic = proxy.add("bandwidth", stream, rate=0)
    sender, receiver = proxy.ends(stream)
    sender.sendall(b"late but whole")
    assert hears_nothing(receiver)
    proxy.update(toxic, rate=1000)
    assert read(receiver, 14) == b"late but whole"


def test_slow_close_delays_the_end_and_not_the_data(client: Client, stream: str) -> None:
    """Data arrives before the delay, the end after it."""
    proxy = client.proxy()
    proxy.add("slow_close", stream, delay=900)
    sender, receiver = proxy.ends(stream)
    begun = time.monotonic()
    sender.sendall(b"bye")
    sender.close()
    assert read(receiver, 3) == b"bye"
    said = time.monotonic() - begun
    assert receiver.recv(1) == b""
    assert time.monotonic() - begun >= 0.9 > said


def test_removing_slow_close_passes_on_the_end(client: Client, stream: str) -> None:
    """An end that is held for an hour arrives when the toxic is removed."""
    proxy = client.proxy()
    toxic = proxy.add("slow_close", stream, delay=3_600_000)
    sender, receiver = proxy.ends(stream)
    sender.close()
    assert hears_nothing(receiver)
    proxy.remove(toxic)
    assert receiver.recv(1) == b""


def test_changing_slow_close_starts_the_delay_again(client: Client, stream: str) -> None:
    """An end that is held for an hour is held for the new delay."""
    proxy = client.proxy()
    toxic = proxy.add("slow_close", stream, delay=3_600_000)
    sender, receiver = proxy.ends(stream)
    sender.close()
    assert hears_nothing(receiver)
    begun = time.monotonic()
    proxy.update(toxic, delay=300)
    assert receiver.recv(1) == b""
    assert time.monotonic() - begun >= 0.3


def test_timeout_drops_data_and_closes(client: Client, stream: str) -> None:
    """Nothing passes, and after the timeout both sides are closed."""
    proxy = client.proxy()
    proxy.add("timeout", stream, timeout=300)
    begun = time.monotonic()
    sender, receiver = proxy.ends(stream)
    sender.sendall(b"lost")
    assert receiver.recv(1) == b""
    assert time.monotonic() - begun >= 0.3
    assert sender.recv(1) == b""


def test_data_restarts_a_timeout(client: Client, stream: str) -> None:
    """The time is counted from the last data, as in the original."""
    proxy = client.proxy()
    proxy.add("timeout", stream, timeout=1000)
    sender, receiver = proxy.ends(stream)
    begun = time.monotonic()
    for _ in range(3):
        sender.sendall(b"lost")
        time.sleep(0.3)
    assert receiver.recv(1) == b""
    assert time.monotonic() - begun >= 1.6


def test_a_timeout_of_zero_never_closes_and_affects_one_stream(client: Client, stream: str) -> None:
    """Nothing passes in one direction, everything in the other."""
    proxy = client.proxy()
    proxy.add("timeout", stream)
    sender, receiver = proxy.ends(stream)
    sender.sendall(b"lost")
    assert hears_nothing(receiver)
    seconds_to_pass(receiver, sender)


def test_removing_a_timeout_closes_its_connections(client: Client, stream: str) -> None:
    """They have lost bytes. New connections work."""
    proxy = client.proxy()
    ends = proxy.ends(stream)
    toxic = proxy.add("timeout", stream)
    proxy.remove(toxic)
    assert [end.recv(1) for end in ends] == [b"", b""]
    exchange(*proxy.ends(stream))


def test_reset_peer_answers_data_with_an_rst(client: Client, stream: str) -> None:
    """Both sides of a connection that began with the toxic are reset by its first data, and not before."""
    proxy = client.proxy()
    proxy.add("reset_peer", stream)
    sender, receiver = proxy.ends(stream)
    assert hears_nothing(sender)
    seconds_to_pass(receiver, sender)
    sender.sendall(b"go")
    assert is_reset(sender)
    assert is_reset(receiver)


def test_reset_peer_waits_for_its_timeout(client: Client, stream: str) -> None:
    """The reset follows after it, even if the toxic is removed."""
    proxy = client.proxy()
    proxy.add("reset_peer", stream, timeout=400)
    sender, receiver = proxy.ends(stream)
    begun = time.monotonic()
    sender.sendall(b"go")
    assert is_reset(receiver)
    assert time.monotonic() - begun >= 0.4


def test_reset_peer_closes_older_connections_with_a_fin(client: Client, stream: str) -> None:
    """A connection that began before the toxic was added gets no RST, as in the original."""
    proxy = client.proxy()
    sender, receiver = proxy.ends(stream)
    exchange(sender, receiver)
    proxy.add("reset_peer", stream)
    sender.sendall(b"go")
    assert not is_reset(receiver)


def test_a_reset_peer_of_toxicity_0_makes_every_close_a_reset(client: Client, stream: str) -> None:
    """Data passes, and disabling the proxy resets the connections."""
    proxy = client.proxy()
    proxy.add("reset_peer", stream, 0.0)
    ends = proxy.ends(stream)
    exchange(*ends)
    proxy.enable(False)
    assert [is_reset(end) for end in ends] == [True, True]


def test_slicer_cuts_data_into_packets(client: Client, stream: str) -> None:
    """Ten kilobytes in slices of about one arrive complete, in order, and in many small and uneven reads."""
    proxy = client.proxy()
    proxy.add("slicer", stream, average_size=1000, size_variation=200, delay=10_000)
    sender, receiver = proxy.ends(stream)
    said = bytes(range(250)) * 40
    sender.sendall(said)
    pieces: list[bytes] = []
    while len(b"".join(pieces)) < len(said):
        pieces.append(receiver.recv(len(said)))
    assert b"".join(pieces) == said
    assert 5 <= len(pieces) <= 40
    assert len({len(piece) for piece in pieces}) > 2


def test_slicer_without_variation_cuts_evenly(client: Client, stream: str) -> None:
    """Slices of one byte are one byte each."""
    proxy = client.proxy()
    proxy.add("slicer", stream, average_size=1, delay=20_000)
    sender, receiver = proxy.ends(stream)
    sender.sendall(b"abcdefgh")
    pieces = [receiver.recv(100)]
    while len(b"".join(pieces)) < 8:
        pieces.append(receiver.recv(100))
    assert b"".join(pieces) == b"abcdefgh"
    assert len(pieces) >= 4


@pytest.mark.parametrize("limit", [0, 1, 1234, 50_000])
def test_limit_data_closes_after_exactly_the_limit(client: Client, stream: str, limit: int) -> None:
    """The connection ends in the middle of the data."""
    proxy = client.proxy()
    proxy.add("limit_data", stream, bytes=limit)
    sender, receiver = proxy.ends(stream)
    assert hears_nothing(receiver, 0.1)
    sender.sendall(bytes(70_000))
    assert len(read(receiver, 70_000)) == limit
    # A close while bytes of the sender are unread is an RST.
    is_reset(sender)


def test_limit_data_counts_from_when_it_was_added_and_through_its_changes(client: Client, stream: str) -> None:
    """Bytes before the toxic do not count; bytes before its change do."""
    proxy = client.proxy()
    sender, receiver = proxy.ends(stream)
    seconds_to_pass(sender, receiver, bytes(500))
    toxic = proxy.add("limit_data", stream, bytes=100)
    seconds_to_pass(sender, receiver, bytes(90))
    proxy.update(toxic, bytes=150)
    sender.sendall(bytes(500))
    assert len(read(receiver, 500)) == 60


@pytest.mark.parametrize(("toxicity", "felt"), [(0.0, {False}), (0.5, {False, True}), (1.0, {True})])
def test_toxicity_is_a_fraction_of_the_connections(
    client: Client, stream: str, toxicity: float, felt: set[bool]
) -> None:
    """None, some or all of 30 connections are closed."""
    proxy = client.proxy()
    proxy.add("limit_data", stream, toxicity, bytes=1)
    cut = set()
    for _ in range(30):
        sender, receiver = proxy.ends(stream)
        sender.sendall(b"ab")
        sender.shutdown(socket.SHUT_WR)
        cut.add(read(receiver, 2) == b"a")
    assert cut == felt


def test_toxicity_is_drawn_again_when_it_is_changed(client: Client, stream: str) -> None:
    """A toxic takes effect when its toxicity is raised to 1, and not any more when it is lowered to 0."""
    proxy = client.proxy()
    toxic = proxy.add("latency", stream, 0.0, latency=600)
    ends = proxy.ends(stream)
    felt = []
    for toxicity in (1.0, 0.0, 1.0):
        proxy.update(toxic, toxicity)
        felt.append(seconds_to_pass(*ends) >= 0.6)
    assert felt == [True, False, True]


def test_the_chain_is_in_the_order_of_adding(client: Client, stream: str) -> None:
    """A limit in front of a hold counts what is held; a limit behind it counts what is passed on."""
    proxy = client.proxy()
    proxy.add("limit_data", stream, bytes=3)
    hold = proxy.add("bandwidth", stream, rate=0)
    sender, receiver = proxy.ends(stream)
    sender.sendall(b"abcdef")
    assert hears_nothing(receiver)
    proxy.remove(hold)
    assert read(receiver, 6) == b"abc"


def test_a_toxic_in_the_middle_of_the_chain_can_be_removed(client: Client, stream: str) -> None:
    """Its neighbours are joined, and both still take effect."""
    proxy = client.proxy()
    names = []
    for number, latency in enumerate((100, 3_600_000, 100)):
        names.append(f"latency{number}")
        client("POST", f"{proxy.path}/toxics", _latency(names[-1], stream, latency))
    sender, receiver = proxy.ends(stream)
    sender.sendall(b"a")
    assert hears_nothing(receiver)
    proxy.remove(names[1])
    assert read(receiver, 1) == b"a"
    assert seconds_to_pass(sender, receiver) >= 0.2


def test_no_byte_is_lost_or_moved_while_toxics_change(client: Client, stream: str) -> None:
    """A megabyte of numbers passes in order through a chain that changes continuously."""
    proxy = client.proxy()
    sender, receiver = proxy.ends(stream)
    said = b"".join(b"%08d" % number for number in range(128 * 1024))

    def say() -> None:
        for start in range(0, len(said), 4000):
            sender.sendall(said[start : start + 4000])
            time.sleep(0.001)

    speaker = threading.Thread(target=say)
    speaker.start()
    heard = bytearray()
    listener = threading.Thread(target=lambda: heard.extend(read(receiver, len(said))))
    listener.start()
    kinds = itertools.cycle(
        [
            ("latency", {"latency": 5, "jitter": 4}),
            ("slicer", {"average_size": 100, "size_variation": 50}),
            ("bandwidth", {"rate": 20_000}),
            ("noop", {}),
            ("slow_close", {"delay": 1}),
        ]
    )
    changes = 0
    while speaker.is_alive():
        (first, attributes), (second, others) = next(kinds), next(kinds)
        one = proxy.add(first, stream, **attributes)
        two = proxy.add(second, stream, 0.5, **others)
        proxy.update(one)
        proxy.remove(one)
        proxy.remove(two)
        changes += 1
    listener.join(PATIENCE)
    assert bytes(heard) == said
    assert changes > 3


def _latency(name: str, stream: str, latency: int) -> dict[str, object]:
    return {"name": name, "type": "latency", "stream": stream, "attributes": {"latency": latency}}
