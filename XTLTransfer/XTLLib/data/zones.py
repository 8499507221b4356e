"""The prostate's zone of a finding, from a zonal mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .case import Finding
from .geometry import Grid
from .volume import Volume

ZONES = ("PZ", "TZ", "AS", "SV")
ZONE_INDEX: Mapping[str, int] = {"": 0} | {zone: number for number, zone in enumerate(ZONES, start=1)}
"""What a network is told of a zone; 0, as of anything else, is unknown."""
# As the anatomy in PI-CAI's own files has it (HeviAI23): label 1 is the horseshoe behind and beside label 2.
PICAI_ZONES: Mapping[int, str] = {1: "PZ", 2: "TZ"}
REACH_MM = 5.0  # a project choice: findings are marked on the border of the gland, and masks end before it


@dataclass(frozen=True)
class ZonedFindings:
    """Findings with their zones; ``notes`` says of each guess what it rests on, and which findings got none."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def guess_zones(
    findings: Sequence[Finding], zones: Volume, mapping: Mapping[int, str] | None = None, reach_mm: float = REACH_MM
) -> ZonedFindings:
    """Give the findings that have no zone the one that a zonal mask tells at their position.

    A zone that a finding has is kept. Outside the zones the nearest voxel of one counts, up to ``reach_mm``
    away; of two as near, the one of the lower label.

    Parameters
    ----------
    zones : label image in patient space, on any grid.
    mapping : label -> PZ, TZ, AS or SV; default as PI-CAI has them (1 = PZ, 2 = TZ). 0 is background. Other sources
        number them the other way round: a note says so when the TZ lies behind the PZ.

    Raises
    ------
    InputError : the mask holds values that the mapping does not name, or none that it names.
    """
    mapping = dict(PICAI_ZONES if mapping is None else mapping)
    _require_labels(zones, mapping)
    result: list[Finding] = []
    notes = _doubts(zones, mapping)
    for finding in findings:
        if finding.zone:
            result.append(finding)
            continue
        label, distance = _nearest_label(zones, np.array(finding.position_ras), reach_mm)
        zone = mapping.get(label, "")
        result.append(replace(finding, zone=zone))
        if not zone:
            notes.append(f"finding {finding.identifier}: no zone within {reach_mm:g} mm in {zones.name}")
        elif distance == 0:
            notes.append(f"finding {finding.identifier}: {zone}, from {zones.name}")
        else:
            notes.append(f"finding {finding.identifier}: {zone}, {distance:.1f} mm away in {zones.name}")
    return ZonedFindings(tuple(result), tuple(notes))


def parse_zone_mapping(text: str) -> dict[int, str]:
    """``"1=PZ,2=TZ"`` as {1: "PZ", 2: "TZ"}. Raises InputError for anything else."""
    mapping: dict[int, str] = {}
    for part in text.split(","):
        label, mark, zone = (piece.strip() for piece in part.partition("="))
        if not mark or not label.isdigit() or int(label) == 0 or zone.upper() not in ZONES or int(label) in mapping:
            raise InputError(
                f"the mapping of zones is '{text}'", f"Write it like 1=PZ,2=TZ with the zones {', '.join(ZONES)}"
            )
        mapping[int(label)] = zone.upper()
    return mapping


def _doubts(zones: Volume, mapping: Mapping[int, str]) -> list[str]:
    """A note where the labels seem to be exchanged: the peripheral zone lies behind the transition zone."""
    places = {}
    for label, zone in mapping.items():
        voxels = np.argwhere(zones.array == label)
        if len(voxels):
            places[zone] = float(zones.grid.index_to_ras(voxels[:, ::-1]).mean(axis=0)[1])
    if "PZ" in places and "TZ" in places and places["TZ"] < places["PZ"]:
        return [f"{zones.name}: its TZ lies behind its PZ; check the mapping of its labels"]
    return []


def _require_labels(zones: Volume, mapping: Mapping[int, str]) -> None:
    wrong = sorted(set(mapping.values()) - set(ZONES))
    if wrong:
        raise InputError(f"the mapping of zones names the zone {wrong[0]}", f"Use {', '.join(ZONES)}")
    zones.require_finite()
    found = [value for value in np.unique(zones.array) if value != 0]
    unknown = [value for value in found if value not in mapping]
    if unknown or not found:
        what = f"the label {unknown[0]:g}" if unknown else "no label"
        known = ", ".join(f"{label} = {zone}" for label, zone in mapping.items())
        raise InputError(
            f"the zonal mask {zones.name} holds {what} (known: {known})", "Name what each of its labels means"
        )


def _nearest_label(zones: Volume, ras: np.ndarray, reach_mm: float) -> tuple[int, float]:
    """The label at a point, or of the nearest labelled voxel centre within reach, and its distance in mm (0: at it)."""
    grid: Grid = zones.grid
    home = np.round(grid.ras_to_index(ras)).astype(int)
    if grid.contains(ras):
        label = int(zones.array[tuple(np.clip(home, 0, np.array(grid.shape[::-1]) - 1)[::-1])])
        if label:
            return label, 0.0
    reach = np.ceil(reach_mm * np.linalg.norm(np.linalg.inv(grid.ijk_to_ras[:3, :3]), axis=1)).astype(int) + 1
    low, high = np.clip([home - reach, home + reach + 1], 0, grid.shape[::-1])
    box = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1]))
    voxels = np.argwhere(zones.array[box])
    if not len(voxels):
        return 0, 0.0
    labels = zones.array[box][tuple(voxels.T)]
    distances = np.linalg.norm(grid.index_to_ras(voxels[:, ::-1] + low) - ras, axis=1)
    best = min(zip(np.round(distances, 6), labels))
    return (int(best[1]), float(best[0])) if best[0] <= reach_mm else (0, 0.0)
