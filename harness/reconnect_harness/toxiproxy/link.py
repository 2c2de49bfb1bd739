"""Links: the connections between two parts of a topology, through Toxiproxy, so that faults can be done to them.

    client ----> listen [ Toxiproxy: toxic, toxic, … ] ----> upstream        stream "upstream"
    client <---- listen [ Toxiproxy: toxic, toxic, … ] <---- upstream        stream "downstream"

A `ToxiproxyLink` is one proxy of a Toxiproxy server; a `Toxic` (`toxiproxy.toxics`) changes what its connections carry.
The docstrings here state what matters about Toxiproxy 2.12. It was read in its source, and
tests/reconnect_harness/toxiproxy/test_link.py checks it.
"""

from __future__ import annotations

import contextlib
import math
import socket
import sys
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import SplitResult

from reconnect_harness.toxiproxy.server import ToxiproxyError, ToxiproxyServer, reserve_port
from reconnect_harness.toxiproxy.toxics import Toxic, ToxicStream

_WITHHELD_MS = 24 * 60 * 60 * 1000
"""How long the end of a connection is kept from the other side of a silent link: longer than any run."""

_LINGER = "linger"
"""The name of the toxic that makes every close of a link with `resets` an RST."""


def address_of(url: SplitResult) -> str:
    """Return the HOST:PORT of a URL, with brackets around an IPv6 address, and with the default port of its scheme."""
    port = url.port if url.port is not None else 443 if url.scheme in ("wss", "https") else 80
    return f"[{url.hostname}]:{port}" if ":" in str(url.hostname) else f"{url.hostname}:{port}"


class ToxiproxyLink:
    """One link: a proxy of `server` that listens on loopback and connects to `upstream`; a context manager.

    Each change is read back from the server before the call returns. The calls block for some milliseconds:
    from asyncio run them in a thread. A link may be used by one thread at a time; different links by
    different threads.

    Args:
        server: a started server. A link that is still open when the server is left is closed then.
        name: what the link is called in reports; the proxy's name has a token of the run added.
        upstream: "HOST:PORT" to connect to.
        resets: every close on this link is an RST, as `reset` needs it. Toxiproxy sets SO_LINGER to 0 only
            when a connection begins and a reset_peer toxic is there, so this must be known before; it keeps
            such a toxic, of toxicity 0. The price is that an orderly close is an RST too, and the receiver
            may lose data that it has not read yet.

    Raises:
        ToxiproxyError: from every method, when the server refuses, does not answer, or the change did not
            take hold.

    Attributes:
        listen: "HOST:PORT" to connect to instead of `upstream`. It stays the same through `down` and `up`,
            and on Linux no other program is given the port while the link is down.
        is_down: whether the link is down.
    """

    def __init__(self, server: ToxiproxyServer, name: str, upstream: str, *, resets: bool = False) -> None:
        self.name = name
        self.upstream = upstream
        self.resets = resets
        self.is_down = False
        self._api = server.api
        self._proxy = f"{name}-{server.run}"
        self._path = f"/proxies/{self._proxy}"
        self._toxics: list[tuple[Toxic, list[str]]] = []
        self._count = 0
        self._held = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.listen: str = self._create()
            undo.pop_all()
        server.on_close(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ToxiproxyLink {self.name} {self.listen} -> {self.upstream}>"

    def down(self) -> None:
        """Close all connections and stop listening: new connections are refused."""
        self._enable(False)

    def up(self) -> None:
        """Listen again, on the same port."""
        self._enable(True)

    def reset(self) -> None:
        """Send an RST on both sides of every connection. The link is up again at once; it stays down if it
        was down.

        Raises ToxiproxyError if the link was made without `resets`.
        """
        if not self.resets:
            raise ToxiproxyError(
                f"link {self.name} cannot reset its connections: whether a close is an RST is decided "
                "when a connection begins, so make the link with resets=True"
            )
        if not self.is_down:
            self.down()
            self.up()

    def add(self, toxic: Toxic) -> None:
        """Put `toxic` on all connections, including open ones. The same toxic may be added several times."""
        names: list[str] = []
        with contextlib.ExitStack() as undo:
            for stream in ("upstream", "downstream"):
                if toxic.stream in (stream, "both"):
                    self._count += 1
                    name = f"{toxic.type}-{stream}-{self._count}"
                    self._add_one(name, toxic, stream)
                    names.append(name)
                    undo.callback(self._remove_one, name)
            undo.pop_all()
        self._toxics.append((toxic, names))

    def remove(self, toxic: Toxic) -> None:
        """Remove a toxic that was added: the last one that is equal to `toxic`."""
        for index in reversed(range(len(self._toxics))):
            if self._toxics[index][0] == toxic:
                break
        else:
            raise ToxiproxyError(f"link {self.name} has no toxic {toxic}")
        _, names = self._toxics[index]
        while names:
            self._remove_one(names[-1])
            names.pop()
        del self._toxics[index]

    def silence(self, stream: ToxicStream = "both") -> None:
        """Carry nothing any more: no data, no FIN, no RST, as when a cable is pulled. New connections are
        accepted and silent. With one `stream` only that direction is silent."""
        with contextlib.ExitStack() as undo:
            for toxic in _silent(stream):
                self.add(toxic)
                undo.callback(self.remove, toxic)
            undo.pop_all()

    def end_silence(self, stream: ToxicStream = "both") -> None:
        """End a silence. The connections that were on the link are closed, because they have lost bytes."""
        for toxic in reversed(list(_silent(stream))):
            self.remove(toxic)

    def heal(self) -> None:
        """Remove all toxics and be up.

        Connections survive this, unless they lost bytes, or the receiver of one of them does not read. Toxiproxy
        2.12 waits for such a connection before it changes a toxic, and for ever if the connection has ended.
        Then the proxy is made again, at the same port.
        """
        try:
            self._remove_all()
            self.up()
        except ToxiproxyError:
            self._api.delete(self._path)
            self._make(self.listen)
            self._toxics.clear()
            self.is_down = False

    def close(self) -> None:
        """Remove the proxy from the server, which closes its connections. May be called twice."""
        self._held.pop_all().close()

    def _create(self) -> str:
        port = 0
        if sys.platform == "linux" and self._api.host in ("127.0.0.1", "localhost"):
            # While the link is down its port must not be given to another program on this machine.
            reserved: socket.socket = self._held.enter_context(reserve_port())
            port = reserved.getsockname()[1]
        listen = self._make(f"127.0.0.1:{port}")
        self._held.callback(self._api.delete, self._path)
        return listen

    def _make(self, listen: str) -> str:
        """Make the proxy on the server; return where it listens."""
        made = self._api.post("/proxies", {"name": self._proxy, "listen": listen, "upstream": self.upstream})
        with contextlib.ExitStack() as undo:
            undo.callback(self._api.delete, self._path)
            if not made["enabled"]:
                raise ToxiproxyError(f"Toxiproxy made the proxy {self._proxy}, but it does not listen: {made}")
            if self.resets:
                self._add_one(_LINGER, Toxic("reset_peer", stream="upstream", toxicity=0.0))
            undo.pop_all()
        return str(made["listen"])

    def _enable(self, enabled: bool) -> None:
        self._api.post(self._path, {"enabled": enabled})
        found = self._api.get(self._path)
        if found["enabled"] != enabled or found["listen"] != self.listen:
            raise ToxiproxyError(f"link {self.name} was to be {'up' if enabled else 'down'}, but it is {found}")
        self.is_down = not enabled

    def _add_one(self, name: str, toxic: Toxic, stream: str | None = None) -> None:
        asked: dict[str, Any] = {
            "name": name,
            "type": toxic.type,
            "stream": stream or toxic.stream,
            "toxicity": toxic.toxicity,
            "attributes": dict(toxic.attributes),
        }
        self._api.post(f"{self._path}/toxics", asked)
        found = self._api.get(f"{self._path}/toxics/{name}")
        # The server keeps toxicity as a 32-bit float.
        same_share = math.isclose(found.pop("toxicity"), asked.pop("toxicity"), rel_tol=1e-6)
        if found != asked or not same_share:
            raise ToxiproxyError(f"link {self.name} was to have the toxic {asked}, but it has {found}")

    def _remove_one(self, name: str) -> None:
        self._api.delete(f"{self._path}/toxics/{name}")
        if any(toxic["name"] == name for toxic in self._api.get(f"{self._path}/toxics")):
            raise ToxiproxyError(f"link {self.name} still has the toxic {name} after it was removed")

    def _remove_all(self) -> None:
        there = [toxic["name"] for toxic in self._api.get(f"{self._path}/toxics")]
        for name in reversed(there):
            if name != _LINGER:
                self._remove_one(name)
        self._toxics.clear()


def _silent(stream: ToxicStream) -> Iterator[Toxic]:
    # `timeout` alone would pass on that one side has closed, so `slow_close` holds the end back before it.
    yield Toxic("slow_close", {"delay": _WITHHELD_MS}, stream)
    yield Toxic("timeout", {"timeout": 0}, stream)
