"""Additions to locust's web UI: a tab with the sums of messages, a tab with the faults, and the faults in its charts.

locust supports further tabs. It does not support changes of its charts: these are made by `marks.js`, a script that is
added to its page.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request
from locust.web import WebUI

from reconnect_harness.load.run import LoadRun
from reconnect_harness.load.settings import UserSettings
from reconnect_harness.load.summary import COLUMNS
from reconnect_harness.load.testbed import FaultTimes

_SCRIPT = Path(__file__).with_name("marks.js")
_ACCOUNTS, _FAULTS = "reconnect-accounts", "reconnect-faults"


def extend(web_ui: WebUI, run: LoadRun) -> None:
    """Add the tabs, the marks in the charts, and a check of the form."""
    app = web_ui.app
    assert app is not None
    web_ui.template_args |= {"extended_tabs": _tabs(), "extended_tables": _tables()}
    pages = Blueprint("reconnect", __name__, url_prefix=run.options.web_base_path or None)

    def script() -> Response:
        return Response(_SCRIPT.read_text(encoding="utf-8"), mimetype="application/javascript")

    def faults() -> Response:
        return jsonify(_marks(run.faults))

    pages.add_url_rule("/reconnect/marks.js", view_func=web_ui.auth_required_if_enabled(script))
    pages.add_url_rule("/reconnect/faults", view_func=web_ui.auth_required_if_enabled(faults))
    app.register_blueprint(pages)

    @app.before_request
    def check_form() -> Response | None:
        if request.endpoint != "locust.swarm":
            return None
        try:
            UserSettings.of(Namespace(**request.form))
        except ValueError as error:
            return jsonify({"success": False, "message": str(error), "host": run.environment.host})
        # locust decides whether a run has a shape before it reads the rest of the form.
        if "shape" in request.form:
            run.choose_shape(request.form["shape"])
        return None

    @app.after_request
    def add(response: Response) -> Response:
        if request.endpoint == "locust.index" and response.mimetype == "text/html":
            script = '<script src="./reconnect/marks.js"></script>'
            response.set_data(response.get_data(as_text=True).replace("</body>", f"{script}</body>"))
        elif request.endpoint == "locust.stats_report" and response.mimetype == "text/html":
            response.set_data(with_marks(response.get_data(as_text=True), run.faults))
        elif request.endpoint == "locust.request_stats" and response.is_json:
            # locust may answer from its cache, which contains the additions of an earlier answer.
            response.set_data(json.dumps({**response.get_json(), "extended_stats": _stats(run)}))
        return response


def with_marks(report: str, faults: Sequence[FaultTimes]) -> str:
    """Return one of locust's reports, HTML, with the faults marked in its charts."""
    # A script element ends at the first `</`, even inside a string.
    marks = json.dumps(_marks(faults)).replace("</", "<\\/")
    script = f"<script>window.reconnectFaults = {marks};\n{_SCRIPT.read_text(encoding='utf-8')}</script>"
    before, body, after = report.rpartition("</body>")
    return f"{before}{script}{body}{after}" if body else report


def mark_report(run: LoadRun) -> None:
    """Mark the faults of a run in the report that locust has written, if it was told to."""
    if run.options.html_file and run.faults:
        report = Path(run.options.html_file)
        report.write_text(with_marks(report.read_text(encoding="utf-8"), run.faults), encoding="utf-8")


def _marks(faults: Sequence[FaultTimes]) -> list[dict[str, Any]]:
    """Return the marks of the charts: when each fault took hold and was cleared, in seconds since 1970."""
    return [
        {"label": str(fault), "from": fault.took_hold, "to": fault.cleared}
        for fault in faults
        if fault.took_hold is not None
    ]


def _tabs() -> list[dict[str, str]]:
    return [{"title": "Messages", "key": _ACCOUNTS}, {"title": "Faults", "key": _FAULTS}]


def _tables() -> list[dict[str, Any]]:
    accounts = [("name", "Class"), *((field, title.capitalize()) for field, title in COLUMNS)]
    # Each table has a first column for the name.
    faults = [("fault", "Fault"), ("began", "Took hold"), ("lasted", "Lasted"), ("problem", "Problem")]
    return [
        {"key": key, "structure": [{"key": field, "title": title} for field, title in columns]}
        for key, columns in ((_ACCOUNTS, accounts), (_FAULTS, faults))
    ]


def _stats(run: LoadRun) -> list[dict[str, Any]]:
    tally = run.tally
    rows = [*tally.sums.items(), ("total", tally.total)]
    accounts = [{"name": name, **{field: getattr(sums, field) for field, _ in COLUMNS}} for name, sums in rows]
    faults = [
        {
            "fault": str(fault),
            "began": _clock(fault.took_hold),
            "lasted": _lasted(fault),
            "problem": fault.problem or "",
        }
        for fault in run.faults
    ]
    return [{"key": _ACCOUNTS, "data": accounts}, {"key": _FAULTS, "data": faults}]


def _clock(moment: float | None) -> str:
    return "never" if moment is None else datetime.fromtimestamp(moment).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _lasted(fault: FaultTimes) -> str:
    if fault.took_hold is None or fault.cleared is None:
        return ""
    return f"{fault.cleared - fault.took_hold:.2f} s"
