"""Hooks: what they see, what they may do, and what becomes of their mistakes, with real sockets at both ends."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from reconnect_proxy import ClientRequest, Hooks, Message, Proxy, Receiver, Refuse, Session
from reconnect_proxy.events import Event, HookFailed, LegName, MessagesDropped
from reconnect_proxy.hooks.api import load_hooks
from tests.silence import silent_server

ANY_PORT = "127.0.0.1:0"
ID = "a-session-of-mine"
EMBEDDING = Path(__file__).parents[3] / "docs" / "embedding.md"


class Upstream:
    """Echoes all messages except those that begin with `!`, and keeps requests and messages."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.heard: list[str | bytes] = []
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        """Echo until the connection ends."""
        self.connections.append(connection)
        try:
            async for message in connection:
                self.heard.append(message)
                if message[:1] not in ("!", b"!"):
                    await connection.send(message)
        except ConnectionClosed:
            pass  # the tests look at the client's side

    def header(self, name: str) -> str | None:
        """Return a header of the latest handshake."""
        request = self.connections[-1].request
        assert request is not None
        return request.headers.get(name)


@asynccontextmanager
async def echoing() -> AsyncIterator[Upstream]:
    """Serve an `Upstream` on a free port."""
    upstream = Upstream()
    async with serve(upstream.handle, "127.0.0.1", 0) as server:
        upstream.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield upstream


@asynccontextmanager
async def behind(
    hooks: Hooks, kind: Callable[..., Proxy] = Proxy, **options: Any
) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """Run a proxy with `hooks` in front of an `Upstream`."""
    async with echoing() as upstream, kind(upstream=upstream.url, listen=ANY_PORT, hooks=hooks, **options) as proxy:
        yield proxy, upstream


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition without an event; bounded by the test's timeout."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def refused(url: str, **options: Any) -> tuple[int, str, Any]:
    """Return status, body and headers of the answer to a client that is not let in."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(url, **options)
    response = caught.value.response
    return response.status_code, response.body.decode(), response.headers


async def say(client: ClientConnection, *messages: str | bytes) -> list[str | bytes]:
    """Send messages, then a last one that comes back, and return all that came before that."""
    for message in (*messages, "the last"):
        await client.send(message)
    received = []
    while (message := await client.recv()) != "the last":
        received.append(message)
    return received


class Diary(Hooks):
    """Writes down each call."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []
        self.sessions: list[Session] = []

    def on_session(self, session: Session) -> None:
        """Write the request down."""
        self.sessions.append(session)
        self.lines.append(("session", session.request.path))

    def on_join(self, session: Session, request: ClientRequest) -> None:
        """Write the request down."""
        self.lines.append(("join", session.request.path, request.path))

    def on_message(self, session: Session, message: Message) -> Message | str | bytes | None:
        """Write the message down."""
        self.lines.append((str(message.direction), message.data, message.is_text))
        return message

    def on_reconnect(self, session: Session, leg: LegName, away: float, resent: int) -> None:
        """Write down which leg."""
        assert away >= 0
        self.lines.append(("reconnect", str(leg), resent))

    def on_close(self, session: Session, code: int, reason: str, undelivered_c2u: int, undelivered_u2c: int) -> None:
        """Write all of it down."""
        self.lines.append(("close", code, reason, undelivered_c2u, undelivered_u2c))


# What hooks see.


async def test_the_life_of_a_session() -> None:
    """Opened, messages of both directions, a leg that came back, a client that came back, closed."""
    diary = Diary()
    async with behind(diary, grace="50ms") as (proxy, upstream):
        url = f"{proxy.url}/room?x=1&connection-id={ID}"
        async with connect(url, additional_headers={"X-User": "u", "x-two": "2"}) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            await until(lambda: proxy.sessions()[0].c2u_queued == 0)
            upstream.connections[0].transport.abort()
            await until(lambda: len(upstream.connections) == 2)
            await client.send(b"\xff")
            assert await client.recv() == b"\xff"
            await until(lambda: proxy.sessions()[0].u2c_queued == 0)
        async with connect(url):
            pass
        await until(lambda: not proxy.sessions())
    assert diary.lines == [
        ("session", "/room?x=1"),
        ("c2u", b"hello", True),
        ("u2c", b"hello", True),
        ("reconnect", "upstream", 0),
        ("c2u", b"\xff", False),
        ("u2c", b"\xff", False),
        ("join", "/room?x=1", "/room?x=1"),
        ("reconnect", "client", 0),
        ("close", 1000, "", 0, 0),
    ]
    (session,) = diary.sessions
    assert session.id == ID
    assert ID not in repr(session)
    assert (session.request.client, session.request.headers["X-TWO"]) == ("127.0.0.1", "2")
    with pytest.raises(TypeError):
        session.request.headers["x-two"] = "3"  # type: ignore[index]


async def test_a_program_closes_a_session_that_has_not_opened_yet() -> None:
    """Its client is refused as by `Refuse`, and not with the 503 of a proxy that stops."""

    class Impatient(Hooks):
        def on_session(self, session: Session) -> None:
            asyncio.get_running_loop().call_later(0.0, session.close, 4000, "not today")

    async with silent_server() as url, Proxy(upstream=url, listen=ANY_PORT, hooks=Impatient()) as proxy:
        status, body, _ = await refused(proxy.url)
        assert (status, json.loads(body)) == (503, {"error": "refused", "detail": "not today"})


async def test_a_session_that_came_to_nothing_is_closed_too() -> None:
    """A program that keeps something for a session in `on_session` can drop it in `on_close`."""
    diary = Diary()
    async with Proxy(upstream="ws://127.0.0.1:1", listen=ANY_PORT, hooks=diary, accept_when_down=False) as proxy:
        assert (await refused(proxy.url))[0] == 503
    assert diary.lines == [("session", "/"), ("close", 1014, "upstream unavailable", 0, 0)]


async def test_an_id_that_the_upstream_brings_is_empty_until_then() -> None:
    """With `gate = first-message` a session has no id yet when it is opened."""
    ids: list[str] = []

    class Ids(Hooks):
        def on_session(self, session: Session) -> None:
            ids.append(session.id)

        def on_close(self, session: Session, code: int, *others: object) -> None:
            ids.append(session.id)

    async def handle(connection: ServerConnection) -> None:
        await connection.send("ID:0123456789abcdef")
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Proxy(upstream=url, listen=ANY_PORT, gate="first-message", hooks=Ids) as proxy, connect(proxy.url):
            pass
    assert ids == ["", "0123456789abcdef"]


# Who may come in.


async def test_a_client_is_refused_with_the_status_and_headers_that_the_hook_gives() -> None:
    """The upstream is not even dialled."""

    class Guard(Hooks):
        def on_session(self, session: Session) -> None:
            raise Refuse(401, "who are you?", {"WWW-Authenticate": "Bearer"})

    async with behind(Guard()) as (proxy, upstream):
        status, body, headers = await refused(proxy.url)
        assert (status, body, headers["WWW-Authenticate"]) == (
            401, '{"error": "refused", "detail": "who are you?"}', "Bearer",
        )  # fmt: skip
        assert proxy.sessions() == []
    assert upstream.connections == []


@pytest.mark.parametrize("status", [200, 399, 600, 499, 0])
def test_only_the_status_of_an_http_error_refuses(status: int) -> None:
    """A mistake is told where it is made."""
    with pytest.raises(ValueError, match="does not refuse a client"):
        Refuse(status)


async def test_a_client_that_may_not_come_back_is_refused_and_the_session_goes_on() -> None:
    """`on_join` is asked for each request that names a session."""

    class Mine(Hooks):
        def on_join(self, session: Session, request: ClientRequest) -> None:
            if request.headers.get("X-Key") != session.request.headers.get("X-Key"):
                raise Refuse(403, "not yours")

    async with behind(Mine()) as (proxy, _):
        url = f"{proxy.url}/?connection-id={ID}"
        async with connect(url, additional_headers={"X-Key": "1"}) as client:
            assert (await refused(url))[:2] == (403, '{"error": "refused", "detail": "not yours"}')
            assert await say(client, "still here") == ["still here"]
            await until(lambda: proxy.sessions()[0].u2c_queued == 0)
        async with connect(url, additional_headers={"X-Key": "1"}) as client:
            assert await say(client, "back") == ["back"]


async def test_headers_for_the_upstream_replace_those_of_the_client() -> None:
    """A client cannot send a header that the hook sets; a redial has these headers too."""

    class User(Hooks):
        def on_session(self, session: Session) -> None:
            session.upstream_headers["X-User"] = "alice"

    pretended = {"x-user": "root", "X_User": "root"}
    async with behind(User()) as (proxy, upstream), connect(proxy.url, additional_headers=pretended):
        assert upstream.header("X-User") == "alice"
        assert upstream.header("X_User") is None, "to WSGI and CGI servers it is the same header"
        upstream.connections[0].transport.abort()
        await until(lambda: len(upstream.connections) == 2)
        assert upstream.header("X-User") == "alice"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nX-C: d"),
        ("X A", "b"),
        ("X-Reconnect-Id", ID),
        ("Host", "h"),
        ("Connection", "close"),
        ("X-A", "\0"),
        ("X-A", "\ud800"),
        ("X-A", 42),
    ],
)
async def test_a_header_that_cannot_be_set_fails_the_hook(name: str, value: Any) -> None:
    """Neither the handshake nor the protocol's own headers can be changed, nor can a header be smuggled in."""

    class Wrong(Hooks):
        def on_session(self, session: Session) -> None:
            session.upstream_headers[name] = value

    events: list[Event] = []
    async with behind(Wrong(), observe=events.append) as (proxy, upstream):
        assert (await refused(proxy.url))[0] == 500
    assert upstream.connections == []
    assert [event.hook for event in events if isinstance(event, HookFailed)] == ["on_session"]


@pytest.mark.parametrize(
    ("detail", "headers"),
    [
        (ValueError("no"), {}),
        ("", {"Location": "/a\r\n\r\nanother answer"}),
        ("", {"X A": "b"}),
        ("", {"X-A": 42}),
        ("", {"X-A": "\ud800"}),
        ("", {"content-length": "0"}),
    ],
)
async def test_a_refusal_that_cannot_be_sent_fails_the_hook(detail: Any, headers: dict[str, Any]) -> None:
    """What a hook copies from a request into its answer cannot split the answer, and the client gets one answer."""

    class Wrong(Hooks):
        def on_session(self, session: Session) -> None:
            raise Refuse(401, detail, headers)

    events: list[Event] = []
    async with behind(Wrong(), observe=events.append) as (proxy, _):
        status, body, _headers = await refused(proxy.url)
        assert (status, json.loads(body)["error"]) == (500, "hook-failed")
    assert [event.hook for event in events if isinstance(event, HookFailed)] == ["on_session"]


# Messages.


class Censor(Hooks):
    """Drops what says `drop`, and turns what says `text` or `bytes` into that."""

    def on_message(self, session: Session, message: Message) -> Message | str | bytes | None:
        """Decide by the payload, in the direction that its last word names."""
        word, _, direction = message.data.decode().partition(" ")
        if direction != message.direction:
            return message
        return {"drop": None, "text": "was bytes", "bytes": b"was text"}.get(word, message)


async def test_messages_are_dropped_and_replaced_in_both_directions() -> None:
    """A replacement may be of the other kind; what is left keeps its order."""
    events: list[Event] = []
    async with behind(Censor(), observe=events.append) as (proxy, upstream), connect(proxy.url) as client:
        said = ["a", "drop c2u", b"text c2u", "bytes c2u", "drop u2c", b"text u2c", "bytes u2c", b"b"]
        assert await say(client, *said) == ["a", "was bytes", b"was text", "was bytes", b"was text", b"b"]
        assert upstream.heard == ["a", "was bytes", b"was text", "drop u2c", b"text u2c", "bytes u2c", b"b", "the last"]
    assert [(e.c2u, e.u2c) for e in events if isinstance(e, MessagesDropped)] == [(1, 1)]


async def test_an_aware_client_is_told_of_dropped_messages_that_they_were_received() -> None:
    """Else it would say them again, and all that came behind them."""
    async with behind(Censor()) as (proxy, upstream):
        headers = {"X-Connection-Id": ID, "X-Reconnect-Received": "0"}
        async with connect(proxy.url, additional_headers=headers) as client:
            assert await say(client, "drop c2u", "drop u2c", "a") == ["a"]
        headers = {"X-Reconnect-Id": ID, "X-Reconnect-Received": "2"}
        async with connect(proxy.url, additional_headers=headers) as client:
            assert client.response is not None
            assert client.response.headers["X-Reconnect-Received"] == "4"
            assert await say(client, "b") == ["b"]
    assert upstream.heard == ["drop u2c", "a", "the last", "b", "the last"]


async def test_messages_of_the_programs_own_join_the_streams() -> None:
    """They are behind the message whose hook said them, counted for the one who gets them, and shown to no hook."""

    class Answers(Hooks):
        def on_message(self, session: Session, message: Message) -> Message | None:
            if message.data == b"who":
                session.send_to_client("I am")
                session.send_to_upstream(b"!a question")
                return None
            assert not message.data.startswith((b"I", b"!"))
            return message

    async with behind(Answers()) as (proxy, upstream):
        headers = {"X-Connection-Id": ID, "X-Reconnect-Received": "0"}
        async with connect(proxy.url, additional_headers=headers) as client:
            await client.send("who")
            assert await client.recv() == "I am"
            assert await say(client, "a") == ["a"]
        headers = {"X-Reconnect-Id": ID, "X-Reconnect-Received": "3"}
        async with connect(proxy.url, additional_headers=headers) as client:
            assert client.response is not None
            assert client.response.headers["X-Reconnect-Received"] == "3"
    assert upstream.heard == [b"!a question", "a", "the last"]


async def test_a_hook_closes_its_session() -> None:
    """Both legs are closed with its code once the hook has returned; what comes behind is dropped, and not shown."""
    shown: list[bytes] = []

    class Strict(Diary):
        def on_message(self, session: Session, message: Message) -> Message:
            shown.append(message.data)
            if message.data == b"!bad":
                session.close(4008, "that was bad")
                session.close(4009, "too late")
                assert session.closing
            return message

    hooks = Strict()
    async with behind(hooks) as (proxy, upstream), connect(proxy.url) as client:
        for message in ("!good", "!bad", "!worse"):
            await client.send(message)
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4008, "that was bad")
        await upstream.connections[0].wait_closed()
        assert upstream.connections[0].close_code == 4008
    assert shown == [b"!good", b"!bad"]
    # What was said before it was sent, and not confirmed yet.
    assert hooks.lines[-1][:4] == ("close", 4008, "that was bad", 2)
    (session,) = hooks.sessions
    assert session.uncertain_c2u == 2
    with pytest.raises(RuntimeError, match="the session is over"):
        session.send_to_client("a question")
    session.close(4010)


async def test_what_cannot_be_sent_is_told_to_the_hook() -> None:
    """The mistake is raised where it was made, not when the hook has returned."""
    session = Session(None, ClientRequest("127.0.0.1", "/", {}))
    for code in (0, 1004, 1005, 1006, 1015, 2000, 5000):
        with pytest.raises(ValueError, match="is not a close code that may be sent"):
            session.close(code)
    with pytest.raises(ValueError, match="a close frame takes 123"):
        session.close(1000, "é" * 62)
    with pytest.raises(RuntimeError, match="raise Refuse"):
        session.close()
    with pytest.raises(TypeError, match="bytearray is not a message"):
        session.send_to_client(bytearray(b"x"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="this message is binary"):
        _ = Message(direction="c2u", data=b"", is_text=False).text  # type: ignore[arg-type]


@pytest.mark.parametrize("reads", [False, True])
async def test_on_message_sees_messages_as_they_were_before_they_were_compressed(reads: bool) -> None:
    """With it no peer may compress; hooks that read no messages leave that to the peers."""
    hooks = Diary() if reads else Hooks()
    async with behind(hooks) as (proxy, upstream), connect(proxy.url) as client:
        assert client.response is not None
        assert ("Sec-WebSocket-Extensions" in client.response.headers) is not reads
        assert (upstream.header("Sec-WebSocket-Extensions") is None) is reads
        await client.send("hello " * 50)
        assert await client.recv() == "hello " * 50
    if isinstance(hooks, Diary):
        assert ("c2u", b"hello " * 50, True) in hooks.lines


async def test_without_on_message_the_sessions_have_no_filter() -> None:
    """The other hooks cost nothing for a message: its stream takes it directly."""

    class Others(Hooks):
        def on_session(self, session: Session) -> None:
            pass

    async with behind(Others()) as (proxy, _), connect(proxy.url):
        assert [context.c2u.intake for context in proxy.contexts] == [context.c2u.take for context in proxy.contexts]
    async with behind(Censor()) as (proxy, _), connect(proxy.url):
        assert [context.c2u.intake for context in proxy.contexts] != [context.c2u.take for context in proxy.contexts]


# Receiver mode.


async def test_clients_that_share_a_session_join_it() -> None:
    """One is asked for with `on_session`, the others with `on_join`; each message of the upstream is shown once."""
    diary = Diary()
    async with behind(diary, Receiver) as (proxy, _):
        async with connect(f"{proxy.url}/one") as one, connect(f"{proxy.url}/two") as two:
            await one.send("hello")
            assert [await one.recv(), await two.recv()] == ["hello", "hello"]
        assert diary.lines == [
            ("session", "/one"),
            ("join", "/one", "/two"),
            ("reconnect", "client", 0),
            ("c2u", b"hello", True),
            ("u2c", b"hello", True),
        ]
        async with connect(f"{proxy.url}/?connection-id={ID}"):
            assert diary.lines[-1] == ("session", "/")
            assert len(diary.sessions) == 2


async def test_a_session_that_no_client_has_opened_asks_only_those_who_join() -> None:
    """With `dial = start` the session opens without a request."""
    diary = Diary()
    async with behind(diary, Receiver, dial="start") as (proxy, _), connect(proxy.url):
        assert diary.lines == [("join", "/", "/")]


# Hooks that fail.


class Failing(Hooks):
    """Fails in one hook, in one session: that whose path is /fail."""

    def __init__(self, hook: str, fault: Callable[[], object]) -> None:
        self.calls = 0

        def fail(session: Session, *arguments: Any) -> object:
            if session.request.path != "/fail":
                return arguments[0] if hook == "on_message" else None
            self.calls += 1
            return fault()

        setattr(self, hook, fail)


def boom() -> object:
    """Raise an unexpected error."""
    raise KeyError("boom")


@pytest.mark.parametrize("fault", [boom, lambda: False, lambda: bytearray(b"x")])
@pytest.mark.parametrize("hook", ["on_session", "on_join", "on_message", "on_reconnect", "on_close"])
async def test_a_failure_harms_what_it_was_called_for_and_no_other_session(
    hook: str, fault: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure is an event, with a traceback in the log; an invalid return value is a failure too."""
    events: list[Event] = []
    hooks = Failing(hook, fault)
    async with behind(hooks, observe=events.append) as (proxy, upstream), connect(f"{proxy.url}/other") as other:
        url = f"{proxy.url}/fail?connection-id={ID}"
        if hook == "on_session":
            status, body, _ = await refused(url)
            assert status == 500
            assert "hook-failed" in body
            assert "boom" not in body
        else:
            async with connect(url) as client:
                await client.send("!lost" if hook == "on_message" else "!kept")
                await other.send("!fence")
                await until(lambda: "!fence" in upstream.heard)
            await until(lambda: any(not session.client_connected for session in proxy.sessions()))
            if hook == "on_join":
                assert (await refused(url))[0] == 500
            else:
                async with connect(url):
                    pass
        assert await say(other, "a") == ["a"]
    failures = [event for event in events if isinstance(event, HookFailed)]
    assert {failure.hook for failure in failures} == {hook}
    assert len(failures) == hooks.calls == 1
    assert [record.exc_info is not None for record in caplog.records if "failed" in record.message] == [True]
    kept = [message for message in upstream.heard if message == "!kept"]
    assert kept == ([] if hook in ("on_session", "on_message") else ["!kept"])
    assert "!lost" not in upstream.heard


async def test_a_hook_that_fails_all_the_time_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is an event; a traceback is logged now and then, and says how many were not."""
    events: list[Event] = []
    async with (
        behind(Failing("on_message", boom), observe=events.append) as (proxy, _),
        connect(f"{proxy.url}/fail") as c,
    ):
        for _ in range(500):
            await c.send("x")
        await until(lambda: sum(isinstance(event, HookFailed) for event in events) == 500)
    logged = [
        record for record in caplog.records if record.name == "reconnect_proxy" and record.levelno == logging.ERROR
    ]
    assert 1 <= len(logged) < 100
    assert sum(isinstance(event, MessagesDropped) and event.c2u == 500 for event in events) == 1


async def test_a_replacement_above_the_limit_is_a_failure() -> None:
    """The receiver would close the link for it, and the next one too."""

    class Long(Hooks):
        def on_message(self, session: Session, message: Message) -> bytes | Message:
            return bytes(101) if message.data == b"grow" else message

    events: list[Event] = []
    async with (
        behind(Long(), observe=events.append, max_message=100) as (proxy, upstream),
        connect(proxy.url) as client,
    ):
        assert await say(client, "grow", "a") == ["a"]
    assert [event.hook for event in events if isinstance(event, HookFailed)] == ["on_message"]
    assert upstream.heard == ["a", "the last"]


# Hooks that cannot be.


class Waiting(Hooks):
    async def on_message(self, session: Session, message: Message) -> Message:  # type: ignore[override]
        """Be a coroutine, which is not awaited."""
        return message


class Misspelt(Hooks):
    def on_mesage(self, session: Session, message: Message) -> Message:
        """Be a method that is not a hook."""
        return message


@pytest.mark.parametrize(
    ("hooks", "complaint"),
    [
        (Waiting(), "on_message is a coroutine"),
        (Misspelt(), "Misspelt has on_mesage, but there is no such hook"),
        (object(), "is not a Hooks"),
        (7, "is not a Hooks"),
        ("nothing", "does not name hooks"),
        ("os:nothing", "os has no nothing"),
    ],
)
def test_hooks_that_cannot_work_are_refused_when_the_proxy_is_made(hooks: object, complaint: str) -> None:
    """Not at the first message."""
    with pytest.raises(ValueError, match=complaint):
        Proxy(upstream="ws://127.0.0.1:1", hooks=hooks)


def test_a_module_that_does_not_work_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is one sentence with the error in it."""
    (tmp_path / "broken_hooks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"^broken_hooks cannot be imported: ZeroDivisionError: division by zero$"):
        load_hooks("broken_hooks:Guard")


# What the documentation says.


async def test_the_example_in_the_docs_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """It lets in who has the token, names the user to the upstream, and drops what is of type debug."""
    block = re.search(r"```python\n(.+?)```", EMBEDDING.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    alice = {"Authorization": "Bearer 7f3k", "X-User": "root"}
    async with echoing() as upstream:
        # As on the page, with other ports.
        text = block[1].replace("127.0.0.1:9124", ANY_PORT).replace("ws://127.0.0.1:8080", upstream.url)
        names: dict[str, Any] = {}
        exec(compile(text, str(EMBEDDING), "exec"), names)
        running = asyncio.create_task(names["main"]())
        printed = ""
        while not printed and not running.done():
            await asyncio.sleep(0.005)
            printed = capsys.readouterr().out.strip()
        status, _, headers = await refused(printed)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        url = f"{printed}/?connection-id={ID}"
        async with connect(url, additional_headers=alice) as client:
            assert upstream.header("X-User") == "alice"
            for message in ('{"type": "debug"}', "not JSON", '{"type": "chat"}', b"\xff"):
                await client.send(message)
            assert [await client.recv() for _ in range(2)] == ['{"type": "chat"}', b"\xff"]
            assert (await refused(url))[0] == 403
        running.cancel()
        await asyncio.wait([running])
    assert upstream.heard == ['{"type": "chat"}', b"\xff"]


# What a hook sends first on a redial.


class Login(Hooks):
    """Gives a new token on each redial, or what a test says."""

    def __init__(self, given: object = None) -> None:
        self.given = given
        self.redials = 0

    def on_redial(self, session: Session) -> Any:
        """Return a login, text and binary."""
        self.redials += 1
        return [f"!token {self.redials}", b"!key"] if self.given is None else self.given


async def test_on_redial_gives_the_first_messages_of_a_new_link() -> None:
    """On each redial, not on the first link; they are not counted, and not shown to on_message."""
    login = Login()
    async with behind(login) as (proxy, upstream), connect(proxy.url) as client:
        for redial in (1, 2):
            assert await say(client, "!call") == []
            upstream.heard.clear()
            upstream.connections[-1].transport.abort()
            await until(lambda: len(upstream.connections) == redial + 1)  # noqa: B023
            await client.send(f"!more {redial}")
            await until(lambda: f"!more {redial}" in upstream.heard)  # noqa: B023
            assert upstream.heard[:2] == [f"!token {redial}", b"!key"]
        [session] = proxy.sessions()
        assert session.c2u_messages == 6
    assert login.redials == 2


@pytest.mark.parametrize("given", ["text", b"bytes", [5], 5, [bytes(2048)]])
async def test_on_redial_that_fails_ends_the_session_with_1011(given: object) -> None:
    """An upstream that lacks its login must not get the rest; other sessions go on."""
    async with behind(Login(given), max_message=1024) as (proxy, upstream), connect(proxy.url) as client:
        assert await say(client, "!call") == []
        upstream.connections[-1].transport.abort()
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        assert closed.value.rcvd.reason.startswith("the hook on_redial failed")
        async with connect(proxy.url) as other:
            assert await say(other, "a") == ["a"]
