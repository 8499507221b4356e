"""A case with findings and a bundle -> the probability of each finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..bundle.load import Bundle
from ..data.case import Case, Finding
from ..data.geometry import Grid
from ..data.patches import PatchSource, PatchSpec, extract_patch
from ..data.volume import Volume
from ..errors import InputError
from ..progress import Progress
from .device import inference_precision, pick_device
from .results import ClassificationResult, RatedFinding

if TYPE_CHECKING:
    import torch

BALL_RADIUS_MM = 5.0  # a project choice: about the size of a lesion that is worth a biopsy
BATCH = 32


def classify_case(
    case: Case,
    bundle: Bundle,
    *,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
) -> ClassificationResult:
    """Rate the findings of a case.

    Parameters
    ----------
    case : with findings, and the bundle's channels; others are left alone.
    device : "auto", "cpu", "cuda" or "cuda:N".

    Raises
    ------
    InputError : the bundle is for another task; the case has no findings, lacks a channel, holds NaN or has
        channels that do not overlap in space; or findings lie outside the images, all of which are named.
    Cancelled : at the request of ``progress``.
    """
    bundle.require_task("classification")
    progress = progress or Progress()
    progress.report("Preparing the images", 0.0)
    patches = patches_of(case, bundle.patch_spec, progress.part(0.0, 0.6))
    probabilities = rate_patches(bundle, patches, device=device, progress=progress.part(0.6, 0.95))
    progress.report("Drawing the findings", 0.95)
    result = rated_case(case, probabilities, bundle.name)
    progress.report("Findings rated", 1.0)
    return result


def patches_of(case: Case, spec: PatchSpec, progress: Progress | None = None) -> np.ndarray:
    """The patches of all findings: float32 (N, C, K, J, I). Raises InputError naming every finding that has none."""
    if not case.findings:
        raise InputError(f"the case {case.patient} has no findings", "Mark at least one finding")
    source = PatchSource(case, spec)
    patches, refused = [], []
    for number, finding in enumerate(case.findings):
        try:
            patches.append(extract_patch(case, finding, spec, source))
        except InputError as error:
            refused.append(error)
        if progress is not None:
            progress.report("Cutting patches", (number + 1) / len(case.findings))
    if refused:
        raise InputError("; ".join(error.what for error in refused), refused[0].remedy)
    return np.stack(patches)


def rate_patches(
    bundle: Bundle,
    patches: np.ndarray,
    *,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """Probabilities float64 (N,) of patches (N, C, K, J, I). Raises InputError for a wrong number of channels."""
    if patches.ndim != 5 or patches.shape[1] != bundle.spec.in_channels:
        raise InputError(
            f"patches of shape {patches.shape} for the bundle {bundle.name}, which takes "
            f"{bundle.spec.in_channels} channels ({', '.join(bundle.channels)})",
            "Give the bundle's channels in its order",
        )
    device = pick_device(device)
    return network_probabilities(bundle.network(device), patches, BATCH, device, progress)


def network_probabilities(
    network: torch.nn.Module, patches: np.ndarray, batch: int, device: torch.device, progress: Progress | None = None
) -> np.ndarray:
    """Sigmoid of a network's one logit a patch: float64 (N,)."""
    import torch

    from ..networks.layout import to_fast_layout

    network.to(device).eval()
    values = []
    with torch.inference_mode(), inference_precision(device):
        for first in range(0, len(patches), batch):
            part = torch.from_numpy(np.ascontiguousarray(patches[first : first + batch], dtype=np.float32))
            logits = network(to_fast_layout(part.to(device)))
            values.append(torch.sigmoid(logits.float()).cpu().numpy()[:, 0])
            if progress is not None:
                progress.report("Rating findings", min(1.0, (first + batch) / len(patches)))
    return np.concatenate(values).astype(np.float64) if values else np.zeros(0)


def rated_case(case: Case, probabilities: np.ndarray, bundle_name: str) -> ClassificationResult:
    """The result of a case whose findings have these probabilities."""
    rated = tuple(
        RatedFinding(row, finding, float(value))
        for row, (finding, value) in enumerate(zip(case.findings, probabilities), start=1)
    )
    label = ball_map(case.grid, case.findings)
    lookup = np.array([0.0, *probabilities], dtype=np.float32)
    probability = Volume(lookup[label], case.grid, "probability")
    return ClassificationResult(rated, Volume(label, case.grid, "findings"), probability, case, bundle_name)


def ball_map(grid: Grid, findings: tuple[Finding, ...], radius_mm: float = BALL_RADIUS_MM) -> np.ndarray:
    """int32 (K, J, I): a ball around each finding with its row (1..n) as value, 0 elsewhere.

    A voxel within reach of several findings belongs to the nearest. The voxel that holds a finding is
    always its own (of the later one, should two share it), so that none is lost between thick slices.
    """
    label = np.zeros(grid.shape, dtype=np.int32)
    nearest = np.full(grid.shape, np.inf, dtype=np.float32)
    reach = radius_mm * np.linalg.norm(np.linalg.inv(grid.ijk_to_ras[:3, :3]), axis=1)  # mm -> voxels along i, j, k
    last = np.array(grid.shape[::-1]) - 1
    centres = [grid.ras_to_index(finding.position_ras) for finding in findings]
    for row, (finding, centre) in enumerate(zip(findings, centres), start=1):
        low = np.clip(np.ceil(centre - reach), 0, last).astype(int)
        high = np.clip(np.floor(centre + reach), 0, last).astype(int)
        if (high < low).any():
            continue
        box = tuple(slice(a, b + 1) for a, b in zip(low[::-1], high[::-1]))
        kji = np.meshgrid(*(np.arange(part.start, part.stop) for part in box), indexing="ij")
        distance = np.linalg.norm(grid.index_to_ras(np.stack(kji[::-1], axis=-1)) - finding.position_ras, axis=-1)
        mine = (distance <= radius_mm) & (distance < nearest[box])
        label[box][mine] = row
        nearest[box][mine] = distance[mine]
    for row, centre in enumerate(centres, start=1):
        label[tuple(np.clip(np.round(centre), 0, last).astype(int)[::-1])] = row
    return label
