"""``report.html``: a page with pictures of every lesion, to be read on a screen or printed on A4.

The page is whole in itself: styles and pictures are in it, it asks no network and runs no script. It names the
patient only where it is told to.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from .. import __version__
from ..files import atomic_file
from .finding_words import words_on_findings
from .lesions import CONNECTIVITY
from .location import LOCATIONS
from .report_pictures import Illustrator, Picture
from .results import RESEARCH_NOTE, ClassificationResult, Lesion, RatedFinding, SegmentationResult
from .table import Column, finding_columns, lesion_columns

PICTURED = 24  # the largest lesions; the others stand in a table without pictures
_TITLES = {
    "id": "", "R": "R<br>mm", "A": "A<br>mm", "S": "S<br>mm", "volume": "volume<br>mm³",
    "longest_diameter": "longest<br>mm", "mean_probability": "prob.<br>mean", "maximum_probability": "prob.<br>max.",
    "uncertainty": "uncer-<br>tainty", "probability_low": "prob.<br>low", "probability_high": "prob.<br>high",
}  # fmt: skip
_TEXTS = ("finding", "zone", "location", "class")  # columns to be read from the left
_BELOW_TABLE = ("threshold", "ppv", "npv", "warnings")
_DECIMALS = {"mm": 1, "mm3": 1, "": 2}

PAGE_STYLE = """
@page { size: A4; margin: 11mm 12mm 14mm;
  @bottom-left { content: "Research software, not a medical device"; font: 7.5pt Arial, sans-serif; color: #5c5c5c; }
  @bottom-right { content: counter(page) " / " counter(pages); font: 7.5pt Arial, sans-serif; color: #5c5c5c; } }
* { box-sizing: border-box; }
body { font: 9.5pt/1.35 "Helvetica Neue", Arial, "Liberation Sans", sans-serif; color: #1a1a1a; background: #fff;
  max-width: 186mm; margin: 0 auto; padding: 4mm 0; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
header { display: flex; justify-content: space-between; align-items: baseline; border-bottom: 0.5mm solid #1a1a1a;
  padding-bottom: 1.5mm; }
h1 { font-size: 16pt; margin: 0; }
h2 { font-size: 10.5pt; margin: 4mm 0 1mm; }
.warning { font-weight: bold; color: #8a3b00; }
.faint, dt, th { color: #5c5c5c; }
.summary { display: grid; grid-template-columns: 138mm 1fr; gap: 5mm; margin: 2.5mm 0 1mm; }
.figures { margin: 0; font-size: 9.5pt; display: grid; grid-template-columns: max-content 1fr; gap: 0.6mm 2.5mm;
  align-content: start; align-items: baseline; }
.figures dt { font-weight: bold; font-size: 13pt; line-height: 1.2; text-align: right; color: #1a1a1a; }
.overview { display: grid; grid-template-columns: repeat(3, 1fr); gap: 2mm; }
figure { margin: 0; }
.caption { font-size: 8pt; margin-bottom: 3mm; }
.picture { position: relative; display: block; background: #000; line-height: 0; }
.picture img { display: block; width: 100%; }
.picture i { position: absolute; color: #fff; font: bold 6.5pt/1 Arial, sans-serif; text-shadow: 0 0 2px #000; }
.picture .left { left: 0.7mm; top: 50%; transform: translateY(-50%); }
.picture .top { top: 0.7mm; left: 50%; transform: translateX(-50%); }
.picture .field { right: 0.7mm; bottom: 0.7mm; font-weight: normal; }
table { border-collapse: collapse; width: 100%; }
thead { display: table-header-group; }
tr { break-inside: avoid; }
th { font-weight: normal; font-size: 8pt; line-height: 1.15; text-align: right; vertical-align: bottom;
  border-bottom: 0.3mm solid #1a1a1a; padding: 0 1mm 1mm; }
td { text-align: right; padding: 0.7mm 1mm; border-bottom: 0.1mm solid #d8d8d8; font-variant-numeric: tabular-nums; }
th.text, td.text { text-align: left; padding-left: 4mm; }
th.first { padding-left: 0; text-align: left; }
td.number { font-weight: bold; text-align: left; }
td.pictures { width: 54mm; padding: 0.5mm 1mm 0.5mm 0; }
td.pictures div { display: grid; grid-template-columns: repeat(3, 16.8mm); gap: 0.8mm; }
td.pictures .field { font-size: 5.5pt; }
.settings { display: grid; grid-template-columns: max-content 1fr; gap: 0.4mm 4mm; margin: 1mm 0; font-size: 8.5pt; }
dt, dd { margin: 0; }
ul { margin: 1mm 0; padding-left: 5mm; font-size: 8.5pt; }
section { break-inside: avoid; }
footer { margin-top: 3mm; border-top: 0.2mm solid #9a9a9a; padding-top: 1mm; font-size: 8pt; display: flex;
  justify-content: space-between; }
@media print { body { padding: 0; } }
"""


def write_report_page(
    result: SegmentationResult | ClassificationResult,
    path: str | os.PathLike,
    *,
    patient: str | None = None,
    chain: str = "",
) -> Path:
    """Write a result as one self-contained HTML file; it appears whole or not at all.

    Up to about eight lesions the printed page is one sheet of A4; more lesions take further sheets.

    Parameters
    ----------
    patient : name or number to be printed; None names nobody.
    chain : of the bundle, in one line: ``transfer.summary.summarise_chain(bundle.provenance)``.
    """
    path = Path(path)
    with atomic_file(path) as draft:
        draft.write_text(report_page(result, patient=patient, chain=chain), encoding="utf-8")
    return path


def report_page(
    result: SegmentationResult | ClassificationResult, *, patient: str | None = None, chain: str = ""
) -> str:
    """The page of :func:`write_report_page` as text."""
    is_segmentation = isinstance(result, SegmentationResult)
    title = "MS lesions" if is_segmentation else "Prostate findings"
    case = result.case
    illustrator = Illustrator(case.channels[case.reference], result.label)
    rows: Sequence[Lesion] | Sequence[RatedFinding]
    if is_segmentation:
        columns, rows, figures = lesion_columns(result), result.lesions, _lesion_figures(result)
    else:
        # What is alike for all findings, and long words, stand below the table: it has to fit on A4.
        columns = tuple(column for column in finding_columns(result) if column.name not in _BELOW_TABLE)
        rows = sorted(result.findings, key=lambda rated: -rated.probability)
        figures = _finding_figures(result)
    values = [columns[0].value(row) for row in rows]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{title}</title><style>{PAGE_STYLE}</style></head><body>",
        f'<header><h1>{title}{_of(patient)}</h1><span class="warning">{RESEARCH_NOTE}</span></header>',
        *_summary(illustrator, values[0] if values else None, case.reference, figures),
        *_tables(illustrator, columns, rows),
        *_settings(result, chain),
        f"<footer><span>XTL {escape(__version__)}</span><span>{RESEARCH_NOTE}.</span></footer>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _of(patient: str | None) -> str:
    return "" if patient is None else f' <span class="faint">{escape(patient)}</span>'


def _lesion_figures(result: SegmentationResult) -> Iterator[tuple[str, str]]:
    lesions = result.lesions
    yield "lesion" if len(lesions) == 1 else "lesions", str(len(lesions))
    yield "ml in total", f"{sum(lesion.volume_mm3 for lesion in lesions) / 1000:.2f}"
    if lesions:
        yield "ml the largest", f"{lesions[0].volume_mm3 / 1000:.2f}"
    counts = Counter(lesion.location for lesion in lesions)
    yield from ((name, str(counts[name])) for name in LOCATIONS if counts[name])


def _finding_figures(result: ClassificationResult) -> Iterator[tuple[str, str]]:
    yield "finding" if len(result.findings) == 1 else "findings", str(len(result.findings))
    if result.findings:
        yield "highest probability", f"{max(rated.probability for rated in result.findings):.2f}"


def _summary(
    illustrator: Illustrator, value: int | None, channel: str, figures: Iterator[tuple[str, str]]
) -> Iterator[str]:
    through = "the middle of the image" if value is None else f"number {value}"
    yield '<div class="summary"><div class="overview">'
    yield from (_picture(picture, letters=True) for picture in illustrator.overview(value))
    yield '</div><dl class="figures">'
    yield from (f"<dt>{escape(value)}</dt><dd>{escape(name)}</dd>" for name, value in figures)
    yield "</dl></div>"
    yield (
        f'<div class="faint caption">{escape(channel)}: axial, coronal and sagittal slice through {through}, with all '
        "that is listed projected onto it. The patient's right is at the left.</div>"
    )


def _tables(illustrator: Illustrator, columns: Sequence[Column], rows: Sequence) -> Iterator[str]:
    if not rows:
        yield "<h2>Nothing to be listed</h2><p>No voxel group reached threshold and size.</p>"
        return
    boxes = illustrator.boxes()
    heads = "".join(f"<th{_class(column)}>{_title(column)}</th>" for column in columns[1:])
    yield f'<table><thead><tr><th></th><th class="first">axial, coronal, sagittal</th>{heads}</tr></thead><tbody>'
    for row in rows[:PICTURED]:
        value = columns[0].value(row)
        pictures = "".join(map(_picture, illustrator.lesion(value, boxes.get(value))))
        yield f'<tr><td class="number">{value}</td><td class="pictures"><div>{pictures}</div></td>'
        yield f"{_cells(columns, row)}</tr>"
    yield "</tbody></table>"
    if len(rows) > PICTURED:
        yield f"<h2>The {len(rows) - PICTURED} others</h2>"
        yield f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>"
        for row in rows[PICTURED:]:
            yield f'<tr><td class="number">{columns[0].value(row)}</td>{_cells(columns, row)}</tr>'
        yield "</tbody></table>"


def _cells(columns: Sequence[Column], row: Lesion | RatedFinding) -> str:
    return "".join(f"<td{_class(column)}>{_text(column, row)}</td>" for column in columns[1:])


def _class(column: Column) -> str:
    return ' class="text"' if column.name in _TEXTS else ""


def _title(column: Column) -> str:
    return _TITLES.get(column.name, escape(column.name.replace("_", " ")))


def _text(column: Column, row: Lesion | RatedFinding) -> str:
    value = column.value(row)
    if value is None:
        return ""
    return f"{value:.{_DECIMALS[column.unit]}f}" if isinstance(value, float) else escape(str(value))


def _picture(picture: Picture, letters: bool = False) -> str:
    sides = f'<i class="left">{picture.left}</i><i class="top">{picture.top}</i>' if letters else ""
    return (
        f'<span class="picture"><img src="{picture.uri}" alt="{picture.plane}">{sides}'
        f'<i class="field">{picture.field_mm:.0f} mm</i></span>'
    )


def _settings(result: SegmentationResult | ClassificationResult, chain: str) -> Iterator[str]:
    case = result.case
    entries = [("Model", result.bundle_name)]
    if chain:
        entries.append(("Its chain", chain))
    entries.append(("Channels", f"{', '.join(case.channels)}; positions and volumes on the grid of {case.reference}"))
    if isinstance(result, SegmentationResult):
        entries.append(
            (
                "A lesion is",
                f"probability ≥ {result.threshold:.3g}, {CONNECTIVITY}-connected, at least "
                f"{result.minimum_volume_mm3:g} mm³; computed in {result.precision}",
            )
        )
        if result.uncertainty is not None:
            entries.append(
                ("Uncertainty", "mean over the lesion of the SD of the probability over views or models, 0 to 0.5")
            )
        if result.location_rule:
            entries.append(("Location", result.location_rule))
    entries.append(("Pictures", "slices through each one, turned as above; it is lined in orange, others in blue"))
    entries.append(("Positions", "R, A, S: mm towards the patient's right, anterior and superior"))
    yield '<section><h2>How it was computed</h2><dl class="settings">'
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries)
    yield "</dl></section>"
    notes = result.notes if isinstance(result, SegmentationResult) else list(words_on_findings(result))
    if notes:
        yield "<section><h2>To be kept in mind</h2><ul>"
        yield from (f"<li>{escape(note)}</li>" for note in notes)
        yield "</ul></section>"
