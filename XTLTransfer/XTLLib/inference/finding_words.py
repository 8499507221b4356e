"""What a reader of rated findings has to know, in sentences: for both reports."""

from __future__ import annotations

from collections.abc import Iterator

from .results import ClassificationResult


def words_on_findings(result: ClassificationResult) -> Iterator[str]:
    """What the class and the interval mean, notes, and each warning with the findings that it is of."""
    ratings = sorted(result.findings, key=lambda rated: rated.row)
    called = next((rated for rated in ratings if rated.threshold is not None), None)
    if called is not None:
        yield f"Significant from {called.threshold:.3f} on ({result.operating_point})"
    if any(rated.interval is not None for rated in ratings):
        yield "Lowest to highest probability: over the models and views; no confidence interval"
    if result.evidence:
        yield "Evidence maps: what the model looked at, red for and blue against; each finding has a scale of its own"
    yield from result.notes
    findings_of: dict[str, list[str]] = {}
    for rated in ratings:
        for warning in rated.warnings:
            findings_of.setdefault(warning, []).append(rated.finding.identifier)
    for warning, names in findings_of.items():
        whose = "all findings" if len(names) == len(result.findings) > 1 else f"finding {', '.join(names)}"
        yield f"{whose}: {warning}" if len(result.findings) > 1 else warning
