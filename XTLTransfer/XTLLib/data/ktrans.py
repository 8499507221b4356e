"""Ktrans maps of ProstateX: MetaImage pairs ``ProstateX-NNNN-Ktrans.mhd`` and ``.zraw``, on their own grid."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from ..errors import InputError
from .images import read_volume
from .volume import Volume

_OF_PATIENT = re.compile(r"(ProstateX-\d{4})-Ktrans\.mhd", re.IGNORECASE)


def read_ktrans(path: str | os.PathLike) -> Volume:
    """Read a Ktrans map (1/min) from its ``.mhd`` header, or from the folder that holds the one map of a patient.

    Raises
    ------
    InputError : no map or several in the folder; the header or the ``.zraw`` is missing, truncated or damaged;
        the map holds NaN, or no positive value, and so is no Ktrans map.
    """
    path = Path(path)
    if path.is_dir():
        found = find_ktrans(path)
        if found is None:
            raise InputError(f"the folder {path} holds no Ktrans map (*Ktrans*.mhd)", "Name the .mhd file")
        path = found
    if path.suffix.lower() == ".zraw":
        path = path.with_suffix(".mhd")
    volume = read_volume(path).require_finite()
    if not np.any(volume.array > 0):
        raise InputError(f"the Ktrans map {path} has no positive value", "Give the map, not a mask or an empty image")
    return volume


def find_ktrans(folder: str | os.PathLike) -> Path | None:
    """The one ``*Ktrans*.mhd`` at or below a folder, None when there is none. InputError when there are several."""
    found = sorted(file for file in Path(folder).rglob("*.mhd") if "ktrans" in file.name.lower())
    if len(found) > 1:
        raise InputError(f"the folder {folder} holds {len(found)} Ktrans maps", "Name the one that is meant")
    return found[0] if found else None


def ktrans_of_patients(folder: str | os.PathLike) -> dict[str, Path]:
    """``ProstateX-NNNN`` -> the Ktrans map of that patient at or below a folder.

    Raises InputError when there is none, or when a patient has several.
    """
    found: dict[str, Path] = {}
    for file in sorted(Path(folder).rglob("*.mhd")):
        match = _OF_PATIENT.fullmatch(file.name)
        if match is None:
            continue
        patient = f"ProstateX-{match.group(1)[-4:]}"
        if patient in found:
            raise InputError(
                f"{folder} holds two Ktrans maps of {patient} ({found[patient]} and {file})",
                "Name the folder of one copy",
            )
        found[patient] = file
    if not found:
        raise InputError(f"{folder} holds no ProstateX-NNNN-Ktrans.mhd", "Name the folder of the Ktrans maps")
    return found
