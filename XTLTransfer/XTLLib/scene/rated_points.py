"""What is known of each point of a list: its rating, and where it stood then; kept on the lesion table.

So a scene that is opened again knows which of its points were moved since they were rated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..data.case import Finding
from ..errors import InputError
from ..inference.results import RatedFinding

RATED = "XTL.Rated"  # attribute of the lesion table
_MOST_ROWS = 1 << 16


@dataclass(frozen=True)
class RatedPoint:
    """A control point and its rating.

    Attributes
    ----------
    point : the control point's ID, which neither a new name nor another place in the list changes.
    rated : its finding as it was rated; a probability of NaN stands for a finding that is not rated.
    """

    point: str
    rated: RatedFinding

    @property
    def is_rated(self) -> bool:
        """Whether there is a probability."""
        return not math.isnan(self.rated.probability)


def unrated(point: str, row: int, finding: Finding, reason: str) -> RatedPoint:
    """A point without a rating, and why it has none."""
    return RatedPoint(point, RatedFinding(row, finding, math.nan, warnings=(reason,)))


def numbered(points: Sequence[RatedPoint]) -> tuple[RatedPoint, ...]:
    """The points with the rows 1, 2, ... of their order."""
    return tuple(replace(one, rated=replace(one.rated, row=row)) for row, one in enumerate(points, start=1))


def rated_to_json(points: Sequence[RatedPoint]) -> str:
    """The points as text, for an attribute of a node."""
    rows = []
    for one in points:
        row = asdict(one.rated)
        row["probability"] = None if math.isnan(one.rated.probability) else one.rated.probability
        rows.append({"point": one.point, **row})
    return json.dumps(rows)


def rated_from_json(text: str) -> tuple[RatedPoint, ...]:
    """The points of :func:`rated_to_json`. Raises InputError for a text that is none, as of a scene from elsewhere."""
    try:
        rows = json.loads(text)
        if not isinstance(rows, list):
            raise ValueError("no list")
        return tuple(map(_point, rows))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"the ratings that the lesion table holds cannot be read ({type(error).__name__})", "Press Apply again"
        ) from error


def _point(row: Mapping[str, Any]) -> RatedPoint:
    known = {field.name for field in fields(RatedFinding)}
    values = {key: value for key, value in row.items() if key in known}
    finding = {key: row["finding"][key] for key in (field.name for field in fields(Finding))}
    finding["position_ras"] = tuple(float(mm) for mm in finding["position_ras"])
    values["finding"] = Finding(**finding)
    values["probability"] = math.nan if row["probability"] is None else float(row["probability"])
    if values.get("interval") is not None:
        low, high = values["interval"]
        values["interval"] = (float(low), float(high))
    values["warnings"] = tuple(str(warning) for warning in values.get("warnings", ()))
    is_place = len(finding["position_ras"]) == 3 and all(map(math.isfinite, finding["position_ras"]))
    is_rating = math.isnan(values["probability"]) or 0 <= values["probability"] <= 1
    is_row = type(row["row"]) is int and 0 <= row["row"] <= _MOST_ROWS  # 0: not numbered yet
    if not (is_place and is_rating and is_row and isinstance(row["point"], str)):
        raise ValueError("not a rated point")
    return RatedPoint(row["point"], RatedFinding(**values))
