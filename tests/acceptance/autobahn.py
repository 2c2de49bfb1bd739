"""The Autobahn test suite's cases (as `kosoku` runs them on Python 3), in a process of their own.

    python -m tests.acceptance.autobahn client 127.0.0.1:9001 '1.*' '2.*'    against the server there
    python -m tests.acceptance.autobahn server '1.*' '2.*'                   for clients that connect to it

Results go to stdout, a line of JSON each. As a server its first line is its address.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

#: Whether the suite is installed.
AVAILABLE = importlib.util.find_spec("kosoku") is not None


class Verdict(NamedTuple):
    """How a case ended, in Autobahn's words: its messages, its close, the close code that the peer sent."""

    behavior: str
    close: str
    code: int | None

    @property
    def passed(self) -> bool:
        """Whether Autobahn calls that conforming."""
        good = {"OK", "NON-STRICT", "INFORMATIONAL"}
        return self.behavior in good and self.close in good


async def judge_server(address: str, cases: Sequence[str]) -> dict[str, Verdict]:
    """Run the cases that the globs in `cases` name against the server at HOST:PORT."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.acceptance.autobahn", "client", address, *cases), stdout=PIPE
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"the suite ended with {process.returncode}"
    return dict(map(_parse, out.splitlines()))


class FuzzingServer:
    """A server that runs its cases with each client that connects."""

    def __init__(self, address: str, process: asyncio.subprocess.Process) -> None:
        self.address = address
        self._process = process

    async def verdicts(self) -> dict[str, Verdict]:
        """Wait until all cases have run."""
        assert self._process.stdout is not None
        out = await self._process.stdout.read()
        assert await self._process.wait() == 0, "the suite failed"
        return dict(map(_parse, out.splitlines()))


@contextlib.asynccontextmanager
async def fuzzing_server(cases: Sequence[str]) -> AsyncIterator[FuzzingServer]:
    """Serve the cases that the globs in `cases` name on a free port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.acceptance.autobahn", "server", *cases), stdout=PIPE
    )
    assert process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().strip()
        assert address, "the suite did not start"
        yield FuzzingServer(address, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _parse(line: bytes) -> tuple[str, Verdict]:
    case, *verdict = json.loads(line)
    return case, Verdict(*verdict)


async def _main(role: str, *arguments: str) -> None:
    from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

    try:
        if role == "client":
            address, *cases = arguments
            results = await run_fuzzingclient(address, cases, concurrency=4)
        else:
            async with run_fuzzingserver(list(arguments), host="127.0.0.1", port=0) as server:
                print(f"127.0.0.1:{server.port}", flush=True)
                results = await server.get_result()
    except FailureError as failure:
        results = failure.results
    for each in results:
        print(json.dumps([each.case_id, each.behavior.value, each.behavior_close.value, each.remote_close_code]))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
    sys.stdout.flush()
    # Its threads still hold Python objects when the interpreter is torn down, and abort the process.
    os._exit(0)
