"""ISBI 2015 longitudinal MS lesion segmentation challenge, training part.

Carass A et al., NeuroImage 2017, doi 10.1016/j.neuroimage.2016.12.064. Files are
``trainingNN/preprocessed/trainingNN_TT_{flair,mprage,t2,pd}_pp.nii`` (or .nii.gz) and
``trainingNN/masks/trainingNN_TT_mask{1,2}.nii``: patient NN, time point TT, raters 1 and 2.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InputError
from ..datalist import Datalist, Entry
from .common import UNLABELLED, choose, require_entries

TASKS = ("segmentation", UNLABELLED)
RATERS = ("1", "2", "union", "intersection", "staple")
LICENCE = "terms of the ISBI 2015 challenge: research use"
_FILE_NAMES = {"FLAIR": "flair", "T1": "mprage", "T2": "t2", "PD": "pd"}
_SCAN = re.compile(r"(training\d\d)_(\d\d)_flair_pp\.nii(\.gz)?")


def read(source: Path, raters: str = "1", task: str = "segmentation") -> Datalist:
    """Read the ISBI 2015 training data.

    Parameters
    ----------
    source : the folder that holds ``trainingNN``, or one whose subfolder ``training`` does.
    raters : whose mask is the truth: "1", "2", or both joined by "union", "intersection" or "staple".
    task : "segmentation", or "unlabelled": the images alone, whose masks need not be there.

    One entry a scan (patient trainingNN, case trainingNN_TT); channels FLAIR (reference), T1, T2, and
    PD when every scan has it. A joined mask is computed when the case is loaded, nothing is written.
    """
    choose("isbi2015", "raters", raters, RATERS)
    is_labelled = choose("isbi2015", "task", task, TASKS) != UNLABELLED
    flairs = [file for folder in (source, source / "training") for file in _flairs(folder)]
    channels = ["FLAIR", "T1", "T2"]
    if flairs and all(_beside(flair, "PD") is not None for flair in flairs):
        channels.append("PD")
    entries = []
    for flair in flairs:
        patient, time_point = _SCAN.fullmatch(flair.name).group(1, 2)
        images = {}
        for channel in channels:
            image = _beside(flair, channel)
            if image is None:
                name = f"{patient}_{time_point}_{_FILE_NAMES[channel]}_pp.nii"
                raise InputError(f"{flair.parent} lacks {name} (or .nii.gz)", "Complete the download")
            images[channel] = str(image)
        numbers = (raters,) if raters in ("1", "2") else ("1", "2")
        masks = [_mask(flair, patient, time_point, number) for number in numbers if is_labelled]
        entries.append(
            Entry(
                patient=patient,
                case=f"{patient}_{time_point}",
                images=images,
                label=masks[0] if masks else None,
                attributes=({"raters": raters} if masks else {}) | {"time_point": time_point},
                further_masks=tuple(masks[1:]),
            )
        )
    joined = f"the {raters} of both raters' masks" if len(raters) > 1 else f"the mask of rater {raters}"
    return Datalist(
        name="ISBI-2015",
        layout="isbi2015",
        task=task,
        channels=tuple(channels),
        reference="FLAIR",
        labels={"0": "background", "1": "lesion"} if is_labelled else {},
        licence=LICENCE,
        description=f"{len(entries)} scans" + (f"; the truth is {joined}" if is_labelled else ""),
        training=require_entries(entries, source, "scans named trainingNN/preprocessed/trainingNN_TT_flair_pp.nii"),
    )


def _flairs(folder: Path) -> list[Path]:
    found = sorted(folder.glob("training[0-9][0-9]/preprocessed/training*_flair_pp.nii*"))
    return [file for file in found if _SCAN.fullmatch(file.name)]


def _beside(flair: Path, channel: str) -> Path | None:
    stem = flair.name.split("_flair_pp")[0]
    return _existing(flair.with_name(f"{stem}_{_FILE_NAMES[channel]}_pp.nii"))


def _mask(flair: Path, patient: str, time_point: str, rater: str) -> str:
    expected = flair.parent.parent / "masks" / f"{patient}_{time_point}_mask{rater}.nii"
    found = _existing(expected)
    if found is None:
        raise InputError(
            f"{expected} (or .nii.gz) does not exist",
            f"Complete the download, or choose another rater with raters={'2' if rater == '1' else '1'}",
        )
    return str(found)


def _existing(path: Path) -> Path | None:
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None
