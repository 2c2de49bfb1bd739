"""Links through a real Toxiproxy: what each toxic does to the bytes, and what down, up, reset and silence do."""

from __future__ import annotations

import errno
import socket
import sys
import time

import pytest

from reconnect_harness.toxiproxy.link import ToxiproxyLink
from reconnect_harness.toxiproxy.server import ToxiproxyError, ToxiproxyServer
from reconnect_harness.toxiproxy.toxics import TOXICS, Toxic
from tests.reconnect_harness.toxiproxy.wires import Wires, exchange, hears_nothing, is_faster_than, read


def test_carries_bytes_both_ways(wires: Wires) -> None:
    """A link without toxics passes on what either side sends."""
    client, upstream = wires.connect(wires.link())
    client.sendall(b"there")
    assert read(upstream, 5) == b"there"
    upstream.sendall(b"and back")
    assert read(client, 8) == b"and back"


def test_down_ends_connections_and_refuses_new_ones(wires: Wires) -> None:
    """A link that is down has no connections and accepts none."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.down()
    assert read(client, 1) == b""
    assert read(upstream, 1) == b""
    with pytest.raises(ConnectionRefusedError):
        wires.connect(link)


def test_up_listens_on_the_same_port(wires: Wires) -> None:
    """A link that flaps keeps its address."""
    link = wires.link()
    address = link.listen
    for _ in range(5):
        link.down()
        link.up()
        assert link.listen == address
        exchange(*wires.connect(link))


@pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux only")
def test_the_port_of_a_link_that_is_down_stays_taken(wires: Wires) -> None:
    """While a link is down, another socket cannot take its port."""
    link = wires.link()
    link.down()
    with socket.socket() as other, pytest.raises(OSError) as refused:
        other.bind(("127.0.0.1", int(link.listen.split(":")[1])))
    assert refused.value.errno == errno.EADDRINUSE
    link.up()


def test_reset_sends_an_rst_to_both_ends_of_an_idle_connection(wires: Wires) -> None:
    """A reset is an RST at once, also on an idle connection; then the link is up again."""
    link = wires.link(resets=True)
    client, upstream = wires.connect(link)
    exchange(client, upstream)
    link.reset()
    for end in (client, upstream):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    exchange(*wires.connect(link))


def test_reset_leaves_a_link_that_is_down_down(wires: Wires) -> None:
    """A reset while the link is down does not bring it up."""
    link = wires.link(resets=True)
    link.down()
    link.reset()
    assert link.is_down
    with pytest.raises(ConnectionRefusedError):
        wires.connect(link)


def test_reset_of_a_link_that_was_not_made_for_it_says_so(wires: Wires) -> None:
    """Toxiproxy cannot reset connections that began without SO_LINGER, so the link refuses rather than send a FIN."""
    with pytest.raises(ToxiproxyError, match="resets=True"):
        wires.link().reset()


def test_latency_delays_the_stream_that_it_is_on(wires: Wires) -> None:
    """Latency on one stream is felt once in a round trip, on both streams twice."""
    link = wires.link()
    ends = wires.connect(link)
    assert is_faster_than(0.15, *ends)
    link.add(Toxic("latency", {"latency": 150}, "upstream"))
    once = exchange(*ends)
    link.add(Toxic("latency", {"latency": 150}, "downstream"))
    twice = exchange(*ends)
    assert once >= 0.15
    assert twice >= 0.3


def test_jitter_makes_latency_uneven(wires: Wires) -> None:
    """With jitter some bytes are faster than the latency, and never faster than latency less jitter."""
    link = wires.link()
    ends = wires.connect(link)
    link.add(Toxic("latency", {"latency": 60, "jitter": 50}, "upstream"))
    times = [exchange(*ends) for _ in range(20)]
    # What is drawn is chance, and a busy machine adds to it.
    while min(times) >= 0.06 or max(times) - min(times) <= 0.02:
        times.append(exchange(*ends))
    assert min(times) >= 0.01


def test_bandwidth_limits_the_rate(wires: Wires) -> None:
    """100 kB at 200 kB/s take at least 0.4 s (Toxiproxy is up to one slice of 100 ms ahead)."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.add(Toxic("bandwidth", {"rate": 200}, "upstream"))
    begun = time.monotonic()
    client.sendall(bytes(100_000))
    assert len(read(upstream, 100_000)) == 100_000
    assert time.monotonic() - begun >= 0.39


def test_a_bandwidth_of_zero_holds_back_and_loses_nothing(wires: Wires) -> None:
    """A stalled stream delivers everything when the toxic is removed."""
    link = wires.link()
    client, upstream = wires.connect(link)
    stall = Toxic("bandwidth", {"rate": 0}, "upstream")
    link.add(stall)
    client.sendall(b"late but whole")
    assert hears_nothing(upstream)
    link.remove(stall)
    assert read(upstream, 14) == b"late but whole"


def test_slow_close_delays_the_end(wires: Wires) -> None:
    """The end of a connection is passed on late, its data in time."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.add(Toxic("slow_close", {"delay": 900}, "downstream"))
    begun = time.monotonic()
    upstream.sendall(b"bye")
    upstream.close()
    assert read(client, 3) == b"bye"
    said = time.monotonic() - begun
    assert client.recv(1) == b""
    assert time.monotonic() - begun >= 0.9 > said


def test_timeout_drops_data_and_closes_after_its_time(wires: Wires) -> None:
    """A timeout lets nothing through and then ends the connection."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.add(Toxic("timeout", {"timeout": 300}, "upstream"))
    begun = time.monotonic()
    client.sendall(b"lost")
    assert upstream.recv(10) == b""
    assert time.monotonic() - begun >= 0.25


def test_removing_a_timeout_closes_its_connections(wires: Wires) -> None:
    """Connections that have lost bytes must not continue."""
    link = wires.link()
    client, upstream = wires.connect(link)
    never = Toxic("timeout", stream="upstream")
    link.add(never)
    client.sendall(b"lost")
    assert hears_nothing(upstream)
    link.remove(never)
    assert upstream.recv(10) == b""
    exchange(*wires.connect(link))


def test_reset_peer_answers_the_next_data_with_an_rst(wires: Wires) -> None:
    """On a link with resets, the reset_peer toxic resets connections that were open before."""
    link = wires.link(resets=True)
    client, upstream = wires.connect(link)
    exchange(client, upstream)
    link.add(Toxic("reset_peer", stream="upstream"))
    assert hears_nothing(client)
    client.sendall(b"go")
    for end in (client, upstream):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_slicer_cuts_data_into_small_packets(wires: Wires) -> None:
    """10 kB in slices of about 1 kB arrive in many reads, complete and in order."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.add(Toxic("slicer", {"average_size": 1000, "size_variation": 200, "delay": 5000}, "upstream"))
    said = bytes(range(250)) * 40
    client.sendall(said)
    got, reads = b"", 0
    while len(got) < len(said):
        got += upstream.recv(len(said))
        reads += 1
    assert got == said
    assert reads >= 5


@pytest.mark.parametrize("limit", [0, 1, 1234])
def test_limit_data_closes_after_exactly_the_limit(wires: Wires, limit: int) -> None:
    """The connection ends in the middle of the data, counted from when the toxic was added."""
    link = wires.link()
    client, upstream = wires.connect(link)
    exchange(client, upstream)
    link.add(Toxic("limit_data", {"bytes": limit}, "upstream"))
    client.sendall(bytes(5000))
    assert len(read(upstream, 5000)) == limit
    assert upstream.recv(1) == b""


@pytest.mark.parametrize(("toxicity", "touched"), [(0.0, {False}), (0.5, {False, True}), (1.0, {True})])
def test_toxicity_is_the_fraction_of_connections(wires: Wires, toxicity: float, touched: set[bool]) -> None:
    """None, some or all of 30 connections are cut."""
    link = wires.link()
    link.add(Toxic("limit_data", {"bytes": 1}, "upstream", toxicity))
    cut = set()
    for _ in range(30):
        client, upstream = wires.connect(link)
        client.sendall(b"ab")
        client.shutdown(socket.SHUT_WR)
        cut.add(read(upstream, 2) == b"a")
    assert cut == touched


def test_equal_toxics_add_up_and_are_removed_one_by_one(wires: Wires) -> None:
    """Two equal toxics are two toxics."""
    link = wires.link()
    ends = wires.connect(link)
    late = Toxic("latency", {"latency": 150}, "upstream")
    link.add(late)
    link.add(late)
    assert exchange(*ends) >= 0.3
    link.remove(late)
    assert exchange(*ends) >= 0.15
    link.remove(late)
    assert is_faster_than(0.15, *ends)
    with pytest.raises(ToxiproxyError, match="has no toxic"):
        link.remove(late)


def test_silence_carries_neither_data_nor_the_end(wires: Wires) -> None:
    """Through a silent link neither side learns that the other has sent data or has closed."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.silence()
    client.sendall(b"hello?")
    client.close()
    assert hears_nothing(upstream)
    upstream.sendall(b"hello?")
    assert hears_nothing(upstream)


def test_a_connection_made_in_silence_is_silent(wires: Wires) -> None:
    """A new connection is accepted and then receives nothing."""
    link = wires.link()
    link.silence()
    client, upstream = wires.connect(link)
    client.sendall(b"hello?")
    assert hears_nothing(upstream)
    assert hears_nothing(client)


def test_the_end_of_a_silence_ends_its_connections(wires: Wires) -> None:
    """After a silence the connections that lost bytes are closed, and new ones work."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.silence()
    client.sendall(b"hello?")
    link.end_silence()
    assert read(client, 1) == b""
    assert read(upstream, 1) == b""
    exchange(*wires.connect(link))


def test_a_silence_of_one_stream_does_not_affect_the_other(wires: Wires) -> None:
    """Data of the other stream arrives."""
    link = wires.link()
    client, upstream = wires.connect(link)
    link.silence("upstream")
    client.sendall(b"hello?")
    assert hears_nothing(upstream)
    upstream.sendall(b"I hear nothing")
    assert read(client, 14) == b"I hear nothing"


def test_heal_removes_everything(wires: Wires) -> None:
    """A healed link is up and has no toxics."""
    link = wires.link(resets=True)
    link.silence()
    link.add(Toxic("latency", {"latency": 5000}, "both"))
    link.down()
    link.heal()
    assert is_faster_than(5, *wires.connect(link))
    link.reset()


def test_heal_does_not_wait_for_a_receiver_that_does_not_read(wires: Wires) -> None:
    """A toxic behind a full connection cannot be removed; the link is healed anyway."""
    link = wires.link()
    client, _upstream = wires.connect(link)
    link.add(Toxic("latency", {"latency": 1}, "upstream"))
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            client.sendall(bytes(1 << 20))
    link.heal()
    exchange(*wires.connect(link))


def test_close_removes_the_proxy_and_may_be_called_twice(server: ToxiproxyServer, wires: Wires) -> None:
    """After close the server has no proxy of it, and nothing listens at its port."""
    before = server.api.get("/proxies")
    link = wires.link()
    client, _ = wires.connect(link)
    link.close()
    link.close()
    assert server.api.get("/proxies") == before
    assert read(client, 1) == b""
    with pytest.raises(ConnectionRefusedError):
        wires.connect(link)


def test_two_links_of_one_name_are_refused(server: ToxiproxyServer, wires: Wires) -> None:
    """The refusal of Toxiproxy is an error with its reason, and the first link still works."""
    with ToxiproxyLink(server, "twin", wires.upstream) as first:
        with pytest.raises(ToxiproxyError, match="proxy already exists"):
            ToxiproxyLink(server, "twin", wires.upstream)
        exchange(*wires.connect(first))


def test_a_refusal_that_toxiproxy_python_swallows_is_an_error(server: ToxiproxyServer, wires: Wires) -> None:
    """A status of 500, as for a port that is taken, is an error."""
    with pytest.raises(ToxiproxyError, match=r"\(500\).*address already in use"):
        server.api.post("/proxies", {"name": "x", "listen": wires.upstream, "upstream": wires.upstream})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lag",), r"no toxic 'lag'; there are latency, bandwidth"),
        (("latency", {}), r"latency needs its attribute 'latency', in ms"),
        (("latency", {"latency": -1}), r"attribute latency of latency is -1; .* 0 or more"),
        (("latency", {"latency": 1.5}), r"is 1\.5; it must be a whole number of ms"),
        (("latency", {"latency": True}), r"is True; it must be a whole number"),
        (("bandwidth", {"rate": 1, "burst": 2}), r"bandwidth has no attribute 'burst'; it has rate"),
        (("slicer", {"average_size": 0}), r"average_size of slicer is 0; .* 1 or more"),
        (("slicer", {"average_size": 5, "size_variation": 5}), r"must be less than average_size, 5"),
        (("timeout", {}, "sideways"), r"stream of timeout is 'sideways'; it may be upstream, downstream, both"),
        (("timeout", {}, "both", 1.5), r"toxicity of timeout is 1\.5; it may be 0 to 1"),
    ],
)
def test_a_toxic_that_cannot_be_is_one_sentence(arguments: tuple[object, ...], said: str) -> None:
    """A bad toxic says what was given and what is allowed."""
    with pytest.raises(ValueError, match=said):
        Toxic(*arguments)  # type: ignore[arg-type]


def test_every_toxic_is_accepted_by_the_server(wires: Wires) -> None:
    """Toxiproxy knows each type of the table with these attributes, and returns what was asked for."""
    link = wires.link()
    for name, attributes in TOXICS.items():
        # Decreasing values, so that the slicer's variation is less than its average.
        toxic = Toxic(name, {key: 9 - index for index, key in enumerate(attributes)}, "both", 0.3)
        link.add(toxic)
        link.remove(toxic)
