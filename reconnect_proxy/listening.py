"""Taking the address of a listener, or saying in one line why it cannot be had."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from .config import Address

__all__ = ["CannotListen", "CannotServe", "listening_on"]


class CannotServe(Exception):
    """The program cannot come to serve. The message is one line for the user."""


class CannotListen(CannotServe):
    """A listener cannot be bound."""


@contextmanager
def listening_on(address: Address, flag: str) -> Iterator[None]:
    """Turn what goes wrong in the block, which listens on `address`, into CannotListen. `flag` names another."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        # `socket.create_server` makes another error of it.
        if isinstance(error, socket.gaierror) or isinstance(error.__context__, socket.gaierror):
            reason = "the host is unknown"
        elif error.errno == errno.EADDRINUSE:
            reason = "the port is in use"
        raise CannotListen(f"cannot listen on {address}: {reason}; choose another with {flag}") from None
