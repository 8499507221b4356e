"""Several bundles on one case, by networks whose probabilities are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from XTLLib.bundle.load import Bundle
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.inference.ensemble import segment_with_ensemble
from XTLLib.inference.exchange import ExchangeFolder, pack_result, unpack_result
from XTLLib.inference.lesions import LesionFinder
from XTLLib.inference.measures import regions_with_uncertainty
from XTLLib.inference.segment import segment_case
from XTLLib.inference.table import lesion_columns, write_lesion_table
from XTLLib.networks.spec import NetworkSpec
from XTLLib.progress import Progress


class _Says(nn.Module):
    """A fixed probability in the bright voxels, nearly 0 in all others; ``side`` makes it depend on the view."""

    def __init__(self, probability: float, side: float = 0.0) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.logit(torch.tensor(probability)))
        self.side = side

    def forward(self, x):
        bright = x[:, :1] > 6.0
        tilt = self.side * torch.sign(torch.linspace(-1, 1, x.shape[-1])) if self.side else 0.0
        return torch.where(bright, self.logit + tilt, torch.tensor(-20.0))


def _bundle(name: str, network: nn.Module, threshold: float = 0.5, task: str = "segmentation") -> Bundle:
    spec = NetworkSpec("segmentation", "resnet18", in_channels=1, conversion="inflate")
    preparation = Preparation(("FLAIR",), "FLAIR", None)
    return Bundle(Path("nowhere"), name, "", task, spec, preparation, None, threshold, 0.0, "", {}, {}, network)


def _case() -> Case:
    grid = Grid((24, 24, 24), np.diag([-1.0, -1.0, 2.0, 1.0]))
    image = np.full(grid.shape, 100.0, np.float32)
    image += np.random.default_rng(0).normal(0, 3, grid.shape).astype(np.float32)
    image[5:8, 5:9, 5:9] = 260.0
    image[15:17, 15:17, 15:17] = 260.0
    return Case("p", {"FLAIR": Volume(image, grid)}, "FLAIR")


def test_the_mean_and_the_deviation_over_bundles():
    bundles = [_bundle(name, _Says(p), t) for name, p, t in (("a", 0.9, 0.4), ("b", 0.6, 0.6), ("c", 0.9, 0.5))]
    result = segment_with_ensemble(_case(), bundles, precision="float32", device="cpu")
    assert result.threshold == pytest.approx(0.5) and result.bundle_name == "ensemble of a, b, c"
    assert [lesion.volume_mm3 for lesion in result.lesions] == [96.0, 16.0]
    for lesion in result.lesions:
        assert lesion.mean_probability == pytest.approx(0.8, abs=1e-4)
        assert lesion.uncertainty == pytest.approx(np.std([0.9, 0.6, 0.9]), abs=1e-4)
    assert segment_with_ensemble(_case(), bundles, threshold=0.85, precision="float32").lesions == ()


def test_views_and_bundles_deviate_together():
    """Half of the views of the first bundle say the one, half the other; the second bundle says one thing only."""
    bundles = [_bundle("a", _Says(0.5, side=1.0)), _bundle("b", _Says(0.5))]
    case = _case()
    result = segment_with_ensemble(case, bundles, threshold=0.3, precision="float32", mirror=True)
    up, down = (1 / (1 + np.exp(-x)) for x in (1.0, -1.0))
    expected = np.std([up] * 4 + [down] * 4 + [0.5] * 8)
    assert result.lesions[0].uncertainty == pytest.approx(expected, abs=1e-4)
    alone = segment_case(case, bundles[0], threshold=0.3, precision="float32", mirror=True)
    assert alone.lesions[0].uncertainty == pytest.approx(np.std([up, down]), abs=1e-4)


def test_the_uncertainty_has_a_column_only_where_it_is_known(tmp_path):
    case, bundle = _case(), _bundle("a", _Says(0.5, side=1.0))
    plain = segment_case(case, bundle, threshold=0.3, precision="float32")
    mirrored = segment_case(case, bundle, threshold=0.3, precision="float32", mirror=True)
    assert [c.name for c in lesion_columns(mirrored)] == [*(c.name for c in lesion_columns(plain)), "uncertainty"]
    assert lesion_columns(plain.lesions) == lesion_columns(()) == lesion_columns(plain)
    tsv, _ = write_lesion_table(mirrored, tmp_path)
    header, first, *_ = (line.split("\t") for line in tsv.read_text().splitlines())
    assert header[-1] == "uncertainty"
    assert float(first[-1]) == pytest.approx(mirrored.lesions[0].uncertainty, abs=1e-4)
    nothing = segment_case(case, bundle, threshold=0.99, precision="float32", mirror=True)
    assert nothing.lesions == () and lesion_columns(nothing)[-1].name == "uncertainty"


def test_a_finder_s_regions_get_the_same_figures():
    result = segment_case(_case(), _bundle("a", _Says(0.5, side=1.0)), threshold=0.3, precision="float32", mirror=True)
    regions = LesionFinder(result.probability).find(0.3)
    assert regions.lesions[0].uncertainty is None
    found = regions_with_uncertainty(regions, result.uncertainty)
    assert found.lesions == result.lesions and found.voxels is regions.voxels
    assert regions_with_uncertainty(regions, None) is regions


def test_it_crosses_the_worker_s_border():
    result = segment_case(_case(), _bundle("a", _Says(0.5, side=1.0)), threshold=0.3, precision="float32", mirror=True)
    folder = ExchangeFolder()
    try:
        crossed = unpack_result(pack_result(result, folder), folder, result.case)
    finally:
        folder.remove()
    assert crossed.lesions == result.lesions
    np.testing.assert_array_equal(crossed.uncertainty.array, result.uncertainty.array)


def test_what_is_no_ensemble_is_refused_and_it_can_be_cancelled():
    with pytest.raises(InputError, match="ensemble of 1 bundle"):
        segment_with_ensemble(_case(), [_bundle("a", _Says(0.5))])
    with pytest.raises(InputError, match="classification"):
        segment_with_ensemble(_case(), [_bundle("a", _Says(0.5)), _bundle("b", _Says(0.5), task="classification")])
    reports = []

    def sink(event):
        reports.append(event.fraction)

    bundles = [_bundle("a", _Says(0.5)), _bundle("b", _Says(0.6))]
    with pytest.raises(Cancelled):
        segment_with_ensemble(_case(), bundles, progress=Progress(sink, lambda: bool(reports) and reports[-1] > 0.5))
    reports.clear()
    segment_with_ensemble(_case(), bundles, progress=Progress(sink))
    assert reports == sorted(reports) and reports[-1] == 1.0
