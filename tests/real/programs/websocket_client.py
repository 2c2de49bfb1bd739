"""websocket-client: one thread reads, the other writes."""

from __future__ import annotations

import threading

import websocket
from conversation import call, heard
from reporting import EVERY, SPEC, STOP, lost, report

socket = websocket.create_connection(SPEC["url"], timeout=60)
report(ready=True)


def read() -> None:
    """Read until the server says good-bye."""
    try:
        while not heard(socket.recv()):
            pass
    except (OSError, websocket.WebSocketException, ValueError) as failure:
        lost(repr(failure))


reading = threading.Thread(target=read)
reading.start()
n = 0
while not STOP.wait(EVERY):
    n += 1
    message = call(n)
    socket.send(message, websocket.ABNF.OPCODE_TEXT if isinstance(message, str) else websocket.ABNF.OPCODE_BINARY)
report(called=n)
socket.send("end")
reading.join()
socket.close()
report(end=True)
