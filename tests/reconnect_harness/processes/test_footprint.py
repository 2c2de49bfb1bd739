"""The resources of a system under test, as `processes.footprint` measures them."""

from __future__ import annotations

import subprocess
import sys

import psutil

from reconnect_harness.processes.footprint import measure

#: Answers one request for /sessions, and keeps that connection for as long as it runs.
ADMIN = r"""
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.recv(4096)
body = b'{"sessions": [1, 2], "total": 102}'
connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
sys.stdin.read()
"""


def test_the_socket_of_the_request_for_sessions_is_not_counted() -> None:
    """The measurement does not count the socket that it needs itself."""
    with subprocess.Popen([sys.executable, "-c", ADMIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            files = psutil.Process(process.pid).num_fds()
            found = measure([(process.pid, f"http://127.0.0.1:{port}")], "after")
            assert found is not None
            assert found.sessions == 102
            assert found.files == files
            assert psutil.Process(process.pid).num_fds() == files + 1
        finally:
            process.stdin.close()
            process.wait()
