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
    ],
)
def test_a_url_says_where_to_connect(url: str, endpoint: Endpoint) -> None:
    """The port depends on the scheme if it is not given; an IPv6 address has brackets in the Host header only."""
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
