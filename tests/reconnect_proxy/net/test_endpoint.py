"""What the URL of an upstream says."""

from __future__ import annotations

import pytest

from reconnect_proxy.net.endpoint import Endpoint, endpoint_of, join_target


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("ws://h", Endpoint("h", 80, "h", "", False)),
        ("wss://h/base/", Endpoint("h", 443, "h", "/base/", True)),
        ("ws://[::1]:8080/a", Endpoint("::1", 8080, "[::1]:8080", "/a", False)),
        ("ws://127.0.0.1:80", Endpoint("127.0.0.1", 80, "127.0.0.1", "", False)),
        ("ws://[::1]:80", Endpoint("::1", 80, "[::1]", "", False)),
        ("ws://[::1]", Endpoint("::1", 80, "[::1]", "", False)),
        ("ws://Name.example:", Endpoint("name.example", 80, "Name.example", "", False)),
        ("wss://h:443/a", Endpoint("h", 443, "h", "/a", True)),
        ("wss://h:80", Endpoint("h", 80, "h:80", "", True)),
        ("ws://h:443", Endpoint("h", 443, "h:443", "", False)),
        ("ws://h:00080", Endpoint("h", 80, "h", "", False)),
    ],
)
def test_a_url_says_where_to_connect(url: str, endpoint: Endpoint) -> None:
    """The Host header has no default port (RFC 6455 section 4.1), and brackets around an IPv6 address."""
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    ("url", "target", "expected"),
    [
        ("ws://h:1", "/", "/"),
        ("ws://h:1", "/a?b=c", "/a?b=c"),
        ("ws://h:1/", "/a", "/a"),
        ("ws://h:1/base", "/", "/base"),
        ("ws://h:1/base", "/?q", "/base?q"),
        ("ws://h:1/base", "/a", "/base/a"),
        ("ws://h:1/base/", "/a", "/base/a"),
        ("ws://h:1/base/", "/", "/base/"),
    ],
)
def test_the_clients_path_is_put_behind_the_upstreams(url: str, target: str, expected: str) -> None:
    """Path and query arrive as the client wrote them, below the base."""
    assert join_target(url, target) == expected
