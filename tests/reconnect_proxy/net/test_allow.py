"""Which origins and which paths are let in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from multidict import CIMultiDict

from reconnect_proxy.core.wire import Refusal
from reconnect_proxy.net.allow import check_origin, check_origin_pattern, check_path, check_path_pattern
from reconnect_proxy.net.head import RequestHead


def origin_allowed(allowed: Sequence[str], *origins: str) -> bool:
    """Tell whether a handshake with these Origin headers is let in."""
    head = RequestHead("/", CIMultiDict([("Origin", origin) for origin in origins]))
    try:
        check_origin(head, [check_origin_pattern(pattern) for pattern in allowed])
    except Refusal as refusal:
        assert (refusal.status, refusal.error) == (403, "origin-not-allowed")
        return False
    return True


def path_status(target: str, *allowed: str) -> int:
    """Return 0 where a path is let in, and else the status that it is refused with."""
    try:
        check_path(RequestHead(target, CIMultiDict()), [check_path_pattern(pattern) for pattern in allowed])
    except Refusal as refusal:
        return int(refusal.status)
    return 0


@pytest.mark.parametrize(
    ("allowed", "origin", "passes"),
    [
        ("https://app.example.com", "https://app.example.com", True),
        ("https://App.Example.com", "HTTPS://app.example.COM", True),
        ("https://app.example.com", "http://app.example.com", False),
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "https://app.example.com.evil.org", False),
        ("https://app.example.com", "https://evil.org/https://app.example.com", False),
        ("https://app.example.com", "null", False),
        ("https://app.example.com", "", False),
        ("https://*.example.com", "https://app.example.com", True),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evilexample.com", False),
        ("https://*.example.com", "https://.example.com", True),
        ("https://*.example.com", "http://app.example.com", False),
        ("https://*.example.com", "https://app.example.com:8443", False),
        ("https://*.example.com", "https://evil.org/.example.com", False),
        ("https://*.example.com", "https://evil.org#.example.com", False),
        ("https://*.example.com", "https://user@evil.org:1.example.com", False),
        ("https://*.example.com:8443", "https://app.example.com:8443", True),
        ("http://[::1]:80", "http://[::1]:80", True),
        ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080", True),
        ("http://[0::1]", "http://[::1]:80", True),
        ("https://app.example.com:443", "https://app.example.com", True),
        ("https://app.example.com", "https://app.example.com:443", True),
        ("https://app.example.com:80", "https://app.example.com", False),
        ("http://*.example.com:80", "http://app.example.com", True),
        ("wss://app.example.com:443", "wss://app.example.com", True),
        ("https://app.example.com:08443", "https://app.example.com:8443", True),
        ("https://app.example.com", "https://app.example.com:70000", False),
        ("*", "https://app.example.com:70000", True),
        ("https://m\xfcnchen.example", "https://xn--mnchen-3ya.example", True),
        ("app://x", "app://x", True),
        ("app://x", "app://y", False),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh", True),
        ("file://", "file://", True),
        ("FILE://", "file://", True),
        ("file://", "null", False),
        ("file://", "file://host", False),
        ("null", "null", True),
        ("null", "https://app.example.com", False),
        ("*", "https://anything.org", True),
        ("*", "null", True),
    ],
)
def test_an_origin_must_be_on_the_list(allowed: str, origin: str, passes: bool) -> None:
    """Exactly, or below a domain with the same scheme and port."""
    assert origin_allowed([allowed], origin) is passes


def test_origins_are_no_matter_without_a_list_or_without_an_origin() -> None:
    """Programs send none; two of them are none that could be checked."""
    assert origin_allowed([], "https://evil.org", "https://evil.org")
    assert origin_allowed(["https://app.example.com"])
    assert not origin_allowed(["https://app.example.com"], "https://app.example.com", "https://evil.org")
    assert not origin_allowed(["*"], "https://app.example.com", "https://app.example.com")


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "app.example.com",
        "https://app.example.com/",
        "https://*",
        "https://a.*.com",
        "*.example.com",
        "https://a b",
        "https://",
        "ws://",
        "http://a:70000",
        "file:///",
        "http://[::g]",
        "app:x",
    ],
)
def test_a_pattern_that_no_origin_has_is_refused(pattern: str) -> None:
    """A list that silently allows nothing would not help."""
    with pytest.raises(ValueError, match="is not an origin"):
        check_origin_pattern(pattern)


@pytest.mark.parametrize(
    "target",
    [
        "/../admin",
        "/chat/..",
        "/chat/../../admin",
        "/./admin",
        "/.",
        "/chat/%2e%2e/admin",
        "/chat/.%2E/admin",
        "/chat/%252e%252e/admin",
        "/chat/%25252e%25252e/admin",
        "/chat/..%2fadmin",
        "/chat%2f..%2fadmin",
        "/chat/..\\admin",
        "/chat%5c..%5cadmin",
        "/chat/..;/admin",
        "/chat/..;x=y/admin",
        "/chat/%2e%2e%3b/admin",
    ],
)
@pytest.mark.parametrize("allowed", [(), ("*",), ("/chat/*",)])
def test_no_path_climbs(target: str, allowed: tuple[str, ...]) -> None:
    """In every spelling and with every list: the path could leave its upstream's base path."""
    assert path_status(target, *allowed) == 400


@pytest.mark.parametrize(
    "target", ["/", "//", "/...", "/..a", "/a..", "/a/.b", "/%", "/a%2fb", "/?../..", "/a;/b", "*"]
)
def test_other_paths_pass_where_all_are_allowed(target: str) -> None:
    """Dots within a name are a name's, and the query is the upstream's business."""
    assert path_status(target) == 0


@pytest.mark.parametrize(
    ("target", "allowed", "status"),
    [
        ("/chat", ["/chat"], 0),
        ("/chat?x=/admin", ["/chat"], 0),
        ("/ch%61t", ["/chat"], 0),
        ("/chat", ["/ch%61t"], 0),
        ("/chat/", ["/chat"], 403),
        ("/Chat", ["/chat"], 403),
        ("/chat/a/b", ["/chat"], 403),
        ("/chat/a/b", ["/chat/*"], 0),
        ("/chat", ["/chat/*"], 403),
        ("/chatter", ["/chat*"], 0),
        ("/admin", ["/chat", "/chat/*"], 403),
        ("/admin;/chat/", ["/chat/*"], 403),
        ("//chat", ["/chat"], 403),
        ("/%63hat/%C3%A4", ["/chat/*"], 0),
        ("/chat%2fa", ["/chat/*"], 400),
        ("/chat/a%5Cb", ["/chat/*"], 400),
        ("/chat/a\\b", ["/chat/*"], 400),
        ("/chat/%00", ["/chat/*"], 400),
        ("/chat/%25", ["/chat/*"], 400),
        ("/chat/%zz", ["/chat/*"], 400),
        ("/chat/%a", ["/chat/*"], 400),
        ("*", ["/*"], 403),
        ("*", ["*"], 0),
        ("/any", ["*"], 0),
    ],
)
def test_a_path_must_be_on_the_list(target: str, allowed: list[str], status: int) -> None:
    """Compared decoded; where a decoded path could mean two things it is refused."""
    assert path_status(target, *allowed) == status


@pytest.mark.parametrize(
    "pattern", ["", "chat", "/a*b", "/*/b", "/a?b", "/a#b", "/a b", "/a/../b", "/a%2fb", "/%zz", "**"]
)
def test_a_pattern_that_no_path_has_is_refused(pattern: str) -> None:
    """Otherwise the user would believe that it allows something."""
    with pytest.raises(ValueError, match="write /chat"):
        check_path_pattern(pattern)


def test_a_path_that_is_encoded_again_and_again_is_refused() -> None:
    """Three layers are looked through; undoing as many as fit a head would cost time that grows with their square."""
    assert path_status("/%252541") == 0
    assert path_status("/%25252541") == 400
    assert path_status("/%" + "25" * 8000 + "2e") == 400
