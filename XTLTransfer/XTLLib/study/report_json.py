"""``results.json`` of a study: every figure of the report at full precision, for programs and for the scene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from .analysis import Analysis, ArmFigures
from .comparisons import Comparison
from .estimates import units_of
from .report_plots import size_place
from .report_words import conclusion, incompleteness, methods, question
from .result import FORMAT


def results(analysis: Analysis, data: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """JSON-able; a number that is NaN or infinite is null."""
    result, study = analysis.result, analysis.result.study
    return plain(
        {
            "format": FORMAT,
            "study": study.model_dump(mode="json"),
            "task": result.task,
            "question": question(analysis),
            "measure": asdict(analysis.measure),
            "incomplete": incompleteness(analysis),
            "arms": [_arm(analysis, arm) for arm in analysis.arms],
            "comparisons": [_comparison(found, study.alpha) for found in analysis.comparisons],
            "further": [
                {"a": found.a, "b": found.b, "measure": found.measure.name, "difference": found.difference,
                 "low": found.low, "high": found.high, "level": found.level, "units": found.units}
                for found in analysis.further
            ],
            "learning_curve": [
                {"arm": p.name, "size": p.size, "training_cases": size_place(analysis, p.size), **_figure(p.estimate)}
                for p in analysis.curve
            ],
            "gaps": [asdict(gap) for gap in analysis.gaps],
            "power": analysis.power,
            "methods": methods(analysis),
            "data": dict(data),
            "chains": {name: dict(facts) for name, facts in arms.items()},
            "facts": dict(result.facts),
        }
    )  # fmt: skip


def plain(value: Any) -> Any:
    """A value as JSON has it: lists for arrays and tuples, null for what is not a finite number."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _arm(analysis: Analysis, arm: ArmFigures) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": arm.name,
        "size": arm.size,
        "patients": len(set(arm.cases.patients)),
        "positives": None if arm.cases.truth is None else int(arm.cases.truth.sum()),
        **_figure(arm.estimate),
        "reason": arm.reason,
        "left_out": list(arm.cases.left_out),
        "by_run": [{"seed": seed, "repeat": repeat, "value": value} for seed, repeat, value in arm.by_run],
        "case_values": [
            {"case": case, "patient": patient, "unit": unit, "value": value}
            for case, patient, unit, value in zip(
                arm.cases.cases, arm.cases.patients, units_of(arm.cases, analysis.result.study), arm.cases.values
            )
        ],
        "measures": {name: _figure(found) for name, found in arm.measures.items()},
        "detection": {f"{convention} {rate}": _figure(found) for (convention, rate), found in arm.detection.items()},
        "volumes": arm.volumes,
        "roc": arm.band,
        "calibration": None,
    }
    if arm.calibration is not None:
        curve = arm.calibration.reliability
        values["calibration"] = {
            "brier": arm.calibration.brier.mean,
            "brier_low": arm.calibration.brier.low,
            "brier_high": arm.calibration.brier.high,
            "expected_error": curve.expected_error,
            "largest_error": curve.largest_error,
            "reliability": asdict(curve),
        }
    return values


def _comparison(found: Comparison, alpha: float) -> dict[str, Any]:
    return {
        **_without(asdict(found), "measure"),
        "measure": found.measure.name,
        "verdict": found.verdict,
        "words": conclusion(found, alpha),
    }


def _figure(found: Any) -> dict[str, Any]:
    if found is None:
        return {"value": None, "low": None, "high": None, "level": None, "units": 0, "cases": 0}
    return _without(asdict(found), "left_out")


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}
