"""The certificates of both legs: read from files, checked as a whole, and read anew while the proxy runs.

A `ssl.SSLContext` is never changed once it is in force. New files make a new context; when that is complete it takes
the old one's place, and the next handshake uses it. Open connections keep what they were made with, and files that
will not do leave everything as it was.

The settings are Python's own (`ssl.create_default_context`), which know only ciphers with forward secrecy and
authentication, from TLS 1.2 on. How a connection speaks TLS is in `tls_transport`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..events import LegName, TlsReloaded, TlsReloadFailed
from .tls_transport import words_of

#: What is spoken inside (RFC 7301): WebSockets begin as HTTP/1.1.
ALPN = ["http/1.1"]


class BadCertificate(ValueError):
    """Files that make no context. The message says which one, `path`, and what is wrong with it."""

    def __init__(self, message: str, path: str | None) -> None:
        super().__init__(message)
        self.path = path


class TlsFiles(NamedTuple):
    """Where the certificates are, in PEM. A listener without `cert` is plain; `upstreams` tells whether any is wss://."""

    cert: str | None = None
    key: str | None = None
    upstreams: bool = False
    upstream_ca: str | None = None
    upstream_cert: str | None = None
    upstream_key: str | None = None


def listener_context(cert: str, key: str) -> ssl.SSLContext:
    """Return what a listener serves TLS with.

    Args:
        cert: a PEM file with the listener's certificate, and behind it those between it and its root.
        key: a PEM file with its private key, not encrypted.

    Raises:
        BadCertificate: a file cannot be read, or the two do not belong together.
    """
    context = _modern(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    # A client that could renegotiate (TLS 1.2) could have the proxy compute without end.
    context.options |= ssl.OP_NO_RENEGOTIATION
    _load_identity(context, cert, key)
    return context


def upstream_context(ca: str | None = None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Return what upstreams are dialled with: their certificate must be valid, and for their host's name or address.

    Args:
        ca: a PEM file with the only certificates to trust; None trusts what the system trusts.
        cert: a PEM file with the proxy's own certificate, for upstreams that want to see one.
        key: a PEM file with its private key; None where `cert` holds that as well.

    Raises:
        BadCertificate: a file cannot be read, or does not hold what it should.
    """
    if ca is not None:
        _holding(ca, "CERTIFICATE", "certificate")
    try:
        context = _modern(ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca))
    except ssl.SSLError as error:
        raise BadCertificate(f"{ca} holds a certificate that cannot be read: {words_of(error)}", ca) from None
    if cert is not None:
        _load_identity(context, cert, key or cert)
    return context


class Tls:
    """The contexts in force: `listener` is None where clients connect without TLS, `upstream` where no URL is wss://."""

    __slots__ = ("_files", "listener", "upstream")

    def __init__(self, files: TlsFiles) -> None:
        """Read the files. Raises BadCertificate."""
        self._files = files
        self.listener = self._listener()
        self.upstream = self._upstream()

    def reload(self) -> Iterator[TlsReloaded | TlsReloadFailed]:
        """Read the files anew, and yield for each leg with TLS how that went; what will not do changes nothing."""
        if self.listener is not None:
            try:
                self.listener = self._listener()
                yield TlsReloaded(LegName.CLIENT)
            except BadCertificate as error:
                yield TlsReloadFailed(LegName.CLIENT, str(error))
        if self.upstream is not None:
            try:
                self.upstream = self._upstream()
                yield TlsReloaded(LegName.UPSTREAM)
            except BadCertificate as error:
                yield TlsReloadFailed(LegName.UPSTREAM, str(error))

    def _listener(self) -> ssl.SSLContext | None:
        cert, key = self._files.cert, self._files.key
        return None if cert is None or key is None else listener_context(cert, key)

    def _upstream(self) -> ssl.SSLContext | None:
        files = self._files
        if not files.upstreams:
            return None
        return upstream_context(files.upstream_ca, files.upstream_cert, files.upstream_key)


def _modern(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    return context


def _load_identity(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Load a certificate and its key, and say in a sentence why that cannot be."""
    _holding(cert, "CERTIFICATE", "certificate")
    _holding(key, "PRIVATE KEY", "private key")

    def passphrase() -> str:
        # Without this OpenSSL would ask for it on the terminal, and wait.
        raise BadCertificate(f"the private key in {key} is encrypted: give one without a passphrase", key)

    try:
        context.load_cert_chain(cert, key, passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"the private key in {key} does not belong to the certificate in {cert}"
            raise BadCertificate(why, key) from None
        files = cert if cert == key else f"{cert} with {key}"
        raise BadCertificate(f"{files} cannot be used: {words_of(error)}", cert) from None


def _holding(path: str, block: str, what: str) -> None:
    """Make sure that a file can be read and has a PEM block of this kind (RFC 7468)."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise BadCertificate(f"{path} cannot be read: {error.strerror}", path) from None
    if f"{block}-----".encode() not in text:
        why = f"{path} holds no {what}: it must be a PEM file with a line -----BEGIN {block}-----"
        raise BadCertificate(why, path)
