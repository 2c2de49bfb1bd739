"""Contenders, when they are measured."""

from __future__ import annotations

import sys
from pathlib import Path

from reconnect_harness.bench.testbed import BenchTestbed
from reconnect_harness.processes.cores import assign_cores, available

#: Listens, and has a child that serves, like nginx; but the child is late.
LATE = """
import os, socket, sys, time
host, port = sys.argv[1].split(":")
listener = socket.create_server((host, int(port)))
time.sleep(0.5)
if os.fork():
    os.wait()
while True:
    client, _ = listener.accept()
    client.recv(100)
    client.sendall(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n")
    client.close()
"""


async def test_a_contender_is_known_with_all_its_processes(tmp_path: Path) -> None:
    """It listens before the process that serves has started, and that process has to be measured."""
    program = tmp_path / "late.py"
    program.write_text(LATE)
    late = f"{sys.executable} {program} {{listen}} {{upstream}}"
    async with BenchTestbed([late], tmp_path / "logs", assign_cores(available())) as testbed:
        assert testbed.problems == {}
        assert len(testbed.contenders[late].pids) == 2
