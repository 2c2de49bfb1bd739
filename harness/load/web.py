"""What is added to locust's web UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from locust.web import WebUI

if TYPE_CHECKING:
    from harness.load.run import Run


def extend(web_ui: WebUI, run: Run) -> None:
    """Add what there is to see of a WebSocket load."""
