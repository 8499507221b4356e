"""From a network's probabilities to calibrated ones, and where to cut them; travels with a classification bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ..errors import InputError
from ..metrics.operating_points import RULES, OperatingPoint, Rule, operating_points
from ..metrics.recalibration import Isotonic, Temperature, fit_isotonic, fit_temperature

METHODS = ("none", "temperature", "isotonic")
_MOST_KNOTS = 100_000
_MOST_POINTS = 20
_LARGEST_TEMPERATURE = 1e3
_LONGEST_TEXT = 1000
_LARGEST_COUNT = 10**9
_REMEDY = "Get the bundle again from where it came, or train it again"
_SHARES = ("threshold", "sensitivity", "specificity", "level")
_MAYBE_SHARES = ("ppv", "npv")  # NaN (null in JSON) when nothing is called positive, or negative
_INTERVALS = ("sensitivity_interval", "specificity_interval", "ppv_interval", "npv_interval")


@dataclass(frozen=True, eq=False)
class Calibration:
    """How probabilities are calibrated, and the operating points of the calibrated ones.

    Attributes
    ----------
    method : "none", "temperature" or "isotonic". map : the fitted one; None for "none".
    operating_points : thresholds on *calibrated* probabilities. A finding is called positive from the threshold on.
    findings, positives, patients : how many all of this was fitted on.
    source : what they were, in words ("out-of-fold scores of 5 networks").
    """

    method: str
    map: Temperature | Isotonic | None
    operating_points: tuple[OperatingPoint, ...]
    findings: int
    positives: int
    patients: int
    source: str

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float64, of any shape, from a network's (or the mean of an ensemble's)."""
        values = np.asarray(probabilities, dtype=np.float64)
        return values if self.map is None else self.map(values)

    def point(self, rule: str) -> OperatingPoint:
        """The operating point of a rule. Raises InputError, which names those there are, for another one."""
        for point in self.operating_points:
            if point.rule == rule:
                return point
        known = ", ".join(point.rule for point in self.operating_points)
        raise InputError(
            f"this model has no operating point {rule!r}",
            f"Choose one of {known}" if known else "It has none: leave it out",
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data; NaN becomes None."""
        values = {key: getattr(self, key) for key in ("method", "findings", "positives", "patients", "source")}
        if isinstance(self.map, Temperature):
            values["map"] = {"temperature": self.map.temperature}
        elif isinstance(self.map, Isotonic):
            values["map"] = {"scores": self.map.scores.tolist(), "probabilities": self.map.probabilities.tolist()}
        else:
            values["map"] = None
        values["operating_points"] = [
            {key: _nan_as_none(value) for key, value in asdict(point).items()} for point in self.operating_points
        ]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """What :meth:`to_dict` gave, from a file that anybody may have written.

        Raises
        ------
        InputError : a key too many or too few, a number that is none or out of its range, a map that falls or is not
            finite, or more of something than any fit leaves.
        """
        values = _with_keys(values, [field.name for field in fields(cls)], "the calibration")
        method = values["method"]
        _require(method in METHODS, f"the method {method!r} of the calibration")
        points = values["operating_points"]
        _require(isinstance(points, list) and len(points) <= _MOST_POINTS, "the operating points of the calibration")
        points = tuple(_point(point, f"operating point {n}") for n, point in enumerate(points, start=1))
        _require(len({point.rule for point in points}) == len(points), "an operating point that is there twice")
        counts = [_count(values[key], f"{key} of the calibration") for key in ("findings", "positives", "patients")]
        _require(counts[1] <= counts[0] and counts[2] <= counts[0], "more positives or patients than findings")
        return cls(method, _map(method, values["map"]), points, *counts, _text(values["source"], "the source"))


def fit_calibration(
    method: str,
    probabilities: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    source: str,
    rules: Sequence[Rule] = RULES,
    seed: int = 0,
) -> Calibration:
    """Fit a map on findings that the network was not trained on, then the operating points on what it gives.

    Points and map come from the same findings, so that the figures of the points are a little too good; their
    intervals (patient bootstrap) repeat the choice of the threshold, not the fit of the map.

    Parameters
    ----------
    probabilities, truth : (n,) 0 to 1, and 0 or 1 with both present. patients : (n,) the patient of each finding.

    Raises InputError when a class is missing or the method is unknown.
    """
    _require(method in METHODS, f"the calibration {method!r}", f"Choose one of {', '.join(METHODS)}")
    fit = {"none": lambda *_: None, "temperature": fit_temperature, "isotonic": fit_isotonic}[method]
    fitted = fit(probabilities, truth)
    calibrated = np.asarray(probabilities, dtype=np.float64) if fitted is None else fitted(probabilities)
    points = operating_points(calibrated, truth, patients, rules, seed=seed)
    return Calibration(
        method, fitted, points, len(calibrated), int(np.count_nonzero(truth)), len(set(patients)), source
    )


def _map(method: str, values: Any) -> Temperature | Isotonic | None:
    if method == "none":
        _require(values is None, "a map of a calibration by none")
        return None
    if method == "temperature":
        temperature = _number(_with_keys(values, ["temperature"], "the map")["temperature"], "the temperature")
        _require(0 < temperature <= _LARGEST_TEMPERATURE, f"a temperature of {temperature}")
        return Temperature(temperature)
    values = _with_keys(values, ["scores", "probabilities"], "the map")
    scores, probabilities = (_numbers(values[key], f"the {key} of the map") for key in ("scores", "probabilities"))
    _require(scores.size == probabilities.size, "a map with scores and probabilities of different number")
    _require(bool((np.diff(scores) > 0).all()), "a map whose scores do not rise")
    _require(bool((np.diff(probabilities) >= 0).all()), "a map whose probabilities fall")
    _require(probabilities[0] >= 0 and probabilities[-1] <= 1, "a map with a probability outside 0 to 1")
    return Isotonic(scores, probabilities)


def _point(values: Any, name: str) -> OperatingPoint:
    values = dict(_with_keys(values, [field.name for field in fields(OperatingPoint)], name))
    _text(values["rule"], f"the rule of {name}")
    for key in (*_SHARES, *_MAYBE_SHARES):
        values[key] = _share(values[key], f"{key} of {name}", key in _MAYBE_SHARES)
    for key in _INTERVALS:
        bounds = values[key]
        _require(isinstance(bounds, (list, tuple)) and len(bounds) == 2, f"{key} of {name}")
        low, high = (_share(bound, f"{key} of {name}", may_be_nan=True) for bound in bounds)
        _require(math.isnan(low) == math.isnan(high) and not low > high, f"{key} of {name}")
        values[key] = (low, high)
    values["draws"] = _count(values["draws"], f"draws of {name}")
    return OperatingPoint(**values)


def _with_keys(values: Any, keys: Sequence[str], name: str) -> Mapping[str, Any]:
    _require(isinstance(values, Mapping), f"{name}, which is no set of keys")
    wrong = sorted(str(key) for key in set(values) ^ set(keys))
    _require(not wrong, f"{name} with a key too many or too few ({', '.join(wrong[:3])})")
    return values


def _numbers(values: Any, name: str) -> np.ndarray:
    _require(isinstance(values, list) and 0 < len(values) <= _MOST_KNOTS, f"{name}: 1 to {_MOST_KNOTS} numbers")
    return np.array([_number(value, name) for value in values], dtype=np.float64)


def _number(value: Any, name: str) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    # A whole number of JSON may be larger than any float: it is compared before it is converted.
    _require(good and -1e12 < value < 1e12, name)
    return float(value)


def _share(value: Any, name: str, may_be_nan: bool) -> float:
    if value is None and may_be_nan:
        return math.nan
    share = _number(value, name)
    _require(0 <= share <= 1, f"{name}: {share}")
    return share


def _count(value: Any, name: str) -> int:
    _require(type(value) is int and 0 <= value <= _LARGEST_COUNT, name)
    return value


def _text(value: Any, name: str) -> str:
    _require(isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable(), f"{name} in words")
    return value


def _nan_as_none(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_nan_as_none(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _require(good: bool, what: str, remedy: str = _REMEDY) -> None:
    if not good:
        raise InputError(what, remedy)
