"""Ktrans maps of ProstateX: MetaImage pairs ``ProstateX-NNNN-Ktrans.mhd`` and ``.zraw``, on their own grid."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import InputError
from .images import read_volume
from .volume import Volume


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
