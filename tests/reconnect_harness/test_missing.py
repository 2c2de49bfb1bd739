"""The sentence for a package that is not installed."""

from __future__ import annotations

import pytest

from reconnect_harness.missing import missing


def test_a_module_of_our_own_that_is_missing_is_an_error_in_this_program() -> None:
    """No package that could be installed would help."""
    with pytest.raises(ModuleNotFoundError, match=r"reconnect_harness\.nothing"):
        missing(ModuleNotFoundError("No module named 'reconnect_harness.nothing'", name="reconnect_harness.nothing"))
