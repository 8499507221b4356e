"""Time points and comparisons over time between two processes; see exchange.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..data.registration import Registration
from .exchange import ExchangeFolder, pack_volume, unpack_volume
from .longitudinal import ChangeRules, LesionHistory, LongitudinalResult, TimePoint


def pack_time_points(points: Sequence[TimePoint], folder: ExchangeFolder) -> list[dict[str, Any]]:
    """Time points as JSON-able data, named by their place only: names may be dates, and nothing is computed of them."""
    return [
        {
            "name": f"number {number}",
            "mask": pack_volume(replace(point.mask, name=f"mask {number}"), folder),
            "image": None if point.image is None else pack_volume(point.image, folder),
        }
        for number, point in enumerate(points, start=1)
    ]


def unpack_time_points(data: Sequence[Mapping[str, Any]], folder: ExchangeFolder) -> list[TimePoint]:
    """The time points of :func:`pack_time_points`, their arrays mapped into memory."""
    return [
        TimePoint(
            point["name"],
            unpack_volume(point["mask"], folder),
            None if point["image"] is None else unpack_volume(point["image"], folder),
        )
        for point in data
    ]


def pack_history(result: LongitudinalResult, folder: ExchangeFolder) -> dict[str, Any]:
    """A comparison over time as JSON-able data."""
    return {
        "histories": [asdict(history) for history in result.histories],
        "labels": [pack_volume(label, folder) for label in result.labels],
        "status": pack_volume(result.status, folder),
        "registrations": [None if one is None else _pack_registration(one) for one in result.registrations],
        "rules": asdict(result.rules),
        "notes": list(result.notes),
    }


def unpack_history(data: Mapping[str, Any], folder: ExchangeFolder, names: Sequence[str]) -> LongitudinalResult:
    """The comparison of :func:`pack_history` under the time points' own names; its files are removed."""
    return LongitudinalResult(
        tuple(names),
        tuple(
            LesionHistory(**{key: tuple(value) if isinstance(value, list) else value for key, value in history.items()})
            for history in data["histories"]
        ),
        tuple(
            replace(unpack_volume(label, folder, take=True), name=f"lesions {name}")
            for label, name in zip(data["labels"], names)
        ),
        unpack_volume(data["status"], folder, take=True),
        tuple(None if one is None else _unpack_registration(one) for one in data["registrations"]),
        ChangeRules(**data["rules"]),
        tuple(data["notes"]),
    )


def _pack_registration(one: Registration) -> dict[str, Any]:
    return {**asdict(one), "moving_to_fixed": np.asarray(one.moving_to_fixed).tolist()}


def _unpack_registration(data: Mapping[str, Any]) -> Registration:
    return Registration(**{**data, "moving_to_fixed": np.array(data["moving_to_fixed"])})
