"""A case with findings and a bundle -> the probability of each finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from ..bundle.load import Bundle
from ..data.case import Case, Finding
from ..data.geometry import Grid
from ..data.patch_jitter import PatchMotion
from ..data.patches import Patch, PatchSource, PatchSpec
from ..data.volume import Volume
from ..data.zones import ZONE_INDEX
from ..errors import InputError
from ..metrics.operating_points import OperatingPoint
from ..progress import Progress
from .device import inference_precision, pick_device
from .evidence import EVIDENCE, Explained, evidence_maps
from .patch_sources import PatchSources
from .patch_views import patch_views
from .results import ClassificationResult, RatedFinding
from .verdict import Rating, operating_point_of, rate_findings, rating_notes

if TYPE_CHECKING:
    import torch

BALL_RADIUS_MM = 5.0  # a project choice: about the size of a lesion that is worth a biopsy
BATCH = 32


def classify_case(
    case: Case,
    bundles: Bundle | Sequence[Bundle],
    *,
    device: str | torch.device = "auto",
    views: int = 1,
    evidence: Sequence[str] = (),
    operating_point: str = "Youden",
    progress: Progress | None = None,
    sources: PatchSources | None = None,
) -> ClassificationResult:
    """Rate the findings of a case.

    Parameters
    ----------
    case : with findings, and the bundles' channels; others are left alone.
    bundles : one, or several whose probabilities are averaged; the members of a bundle are, too. See
        :func:`~XTLLib.inference.verdict.rate_findings`.
    device : "auto", "cpu", "cuda" or "cuda:N".
    views : of each finding, over which the probability is averaged; see inference/patch_views.py.
    evidence : "grad-cam", "occlusion": maps to be made; see inference/evidence.py. Of several bundles, their mean.
    operating_point : name of the rule whose threshold classifies, for bundles that have one.
    sources : what is prepared of the case is taken from there, and kept there.

    Raises
    ------
    InputError : no bundle, or one for another task; an operating point, number of views or kind of evidence that is
        not known; the case has no findings, lacks a channel, holds NaN or has channels that do not overlap in space;
        or findings lie outside the images, or where those are constant, all of which are named.
    Cancelled : at the request of ``progress``.
    """
    bundles = (bundles,) if isinstance(bundles, Bundle) else tuple(bundles)
    points = _checked_points(bundles, operating_point)
    motions = patch_views(views)
    _require_evidence(evidence)
    progress, sources, device = progress or Progress(), sources or PatchSources(), pick_device(device)
    progress.report("Preparing the images", 0.0)
    rated_at = 0.6 if evidence else 0.95
    ratings, maps = [], []
    warnings: list[dict[str, None]] = [{} for _ in case.findings]
    for number, (bundle, point) in enumerate(zip(bundles, points)):
        share = progress.part(rated_at * number / len(bundles), rated_at * (number + 1) / len(bundles))
        source = sources.source(case, bundle.patch_spec)
        cut = _cut(case, source, motions, share.part(0.0, 0.5))
        for said, finding, patch in zip(warnings, case.findings, cut[0]):
            # The row that a warning goes to has the finding's name already.
            named = f"finding {finding.identifier}: "
            said.update(dict.fromkeys(warning.removeprefix(named) for warning in patch.warnings))
        patches = np.stack([[patch.array for patch in view] for view in cut])  # (views, findings, C, K, J, I)
        zones = zone_numbers(case.findings) if bundle.spec.zones else None
        raw = _member_probabilities(
            bundle,
            patches.reshape(-1, *patches.shape[2:]),
            _repeated(zones, len(motions)),
            device,
            share.part(0.5, 1.0),
        )
        ratings.append(Rating(bundle, raw.reshape(len(raw), *patches.shape[:2]), point))
        if evidence:
            part = 0.95 - rated_at
            share = progress.part(
                rated_at + part * number / len(bundles), rated_at + part * (number + 1) / len(bundles)
            )
            maps.append(_evidence(case, bundle, source, patches[0], zones, evidence, device, share))
    progress.report("Drawing the findings", 0.95)
    result = _result(
        case,
        rate_findings(case.findings, ratings, [tuple(said) for said in warnings]),
        bundles[0].name if len(bundles) == 1 else f"ensemble of {', '.join(bundle.name for bundle in bundles)}",
    )
    progress.report("Findings rated", 1.0)
    return replace(
        result,
        evidence=_mean_maps(maps, case.grid),
        operating_point="" if None in points else operating_point,
        notes=rating_notes(ratings),
    )


def patches_of(case: Case, spec: PatchSpec, progress: Progress | None = None) -> np.ndarray:
    """The patches of all findings: float32 (N, C, K, J, I). Raises InputError naming every finding that has none."""
    (patches,) = _cut(case, PatchSource(case, spec), (None,), progress)
    return np.stack([patch.array for patch in patches])


def rate_patches(
    bundle: Bundle,
    patches: np.ndarray,
    *,
    zones: np.ndarray | None = None,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """Probabilities float64 (N,) of patches (N, C, K, J, I): the mean over the bundle's networks, not calibrated.

    Parameters
    ----------
    zones : int64 (N,), as ``data.zones.ZONE_INDEX`` numbers them; None: unknown.

    Raises InputError for a wrong number of channels.
    """
    if patches.ndim != 5 or patches.shape[1] != bundle.spec.in_channels:
        raise InputError(
            f"patches of shape {patches.shape} for the bundle {bundle.name}, which takes "
            f"{bundle.spec.in_channels} channels ({', '.join(bundle.channels)})",
            "Give the bundle's channels in its order",
        )
    zones = zones if bundle.spec.zones else None
    return _member_probabilities(bundle, patches, zones, pick_device(device), progress).mean(axis=0)


def ready_networks(bundle: Bundle, device: torch.device) -> tuple[torch.nn.Module, ...]:
    """The members of a bundle, each as a copy for inference (BatchNorm folded), which is made once and kept with it."""
    return tuple(_ready(network, bundle, device) for network in bundle.networks(device))


def network_probabilities(
    network: torch.nn.Module,
    patches: np.ndarray,
    batch: int,
    device: torch.device,
    progress: Progress | None = None,
    zones: np.ndarray | None = None,
) -> np.ndarray:
    """Sigmoid of a network's one logit a patch: float64 (N,); ``zones`` int64 (N,) for a network that takes them."""
    import torch

    from ..networks.layout import to_fast_layout

    network.to(device).eval()
    values = []
    with torch.inference_mode(), inference_precision(device):
        for first in range(0, len(patches), batch):
            part = torch.from_numpy(np.ascontiguousarray(patches[first : first + batch], dtype=np.float32))
            further = () if zones is None else (torch.from_numpy(zones[first : first + batch]).to(device),)
            logits = network(to_fast_layout(part.to(device)), *further)
            values.append(torch.sigmoid(logits.float()).cpu().numpy()[:, 0])
            if progress is not None:
                progress.report("Rating findings", min(1.0, (first + batch) / len(patches)))
    return np.concatenate(values).astype(np.float64) if values else np.zeros(0)


def zone_numbers(findings: Sequence[Finding]) -> np.ndarray:
    """The zones of findings as a network takes them: int64 (N,), 0 where it is unknown."""
    return np.array([ZONE_INDEX.get(finding.zone, 0) for finding in findings], dtype=np.int64)


def rated_case(case: Case, probabilities: np.ndarray, bundle_name: str) -> ClassificationResult:
    """The result of a case of whose findings nothing but these probabilities is known."""
    rated = tuple(
        RatedFinding(row, finding, float(value))
        for row, (finding, value) in enumerate(zip(case.findings, probabilities), start=1)
    )
    return _result(case, rated, bundle_name)


def _result(case: Case, rated: tuple[RatedFinding, ...], bundle_name: str) -> ClassificationResult:
    label = ball_map(case.grid, case.findings)
    lookup = np.array([0.0, *(finding.probability for finding in rated)], dtype=np.float32)
    probability = Volume(lookup[label], case.grid, "probability")
    return ClassificationResult(rated, Volume(label, case.grid, "findings"), probability, case, bundle_name)


def _checked_points(bundles: tuple[Bundle, ...], rule: str) -> list[OperatingPoint | None]:
    if not bundles:
        raise InputError("no bundle to rate the findings with", "Give one or more")
    for bundle in bundles:
        bundle.require_task("classification")
    return [operating_point_of(bundle, rule) for bundle in bundles]


def _require_evidence(kinds: Sequence[str]) -> None:
    unknown = [kind for kind in kinds if kind not in EVIDENCE]
    if unknown or isinstance(kinds, str):
        raise InputError(f"the evidence {', '.join(unknown) or kinds!r}", f"Give some of {', '.join(EVIDENCE)}")


def _cut(
    case: Case, source: PatchSource, motions: Sequence[PatchMotion | None], progress: Progress | None
) -> list[list[Patch]]:
    """For each motion the patches of all findings. Raises InputError naming every finding that has none."""
    if not case.findings:
        raise InputError(f"the case {case.patient} has no findings", "Mark at least one finding")
    views: list[list[Patch]] = [[] for _ in motions]
    refused = []
    for number, finding in enumerate(case.findings):
        try:
            for view, motion in zip(views, motions):
                view.append(source.cut(finding, motion))
        except InputError as error:
            refused.append(error)
        if progress is not None:
            progress.report("Cutting patches", (number + 1) / len(case.findings))
    if refused:
        raise InputError("; ".join(error.what for error in refused), refused[0].remedy)
    return views


def _repeated(zones: np.ndarray | None, times: int) -> np.ndarray | None:
    return None if zones is None else np.tile(zones, times)


def _member_probabilities(
    bundle: Bundle, patches: np.ndarray, zones: np.ndarray | None, device: torch.device, progress: Progress | None
) -> np.ndarray:
    """float64 (members, N)."""
    networks = ready_networks(bundle, device)
    progress = progress or Progress()
    return np.stack(
        [
            network_probabilities(
                network,
                patches,
                BATCH,
                device,
                progress.part(number / len(networks), (number + 1) / len(networks)),
                zones,
            )
            for number, network in enumerate(networks)
        ]
    )


_copies: WeakKeyDictionary = WeakKeyDictionary()  # network -> {device: its copy for inference}


def _ready(network: torch.nn.Module, bundle: Bundle, device: torch.device) -> torch.nn.Module:
    from ..networks.folding import folded
    from ..networks.layout import to_fast_layout

    known = _copies.setdefault(network, {})
    if device not in known:
        known[device] = to_fast_layout(folded(network, bundle.spec.in_channels, shape=bundle.patch_spec.shape))
    return known[device]


def _evidence(
    case: Case,
    bundle: Bundle,
    source: PatchSource,
    patches: np.ndarray,
    zones: np.ndarray | None,
    kinds: Sequence[str],
    device: torch.device,
    progress: Progress,
) -> list[dict[str, np.ndarray]]:
    def rate(hidden: np.ndarray, finding: int) -> np.ndarray:
        of_finding = None if zones is None else np.full(len(hidden), zones[finding])
        return _member_probabilities(bundle, hidden, of_finding, device, None).mean(axis=0)

    networks = ready_networks(bundle, device)
    return evidence_maps(Explained(case, source, bundle.patch_spec, patches, zones, networks, rate), kinds, progress)


def _mean_maps(maps: Sequence[list[dict[str, np.ndarray]]], grid: Grid) -> dict[int, dict[str, Volume]]:
    """Row -> kind -> the mean over bundles."""
    return {
        row: {
            kind: Volume(sum(one[kind] for one in of_bundles) / np.float32(len(of_bundles)), grid, kind)
            for kind in of_bundles[0]
        }
        for row, of_bundles in enumerate(zip(*maps), start=1)
    }


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
