"""Which codes and reasons a close frame may carry."""

from __future__ import annotations

import pytest

from reconnect_proxy.close_codes import REASON_LIMIT, check_close_code, cut_reason


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 3999, 4000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    """The bounds of each range of RFC 6455 section 7.4, and of IANA's registry."""
    assert check_close_code(code) == code


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
def test_codes_that_may_not_be_sent(code: int) -> None:
    """1005, 1006 and 1015 stand for a close without a frame."""
    with pytest.raises(ValueError, match=f"{code} is not a close code that may be sent: 1000 to 1003, "):
        check_close_code(code)


@pytest.mark.parametrize("letter", ["a", "é", "€", "🙂"])
def test_a_long_reason_is_cut_between_characters(letter: str) -> None:
    """As many whole characters as fit."""
    size = len(letter.encode())
    assert cut_reason(letter * 200) == letter * (REASON_LIMIT // size)
    assert cut_reason(letter) == letter
