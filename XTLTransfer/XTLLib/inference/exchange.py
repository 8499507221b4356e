"""Cases and results between two processes: JSON for what is small, files that are mapped into memory for arrays.

The files lie in a folder of the two processes' own, in memory where the system offers that.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.case import Case, Finding
from ..data.geometry import Grid
from ..data.volume import Volume
from ..errors import XTLError
from .results import ClassificationResult, Lesion, RatedFinding, SegmentationResult

_IN_MEMORY = Path("/dev/shm")
_ENOUGH = 2 * 2**30  # bytes free in memory's file system, else the temporary folder is taken
_PREFIX = "xtl-exchange-"
_PIECE = 4 * 2**20  # bytes written at once
_WRITING_S = 0.03

_RATED = tuple(field.name for field in fields(RatedFinding) if field.name not in ("row", "finding"))

Result = SegmentationResult | ClassificationResult


class ExchangeFolder:
    """A folder for arrays on their way, readable by this user only.

    Parameters
    ----------
    path : None makes a new one, named after this process; those that ended processes left are removed first.
    in_pieces : what is put is written by :meth:`write_some`, so that a window can be drawn in between.
    """

    def __init__(self, path: Path | None = None, in_pieces: bool = False) -> None:
        if path is None:
            base = _base_folder()
            _remove_orphans(base)
            path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
        self.path = Path(path)
        self._numbers = itertools.count()
        self._in_pieces = in_pieces
        self._due: deque[tuple[Path, np.ndarray]] = deque()  # bytes that have to be added to a file

    def put(self, array: np.ndarray) -> dict[str, Any]:
        """Write an array; what is given back goes into a JSON message. Raises XTLError when there is no room."""
        name = f"{os.getpid()}-{next(self._numbers)}.raw"
        values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._due += [(self.path / name, values[n : n + _PIECE]) for n in range(0, max(values.size, 1), _PIECE)]
        if not self._in_pieces:
            self.write_some(np.inf)
        return {"file": name, "dtype": array.dtype.str, "shape": list(array.shape)}

    @property
    def is_written(self) -> bool:
        """Whether all that was put is in its file."""
        return not self._due

    def write_some(self, limit_s: float = _WRITING_S) -> None:
        """Write what was put until so many seconds have gone by, a piece at least. Raises XTLError for lack of room."""
        end = time.monotonic() + limit_s
        is_late = False
        while self._due and not is_late:
            path, values = self._due.popleft()
            try:
                with open(path, "ab") as stream:
                    stream.write(values.data)
            except OSError as error:
                missing = values.nbytes + sum(part.nbytes for _, part in self._due)
                self.clear()
                raise XTLError(
                    f"{missing / 2**20:.0f} MiB cannot be handed over in {self.path.parent} ({error.strerror})",
                    "Free some memory or disk space, and try again",
                ) from error
            is_late = time.monotonic() >= end

    def get(self, reference: Mapping[str, Any]) -> np.ndarray:
        """The array of a reference, read-only, mapped into memory."""
        name = Path(reference["file"]).name  # never outside of the folder
        return np.memmap(self.path / name, np.dtype(reference["dtype"]), "r", shape=tuple(reference["shape"]))

    def take(self, reference: Mapping[str, Any]) -> np.ndarray:
        """The array of a reference, the caller's own to keep and to change; its file is removed."""
        path = self.path / Path(reference["file"]).name
        kind, shape = np.dtype(reference["dtype"]), tuple(reference["shape"])
        if os.name == "posix" and 0 not in shape:
            # What is mapped outlives its file here, and copying a large map would stop the window for a moment.
            array = np.memmap(path, kind, "c", shape=shape).view(np.ndarray)
        else:
            array = np.fromfile(path, kind).reshape(shape)
        path.unlink()
        return array

    def clear(self) -> None:
        """Remove the files, keep the folder."""
        self._due.clear()
        for path in self.path.glob("*.raw"):
            with suppress(OSError):
                path.unlink()

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def pack_volume(volume: Volume, folder: ExchangeFolder) -> dict[str, Any]:
    """A volume as JSON-able data; its array goes to the folder."""
    return {
        "array": folder.put(volume.array),
        "ijk_to_ras": volume.grid.ijk_to_ras.tolist(),
        "name": volume.name,
        "frame_of_reference": volume.frame_of_reference,
    }


def unpack_volume(data: Mapping[str, Any], folder: ExchangeFolder, take: bool = False) -> Volume:
    """The volume of :func:`pack_volume`; with ``take`` its array is copied and its file removed."""
    array = folder.take(data["array"]) if take else folder.get(data["array"])
    return Volume(array, Grid(array.shape, np.array(data["ijk_to_ras"])), data["name"], data["frame_of_reference"])


def pack_case(case: Case, folder: ExchangeFolder) -> dict[str, Any]:
    """A case as JSON-able data. The patient's name stays here: nothing is computed from it."""
    return {
        "channels": {name: pack_volume(volume, folder) for name, volume in case.channels.items()},
        "reference": case.reference,
        "mask": None if case.mask is None else pack_volume(case.mask, folder),
        **pack_findings(case),
        "brain": None if case.brain is None else pack_volume(case.brain, folder),
    }


def pack_findings(case: Case) -> dict[str, Any]:
    """The findings of a case as JSON-able data, for a worker that has the rest."""
    return {"findings": [asdict(finding) for finding in case.findings]}


def unpack_findings(findings: Sequence[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """The findings of :func:`pack_case`."""
    return tuple(Finding(**{**values, "position_ras": tuple(values["position_ras"])}) for values in findings)


def unpack_case(data: Mapping[str, Any], folder: ExchangeFolder, take: bool = False) -> Case:
    """The case of :func:`pack_case`, its arrays mapped into memory; with ``take`` those of channels are copied."""
    findings = unpack_findings(data["findings"])
    channels = {name: unpack_volume(volume, folder, take) for name, volume in data["channels"].items()}
    mask = None if data["mask"] is None else unpack_volume(data["mask"], folder)
    brain = None if data["brain"] is None else unpack_volume(data["brain"], folder)
    return Case("case", channels, data["reference"], mask, findings, brain)


def pack_result(result: Result, folder: ExchangeFolder) -> dict[str, Any]:
    """A result as JSON-able data, without its case but with the brain mask that was made for it."""
    common = {
        "probability": pack_volume(result.probability, folder),
        "label": pack_volume(result.label, folder),
        "bundle_name": result.bundle_name,
    }
    if isinstance(result, ClassificationResult):
        return {
            **common,
            "rated": [{name: getattr(rated, name) for name in _RATED} for rated in result.findings],
            "evidence": {
                str(row): {kind: _pack_map(volume, folder) for kind, volume in maps.items()}
                for row, maps in result.evidence.items()
            },
            "operating_point": result.operating_point,
            "notes": list(result.notes),
        }
    return {
        **common,
        "lesions": [asdict(lesion) for lesion in result.lesions],
        "threshold": result.threshold,
        "minimum_volume_mm3": result.minimum_volume_mm3,
        "uncertainty": None if result.uncertainty is None else pack_volume(result.uncertainty, folder),
        "precision": result.precision,
        "notes": list(result.notes),
        "location_rule": result.location_rule,
        "transforms": {name: np.asarray(matrix).tolist() for name, matrix in result.transforms.items()},
        "brain": None if result.case.brain is None else pack_volume(result.case.brain, folder),
    }


def unpack_result(data: Mapping[str, Any], folder: ExchangeFolder, case: Case) -> Result:
    """The result of :func:`pack_result` for the case that was sent; its files are removed."""
    probability, label = (unpack_volume(data[key], folder, take=True) for key in ("probability", "label"))
    if "rated" in data:
        rated = tuple(
            RatedFinding(row, finding, **{name: _as_sent(value) for name, value in values.items()})
            for row, (finding, values) in enumerate(zip(case.findings, data["rated"]), start=1)
        )
        evidence = {
            int(row): {kind: _unpack_map(packed, folder, case.grid, kind) for kind, packed in maps.items()}
            for row, maps in data["evidence"].items()
        }
        about = data["bundle_name"], evidence, data["operating_point"], tuple(data["notes"])
        return ClassificationResult(rated, label, probability, case, *about)
    lesions = tuple(Lesion(**{**lesion, "position_ras": tuple(lesion["position_ras"])}) for lesion in data["lesions"])
    uncertainty, brain = data["uncertainty"], data["brain"]
    if brain is not None:
        case = replace(case, brain=unpack_volume(brain, folder, take=True))
    return SegmentationResult(
        probability,
        label,
        lesions,
        data["threshold"],
        case,
        data["bundle_name"],
        data["minimum_volume_mm3"],
        None if uncertainty is None else unpack_volume(uncertainty, folder, take=True),
        data["precision"],
        tuple(data["notes"]),
        data["location_rule"],
        {name: np.array(matrix) for name, matrix in data["transforms"].items()},
    )


def _as_sent(value: Any) -> Any:
    """What JSON made a list of was a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _pack_map(volume: Volume, folder: ExchangeFolder) -> dict[str, Any]:
    """A volume that is 0 but for a small box, which alone is sent."""
    box = []
    for axis in range(3):
        filled = np.flatnonzero(volume.array.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append([int(filled[0]), int(filled[-1]) + 1] if filled.size else [0, 0])
    return {"box": box, "array": folder.put(volume.array[tuple(slice(*ends) for ends in box)])}


def _unpack_map(data: Mapping[str, Any], folder: ExchangeFolder, grid: Grid, name: str) -> Volume:
    values = folder.take(data["array"])
    array = np.zeros(grid.shape, dtype=values.dtype)
    array[tuple(slice(*ends) for ends in data["box"])] = values
    return Volume(array, grid, name)


def _base_folder() -> Path:
    if _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ENOUGH:
        return _IN_MEMORY
    return Path(tempfile.gettempdir())


def _remove_orphans(base: Path) -> None:
    """Folders of processes that were ended before they could tidy up."""
    if sys.platform == "win32":  # asking for a process by signal 0 would end it there
        return
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            owner = int(folder.name.removeprefix(_PREFIX).split("-")[0])
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                if folder.stat().st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
