"""The causes for which tests were skipped, at the end of a run."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("options", [(), ("--numprocesses", "2")], ids=["alone", "xdist"])
def test_skipped_tests_are_told_by_cause(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    """The cause that skipped most comes first, with the modules and how many of each."""
    pytester.makepyfile(
        test_one="""
            import pytest

            @pytest.mark.parametrize("number", range(3))
            def test_a(number):
                pytest.skip("no engine")

            @pytest.mark.skipif(True, reason="no browser")
            def test_b(): ...

            def test_c(): ...
            """,
        test_two="""
            import pytest

            @pytest.mark.skip(reason="no engine")
            def test_d(): ...
            """,
    )
    done = pytester.runpytest_subprocess("-p", "tests.skipped", *options)
    done.stdout.fnmatch_lines(["*= 5 skipped, by cause =*", "4 skipped: no engine", "1 skipped: no browser"])
    assert done.stdout.lines.count("      3 in test_one.py") == 1
    assert done.stdout.lines.count("      1 in test_one.py") == 1
    assert done.stdout.lines.count("      1 in test_two.py") == 1


def test_nothing_is_told_where_nothing_was_skipped(pytester: pytest.Pytester) -> None:
    """There is no heading over nothing."""
    pytester.makepyfile("def test_a(): ...")
    done = pytester.runpytest_subprocess("-p", "tests.skipped")
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*by cause*")
