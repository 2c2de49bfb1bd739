"""The conversation of a plain Python client with `fastapi_server.py`, without its library."""

from __future__ import annotations

from reporting import got, sent


def call(n: int) -> str | bytes:
    """Return call `n`: odd ones as text, even ones as binary."""
    return f"call {n}" if n % 2 else f"call {n}".encode()


def heard(message: str | bytes) -> bool:
    """Report a message of the server; return whether it was its last."""
    word, *numbers = (message.decode() if isinstance(message, bytes) else message).split()
    if word == "bye":
        sent("calls", int(numbers[0]))
        sent("ticks", int(numbers[1]))
        return True
    got({"answer": "answers", "tick": "ticks"}[word], int(numbers[0]))
    return False
