"""The Autobahn test suite judges a conforming echo server behind the proxy as it judges the same server alone.

What a case asks of a server's frames is answered by the proxy's own leg; what it asks of messages, by both.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from websockets.exceptions import ConnectionClosed

from .autobahn import AVAILABLE, Verdict, fuzzing_server, judge_server
from .conftest import Serve
from .ordinary import echo, ordinary_client, ordinary_server

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="the Autobahn cases need kosoku, a development dependency")

FAMILIES = {
    "framing": ["1.*"],
    "pings and pongs": ["2.*"],
    "reserved bits": ["3.*"],
    "opcodes": ["4.*"],
    "fragmentation": ["5.*"],
    "UTF-8": ["6.*"],
    "closing": ["7.*"],
    # A selection: the smaller sizes. Not 9.7 and 9.8, which end at the first Ping of their peer: the proxy confirms
    # with Pings (PROTOCOL section 4). Not 9.3.1 and 9.4.1, whose 65,536 fragments websockets itself refuses.
    "limits": ["9.1.1", "9.1.4", "9.2.1", "9.2.4", "9.3.9", "9.4.9", "9.5.6", "9.6.6"],
    "automatic fragmentation": ["10.*"],
}

#: Where the verdict through the proxy is another than without it, and why.
DIFFERENT = {
    "7.1.2": "picows looks one frame ahead: it answers the second of two Close frames in one read before the first one",
    "7.1.5": "websockets answers a Close in the middle of a message with 1002; the proxy echoes its code",
}


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_server_conforms_as_much_behind_the_proxy_as_without_it(family: str, serve: Serve) -> None:
    """Each case of a family passes through the proxy, with the same close code as without it.

    Autobahn's NON-STRICT passes too: whether the echo of the message in front of a bad frame still comes is chance.
    """
    cases = FAMILIES[family]
    async with ordinary_server(echo, compression=None) as port:
        proxy = await serve(f"ws://127.0.0.1:{port}", "--max-queue", "64MiB")
        alone = await judge_server(f"127.0.0.1:{port}", cases)
        behind = await judge_server(proxy.base, cases)
    assert alone.keys() == behind.keys() != set()
    other = {case: (alone[case], behind[case]) for case in alone if not same(alone[case], behind[case])}
    assert other.keys() <= DIFFERENT.keys(), other
    assert [case for case, verdict in behind.items() if not verdict.passed and case not in DIFFERENT] == []


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_client_conforms_as_much_behind_the_proxy_as_without_it(family: str, serve: Serve) -> None:
    """Each case of a family passes where the suite is the server, and the proxy stands before an echoing client."""
    cases = FAMILIES[family]
    async with fuzzing_server(cases) as suite:
        await echo_cases(f"ws://{suite.address}")
        alone = await suite.verdicts()
    async with fuzzing_server(cases) as suite:
        # A case is run once: when it ends its link, there is no new one.
        proxy = await serve(f"ws://{suite.address}", "--retry-for", "0s", "--grace", "0s", "--max-queue", "64MiB")
        await echo_cases(proxy.url)
        behind = await suite.verdicts()
    assert alone.keys() == behind.keys() != set()
    other = {case: (alone[case], behind[case]) for case in alone if not same(alone[case], behind[case])}
    assert other.keys() <= DIFFERENT.keys(), other
    assert [case for case, verdict in behind.items() if not verdict.passed and case not in DIFFERENT] == []


async def echo_cases(url: str) -> None:
    """Run every case of the fuzzing server at `url` as an echoing client, four at a time, then have it report."""
    async with ordinary_client(f"{url}/getCaseCount") as asking:
        left = iter(range(1, int(await asking.recv()) + 1))

    async def take_cases() -> None:
        for number in left:
            await echo_case(f"{url}/runCase?case={number}&agent=echo")

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(take_cases())
    async with ordinary_client(f"{url}/updateReports?agent=echo"):
        pass


async def echo_case(url: str) -> None:
    """Echo messages until the case ends in any way."""
    with contextlib.suppress(ConnectionClosed):
        async with ordinary_client(url, compression=None) as connection:
            async for message in connection:
                await connection.send(message)


def same(alone: Verdict, behind: Verdict) -> bool:
    """Tell whether a case came out the same way twice."""
    return (alone.passed, alone.code) == (behind.passed, behind.code)
