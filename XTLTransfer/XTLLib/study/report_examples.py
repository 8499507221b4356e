"""Example cases of a study: the best, the median and the worst, with pictures where a run left them.

A run leaves ``examples/<name>.png`` in its folder, one for each test case (:func:`write_example`); patches of findings
are drawn from the datalist when the report is written.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.case import Case
from ..data.datalist import Datalist
from ..data.patches import load_patch
from ..data.volume import Volume, resample
from ..errors import MissingPackageError, XTLError
from ..files import atomic_file
from .analysis import Analysis
from .runs import PlannedRun

FOLDER = "examples"
PREDICTED, REFERENCE = (255, 176, 0), (86, 180, 233)  # orange and blue, as on the page of a single result
CAPTION = "Orange: predicted. Blue: reference. Axial slice with most of both; the patient's right is at the left."
_SIDE = 320  # pixels of the longer side
_PATCH_SIDE = 128


@dataclass(frozen=True)
class Example:
    """A case that stands for others.

    Attributes
    ----------
    rank : "best", "median" or "worst", by the mean over arms. case, patient : of the datalist.
    figures : arm -> its figure, in words. pictures : what they show -> PNG; may be empty.
    """

    rank: str
    case: str
    patient: str
    figures: Mapping[str, str]
    pictures: Mapping[str, bytes]


def write_example(folder: Path, case: Case, predicted: Volume, name: str) -> Path:
    """Leave the picture of a segmented test case in a run's folder.

    Parameters
    ----------
    folder : of the run. case : with its mask. predicted : mask on the reference grid. name : of the case in the
        datalist; the file is named by its hash, since a name may hold anything.

    Raises
    ------
    MissingPackageError : matplotlib is not installed.
    """
    path = folder / FOLDER / example_file(name)
    truth = resample(case.mask, case.grid, "nearest").array > 0
    pixels = overlay(case.channels[case.reference], truth, predicted.array > 0)
    with atomic_file(path) as draft:
        draft.write_bytes(_png(pixels))
    return path


def example_file(case: str) -> str:
    """The file name of a case's picture."""
    return f"{hashlib.sha256(case.encode()).hexdigest()[:16]}.png"


def overlay(image: Volume, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The axial slice with most of both masks, their outlines on it: uint8 (rows, columns, 3), square pixels in mm.

    Parameters
    ----------
    reference, predicted : bool (K, J, I) on the image's grid.
    """
    from scipy.ndimage import zoom

    grid = image.grid
    grey, truth, found = (np.asarray(grid.to_along_lps(a)) for a in (image.array, reference, predicted))
    sizes = (truth.astype(int) + found).sum(axis=(1, 2))
    k = int(sizes.argmax()) if sizes.any() else grey.shape[0] // 2
    x_mm, y_mm, _ = grid.along_lps().spacing_mm
    height, width = grey.shape[1:]
    scale = _SIDE / max(height * y_mm, width * x_mm)
    factors = (scale * y_mm, scale * x_mm)
    low, high = np.percentile(grey[grey > 0], (1, 99.7)) if (grey > 0).any() else (0.0, 1.0)
    plane = np.clip((zoom(grey[k].astype(np.float32), factors, order=1) - low) / max(high - low, 1e-6), 0, 1)
    pixels = np.repeat((255 * plane).astype(np.uint8)[..., None], 3, axis=2)
    for mask, colour in ((truth, REFERENCE), (found, PREDICTED)):
        pixels[_outline(zoom(mask[k].astype(np.float32), factors, order=1) >= 0.5)] = colour
    return pixels


def examples(analysis: Analysis, out: Path) -> tuple[Example, ...]:
    """Best, median and worst case by the mean over the arms; () when no case has a figure of every arm."""
    chosen = _chosen(analysis)
    patches = _patches(analysis, [case for _, case, _ in chosen]) if analysis.result.task == "classification" else {}
    found = []
    for rank, case, patient in chosen:
        figures, pictures = {}, dict(patches.get(case, {}))
        for arm in analysis.arms:
            value = arm.cases.values[arm.cases.cases.index(case)]
            figures[arm.name] = f"{value:.{analysis.measure.decimals}f}"
            picture = _stored(analysis, arm.name, case, out)
            if picture is not None:
                pictures[arm.name] = picture
        if analysis.result.task == "classification":
            arm = analysis.arms[0]
            truth = arm.cases.truth[arm.cases.cases.index(case)]
            figures = {"truth": "positive" if truth else "negative", **figures}
        found.append(Example(rank, case, patient, figures, pictures))
    return tuple(found)


def _chosen(analysis: Analysis) -> list[tuple[str, str, str]]:
    """(rank, case, patient) of up to three cases."""
    arms = [arm for arm in analysis.arms if arm.cases.cases]
    common = (
        set.intersection(*(set(arm.cases.cases) for arm in analysis.arms)) if len(arms) == len(analysis.arms) else ()
    )
    if not common:
        return []
    means = [arm.cases.restricted(set(common)) for arm in arms]
    if analysis.result.task == "classification":
        # Scores of different arms are on different scales: how far a finding's rank is from its class.
        from scipy.stats import rankdata

        quality = -np.mean([np.abs((rankdata(m.values) - 0.5) / len(m.values) - m.truth) for m in means], axis=0)
    else:
        quality = np.mean([m.values for m in means], axis=0) * (1 if analysis.measure.higher_is_better else -1)
    order = np.argsort(-quality, kind="stable")
    places = {0: "best", len(order) // 2: "median", len(order) - 1: "worst"}
    return [(rank, means[0].cases[order[at]], means[0].patients[order[at]]) for at, rank in sorted(places.items())]


def _stored(analysis: Analysis, name: str, case: str, out: Path) -> bytes | None:
    """The picture that the first run of an arm with this test case left."""
    runs = analysis.result.facts.get("runs", {})
    scores = [s for s in analysis.result.of(name, analysis.arm(name).size) if s.case == case]
    for score in sorted(scores, key=lambda s: (s.repeat, s.seed)):
        run = PlannedRun(score.arm, score.seed, score.repeat, score.fold, score.size)
        folder = runs.get(run.name, {}).get("folder")
        if not folder:
            continue
        path = (out / folder / FOLDER / example_file(case)).resolve()
        if path.is_relative_to(out.resolve()) and path.is_file():
            return path.read_bytes()
    return None


def _patches(analysis: Analysis, cases: list[str]) -> dict[str, dict[str, bytes]]:
    """Channels of the findings as the first arm sees them; nothing where the data have gone."""
    from ..training.patches import patch_spec_of

    try:
        datalist = Datalist.load(analysis.result.study.datalist)
        target = analysis.result.study.arms[0].load().target
        spec = patch_spec_of(target, datalist)
        entries = {entry.case: entry for entry in datalist.entries}
        drawn = {}
        for case in cases:
            patch = load_patch(entries[case], datalist, spec)
            middle = patch.shape[1] // 2
            drawn[case] = {n: _png(_enlarged(c[middle])) for n, c in zip(spec.channels, patch)}
        return drawn
    except (XTLError, KeyError, OSError):
        return {}


def _enlarged(plane: np.ndarray) -> np.ndarray:
    low, high = float(plane.min()), float(plane.max())
    grey = (255 * (plane - low) / max(high - low, 1e-6)).astype(np.uint8)
    factor = max(1, _PATCH_SIDE // max(grey.shape))
    return np.repeat(grey.repeat(factor, axis=0).repeat(factor, axis=1)[..., None], 3, axis=2)


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels just outside of a mask, two wide: on the page they are half as large."""
    from scipy.ndimage import binary_dilation, generate_binary_structure

    return binary_dilation(mask, generate_binary_structure(2, 2), iterations=2) & ~mask


def _png(pixels: np.ndarray) -> bytes:
    try:
        from matplotlib.image import imsave
    except ImportError as error:
        raise MissingPackageError.of("pictures", "matplotlib", "study") from error
    stream = io.BytesIO()
    imsave(stream, pixels, format="png", metadata={"Software": None})
    return stream.getvalue()
