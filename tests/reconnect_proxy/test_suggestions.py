"""Which known word a user probably meant."""

from __future__ import annotations

import pytest

from reconnect_proxy.suggestions import did_you_mean

WORDS = ("grace", "grace-on", "retry-for", "retry-on")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("retry-fro", "did you mean retry-for? "),
        ("grase", "did you mean grace? "),
        ("upstream", ""),
        ("", ""),
    ],
)
def test_the_closest_word_is_suggested(word: str, hint: str) -> None:
    """Nothing is suggested for a word that is like none of them."""
    assert did_you_mean(word, WORDS) == hint
