"""Plots are made with matplotlib, which is needed for nothing else, and may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class PlotsUnavailable(Exception):
    """matplotlib is not installed. The message is a sentence that says what to do."""


@contextmanager
def new_figures(salt: str, **style: Any) -> Iterator[Any]:
    """Yield matplotlib's class `Figure`, for figures that are saved as SVG while the context lasts.

    Text is saved as text, and two runs with the same numbers make the same file. `salt` names the kind of plot; `style`
    has further settings of matplotlib.

    Raises:
        PlotsUnavailable: matplotlib is not installed.

    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotsUnavailable(
            "there are no plots, since matplotlib is not installed: pip install 'reconnect-proxy[bench]'"
        ) from None
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9, **style}
    with mpl.rc_context(settings):
        yield Figure
