"""TLS in a run: certificates of its own, made when it begins and removed when it ends.

One authority signs one certificate, for `localhost` and 127.0.0.1, which every server of the run serves; every client
trusts that authority, and no other. They are files in a temporary folder, so that no key is left in the run's folder.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class TlsSide(StrEnum):
    """Where a scenario speaks TLS: between clients and system under test, between that and the upstreams, or both."""

    BOTH = "both"
    CLIENT = "client"
    UPSTREAM = "upstream"


class Certificates(NamedTuple):
    """PEM files: a server's certificate, its private key, and the authority that clients trust."""

    cert: Path
    key: Path
    ca: Path

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS context of a server of the run."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context of a client, which connects to the servers of the run only."""
        return ssl.create_default_context(cafile=self.ca)


class Encryption(NamedTuple):
    """What a system under test is told about TLS: which of its legs use it, and with which files."""

    files: Certificates
    client: bool
    upstream: bool


@contextmanager
def certificates() -> Iterator[Certificates]:
    """Make the certificates of a run, for as long as the context lasts."""
    # Imported here: few scenarios use TLS, and the import is slow.
    import trustme

    with tempfile.TemporaryDirectory(prefix="reconnect-harness-") as folder:
        made = Certificates(*(Path(folder) / f"{name}.pem" for name in ("cert", "key", "ca")))
        authority = trustme.CA()
        identity = authority.issue_cert("localhost", "127.0.0.1")
        identity.cert_chain_pems[0].write_to_path(str(made.cert))
        identity.private_key_pem.write_to_path(str(made.key))
        authority.cert_pem.write_to_path(str(made.ca))
        yield made
