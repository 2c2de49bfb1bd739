"""TLS as an operator meets it: the options of a real process, SIGHUP under load, and clients that mean no good."""

import asyncio
import contextlib
import http.client
import shutil
import signal
import socket
import ssl
import struct
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ..certificates import Authority
from .conftest import Serve
from .ordinary import Talker, conversation, echo, ordinary_client, ordinary_server
from .process import Serving, failed_start, one_process
from .rawsocket import connected
from .waiting import PATIENCE, eventually

ID = "an-id-for-tls-tests"


class Files:
    """The certificate files of a proxy, which a test replaces while it runs."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self._authority = authority

    def renew(self) -> bytes:
        """Put a new pair in place; return its certificate as it goes over the wire."""
        identity = self._authority.issue("localhost", "127.0.0.1")
        shutil.copy(identity.cert, self.cert)
        shutil.copy(identity.key, self.key)
        return ssl.PEM_cert_to_DER_cert(identity.cert.read_text())

    @property
    def options(self) -> tuple[str, ...]:
        """The flags of a proxy that serves with them."""
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> Files:
    """A pair that is in place."""
    made = Files(tmp_path, authority)
    made.renew()
    return made


async def served(serving: Serving, authority: Authority, sock: socket.socket | None = None) -> bytes:
    """Return the certificate that a new client is shown, on a TCP connection of its own or that of `sock`."""
    if sock is None:
        sock = await connected(serving.base)
    _, writer = await asyncio.open_connection(sock=sock, ssl=authority.client(), server_hostname="127.0.0.1")
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return certificate


async def complaint(*options: str) -> str:
    """Return the one line with which a proxy does not start, with exit code 2."""
    code, text = await failed_start("--listen", "127.0.0.1:0", *options)
    assert code == 2, text
    (line,) = text.splitlines()
    return line


async def test_files_that_will_not_do_end_it_at_the_start(tmp_path: Path, authority: Authority) -> None:
    """One sentence that names what was given, exit 2, and nothing listens."""
    good, other = authority.issue(), authority.issue()
    plain = ("--upstream", "ws://127.0.0.1:1")
    assert "--tls-cert is given without --tls-key: give both, or neither" in await complaint(
        *plain, "--tls-cert", str(good.cert)
    )
    assert f"{tmp_path}/no.pem cannot be read: No such file" in await complaint(
        *plain, "--tls-cert", f"{tmp_path}/no.pem", "--tls-key", str(good.key)
    )
    assert "does not belong to the certificate in" in await complaint(
        *plain, "--tls-cert", str(good.cert), "--tls-key", str(other.key)
    )
    assert "--upstream-ca: it is for wss:// upstreams" in await complaint(*plain, "--upstream-ca", str(authority.file))
    assert "no.pem cannot be read" in await complaint("--upstream", "wss://h", "--upstream-ca", f"{tmp_path}/no.pem")


@one_process
async def test_certificates_are_renewed_under_load(serve: Serve, files: Files, authority: Authority) -> None:
    """SIGHUP after SIGHUP while clients talk: no message is lost, no client is disconnected, new ones see the new one.

    A pair that does not match is said in the log and counted, and the one before stays in force.
    """
    async with ordinary_server(echo, ssl=authority.server()) as port:
        trust = ("--upstream-ca", str(authority.file), "--admin", "127.0.0.1:0")
        serving = await serve(f"wss://localhost:{port}", *files.options, *trust)
        assert serving.url.startswith("wss://")
        talkers = [Talker([f"{name} {number}" for number in range(400)], rate=200) for name in range(8)]
        async with contextlib.AsyncExitStack() as talks:
            for talker in talkers:
                await talks.enter_async_context(conversation(serving.url, talker, ssl=authority.client()))
            for count in range(1, 6):
                renewed = files.renew()
                serving.signal(signal.SIGHUP)
                await eventually(
                    lambda count=count: (
                        serving.log.count("tls reloaded leg=client") == count
                        and serving.log.count("tls reloaded leg=upstream") == count
                    ),
                    "both legs have new certificates",
                )
                assert await served(serving, authority) == renewed
            files.key.write_text("-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n")
            serving.signal(signal.SIGHUP)
            await eventually(lambda: "ERROR tls reload failed leg=client" in serving.log, "the bad pair is said")
            assert await served(serving, authority) == renewed
            for talker in talkers:
                assert await talker.heard.reaches(400) == talker.to_say
                assert not talker.closes
        assert 'tls_reloads_total{leg="client",outcome="failed"} 1.0' in await metrics(serving)
        assert 'tls_reloads_total{leg="client",outcome="ok"} 5.0' in await metrics(serving)


async def metrics(serving: Serving) -> str:
    """Return what the admin listener says to Prometheus."""
    (line,) = [line for line in serving.lines if "admin listening" in line]
    host, _, port = line.rpartition("url=http://")[2].rstrip("/").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text


async def test_sighup_without_tls_changes_nothing(serve: Serve) -> None:
    """It is said that there is nothing to reload, and the proxy goes on."""
    async with ordinary_server(echo) as port:
        serving = await serve(f"ws://127.0.0.1:{port}")
        serving.signal(signal.SIGHUP)
        await eventually(lambda: "nothing to reload" in serving.log, "it is said")
        async with ordinary_client(serving.url) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"


#: A ClientHello that begins, and lies about its length; records of other kinds; an alert; SSL 3; nothing but zeros.
HOSTILE = [
    b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc",
    b"\x17\x03\x03\x00\x10" + bytes(16),
    b"\x14\x03\x03\x00\x01\x01",
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x16\x03\x00\x00\x05\x01\x00\x00\x01\x00",
    bytes(5000),
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 50,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
]


async def test_who_speaks_no_tls_harms_nobody(serve: Serve, files: Files, authority: Authority) -> None:
    """Garbage, half-open handshakes and resets in their midst, while clients talk; afterwards nothing is left."""
    async with ordinary_server(echo) as port:
        serving = await serve(f"ws://127.0.0.1:{port}", *files.options)
        host, _, number = serving.base.rpartition(":")
        before = serving.descriptors()
        talkers = [Talker([f"{name} {number}" for number in range(300)], rate=200) for name in range(20)]
        async with contextlib.AsyncExitStack() as talks:
            for talker in talkers:
                await talks.enter_async_context(conversation(serving.url, talker, ssl=authority.client()))
            for attack in HOSTILE * 10:
                _, writer = await asyncio.open_connection(host, int(number))
                writer.write(attack)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                if len(attack) % 2:
                    # With what is in flight; the others stay for their five seconds, or until they are shut out.
                    writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                else:
                    talks.callback(writer.close)
            for talker in talkers:
                assert await talker.heard.reaches(300) == talker.to_say
                assert not talker.closes
        # Sessions live on for their grace, with a socket to the upstream each.
        await eventually(lambda: serving.descriptors() <= before + len(talkers), "the sockets of the attack are gone")
        await serving.logged("tls handshake failed peer=127.0.0.1")


async def test_plain_requests_pass_over_tls_on_both_legs(serve: Serve, files: Files, authority: Authority) -> None:
    """A WebSocket service's HTTP endpoints, over https at both ends; keep-alive too, and the upstream is told."""

    def answer(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(200, f"{request.path} {request.headers['X-Forwarded-Proto']} " + "x" * 100_000)

    async with ordinary_server(echo, ssl=authority.server(), process_request=answer) as port:
        serving = await serve(f"wss://localhost:{port}", *files.options, "--upstream-ca", str(authority.file))

        def ask() -> list[tuple[int, str]]:
            host, _, number = serving.base.rpartition(":")
            client = http.client.HTTPSConnection(host, int(number), context=authority.client(), timeout=PATIENCE)
            with contextlib.closing(client):
                answers = []
                for path in ("/json/version", "/again"):
                    client.request("GET", path)
                    response = client.getresponse()
                    answers.append((response.status, response.read().decode().rstrip("x")))
                return answers

        assert await asyncio.to_thread(ask) == [(200, "/json/version https "), (200, "/again https ")]
