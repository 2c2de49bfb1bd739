"""Certificates for tests, made by trustme: an authority of their own, and what it has signed, as files."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

import trustme


class Identity(NamedTuple):
    """A certificate and its private key, each in a PEM file of its own."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority; what it signs is written into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self._issued = 0
        #: The file with its own certificate, for those who are to trust it.
        self.file = folder / f"ca-{id(self):x}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, *names: str, expired: bool = False) -> Identity:
        """Sign a certificate for these names or addresses: `localhost` and `127.0.0.1` if there are none."""
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        leaf = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")), not_after=past if expired else None)
        self._issued += 1
        stem = f"{self.file.stem}-{self._issued}"
        identity = Identity(self._folder / f"{stem}-cert.pem", self._folder / f"{stem}-key.pem")
        leaf.cert_chain_pems[0].write_to_path(str(identity.cert))
        leaf.private_key_pem.write_to_path(str(identity.key))
        return identity

    def server(self, *names: str, expired: bool = False, client_ca: Authority | None = None) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names, which may want one of its clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*names, expired=expired))
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca.file)
        return context

    def client(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority, and no other."""
        return ssl.create_default_context(cafile=self.file)
