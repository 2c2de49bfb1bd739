"""Upstreams that are hostile: to the proxy, to its clients, or to the sessions of others."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from ..frames import BodyEnd, Refused
from ..rawsocket import MOST_OF_A_BODY, dial
from .evil import BAD_FRAMES, BAD_HEADS, REFUSALS, WRONG_101
from .siege import KEPT, Siege


async def test_heads_that_are_none_are_failed_dials(siege: Siege) -> None:
    """Its client waits and is told 1014, or is told 502 at once where it is a wrong 101; no byte of it arrives."""

    async def suffer(name: str) -> tuple[str, str]:
        try:
            link = await dial(f"{siege.url}/head/{name}")
        except Refused as refused:
            return name, f"{refused.status} {refused.head.headers}"
        end = await link.ended()
        return name, f"{end.code} {link.response.headers}"

    outcomes = dict(await asyncio.gather(*map(suffer, BAD_HEADS)))
    assert {name: said for name, said in outcomes.items() if "stolen" in said or "evil" in said} == {}
    assert {name: said.split()[0] for name, said in outcomes.items()} == {
        name: "502" if name in WRONG_101 else "1014" for name in BAD_HEADS
    }


async def test_refusals_are_passed_on(siege: Siege) -> None:
    """The client gets the upstream's status behind any interim answers, and as much of the body as it reads."""

    async def ask(name: str) -> tuple[int, BodyEnd]:
        try:
            link = await dial(f"{siege.url}/refusal/{name}")
        except Refused as refused:
            # A body without end is passed on, but never held: `siege` looks at the memory afterwards.
            assert refused.end is not BodyEnd.LEFT or len(refused.body) > MOST_OF_A_BODY
            return refused.status, refused.end
        await link.ended()
        return 101, BodyEnd.WHOLE

    found = dict(zip(REFUSALS, await asyncio.gather(*map(ask, REFUSALS)), strict=True))
    assert found == {name: (status, end) for name, (status, end, _) in REFUSALS.items()}
    assert siege.grown() < KEPT


async def test_frames_that_break_the_rules_end_the_session(siege: Siege) -> None:
    """The client is closed with the code for what its upstream did, and hears nothing of it."""

    async def suffer(name: str) -> tuple[int, int]:
        link = await dial(f"{siege.url}/frames/{name}")
        return (await link.ended()).code, len(link.left())

    found = dict(zip(BAD_FRAMES, await asyncio.gather(*map(suffer, BAD_FRAMES)), strict=True))
    assert found == {name: (code, 0) for name, (code, _) in BAD_FRAMES.items()}


async def test_an_upstream_cannot_name_the_session_of_another(siege: Siege) -> None:
    """The ids in an upstream's answer are not passed on, and give no access to other sessions."""
    theirs = await dial(f"{siege.url}/echo", [("X-Connection-Id", "s" * 20)])
    link = await dial(f"{siege.url}/stolen-id")
    assert link.response.all("x-connection-id") not in (["s" * 20], [])
    assert len(link.response.all("x-connection-id")) == 1
    assert [name for name, _ in link.response.headers if name.startswith("x-reconnect")] == []
    await theirs.send("mine")
    assert await theirs.recv() == "mine"
    await asyncio.gather(theirs.close(), link.close())


async def test_a_count_of_the_future_loses_the_upstream_its_session(siege: Siege) -> None:
    """An upstream that has received what was never sent is not served."""
    with pytest.raises(Refused) as refused:
        await dial(f"{siege.url}/count-of-the-future", [("X-Connection-Id", secrets.token_urlsafe(16))])
    assert refused.value.status == 502
