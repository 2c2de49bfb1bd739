"""Ids: injected, guessed, stolen, fought for; and Pongs and counts that are lies."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import pytest

from ..frames import Closed, Headers, Opcode, Refused, token
from ..rawsocket import RawSocket, dial
from .attack import head, shout, statuses
from .siege import Siege

#: In their places in a request: what is no id.
INJECTIONS = {
    "a line break in the query": head(first="GET /echo?connection-id=aaaaaaaaaaaaaaaa%0d%0aX-Evil:%201 HTTP/1.1"),
    "a line break in the other one": head(first="GET /echo?reconnect-id=aaaaaaaaaaaaaaaa%0aX-Evil:%201 HTTP/1.1"),
    "a NUL in the query": head(first="GET /echo?connection-id=aaaaaaaaaaaaaaaa%00 HTTP/1.1"),
    "bytes that are no UTF-8": head(first="GET /echo?connection-id=aaaaaaaaaaaaaaaa%ff HTTP/1.1"),
    "a long id in the query": head(first=f"GET /echo?connection-id={'a' * 129} HTTP/1.1"),
    "an empty id in the query": head(first="GET /echo?connection-id= HTTP/1.1"),
    "two ids in the query": head(first=f"GET /echo?connection-id={'a' * 16}&connection-id={'b' * 16} HTTP/1.1"),
    "two names in disguise": head(first=f"GET /echo?connection-id={'a' * 16}&connection%2Did={'b' * 16} HTTP/1.1"),
    "query against header": head(f"X-Connection-Id: {'a' * 16}", first=f"GET /echo?connection-id={'b' * 16} HTTP/1.1"),
    "a bare line feed": head("X-Connection-Id: aaaaaaaaaaaaaaaa\nX-Evil: 1"),
    "a path": head("X-Connection-Id: ../../../../etc/passwd"),
    "a letter beyond ASCII": head("X-Connection-Id: " + "\xc3\xa9" * 10),
    "digits beyond ASCII": head("X-Reconnect-Received: \xd9\xa3"),
    "a negative count": head(f"X-Reconnect-Id: {'a' * 16}", "X-Reconnect-Received: -1"),
    "an endless count": head(f"X-Reconnect-Id: {'a' * 16}", "X-Reconnect-Received: " + "9" * 5000),
    "two counts": head("X-Reconnect-Received: 0", "X-Reconnect-Received: 1"),
}


async def test_what_is_no_id_and_no_count_is_a_bad_request(siege: Siege) -> None:
    """It is answered with 400, and nothing of it shows among the headers of the answer."""
    heard = await asyncio.gather(*(shout(siege.address, raw) for raw in INJECTIONS.values()))
    answers = dict(zip(INJECTIONS, heard, strict=True))
    assert {name: statuses(answer) for name, answer in answers.items() if statuses(answer) != [400]} == {}
    assert [name for name, answer in answers.items() if b"X-Evil" in answer.partition(b"\r\n\r\n")[0]] == []


async def test_guesses_find_nothing(siege: Siege) -> None:
    """Three thousand guessed ids get 410 each, in the same words."""

    async def guess() -> set[bytes]:
        raw = (head(f"X-Reconnect-Id: {secrets.token_urlsafe(16)}") for _ in range(300))
        return {await shout(siege.address, each) for each in raw}

    answers = set[bytes]().union(*await asyncio.gather(*(guess() for _ in range(10))))
    assert len(answers) == 1, answers
    assert statuses(answers.pop()) == [410]


async def test_an_id_bound_to_credentials_is_worth_nothing_without_them(siege: Siege) -> None:
    """A resume with other credentials, more, or none, gets 403, and the session's client notices nothing."""
    theirs = ("Authorization", "Bearer secret")
    link = await dial(f"{siege.url}/echo", [theirs])
    resume = ("X-Reconnect-Id", link.response.get("x-connection-id") or "")
    thieves: list[Headers] = [
        [resume],
        [resume, ("Authorization", "Bearer guess")],
        [resume, ("Authorization", "bearer secret")],
        [resume, theirs, theirs],
        [resume, theirs, ("Authorization", "Bearer guess")],
        [resume, ("X-Authorization", "Bearer secret")],
        [("X-Connection-Id", resume[1])],
    ]
    for thief in thieves:
        with pytest.raises(Refused) as refused:
            await dial(f"{siege.url}/echo", thief)
        assert refused.value.status == 403
        assert resume[1].encode() not in refused.value.body
    await link.send("still mine")
    assert await link.recv() == "still mine"
    await link.close()


async def test_forged_pongs_confirm_nothing(siege: Siege) -> None:
    """Tokens never sent, of the future, of another size or of an earlier link leave every message to be delivered."""
    link = await dial(f"{siege.url}/push", [("X-Reconnect-Received", "0")], answer_pings=False)
    identity = link.response.get("x-connection-id") or ""
    said = await link.take(100)
    await link.until(lambda: bool(link.pings))
    forged = [token(n) for n in (0, 1, 99, 101, 2**32, 2**63, 2**64 - 1)] + [b"", b"\0", bytes(9), bytes(125)]
    for payload in (payload for payload in forged if payload not in link.pings):
        await link.send_frame(Opcode.PONG, payload)
    of_the_first_link = link.pings[-1]
    await link.fence()
    link.reset()
    again = await resume_until_served(siege, identity, "0")
    # The second link has asked for nothing yet that the first one's token could answer.
    await again.send_frame(Opcode.PONG, of_the_first_link)
    assert await again.take(100) == said
    await again.close()


async def test_counts_of_the_future_are_refused(siege: Siege) -> None:
    """Who claims more than was ever sent gets 409, and the honest client goes on."""
    link = await dial(f"{siege.url}/push", [("X-Reconnect-Received", "0")])
    identity = link.response.get("x-connection-id") or ""
    await link.take(100)
    for count in ("101", "1000", "9" * 19):
        with pytest.raises(Refused) as refused:
            await dial(f"{siege.url}/push", [("X-Reconnect-Id", identity), ("X-Reconnect-Received", count)])
        assert refused.value.status == 409
    await link.fence()
    await link.close()


async def test_a_thousand_resumes_of_one_session_leave_one_link(siege: Siege) -> None:
    """They all arrive at once; each is served or taken over, and the last one has a session that works."""
    first = await dial(f"{siege.url}/echo")
    identity = first.response.get("x-connection-id") or ""
    for _ in range(4):
        links = await asyncio.gather(*(dial(f"{siege.url}/echo", [("X-Reconnect-Id", identity)]) for _ in range(250)))
        await asyncio.gather(*(survivors(links)))
        left = [link for link in links if link.end is None]
        assert len(left) == 1
        assert {link.end.code for link in links if link.end is not None} == {4000}
    assert (await first.ended()).code == 4000
    await left[0].send("mine")
    assert await left[0].recv() == "mine"
    await left[0].close()


async def test_two_that_fight_for_a_session_lose_nothing(siege: Siege) -> None:
    """Two hundred takeovers, each with a message behind it: every message is echoed to the session's holder."""
    identity = secrets.token_urlsafe(16)
    heard: list[str | bytes] = []
    link = None
    for number in range(200):
        headers = [("X-Connection-Id", identity), ("X-Reconnect-Received", str(number))]
        newer = await dial(f"{siege.url}/echo", headers)
        if link is not None:
            await link.ended()
        link = newer
        await link.send(f"{number}")
        heard.append(await link.recv())
    assert heard == [str(number) for number in range(200)]
    assert link is not None
    await link.close()


async def resume_until_served(siege: Siege, identity: str, received: str) -> RawSocket:
    """Resume a session as an aware client."""
    return await dial(f"{siege.url}/push", [("X-Reconnect-Id", identity), ("X-Reconnect-Received", received)])


def survivors(links: list[RawSocket]) -> list[asyncio.Task[None]]:
    """Return what waits until each link has ended, or has had a Pong of its own."""

    async def settle(link: RawSocket) -> None:
        with contextlib.suppress(Closed):
            await link.send_frame(Opcode.PING, b"settled?")
            await link.until(lambda: link.end is not None or bool(link.pongs))

    return [asyncio.create_task(settle(link)) for link in links]
