"""A pure test that is not pure fails."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("event", "act"),
    [
        ("socket.bind", lambda own: own.bind(("127.0.0.1", 0))),
        ("socket.connect", lambda own: own.connect(("127.0.0.1", 1))),
        ("socket.getaddrinfo", lambda own: socket.getaddrinfo("localhost", 1)),
        ("subprocess.Popen", lambda own: subprocess.Popen(["true"])),
        ("os.fork", lambda own: os.fork()),
    ],
)
def test_what_is_barred_raises(event: str, act: Callable[[socket.socket], object]) -> None:
    """This module is in the list, so that it shows on itself what becomes of others."""
    with (
        socket.socket() as own,
        pytest.raises(
            RuntimeError, match=rf"test_what_is_barred_raises\[.*\] is in tests/pure.py, and must not use {event}"
        ),
    ):
        act(own)


def test_a_pair_of_sockets_is_no_network() -> None:
    """An event loop has one too."""
    here, there = socket.socketpair()
    with here, there:
        here.sendall(b"hello")
        assert there.recv(5) == b"hello"
