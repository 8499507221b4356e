"""``report.html`` of a study: one file, whole in itself, to be read on a screen, light or dark, or printed on A4."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from .. import __version__
from ..errors import MissingPackageError
from ..inference.report_page import PAGE_STYLE
from ..inference.results import RESEARCH_NOTE
from .analysis import Analysis
from .report_examples import CAPTION, Example
from .report_plots import box_plot, calibration_plot, difference_plot, learning_plot, roc_plot
from .report_tables import (
    Table,
    calibration_table,
    comparison_tables,
    learning_table,
    result_tables,
    transferability_table,
)
from .report_words import CITATION, conclusion, incompleteness, methods, question

_STYLE = """
:root { --ink: #1a1a1a; --faint: #5c5c5c; --rule: #d8d8d8; --page: #fff; --box: #f3f3f1; --alarm: #8a3b00;
  color-scheme: light dark; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e3; --faint: #a3a3a0; --rule: #3d3d3d; --page: #161616; --box: #242424; --alarm: #ffb07a; } }
html { background: var(--page); }
body { color: var(--ink); background: var(--page); padding: 4mm 4mm; max-width: 210mm; }
header { border-color: var(--ink); flex-wrap: wrap; gap: 1mm 5mm; }
h2 { font-size: 12.5pt; margin: 7mm 0 1.5mm; break-after: avoid; }
h3 { font-size: 9.5pt; margin: 4mm 0 1mm; break-after: avoid; }
h3 .faint { font-weight: normal; font-size: 8.5pt; padding-left: 1.5mm; }
p { margin: 1mm 0; max-width: 180mm; }
.warning { color: var(--alarm); }
.faint, dt, th { color: var(--faint); }
.alarm { border: 0.4mm solid var(--alarm); padding: 2mm 3mm; margin: 3mm 0; max-width: none; }
.conclusions { padding: 0; margin: 1.5mm 0; list-style: none; font-size: 9.5pt; }
.conclusions li { background: var(--box); padding: 1.8mm 3mm; margin: 0 0 1.2mm;
  border-left: 1.2mm solid var(--faint); }
.conclusions li.better, .conclusions li.worse { border-left-color: var(--ink); }
.wide { overflow-x: auto; }
table { font-size: 8.5pt; width: auto; min-width: 55%; }
th, td { text-align: right; padding: 0.8mm 2.2mm; }
th { border-color: var(--ink); padding-bottom: 1mm; }
td { border-color: var(--rule); }
th.text, td.text { text-align: left; padding-left: 2.2mm; }
th:first-child, td:first-child { padding-left: 0; }
td { white-space: nowrap; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 25mm; }
td span { display: block; color: var(--faint); font-size: 7.5pt; }
.note { font-size: 8pt; color: var(--faint); margin: 1mm 0 3mm; }
svg { display: block; width: 100%; height: auto; margin: 1mm 0 2mm; font-family: Arial, "Liberation Sans", sans-serif;
  break-inside: avoid; }
.chain { display: flex; flex-wrap: wrap; align-items: stretch; gap: 1.2mm 0; margin: 0 0 1mm; }
.chain div { background: var(--box); padding: 1.2mm 2.2mm; max-width: 62mm; font-size: 8.5pt; overflow-wrap: anywhere; }
.chain div b { display: block; font-weight: normal; font-size: 7.5pt; color: var(--faint); }
.chain i { align-self: center; padding: 0 1.4mm; font-style: normal; color: var(--faint); }
.arm { break-inside: avoid; margin-bottom: 3mm; }
.settings { overflow-wrap: anywhere; }
.settings dd { min-width: 0; }
.examples { display: grid; gap: 4mm; }
.example { break-inside: avoid; }
.example .pictures { display: flex; flex-wrap: wrap; gap: 2mm; margin-top: 1mm; }
.example figure { width: 43mm; }
.example img { width: 100%; display: block; background: #000; }
.example figcaption { font-size: 8pt; color: var(--faint); overflow-wrap: anywhere; }
code { font-family: "DejaVu Sans Mono", Consolas, monospace; font-size: 7.5pt; overflow-wrap: anywhere; }
details summary { cursor: pointer; font-size: 8.5pt; color: var(--faint); }
section { break-inside: auto; }
@media print { body { padding: 0; max-width: none; } .wide { overflow: visible; break-inside: avoid; }
  p { break-inside: avoid; }
  table { font-size: 7.8pt; } th, td { padding: 0.6mm 1.3mm; } td { white-space: normal; } h2 { margin-top: 5mm; } }
"""
_SHORT = 12  # digits of a hash that are shown
_NAMED_GAPS = 200


def report_html(
    analysis: Analysis, data: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]], shown: Sequence[Example]
) -> str:
    """The page as text. ``data`` and ``arms`` are of :mod:`.facts`, ``shown`` of :mod:`.report_examples`."""
    title = escape(analysis.result.study.name)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>Study {title}</title><style>{PAGE_STYLE}{_STYLE}</style></head><body>",
        f'<header><h1>{title}</h1><span class="warning">{RESEARCH_NOTE}</span></header>',
        *_opening(analysis),
        *_data(analysis, data, arms),
        *_arms(analysis, arms),
        *_results(analysis),
        *_examples(shown),
        *_failures(analysis),
        *_how(analysis, data, arms),
        f"<footer><span>{escape(_joined(f'XTL {__version__}', analysis.result.facts.get('date')))}</span>"
        f"<span>{RESEARCH_NOTE}.</span></footer>",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _opening(analysis: Analysis) -> Iterator[str]:
    missing = incompleteness(analysis)
    if missing:
        yield f'<p class="alarm"><b class="warning">Incomplete.</b> {escape(missing)}</p>'
    yield f"<h2>The question</h2><p>{escape(question(analysis))}</p>"
    if analysis.comparisons:
        yield '<ul class="conclusions">'
        for found in analysis.comparisons:
            words = escape(conclusion(found, analysis.result.study.alpha))
            yield f'<li class="{found.verdict.replace(" ", "-")}">{words}</li>'
        yield "</ul>"
    yield f'<p class="note">Power: {escape(analysis.power)}</p>'


def _data(analysis: Analysis, data: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    study = analysis.result.study
    things = "findings" if analysis.result.task == "classification" else "cases"
    entries = [("Target", _joined(data.get("name"), data.get("layout"), data.get("description")))]
    counts = f"{data.get('cases', '?')} {things} of {data.get('patients', '?')} patients"
    if "positives" in data:
        counts += f", {data['positives']} positive"
    entries.append(("Size", counts))
    if data.get("channels"):
        entries.append(("Channels", ", ".join(map(str, data["channels"]))))
    repeats = f", dealt {study.repeats} times" if study.repeats > 1 else ""
    entries.append(("Folds", f"{study.folds}, grouped by patient, the same for every arm{repeats}"))
    entries.append(("Seeds", ", ".join(map(str, study.seeds))))
    entries.append(("Unit of analysis", study.unit))
    licences = dict.fromkeys([str(data.get("licence") or "")] + [
        str(stage.get("licence") or "") for facts in arms.values() for stage in facts.get("stages", ())
    ])  # fmt: skip
    entries += [("Licence", licence) for licence in licences if licence]
    if data.get("note"):
        entries.append(("Note", str(data["note"])))
    yield f"<section><h2>The data</h2>{_definitions(entries)}</section>"


def _arms(analysis: Analysis, arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "<section><h2>The arms</h2>"
    for name in analysis.result.names:
        facts = arms.get(name, {})
        about = [f"chain {_code(facts['hash'])}"] if facts.get("hash") else []
        about += [escape(str(facts[key])) for key in ("backbone", "conversion") if facts.get(key)]
        if facts.get("seconds") is not None:
            about.append(f"{float(facts['seconds']) / 60:.1f} min over all runs")
        yield f'<div class="arm"><h3>{escape(name)} <span class="faint">{", ".join(about)}</span></h3>'
        boxes = []
        for stage in facts.get("stages", ()):
            kind = escape(str(stage.get("kind", "stage")))
            digest = f" {_code(stage['hash'])}" if stage.get("hash") else ""
            boxes.append(f"<div><b>{kind}{digest}</b>{escape(str(stage.get('title', '')))}</div>")
        yield f'<div class="chain">{"<i>→</i>".join(boxes)}</div>' if boxes else ""
        if facts.get("note"):
            yield f'<p class="note">{escape(str(facts["note"]))}</p>'
        yield "</div>"
    yield "</section>"


def _results(analysis: Analysis) -> Iterator[str]:
    tables = list(result_tables(analysis))
    yield "<section><h2>Results</h2>"
    yield _table(tables[0])
    yield _plot(lambda: box_plot(analysis), _box_words(analysis))
    yield "</section>"
    differences = list(comparison_tables(analysis))
    if differences:
        yield "<section><h2>Differences</h2>"
        yield _table(differences[0])
        behind = "units" if analysis.result.task == "segmentation" else "test folds"
        caption = f"Bar: the difference and its interval. Points: {behind}. Right of 0 the first of a pair is higher."
        yield _plot(lambda: difference_plot(analysis), caption)
        yield from map(_table, differences[1:])
        yield "</section>"
    learning = learning_table(analysis)
    if learning is not None:
        yield "<section><h2>Learning curves</h2>"
        yield _plot(lambda: learning_plot(analysis), "Bars: intervals, pointwise; points of one size side by side.")
        yield _table(learning)
        yield "</section>"
    if analysis.result.task == "classification":
        yield "<section><h2>ROC curves</h2>"
        level = f"{analysis.result.study.level:.0%}"
        caption = f"Bands hold at each point with {level}, not for a curve as a whole. Grey: the other arms."
        yield _plot(lambda: roc_plot(analysis), caption)
        yield "</section><section><h2>Calibration</h2>"
        yield _table(_untitled(calibration_table(analysis)))
        caption = (
            "Observed share of positives by predicted probability; bars: Wilson intervals, findings as independent."
        )
        yield _plot(lambda: calibration_plot(analysis), caption)
        yield "</section>"
    else:
        yield "<section><h2>All figures</h2>"
        yield from map(_table, tables[1:])
        yield "</section>"
    scores = transferability_table(analysis)
    if scores is not None:
        yield f"<section><h2>{escape(scores.title)}</h2>"
        yield _table(_untitled(scores))
        yield "</section>"


def _box_words(analysis: Analysis) -> str:
    if analysis.result.task == "classification":
        return "Bar: the estimate and its interval. Points: each seed and repetition on its own; a box from five on."
    unit = f"{analysis.result.study.unit}s"
    return (
        f"Bar: the mean over {unit} and its interval. Points: {unit}. Box: quartiles; whiskers to 1.5 times that far."
    )


def _examples(shown: Sequence[Example]) -> Iterator[str]:
    yield '<section><h2>Example cases</h2><div class="examples">' if shown else "<section><h2>Example cases</h2>"
    if not shown:
        yield "<p>No case has a figure of every arm.</p></section>"
        return
    for one in shown:
        figures = ", ".join(f"{escape(name)} {escape(value)}" for name, value in one.figures.items())
        yield (
            f'<div class="example"><b>{one.rank}</b>: case {escape(one.case)}, patient {escape(one.patient)} '
            f'<span class="faint">{figures}</span><div class="pictures">'
        )
        for name, png in one.pictures.items():
            data = base64.b64encode(png).decode("ascii")
            label = escape(name, quote=True)
            yield (
                f'<figure><img src="data:image/png;base64,{data}" alt="{label}">'
                f"<figcaption>{label}</figcaption></figure>"
            )
        yield "</div></div>"
    yield "</div>"
    is_segmented = any(one.pictures and "truth" not in one.figures for one in shown)
    missing = "" if any(one.pictures for one in shown) else " The runs left no pictures."
    caption = f"{CAPTION} " if is_segmented else ""
    yield f'<p class="note">{caption}Ordered by the mean over the arms.{missing}</p></section>'


def _failures(analysis: Analysis) -> Iterator[str]:
    yield "<section><h2>Failures</h2>"
    if not analysis.gaps:
        yield "<p>None: every planned run gave a finite score for every case.</p></section>"
        return
    rows = tuple((gap.run, gap.patient, gap.case, gap.what) for gap in analysis.gaps[:_NAMED_GAPS])
    hidden = len(analysis.gaps) - len(rows)
    note = f"And {hidden} more, in results.json." if hidden else ""
    yield _table(Table("", ("run", "patient", "case", "what"), rows, texts=4, note=note))
    yield "</section>"


def _how(analysis: Analysis, data: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    facts = analysis.result.facts
    yield f"<section><h2>Methods</h2><p>{escape(methods(analysis))}</p>"
    yield f"<h3>Power</h3><p>{escape(analysis.power)}</p></section>"
    yield "<section><h2>How to cite</h2><ul>"
    yield from (f"<li>{escape(line)}</li>" for line in CITATION)
    yield "</ul></section>"
    entries = [(str(name), str(version)) for name, version in (facts.get("versions") or {}).items()]
    if facts.get("device"):
        entries.append(("device", str(facts["device"])))
    yield f"<section><h2>Versions and hashes</h2>{_definitions([('XTL', __version__), *entries])}"
    hashes = [("target data", str(data["hash"]))] if data.get("hash") else []
    hashes += [(f"chain of {name}", str(arm["hash"])) for name, arm in arms.items() if arm.get("hash")]
    if hashes:
        yield '<h3>SHA-256</h3><dl class="settings">'
        yield from (f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in hashes)
        yield "</dl>"
    runs = facts.get("runs") or {}
    if runs:
        rows = tuple(
            (name, str(run.get("key", ""))[:_SHORT], _seconds(run.get("seconds"))) for name, run in runs.items()
        )
        yield f"<details><summary>{len(rows)} runs</summary>"
        yield _table(Table("", ("run", "content hash", "s"), rows, texts=2))
        yield "</details>"
    yield "</section>"


def _table(table: Table | None) -> str:
    if table is None:
        return ""
    heads = "".join(f"<th{_class(table, n)}>{escape(text)}</th>" for n, text in enumerate(table.header))
    lines = [f"<h3>{escape(table.title)}</h3>"] if table.title else []
    lines.append(f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>')
    for row in table.rows:
        lines.append(f"<tr>{''.join(f'<td{_class(table, n)}>{_cell(text)}</td>' for n, text in enumerate(row))}</tr>")
    lines.append("</tbody></table></div>")
    if table.note:
        lines.append(f'<p class="note">{escape(table.note)}</p>')
    return "\n".join(lines)


def _untitled(table: Table | None) -> Table | None:
    """A table whose section says what it is."""
    return None if table is None else replace(table, title="")


def _class(table: Table, number: int) -> str:
    return ' class="text"' if number < table.texts else ""


def _cell(text: str) -> str:
    """An interval in brackets stands below its figure."""
    figure, opened, interval = text.partition(" (")
    if opened and interval.endswith(")") and figure[-1:].isdigit():
        return f"{escape(figure)}<span>{escape(interval[:-1])}</span>"
    return escape(text)


def _plot(draw: Callable[[], str], caption: str) -> str:
    try:
        svg = draw()
    except MissingPackageError as error:
        return f'<p class="note">{escape(str(error))}</p>'
    return f'{svg}<p class="note">{escape(caption)}</p>' if svg else ""


def _definitions(entries: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries)
    return f'<dl class="settings">{rows}</dl>'


def _code(digest: Any) -> str:
    return f"<code>{escape(str(digest)[:_SHORT])}</code>"


def _joined(*texts: Any) -> str:
    return ", ".join(str(text) for text in texts if text) or "not known"


def _seconds(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, (int, float)) else "-"
