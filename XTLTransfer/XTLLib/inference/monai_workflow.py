"""The parts that a bundle's ``configs/inference.json`` names, for ``python -m monai.bundle run``.

Each part is a thin shell around the function that an Apply click runs, in the roles that MONAI's bundle
workflow knows: preprocessing, inferer, postprocessing, evaluator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.calibration import Calibration
from ..data.case import Case
from ..data.findings import read_findings_csv
from ..data.images import read_image, write_volume
from ..data.patches import PatchSpec
from ..data.prepare import Preparation
from .classify import network_probabilities, patches_of, rated_case, zone_numbers
from .engine import Prediction, predict_case
from .segment import result_from
from .sliding_window import OVERLAP
from .table import write_lesion_table

if TYPE_CHECKING:
    import torch


class PrepareCase:
    """``{"volumes": {channel: path}}`` -> the same with the case and the network's input."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        optional = self.preparation.optional
        volumes = {name: path for name, path in item["volumes"].items() if name not in optional or Path(path).exists()}
        case = _read_case(volumes, self.preparation.reference)
        return {**item, "case": case, "prepared": self.preparation(case)}


class WindowInferer:
    """The engine of :func:`~XTLLib.inference.engine.predict_case`."""

    def __init__(self, window: tuple[int, int, int] | None = None, overlap: float = OVERLAP) -> None:
        self.window = None if window is None else tuple(window)
        self.overlap = overlap

    def __call__(self, item: Mapping[str, Any], network: torch.nn.Module, device: torch.device) -> Prediction:
        """What the network says on the working grid."""
        prepared = item["prepared"]
        return predict_case(
            network, prepared.image, prepared.foreground, device=device, window=self.window, overlap=self.overlap
        )


class SaveLesions:
    """Writes ``labelmap.nii.gz``, ``probability.nii.gz``, ``lesions.tsv`` and ``lesions.json``."""

    def __init__(self, output_dir: str, threshold: float, minimum_volume_mm3: float, bundle_name: str) -> None:
        self.output_dir = Path(output_dir)
        self.threshold = threshold
        self.minimum_volume_mm3 = minimum_volume_mm3
        self.bundle_name = bundle_name

    def __call__(self, item: Mapping[str, Any], prediction: Prediction) -> None:
        result = result_from(
            item["case"], item["prepared"], prediction, self.threshold, self.minimum_volume_mm3, self.bundle_name
        )
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_volume(result.label, self.output_dir / "labelmap.nii.gz")
        write_volume(result.probability, self.output_dir / "probability.nii.gz")
        write_lesion_table(result, self.output_dir)


class CutPatches:
    """``{"volumes": {channel: path}, "findings": path}`` -> the same with the case and its patches."""

    def __init__(self, patches: PatchSpec) -> None:
        self.patches = patches

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        findings = tuple(finding for _, finding in read_findings_csv(item["findings"]))
        case = _read_case(item["volumes"], self.patches.reference, findings)
        return {**item, "case": case, "patches": patches_of(case, self.patches)}


class PatchInferer:
    """The networks on all patches of a case: their mean, calibrated.

    Parameters
    ----------
    members : further networks of an ensemble. calibration : of the mean; None leaves it as it is.
    """

    def __init__(
        self, batch: int = 32, members: Sequence[torch.nn.Module] = (), calibration: Calibration | None = None
    ) -> None:
        self.batch = batch
        self.members = tuple(members)
        self.calibration = calibration

    def __call__(self, item: Mapping[str, Any], network: torch.nn.Module, device: torch.device) -> np.ndarray:
        """Probabilities float64 (N,)."""
        zones = zone_numbers(item["case"].findings) if network.zones else None
        mean = np.mean(
            [
                network_probabilities(one, item["patches"], self.batch, device, zones=zones)
                for one in (network, *self.members)
            ],
            axis=0,
        )
        return mean if self.calibration is None else self.calibration(mean)


class SaveRatings:
    """Writes ``labelmap.nii.gz``, ``lesions.tsv`` and ``lesions.json``."""

    def __init__(self, output_dir: str, bundle_name: str) -> None:
        self.output_dir = Path(output_dir)
        self.bundle_name = bundle_name

    def __call__(self, item: Mapping[str, Any], probabilities: np.ndarray) -> None:
        result = rated_case(item["case"], probabilities, self.bundle_name)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_volume(result.label, self.output_dir / "labelmap.nii.gz")
        write_lesion_table(result, self.output_dir)


class CaseEvaluator:
    """Runs every case of a dataset through network and postprocessing."""

    def __init__(self, dataset, network: torch.nn.Module, inferer, postprocessing, device: torch.device) -> None:
        self.dataset = dataset
        self.network = network
        self.inferer = inferer
        self.postprocessing = postprocessing
        self.device = device

    def run(self) -> None:
        for index in range(len(self.dataset)):
            item = self.dataset[index]
            self.postprocessing(item, self.inferer(item, self.network, self.device))


def _read_case(volumes: Mapping[str, str], reference: str, findings: tuple = ()) -> Case:
    return Case("case", {name: read_image(path) for name, path in volumes.items()}, reference, findings=findings)
