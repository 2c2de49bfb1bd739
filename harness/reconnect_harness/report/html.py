"""report.html: a run as one page, which opens anywhere and fetches nothing.

It is made from the files of a run, `history.jsonl` and `results.json`, and so can be made again. Texts and tables are
HTML that is made here; the scripts in `page/` draw the diagram and the charts from the numbers of `report.chart`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from reconnect_harness.checks.judgement import Verdict, is_size, is_timed
from reconnect_harness.checks.percentile import percentile
from reconnect_harness.checks.stream_account import Flaw
from reconnect_harness.checks.traces import Trace, traces
from reconnect_harness.history.audience import Audience
from reconnect_harness.history.history import History
from reconnect_harness.history.message import Direction
from reconnect_harness.report import series
from reconnect_harness.report.chart import picture, recoveries

#: The name of the page in a run's folder.
PAGE = "report.html"

#: How many violations are listed.
LISTED = 200

_SCRIPTS = ("view.js", "diagram.js", "charts.js")
_SIGNS = {Verdict.VALID: "✓", Verdict.INVALID: "✕", Verdict.UNKNOWN: "?"}
_MEANINGS = {
    Verdict.VALID: "Every expectation of the scenario was met.",
    Verdict.INVALID: "An expectation of the scenario was not met:",
    Verdict.UNKNOWN: "The run proves nothing:",
}
_WORDS = {flaw: "repeated" if flaw is Flaw.DUPLICATED else str(flaw) for flaw in Flaw}


class ReportError(Exception):
    """No report can be made of a folder. The message says why."""


def make(folder: Path) -> Path:
    """Make the report of the run in `folder` and return its path.

    Raises:
        ReportError: the folder has no history.jsonl and results.json, or they cannot be read.

    """
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        shapes = {shape: results.get(shape, False) for shape in ("echoed", "shared")}
        audience = Audience.from_spec(results.get("audience"))
        history = History.read(folder / "history.jsonl", audience=audience, **shapes)
        return write(folder, history, results)
    except FileNotFoundError as error:
        raise ReportError(f"{folder} holds no run: there is no {Path(error.filename).name} in it") from None
    except OSError as error:
        raise ReportError(f"{folder}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{folder} holds a run that cannot be read: {error}") from None


def write(folder: Path, history: History, results: dict[str, Any]) -> Path:
    """Write the report of a run into its folder and return its path. `results` is the content of results.json."""
    path = folder / PAGE
    path.write_text(page(history, results), encoding="utf-8")
    return path


def page(history: History, results: dict[str, Any]) -> str:
    found = traces(history)
    text = _PageText(history, results, found)
    drawn = picture(history, found, proxied=text.proxied)
    drawn["failed"] = sorted(text.failed)
    return Template(_part("page.html")).substitute(
        title=escape(f"{results['scenario']}: {results['verdict']}"),
        name=escape(results["scenario"]),
        summary=escape(results["summary"]),
        style=_part("page.css"),
        script="\n".join(map(_part, _SCRIPTS)),
        # In a script element only "</" and "<!--" are more than text.
        data=json.dumps(drawn, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        verdict=text.verdict(),
        checks=text.checks(),
        directions=text.directions(drawn),
        facts=text.facts(),
        setup=text.setup(),
        faults=text.faults(),
        wrong=text.wrong(),
        drawn=escape(text.drawn(drawn["every"])),
        picture_alt=escape(text.in_words(drawn)),
        middle="proxy" if text.proxied and not history.echoed else "network",
    )


class _PageText:
    """The texts and tables of the page."""

    def __init__(self, history: History, results: dict[str, Any], found: Sequence[Trace]) -> None:
        self._history = history
        self._results = results
        self._found = found
        self.proxied = not results["system_under_test"].startswith("none")
        #: The flaws that make the run invalid, as `lost c2u`.
        self.failed = {
            f"{check['check']} {check['direction']}"
            for check in results["checks"]
            if check["verdict"] == Verdict.INVALID and check["direction"]
        }

    def verdict(self) -> str:
        """Return the verdict and its reasons."""
        verdict = Verdict(self._results["verdict"])
        reasons = [
            f"{_label(check)}: {_value(check, check['value'])}, and may be {_value(check, check['bound'])}"
            for check in self._results["checks"]
            if check["verdict"] == Verdict.INVALID
        ]
        reasons += [f"nothing is proven: {doubt}" for doubt in self._results["doubts"]]
        return (
            f'<p class="verdict {verdict}" id="verdict"><span aria-hidden="true">{_SIGNS[verdict]}</span> {verdict}</p>'
            f"<div><p><strong>{_MEANINGS[verdict]}</strong></p>"
            + (f"<ul>{''.join(f'<li>{escape(reason)}</li>' for reason in reasons)}</ul>" if reasons else "")
            + f'<p id="counted">{escape(self._counted())}</p>'
            + f'<p class="quiet">{escape(self._results["proven"])}.</p></div>'
        )

    def _counted(self) -> str:
        held = sum(1 for trace in self._found if self._against(trace))
        reported = sum(1 for trace in self._found if trace.flaws and not self._against(trace))
        words = _messages(held, "wrong ")
        return words + (f", and {reported:,} with a flaw that the scenario allows." if reported else ".")

    def _against(self, trace: Trace) -> list[Flaw]:
        """Return the flaws of a trace that make the run invalid."""
        return [flaw for flaw in trace.flaws if f"{flaw} {trace.direction}" in self.failed]

    def checks(self) -> str:
        rows = []
        for check in self._results["checks"]:
            bound = check["bound"]
            verdict = "reported" if bound is None else check["verdict"]
            sign = "" if bound is None else f"{_SIGNS[Verdict(check['verdict'])]} "
            rows.append(
                f'<tr class="{verdict}"><th scope="row">{_label(check)}</th><td>{_value(check, check["value"])}</td>'
                f"<td>{'–' if bound is None else _value(check, bound)}</td><td>{sign}{verdict}</td></tr>"
            )
        return _table(("check", "found", "may be", "verdict"), rows)

    def directions(self, drawn: dict[str, Any]) -> str:
        """Return the table of directions: counts, latency, the deepest queue."""
        rows = []
        for direction, words in ((Direction.C2U, "client to upstream"), (Direction.U2C, "upstream to client")):
            found = [trace for trace in self._found if trace.direction is direction]
            if not found:
                continue
            counts = {flaw: sum(1 for trace in found if flaw in trace.flaws) for flaw in Flaw}
            took = series.summary([trace.travel for trace in found if trace.travel is not None])
            depth, fine = drawn["depth"][direction], drawn["fine"]
            deepest = max(depth)
            when = fine["start"] + depth.index(deepest) * fine["step"]
            cells = [f"{sum(1 for trace in found if trace.first):,}"]
            cells += [f"{counts[flaw]:,}" for flaw in Flaw]
            cells += [_seconds(value) for value in took] if took else ["–"] * 3
            cells.append(f"{deepest:,} at {when:.2f} s")
            rows.append(
                f'<tr><th scope="row"><span class="key {direction}"></span>{direction} <small>{words}</small></th>'
                + "".join(f"<td>{cell}</td>" for cell in cells)
                + "</tr>"
            )
        heads = ("direction", "sent", *(_WORDS[flaw] for flaw in Flaw), "latency p50", "p99", "max", "deepest queue")
        return _table(heads, rows)

    def facts(self) -> str:
        """Return what was tested, the versions, and the command that repeats the run."""
        results = self._results
        versions = results.get("versions", {})
        facts = [
            ("system under test", f"<code>{escape(results['system_under_test'])}</code>"),
            ("Toxiproxy", escape(results["toxiproxy"] or "not needed")),
            ("seed", str(results["seed"])),
            ("traffic", f"{results['seconds']:.1f} s"),
            ("versions", escape(", ".join(f"{name} {number}" for name, number in versions.items()))),
        ]
        if results.get("repeat"):
            facts.append(("run it again", f"<code>{escape(results['repeat'])}</code>"))
        return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)

    def setup(self) -> str:
        """Return the description of the scenario, line by line, if the results have it."""
        lines = self._results.get("setup", [])
        return "\n".join(escape(line) for line in lines) or "(these results have no description)"

    def faults(self) -> str:
        """Return the table of faults."""
        rows = []
        for fault, recovered in recoveries(self._history):
            times = [self._at(t) for t in (fault.asked, fault.took_hold, fault.cleared)]
            p50, slowest = percentile(recovered, 0.5), percentile(recovered, 1.0)
            shown = slowest if slowest and math.isfinite(slowest) else 0.0
            cells = [*times, _seconds(p50), _seconds(slowest)]
            if fault.problem:
                cells[-1] += f" ({escape(fault.problem)})"
            since = fault.asked - self._history.start
            till = since if fault.cleared is None else fault.cleared - self._history.start
            rows.append(
                f'<tr><th scope="row">{escape(fault.name)} {escape(fault.target)}</th>'
                + "".join(f"<td>{cell}</td>" for cell in cells)
                + f"<td>{self._show(since, till + shown)}</td></tr>"
            )
        if not rows:
            return "<p>There were no faults.</p>"
        heads = ("fault", "asked for", "took hold", "cleared", "recovery p50", "slowest stream", "")
        return _table(heads, rows)

    def wrong(self) -> str:
        """Return the lists of violations: first those that make the run invalid, then, folded, those that do not."""
        held = [trace for trace in self._found if self._against(trace)]
        allowed = [trace for trace in self._found if trace.flaws and not self._against(trace)]
        parts = [self._traces(held, "wrong") if held else "<p>No message was wrong.</p>"]
        # The checks of one direction are about messages, which are listed already.
        others = [check for check in self._results["checks"] if not check["direction"] and check["wrong"]]
        parts += [
            f"<h3>{_label(check)}: {_value(check, check['value'])}</h3>{self._sentences(check)}"
            for check in others
            if check["verdict"] == Verdict.INVALID
        ]
        if allowed:
            inside = self._traces(allowed, "allowed")
            parts.append(_folded(f"{_messages(len(allowed))} with a flaw that the scenario allows", inside))
        parts += [
            _folded(
                f"{_label(check)}: {_value(check, check['value'])}, which the scenario allows", self._sentences(check)
            )
            for check in others
            # Times are in the tables; every run has slowest messages.
            if check["verdict"] != Verdict.INVALID and not is_timed(check["check"])
        ]
        return "".join(parts)

    def _traces(self, found: Sequence[Trace], kind: str) -> str:
        rows = []
        for trace in found[:LISTED]:
            what = ", ".join(_WORDS[flaw] for flaw in trace.flaws) + (f": {trace.what}" if trace.what else "")
            cells = [
                f"{trace.direction} {escape(trace.session)}",
                f"{trace.number:,}",
                f"{trace.size:,} B",
                "never" if trace.sent is None else f"{trace.sent:.3f} s",
                "never" if trace.arrived is None else f"{trace.arrived:.3f} s",
                escape(what),
                self._on(trace.t),
                self._show(trace.t if trace.sent is None else trace.sent, trace.t, trace.session),
            ]
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        more = len(found) - LISTED
        note = f"<p>… and {more:,} more, which are in history.jsonl.</p>" if more > 0 else ""
        heads = ("stream", "number", "size", "sent", "arrived", "what is wrong", "faults on, or just over", "")
        return _table(heads, rows, kind) + note

    def _sentences(self, check: dict[str, Any]) -> str:
        listed = check["wrong"][:LISTED]
        rows = [
            f"<tr><td>{wrong['t']:.3f} s</td><td>{escape(wrong['what'])}</td><td>{self._on(wrong['t'])}</td>"
            f"<td>{self._show(wrong['t'], wrong['t'])}</td></tr>"
            for wrong in listed
        ]
        return _table(("at", "what", "faults on, or just over", ""), rows)

    def _on(self, t: float) -> str:
        faults = self._history.faults_on(t + self._history.start)
        return escape(", ".join(f"{fault.name} {fault.target}" for fault in faults)) or "–"

    def _at(self, t: float | None) -> str:
        return "never" if t is None else f"{t - self._history.start:.3f} s"

    @staticmethod
    def _show(since: float, till: float, session: str = "") -> str:
        """Return a button that moves the diagram to a span of time, with some room around it."""
        return (
            f'<button type="button" class="show" data-from="{since - 0.3:.4f}" data-to="{till + 0.3:.4f}" '
            f'data-session="{escape(session)}">show</button>'
        )

    def drawn(self, every: int) -> str:
        """Return a sentence that says how many of the messages are drawn."""
        if every == 1:
            return "Every message is drawn."
        return f"One message in {every} is drawn, and all wrong ones; the charts below count all messages."

    def in_words(self, drawn: dict[str, Any]) -> str:
        """Return what the diagram shows in words, for screen readers."""
        faults = ", ".join(
            f"{fault['name']} {fault['target']} from {fault['from']:.2f} s"
            for fault in drawn["faults"]
            if fault["from"] is not None
        )
        queues = "; ".join(f"{direction} at most {max(depth):,}" for direction, depth in drawn["depth"].items())
        return (
            f"Space-time diagram of {len(self._found):,} messages from {drawn['start']:.1f} to {drawn['end']:.1f} s. "
            f"Faults: {faults or 'none'}. Messages in flight: {queues or 'none'}. "
            "The tables of directions, faults and wrong messages have the numbers."
        )


def _part(name: str) -> str:
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")


def _table(heads: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{title}</summary>{inside}</details>"


def _messages(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}message{'s' * (count != 1)}"


def _label(check: dict[str, Any]) -> str:
    return f"{check['check']} {check['direction']}" if check["direction"] else str(check["check"])


def _value(check: dict[str, Any], value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return "nothing to measure" if value is None else value
    if is_size(check["check"]):
        return f"{value / 1e6:,.0f} MB"
    return _seconds(value) if is_timed(check["check"]) else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value == float("inf"):
        return "never"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.2f} s"
