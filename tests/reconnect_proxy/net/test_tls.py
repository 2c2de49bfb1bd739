"""Certificates from files: what makes a context, what is said where it does not, and how they are read anew."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from reconnect_proxy.events import DialFailed, Event, LegName, TlsHandshakeFailed, TlsReloaded, TlsReloadFailed
from reconnect_proxy.net.tls import BadCertificate, Tls, TlsFiles, listener_context, upstream_context
from reconnect_proxy.proxy import Proxy

from ...certificates import Authority, Identity

ANY_PORT = "127.0.0.1:0"
UNUSED = "ws://127.0.0.1:1"


def test_a_context_knows_no_old_versions_and_http_1_1(authority: Authority) -> None:
    """TLS 1.2 is the least, and names are checked where a server is dialled."""
    listener = listener_context(*map(str, authority.issue()))
    upstream = upstream_context()
    for context in (listener, upstream):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert listener.options & ssl.OP_NO_RENEGOTIATION
    assert (upstream.check_hostname, upstream.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert all(
        "ECDHE" in cipher["name"] or cipher["name"].startswith(("TLS_", "DHE")) for cipher in listener.get_ciphers()
    )


def test_the_key_may_be_in_the_certificates_file(authority: Authority, tmp_path: Path) -> None:
    """Of a client certificate one file may hold both."""
    identity = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(identity.cert.read_bytes() + identity.key.read_bytes())
    upstream_context(str(authority.file), str(both))
    with pytest.raises(BadCertificate, match="holds no private key"):
        upstream_context(str(authority.file), str(identity.cert))


def complaint(identity: Identity) -> str:
    """Return what is said about a listener's files that will not do."""
    with pytest.raises(BadCertificate) as caught:
        listener_context(str(identity.cert), str(identity.key))
    return str(caught.value)


def test_files_that_will_not_do_are_named(authority: Authority, tmp_path: Path) -> None:
    """Missing, a folder, empty, mismatched, garbled, encrypted: a sentence each, and no question on the terminal."""
    good, other = authority.issue(), authority.issue()
    none = tmp_path / "none.pem"
    assert complaint(Identity(none, good.key)) == f"{none} cannot be read: No such file or directory"
    assert complaint(Identity(good.cert, tmp_path)) == f"{tmp_path} cannot be read: Is a directory"
    none.touch()
    assert complaint(Identity(none, good.key)).startswith(f"{none} holds no certificate: it must be a PEM file")
    assert complaint(Identity(good.cert, good.cert)).startswith(f"{good.cert} holds no private key")
    assert complaint(Identity(good.cert, other.key)) == (
        f"the private key in {other.key} does not belong to the certificate in {good.cert}"
    )
    garbled = tmp_path / "garbled.pem"
    garbled.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert complaint(Identity(garbled, good.key)).startswith(f"{garbled} with {good.key} cannot be used: ")
    encrypted = tmp_path / "encrypted.pem"
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert complaint(Identity(good.cert, encrypted)) == (
        f"the private key in {encrypted} is encrypted: give one without a passphrase"
    )
    for ca in (garbled, good.key, tmp_path / "nowhere"):
        with pytest.raises(BadCertificate, match=ca.name):
            upstream_context(str(ca))


def test_a_bad_reload_leaves_what_is_in_force(authority: Authority, tmp_path: Path) -> None:
    """Each leg is read on its own; what will not do is said, and changes nothing."""
    identity = authority.issue()
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    for to, source in ((cert, identity.cert), (key, identity.key), (ca, authority.file)):
        to.write_bytes(source.read_bytes())
    tls = Tls(TlsFiles(str(cert), str(key), True, str(ca)))
    listener, upstream = tls.listener, tls.upstream
    key.write_bytes(authority.issue().key.read_bytes())
    failed, reloaded = tls.reload()
    assert failed == TlsReloadFailed(
        LegName.CLIENT, f"the private key in {key} does not belong to the certificate in {cert}"
    )
    assert reloaded == TlsReloaded(LegName.UPSTREAM)
    assert tls.listener is listener
    assert tls.upstream is not upstream
    key.write_bytes(identity.key.read_bytes())
    ca.write_text("")
    reloaded, failed = tls.reload()
    assert reloaded == TlsReloaded(LegName.CLIENT)
    assert isinstance(failed, TlsReloadFailed)
    assert tls.listener is not listener
    assert list(Tls(TlsFiles()).reload()) == []


async def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def echoing(context: ssl.SSLContext | None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve `echo`; yields the port."""
    async with serve(echo, host, 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def answer(url: str, **options: object) -> tuple[str | bytes, list[Event]]:
    """Say something through a proxy before `url`; return the echo, and what happened."""
    events: list[Event] = []
    async with (
        Proxy(upstream=url, listen=ANY_PORT, observe=events.append, **options) as proxy,
        connect(proxy.url) as ws,
    ):
        await ws.send("hello")
        return await ws.recv(), events


async def failure(url: str, **options: object) -> str:
    """Have a proxy dial `url`, which is to fail; return why that was."""
    events: list[Event] = []
    failed = asyncio.Event()

    def observe(event: Event) -> None:
        events.append(event)
        if isinstance(event, DialFailed):
            failed.set()

    async with Proxy(upstream=url, listen=ANY_PORT, observe=observe, **options) as proxy, connect(proxy.url) as ws:
        # The client was accepted all the same, and its messages wait.
        await ws.send("hello")
        await failed.wait()
        return next(event.detail for event in events if isinstance(event, DialFailed))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_an_upstream_is_known_by_name_or_address(host: str, authority: Authority) -> None:
    """A name is sent as the SNI; an address cannot be, and is checked all the same."""
    asked: list[str | None] = []
    context = authority.server(host)

    def look(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked.append(name)

    context.sni_callback = look
    async with echoing(context) as port:
        assert (await answer(f"wss://{host}:{port}/base", upstream_ca=authority.file))[0] == "hello"
    assert asked == [host if host == "localhost" else None]


async def test_an_upstream_has_the_default_port_of_https() -> None:
    """Without a port it is 443, where nothing listens here."""
    assert "443" in await failure("wss://127.0.0.1")


async def test_certificates_that_do_not_hold_are_failed_dials(authority: Authority, stranger: Authority) -> None:
    """Unknown, for another host, expired: each is said clearly, and retried like any dial that failed."""
    untrusted = "its certificate is not trusted: "
    async with echoing(stranger.server()) as port:
        reason = await failure(f"wss://localhost:{port}", upstream_ca=authority.file)
        assert reason == f"{untrusted}unable to get local issuer certificate"
        # The system's trust does not know our authority either.
        assert (await failure(f"wss://localhost:{port}")).startswith(untrusted)
    async with echoing(authority.server("elsewhere.test")) as port:
        reason = await failure(f"wss://localhost:{port}", upstream_ca=authority.file)
        assert reason == f"{untrusted}Hostname mismatch, certificate is not valid for 'localhost'"
        reason = await failure(f"wss://127.0.0.1:{port}", upstream_ca=authority.file)
        assert reason == f"{untrusted}IP address mismatch, certificate is not valid for '127.0.0.1'"
    async with echoing(authority.server(expired=True)) as port:
        reason = await failure(f"wss://localhost:{port}", upstream_ca=authority.file)
        assert reason == f"{untrusted}certificate has expired"


async def test_an_upstream_that_speaks_no_tls_is_a_failed_dial(authority: Authority) -> None:
    """And so is one that speaks nothing else."""

    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(complain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reason = await failure(f"wss://localhost:{port}", upstream_ca=authority.file)
        assert reason == "TLS failed: wrong version number; does it speak TLS?"
    async with echoing(authority.server()) as port:
        assert "handshake" in await failure(f"ws://localhost:{port}")


async def test_an_upstream_may_want_a_certificate(authority: Authority) -> None:
    """With one it serves, without one it sends an alert, and that is said."""
    context = authority.server(client_ca=authority)
    async with echoing(context) as port:
        cert, key = authority.issue("proxy")
        url = f"wss://localhost:{port}"
        said, _ = await answer(url, upstream_ca=authority.file, upstream_cert=cert, upstream_key=key)
        assert said == "hello"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            # asyncio's servers keep their alerts to themselves.
            accepted, _ = listener.accept()
            accepted.settimeout(20)
            with context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as tls:
                with pytest.raises(ssl.SSLError, match="did not return a certificate"):
                    tls.do_handshake()
                # A peer that closes with unread data resets the connection, and its alert is lost.
                with socket.socket(fileno=tls.detach()) as plain:
                    plain.settimeout(20)
                    while plain.recv(4096):
                        pass

        refusing = asyncio.create_task(asyncio.to_thread(refuse))
        url = f"wss://localhost:{listener.getsockname()[1]}"
        assert await failure(url, upstream_ca=authority.file) == "TLS failed: tlsv13 alert certificate required"
        await refusing


async def test_an_upstream_that_never_shakes_hands_is_given_up(authority: Authority) -> None:
    """The connect timeout covers the TLS handshake; the socket is shut."""
    gone = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        gone.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        reason = await failure(url, upstream_ca=authority.file, connect_timeout=0.1)
        assert reason == "it did not answer within 0.1 s"
        await gone.wait()


async def test_a_client_that_never_shakes_hands_is_shut_out(authority: Authority) -> None:
    """Its time for a head includes the handshake, and the listener knows of it meanwhile."""
    cert, key = authority.issue()
    events: list[Event] = []
    tls = {"tls_cert": cert, "tls_key": key}
    async with Proxy(upstream=UNUSED, listen=ANY_PORT, head_timeout="100ms", observe=events.append, **tls) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        # The begin of a ClientHello that never ends.
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    assert not [event for event in events if isinstance(event, TlsHandshakeFailed)]


async def test_who_comes_without_tls_is_told_and_counted(authority: Authority) -> None:
    """A request in plain HTTP gets a 400, and an event says who that was."""
    cert, key = authority.issue()
    events: list[Event] = []
    async with Proxy(upstream=UNUSED, listen=ANY_PORT, tls_cert=cert, tls_key=key, observe=events.append) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"this port speaks TLS" in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert events == [TlsHandshakeFailed("127.0.0.1", "TLS failed: http request; does it speak TLS?")]


async def test_the_next_handshake_has_the_new_certificate(authority: Authority, tmp_path: Path) -> None:
    """What is open stays open; a bad file changes nothing, and is told."""
    old, new = authority.issue("localhost"), authority.issue("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(identity: Identity) -> None:
        cert.write_bytes(identity.cert.read_bytes())
        key.write_bytes(identity.key.read_bytes())

    async def served(url: str) -> bytes:
        async with connect(url, ssl=authority.client()) as ws:
            certificate: bytes = ws.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return certificate

    def der(identity: Identity) -> bytes:
        return ssl.PEM_cert_to_DER_cert(identity.cert.read_text())

    events: list[Event] = []
    put(old)
    async with (
        echoing(None) as port,
        Proxy(
            upstream=f"ws://127.0.0.1:{port}", listen=ANY_PORT, tls_cert=cert, tls_key=key, observe=events.append
        ) as proxy,
    ):
        url = proxy.url.replace("127.0.0.1", "localhost")
        assert url.startswith("wss://")
        async with connect(url, ssl=authority.client()) as open_before:
            assert await served(url) == der(old)
            put(new)
            proxy.reload_tls()
            assert await served(url) == der(new)
            key.write_text("")
            proxy.reload_tls()
            assert await served(url) == der(new)
            await open_before.send("still here")
            assert await open_before.recv() == "still here"
    told = [event for event in events if isinstance(event, (TlsReloaded, TlsReloadFailed))]
    assert [type(event) for event in told] == [TlsReloaded, TlsReloadFailed]


async def test_the_upstream_is_told_that_the_client_came_by_tls(authority: Authority) -> None:
    """X-Forwarded-Proto says https."""
    cert, key = authority.issue()
    seen: list[str | None] = []

    async def look(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request.headers.get("X-Forwarded-Proto"))

    async with serve(look, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Proxy(upstream=url, listen=ANY_PORT, tls_cert=cert, tls_key=key) as proxy:
            async with connect(proxy.url, ssl=authority.client()) as ws:
                await ws.wait_closed()
            assert ws.transport.get_extra_info("ssl_object").selected_alpn_protocol() in (None, "http/1.1")
    assert seen == ["https"]


async def test_http_1_1_is_agreed_on(authority: Authority) -> None:
    """A client that asks by ALPN is told what is spoken here."""
    context = authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    cert, key = authority.issue()
    async with Proxy(upstream=UNUSED, listen=ANY_PORT, tls_cert=cert, tls_key=key) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.close()
        await writer.wait_closed()
