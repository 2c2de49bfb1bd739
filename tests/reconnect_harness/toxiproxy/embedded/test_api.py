"""The HTTP API: what each request does, and how the real server and the embedded one answer it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from reconnect_harness.toxiproxy.embedded.address import listen_on
from reconnect_harness.toxiproxy.server import ToxiproxyServer, reserve_port
from tests.reconnect_harness.toxiproxy.embedded.client import Answer, Client

NOWHERE = "127.0.0.1:1"


def refused(status: int, error: str) -> tuple[int, str]:
    """Return the answer to a refused request."""
    escaped = error.replace("\\", "\\\\").replace('"', '\\"')
    return status, f'{{"error":"{escaped}","status":{status}}}\n'


def is_bad_body(answer: Answer, content_type: str = "text/plain; charset=utf-8") -> bool:
    """Return whether a body was refused as malformed. The two servers describe the problem in different words."""
    status, error = answer.json["status"], answer.json["error"]
    return (answer.status, status, answer.content_type) == (400, 400, content_type) and error.startswith(
        "bad request body: "
    )


def make(client: Client, name: str = "web", **fields: Any) -> dict[str, Any]:
    """Make a proxy and return it as the server shows it."""
    answer = client("POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": NOWHERE, **fields})
    assert (answer.status, answer.content_type) == (201, "application/json")
    return dict(answer.json)


def is_listening(address: str) -> bool:
    """Return whether connections are accepted there."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_version(client: Client, server: ToxiproxyServer) -> None:
    """The version is 2.12.0, with the space and the line end of the original."""
    answer = client("GET", "/version")
    assert answer == (200, f'{{"version": "{server.version}"}}\n', "application/json;charset=utf-8")


def test_a_proxy_is_made_listens_and_is_shown(client: Client) -> None:
    """A new proxy is enabled, and its address has the port that it listens at."""
    made = make(client)
    listen = made["listen"]
    shown = f'{{"name":"web","listen":"{listen}","upstream":"{NOWHERE}","enabled":true,"Logger":{{}},"toxics":[]}}'
    assert client("GET", "/proxies/web") == (200, shown, "application/json")
    assert client("GET", "/proxies") == (200, f'{{"web":{shown}}}', "application/json")
    assert is_listening(listen)


def test_proxies_are_listed_by_name(client: Client) -> None:
    """The list is sorted, and empty at first."""
    assert client("GET", "/proxies").body == "{}"
    for name in ("b", "c", "a"):
        make(client, name)
    assert list(client("GET", "/proxies").json) == ["a", "b", "c"]


def test_a_proxy_may_be_made_disabled(client: Client) -> None:
    """A proxy that is not enabled keeps its address as it was given."""
    assert make(client, enabled=False, listen="localhost:0")["listen"] == "localhost:0"


def test_a_host_is_looked_up_when_it_listens(client: Client) -> None:
    """The shown address is the one that was found, IPv4 if there is one."""
    assert make(client, listen="localhost:0")["listen"].startswith("127.0.0.1:")


def test_without_a_host_it_listens_everywhere(client: Client) -> None:
    """An address without a host, or an empty one, means all addresses of the machine."""
    for name, listen in (("a", ":0"), ("b", "")):
        port = make(client, name, listen=listen)["listen"].removeprefix("[::]:")
        assert is_listening(f"127.0.0.1:{port}")


def test_any_name_can_be_used(client: Client) -> None:
    """A name with quotes, markup and letters of other scripts is returned unchanged, and works in paths."""
    name = '<&"é>'
    assert make(client, name)["name"] == name
    assert client("DELETE", "/proxies/%3C&%22%C3%A9%3E").status == 204


@pytest.mark.parametrize(
    "body",
    [
        *(
            "",
            "  ",
            "{",
            '{"name":',
            '"abc',
            "tru",
            '"a\nb"',
            '"a\\xb"',
            "xyz",
            "{name:1}",
            '{"name" 1}',
            '{"name":"x" 1}',
        ),
        *('{"name":"x",}', "[1 2]", "[1,]", "nope", "[]", "3"),
        '{"name":3,"upstream":"x"}',
        '{"name":"q","upstream":"x","enabled":"yes"}',
        '{"name":"q","upstream":{},"enabled":"yes"}',
    ],
)
def test_a_proxy_that_cannot_be_read_is_refused(client: Client, body: str) -> None:
    """A body that is not JSON, not an object, or has a field of another type is 400, and nothing is made."""
    assert is_bad_body(client("POST", "/proxies", body))
    assert client("GET", "/proxies").json == {}


@pytest.mark.parametrize(("body", "missing"), [("null", "name"), ("{}", "name"), ('{"name":"a"}', "upstream")])
def test_a_proxy_needs_its_name_and_its_upstream(client: Client, body: str, missing: str) -> None:
    """The answer says which field is missing, and nothing is made."""
    answer = (*refused(400, f"missing required field: {missing}"), "text/plain; charset=utf-8")
    assert client("POST", "/proxies", body) == answer
    assert client("GET", "/proxies").json == {}


@pytest.mark.parametrize(
    ("listen", "error"),
    [
        ("127.0.0.1", "address 127.0.0.1: missing port in address"),
        ("::1:80", "address ::1:80: "),
        ("[::1:80", "address [::1:80: "),
        ("127.0.0.1:99999", "address "),
        ("127.0.0.1:foo", ""),
    ],
)
def test_a_proxy_at_a_malformed_address_is_not_made(client: Client, listen: str, error: str) -> None:
    """The answer says why, in words that may differ from the original's, and no proxy is made."""
    answer = client("POST", "/proxies", {"name": "web", "listen": listen, "upstream": NOWHERE})
    assert (answer.status, answer.json["status"]) == (500, 500)
    assert answer.json["error"].startswith(f"listen tcp: {error}")
    assert client("GET", "/proxies").json == {}


def test_a_proxy_that_cannot_listen_is_not_made(client: Client) -> None:
    """The answer says why, and no proxy is made."""
    answer = client("POST", "/proxies", {"name": "web", "listen": "192.0.2.1:0", "upstream": NOWHERE})
    assert answer[:2] == refused(500, "listen tcp 192.0.2.1:0: bind: cannot assign requested address")
    assert client("GET", "/proxies").json == {}


def test_a_port_that_is_taken_is_refused(client: Client) -> None:
    """Two proxies cannot listen on one address."""
    listen = make(client)["listen"]
    answer = client("POST", "/proxies", {"name": "other", "listen": listen, "upstream": NOWHERE})
    assert answer[:2] == refused(500, f"listen tcp {listen}: bind: address already in use")
    assert list(client("GET", "/proxies").json) == ["web"]


def test_a_name_that_is_taken_is_refused(client: Client) -> None:
    """Two proxies cannot have one name."""
    make(client)
    answer = client("POST", "/proxies", {"name": "web", "listen": "127.0.0.1:0", "upstream": NOWHERE})
    assert answer[:2] == refused(409, "proxy already exists")


def test_the_rest_of_a_body_is_ignored(client: Client) -> None:
    """Nulls, unknown fields and text after the first value; names of fields match in any case."""
    body = '{"NAME":"web","Upstream":"127.0.0.1:1","listen":"127.0.0.1:0","enabled":null,"colour":[1]} and more'
    answer = client("POST", "/proxies", body)
    assert (answer.status, answer.json["enabled"]) == (201, True)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_proxy_is_disabled_and_enabled_on_its_port(client: Client, method: str) -> None:
    """Only what is asked for changes, and the port stays."""
    made = make(client)
    for enabled in (False, True, True, False, False, True):
        answer = client(method, "/proxies/web", {"enabled": enabled})
        assert (answer.status, answer.json) == (200, made | {"enabled": enabled})
        assert is_listening(made["listen"]) is enabled


def test_the_address_of_a_proxy_can_be_changed(client: Client) -> None:
    """It then listens at the new address only."""
    before = make(client)["listen"]
    after = client("PATCH", "/proxies/web", {"listen": "localhost:0", "upstream": "127.0.0.1:2"}).json
    assert (after["upstream"], after["enabled"]) == ("127.0.0.1:2", True)
    assert after["listen"] != before
    assert is_listening(after["listen"])
    assert not is_listening(before)


@pytest.mark.parametrize("body", ["", '{"enabled":3}'])
def test_a_change_that_cannot_be_read_is_refused(client: Client, body: str) -> None:
    """A change that is refused changes nothing."""
    made = make(client)
    assert is_bad_body(client("PATCH", "/proxies/web", body))
    assert client("GET", "/proxies/web").json == made


def test_a_change_to_a_malformed_address_is_refused(client: Client) -> None:
    """A change that is refused changes nothing."""
    made = make(client)
    answer = client("PATCH", "/proxies/web", '{"listen":"junk"}')
    assert answer[:2] == refused(500, "address junk: missing port in address")
    assert client("GET", "/proxies/web").json == made


def test_a_proxy_whose_new_address_is_taken_is_stopped(client: Client) -> None:
    """It keeps the new address, and is disabled."""
    taken = make(client, "other")["listen"]
    make(client)
    answer = client("PATCH", "/proxies/web", {"listen": taken})
    assert answer[:2] == refused(500, f"listen tcp {taken}: bind: address already in use")
    shown = client("GET", "/proxies/web").json
    assert (shown["listen"], shown["enabled"]) == (taken, False)


def test_a_deleted_proxy_does_not_exist_any_more(client: Client) -> None:
    """It does not listen, and is not found."""
    listen = make(client)["listen"]
    assert client("DELETE", "/proxies/web") == (204, "", None)
    assert not is_listening(listen)
    assert client("GET", "/proxies/web")[:2] == refused(404, "proxy not found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/toxics"),
        ("POST", "/toxics"),
        ("GET", "/toxics/x"),
        ("POST", "/toxics/x"),
        ("PATCH", "/toxics/x"),
        ("DELETE", "/toxics/x"),
    ],
)
def test_an_unknown_proxy_is_not_found(client: Client, method: str, path: str) -> None:
    """With every method and path."""
    assert client(method, f"/proxies/none{path}", "{}")[:2] == refused(404, "proxy not found")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_an_unknown_toxic_is_not_found(client: Client, method: str) -> None:
    """With every method."""
    make(client)
    assert client(method, "/proxies/web/toxics/none", "{}")[:2] == refused(404, "toxic not found")


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("latency", '{"latency":0,"jitter":0}'),
        ("bandwidth", '{"rate":0}'),
        ("slow_close", '{"delay":0}'),
        ("timeout", '{"timeout":0}'),
        ("reset_peer", '{"timeout":0}'),
        ("slicer", '{"average_size":0,"size_variation":0,"delay":0}'),
        ("limit_data", '{"bytes":0}'),
        ("noop", "{}"),
    ],
)
def test_every_toxic_has_its_attributes_and_defaults(client: Client, kind: str, attributes: str) -> None:
    """By default a toxic is downstream, on all connections, and named after its type and stream."""
    make(client)
    shown = (
        f'{{"attributes":{attributes},"name":"{kind}_downstream","type":"{kind}","stream":"downstream","toxicity":1}}'
    )
    answer = (200, shown, "application/json")
    assert client("POST", "/proxies/web/toxics", {"type": kind}) == answer
    assert client("GET", f"/proxies/web/toxics/{kind}_downstream") == answer
    assert client("GET", "/proxies/web/toxics").body == f"[{shown}]"
    assert client("GET", "/proxies/web").body.endswith(f'"toxics":[{shown}]}}')
    assert client("DELETE", f"/proxies/web/toxics/{kind}_downstream") == (204, "", None)
    assert client("GET", "/proxies/web/toxics").body == "[]"


def test_toxics_are_listed_by_stream_and_age(client: Client) -> None:
    """Those of the upstream stream come first, in the order in which they were added."""
    make(client)
    for name, stream in (("a", "downstream"), ("d", "upstream"), ("c", "UPSTREAM"), ("b", "downstream")):
        answer = client("POST", "/proxies/web/toxics", {"name": name, "type": "noop", "stream": stream})
        assert answer.json["stream"] == stream
    assert [toxic["name"] for toxic in client("GET", "/proxies/web/toxics").json] == ["d", "c", "a", "b"]


def test_a_toxicity_is_a_number_of_32_bits(client: Client) -> None:
    """A toxicity is shown with the digits that it has, and need not be between 0 and 1."""
    make(client)
    for name, said, shown in (
        ("a", "0.1234567891", "0.12345679"),
        ("b", "0.5", "0.5"),
        ("c", "7", "7"),
        ("d", "1e-3", "0.001"),
    ):
        body = f'{{"name":"{name}","type":"noop","toxicity":{said}}}'
        assert client("POST", "/proxies/web/toxics", body).body.endswith(f'"toxicity":{shown}}}')


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("{}", refused(400, "invalid toxic type")),
        ('{"type":"foo"}', refused(400, "invalid toxic type")),
        ('{"type":"noop","name":"taken"}', refused(409, "toxic already exists")),
        (
            '{"type":"foo","stream":"sideways"}',
            refused(400, "stream was invalid, can be either upstream or downstream"),
        ),
        ('{"type":"latency","stream":""}', refused(400, "stream was invalid, can be either upstream or downstream")),
    ],
)
def test_an_invalid_toxic_is_refused(client: Client, body: str, answer: tuple[int, str]) -> None:
    """The answer says what is wrong, and no toxic is added."""
    make(client)
    assert client("POST", "/proxies/web/toxics", {"type": "noop", "name": "taken"}).status == 200
    assert client("POST", "/proxies/web/toxics", body) == (*answer, "text/plain; charset=utf-8")
    assert [toxic["name"] for toxic in client("GET", "/proxies/web/toxics").json] == ["taken"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        '{"type":3}',
        '{"type":"latency","toxicity":"x"}',
        '{"type":"latency","attributes":[]}',
        '{"type":"latency","attributes":"x"}',
        '{"type":"latency","attributes":{"latency":"5"}}',
        '{"type":"latency","attributes":{"latency":1.5}}',
        '{"type":"timeout","attributes":{"timeout":99999999999999999999}}',
        '{"type":"reset_peer","attributes":{"timeout":{}}}',
        '{"type":"slicer","attributes":{"delay":true}}',
    ],
)
def test_a_toxic_that_cannot_be_read_is_refused(client: Client, body: str) -> None:
    """A field or attribute of another type is 400, and no toxic is added."""
    make(client)
    assert is_bad_body(client("POST", "/proxies/web/toxics", body))
    assert client("GET", "/proxies/web/toxics").json == []


def test_a_name_is_unique_over_both_streams(client: Client) -> None:
    """A name that is taken upstream is taken downstream."""
    make(client)
    assert client("POST", "/proxies/web/toxics", {"name": "x", "type": "noop", "stream": "upstream"}).status == 200
    answer = client("POST", "/proxies/web/toxics", {"name": "x", "type": "latency", "stream": "downstream"})
    assert answer[:2] == refused(409, "toxic already exists")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_change_of_a_toxic_changes_the_given_fields_only(client: Client, method: str) -> None:
    """Attributes that are not given stay; name, type and stream cannot be changed."""
    make(client)
    client("POST", "/proxies/web/toxics", {"type": "latency", "attributes": {"latency": 5, "jitter": 1}})
    path = "/proxies/web/toxics/latency_downstream"
    changes: list[tuple[dict[str, Any], dict[str, int], float]] = [
        (
            {"attributes": {"jitter": 4}, "name": "x", "type": "noop", "stream": "upstream"},
            {"latency": 5, "jitter": 4},
            1,
        ),
        ({"toxicity": 0.25}, {"latency": 5, "jitter": 4}, 0.25),
        ({"attributes": {"latency": 7}, "toxicity": None}, {"latency": 7, "jitter": 4}, 0.25),
        ({"attributes": None}, {"latency": 7, "jitter": 4}, 0.25),
    ]
    for change, attributes, toxicity in changes:
        answer = client(method, path, change)
        expected = {"name": "latency_downstream", "type": "latency", "stream": "downstream"}
        assert answer.status == 200
        assert answer.json == {"attributes": attributes, "toxicity": toxicity, **expected}


@pytest.mark.parametrize("body", ["", '{"attributes":{"jitter":"x"}}', '"x"', '{"attributes":5}', '{"toxicity":"x"}'])
def test_a_change_of_a_toxic_that_cannot_be_read_is_refused(client: Client, body: str) -> None:
    """A change that is refused changes nothing."""
    make(client)
    before = client("POST", "/proxies/web/toxics", {"type": "latency", "attributes": {"latency": 5}})
    assert is_bad_body(client("PATCH", "/proxies/web/toxics/latency_downstream", body))
    assert client("GET", "/proxies/web/toxics/latency_downstream") == before


def test_populate_makes_a_list_of_proxies(client: Client) -> None:
    """All are made, enabled unless told otherwise, and shown in the order of the list."""
    wanted = [
        {"name": "b", "listen": "127.0.0.1:0", "upstream": NOWHERE},
        {"name": "a", "listen": "127.0.0.1:0", "upstream": NOWHERE, "enabled": False},
    ]
    answer = client("POST", "/populate", wanted)
    assert (answer.status, answer.content_type) == (201, "application/json")
    assert [(made["name"], made["enabled"]) for made in answer.json["proxies"]] == [("b", True), ("a", False)]
    assert is_listening(answer.json["proxies"][0]["listen"])


def test_populate_keeps_equal_proxies_and_replaces_others(client: Client) -> None:
    """A proxy with the same addresses keeps its toxics; one with other addresses is new."""
    same, other = make(client, "same"), make(client, "other")
    for name in ("same", "other"):
        client("POST", f"/proxies/{name}/toxics", {"type": "noop"})
    answer = client(
        "POST",
        "/populate",
        [
            {"name": "same", "listen": same["listen"].replace("127.0.0.1", "localhost"), "upstream": NOWHERE},
            {"name": "other", "listen": other["listen"], "upstream": "127.0.0.1:2"},
        ],
    )
    kept, replaced = answer.json["proxies"]
    assert (len(kept["toxics"]), kept["listen"]) == (1, same["listen"])
    assert (replaced["toxics"], replaced["upstream"], replaced["listen"]) == ([], "127.0.0.1:2", other["listen"])


@pytest.mark.parametrize("body", ["", "{}", "[3]", '[{"name":3}]', '[{"name":"a","enabled":"x"}]'])
def test_populate_refuses_a_list_that_cannot_be_read(client: Client, body: str) -> None:
    """One mistake, and nothing is made."""
    answer = client("POST", "/populate", body)
    assert is_bad_body(answer, "application/json")
    assert answer.json["proxies"] is None
    assert client("GET", "/proxies").json == {}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('[{"name":"a"}]', "missing required field: upstream at proxy 1"),
        ('[{"name":"a","listen":"127.0.0.1:0","upstream":"x:1"},{}]', "missing required field: name at proxy 2"),
    ],
)
def test_populate_refuses_a_list_with_a_missing_field(client: Client, body: str, error: str) -> None:
    """One mistake, and nothing is made."""
    answer = client("POST", "/populate", body)
    assert (answer.status, answer.content_type) == (400, "application/json")
    assert answer.json == {"error": error, "status": 400, "proxies": None}
    assert client("GET", "/proxies").json == {}


def test_populate_stops_at_a_proxy_that_cannot_listen(client: Client) -> None:
    """The proxies before it are made and shown, the ones after it are not."""
    wanted = [
        {"name": "a", "listen": "127.0.0.1:0", "upstream": NOWHERE},
        {"name": "b", "listen": "junk", "upstream": NOWHERE},
        {"name": "c", "listen": "127.0.0.1:0", "upstream": NOWHERE},
    ]
    answer = client("POST", "/populate", wanted)
    assert answer.status == 500
    assert answer.json["error"] == "listen tcp: address junk: missing port in address"
    assert [made["name"] for made in answer.json["proxies"]] == ["a"]
    assert list(client("GET", "/proxies").json) == ["a"]


@pytest.mark.parametrize("body", ["[]", "null"])
def test_populate_with_nothing_makes_nothing(client: Client, body: str) -> None:
    """An empty list is valid."""
    assert client("POST", "/populate", body) == (201, '{"proxies":null}', "application/json")


def test_reset_enables_all_proxies_and_removes_all_toxics(client: Client) -> None:
    """After a reset proxies are as after their creation."""
    made = make(client)
    client("POST", "/proxies/web/toxics", {"type": "latency"})
    client("POST", "/proxies/web/toxics", {"type": "timeout", "stream": "upstream"})
    client("PATCH", "/proxies/web", {"enabled": False})
    assert client("POST", "/reset") == (204, "", None)
    assert client("GET", "/proxies/web").json == made
    assert is_listening(made["listen"])


def test_browsers_are_refused(client: Client) -> None:
    """A page in a browser must not control a Toxiproxy on the user's machine."""
    answer = client("GET", "/proxies", headers={"User-Agent": "Mozilla/5.0 (X11)"})
    assert answer == (403, "User agent not allowed\n", "text/plain; charset=utf-8")
    assert client("GET", "/proxies", headers={"User-Agent": "curl/8 Mozilla/5.0"}).status == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics", "/proxies/", "/proxies/a/b", "/proxies/a%2Fb"])
def test_an_unknown_path_is_not_found(client: Client, path: str) -> None:
    """A plain 404. So is /metrics, unless a flag enables it."""
    assert client("GET", path) == (404, "404 page not found\n", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/proxies"), ("POST", "/version"), ("GET", "/reset"), ("HEAD", "/proxies")]
)
def test_an_unknown_method_is_not_allowed(client: Client, method: str, path: str) -> None:
    """405, without a body."""
    assert client(method, path) == (405, "", None)


def test_a_query_is_ignored(client: Client) -> None:
    """Everything after the question mark."""
    assert client("GET", "/proxies?x=/y").body == "{}"


def test_chunked_bodies_and_expect_continue_are_accepted(client: Client, server: ToxiproxyServer) -> None:
    """Together in one request."""
    body = b'{"name":"web","listen":"127.0.0.1:0","upstream":"127.0.0.1:1"}'
    head = b"POST /proxies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((server.api.host, server.api.port), 10) as raw:
        raw.sendall(head)
        assert raw.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n")
        for piece in (body[:20], body[20:], b""):
            raw.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert raw.recv(1000).startswith(b"HTTP/1.1 201 Created\r\n")


def test_a_connection_that_is_not_http_is_answered_and_closed(server: ToxiproxyServer) -> None:
    """With 400; the server still works."""
    with socket.create_connection((server.api.host, server.api.port), 10) as raw:
        raw.sendall(b"\x00\x01\x02\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        while raw.recv(1000):
            pass
    assert server.api.get("/version")


def test_a_reserved_port_can_be_listened_on(client: Client) -> None:
    """The harness reserves the ports of links that are down in this way (Linux)."""
    with reserve_port() as held:
        listen = f"127.0.0.1:{held.getsockname()[1]}"
        assert make(client, listen=listen)["listen"] == listen
        assert is_listening(listen)


def test_accepted_connections_have_no_delay() -> None:
    """On the server's event loop TCP_NODELAY is set: without it small writes wait."""

    async def option() -> int:
        made: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            made.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = await listen_on("127.0.0.1:0")
        async with await asyncio.start_server(accept, sock=listener):
            with socket.create_connection(listener.getsockname()):
                return await made

    assert uvloop.run(option())
