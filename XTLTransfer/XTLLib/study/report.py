"""What a study found, as files: ``report.html``, ``report.md``, ``results.json``, ``scores.csv`` and ``scores.tsv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..files import atomic_file
from ..inference.results import RESEARCH_NOTE
from .analysis import Analysis, analyse
from .facts import arm_facts, data_facts
from .report_examples import examples
from .report_html import report_html
from .report_json import results
from .report_tables import (
    Table,
    calibration_table,
    comparison_tables,
    learning_table,
    markdown_lines,
    markdown_text,
    result_tables,
    transferability_table,
)
from .report_words import CITATION, conclusion, incompleteness, methods, question
from .result import StudyResult
from .scores import Score, write_scores

__all__ = ["StudyResult", "write_study_report"]


def write_study_report(result: StudyResult, out: Path) -> None:
    """Write the report's files into the study's folder.

    All of them are ready before the first takes its place: a report that is interrupted leaves those of before.
    Plots and pictures need matplotlib; without it the page says so and has everything else.
    """
    analysis = analyse(result)
    data, arms = data_facts(result), {name: arm_facts(result, name) for name in result.names}
    texts = {
        "results.json": json.dumps(results(analysis, data, arms), indent=1, allow_nan=False) + "\n",
        "scores.csv": _csv(result.scores),
        "report.md": "\n".join(_markdown(analysis, data, arms)) + "\n",
        "report.html": report_html(analysis, data, arms, examples(analysis, out)),
    }
    with ExitStack() as drafts:
        write_scores(result.scores, drafts.enter_context(atomic_file(out / "scores.tsv")))
        for name, text in texts.items():
            # as UTF-8 whatever the platform; newline="" keeps the line ends of the CSV
            with open(drafts.enter_context(atomic_file(out / name)), "w", encoding="utf-8", newline="") as stream:
                stream.write(text)


def _csv(scores: Sequence[Score]) -> str:
    """Every score as a row; a value that a case has not stays empty, and so does the size "all"."""
    names = list(dict.fromkeys(name for score in scores for name in score.values))
    stream = io.StringIO()
    writer = csv.writer(stream)
    facts = ("arm", "seed", "repeat", "fold", "size", "patient", "case")
    writer.writerow([*facts, *names])
    for score in scores:
        values = (repr(float(score.values[name])) if name in score.values else "" for name in names)
        writer.writerow([*(getattr(score, fact) for fact in facts), *values])
    return stream.getvalue()


def _markdown(analysis: Analysis, data: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    study = analysis.result.study
    yield f"# {markdown_text(study.name)}"
    yield ""
    missing = incompleteness(analysis)
    if missing:
        yield f"**{markdown_text(missing)}**"
        yield ""
    yield markdown_text(question(analysis))
    yield ""
    for found in analysis.comparisons:
        yield f"- {markdown_text(conclusion(found, study.alpha))}"
    yield ""
    yield f"Power: {markdown_text(analysis.power)}"
    yield ""
    counts = f"{data.get('cases', '?')} cases of {data.get('patients', '?')} patients"
    positives = f", {data['positives']} positive" if "positives" in data else ""
    yield f"Data: {markdown_text(data.get('name') or 'not known')}, {counts}{positives}."
    if data.get("licence"):
        yield f"Licence: {markdown_text(data['licence'])}"
    yield ""
    for name in analysis.result.names:
        stages = " -> ".join(str(stage.get("title", "")) for stage in arms[name].get("stages", ()))
        yield f"- {markdown_text(name)}: {markdown_text(stages or arms[name].get('note', ''))}"
    yield ""
    extra = [learning_table(analysis), calibration_table(analysis), transferability_table(analysis)]
    for table in [*result_tables(analysis), *comparison_tables(analysis), *(t for t in extra if t is not None)]:
        yield from _section(table)
    yield "## Failures"
    yield ""
    if analysis.gaps:
        rows = tuple((gap.run, gap.patient, gap.case, gap.what) for gap in analysis.gaps)
        yield from markdown_lines(Table("", ("run", "patient", "case", "what"), rows))
    else:
        yield "None: every planned run gave a finite score for every case."
    yield ""
    yield "## Methods"
    yield ""
    yield markdown_text(methods(analysis))
    yield ""
    yield "## How to cite"
    yield ""
    yield from (f"- {markdown_text(line)}" for line in CITATION)
    yield ""
    yield f"{RESEARCH_NOTE}."


def _section(table: Table) -> Iterator[str]:
    yield f"## {markdown_text(table.title)}"
    yield ""
    yield from markdown_lines(table)
    yield ""
