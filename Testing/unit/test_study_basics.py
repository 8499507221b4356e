"""The baselines that learn one number or nothing, the file of scores, and what a study file may say."""

from __future__ import annotations

import numpy as np
import pytest
from study_scores import segmentation, study_of
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.patches import PatchSpec
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.study.baselines import FlairThreshold, adc_contrast
from XTLLib.study.config import load_study
from XTLLib.study.evaluate import segmentation_values
from XTLLib.study.measures import CONVENTIONS, MEASURES, RATES, detection_key
from XTLLib.study.scores import read_scores, write_scores


def test_scores_survive_their_file(tmp_path):
    scores = segmentation(study_of(repeats=2, sizes=(4, "all")), {"TL": 0.0, "XTL": 0.1}, patients=5).scores
    write_scores(scores, tmp_path / "scores.tsv")
    assert tuple(read_scores(tmp_path / "scores.tsv")) == scores


def test_figures_of_a_segmented_case_are_those_of_the_metrics():
    from scene_cases import GRIDS, ball
    from XTLLib.metrics import detection, isbi, overlap, surface

    grid = GRIDS["oblique"]
    mask = ball(grid) > 0.5
    shifted = Volume(np.roll(mask, 2, axis=2), grid)
    case = Case("p", {"FLAIR": Volume(ball(grid), grid)}, "FLAIR", Volume(mask, grid))
    values = segmentation_values(shifted, case)
    for name in ("dice", "iou", "ppv", "tpr", "avd"):
        assert values[name] == getattr(overlap, name)(shifted.array, mask)
    for name in ("hd95", "assd"):
        assert values[name] == getattr(surface, name)(shifted.array, mask, grid)
    assert values["isbi"] == isbi.isbi_score(values["dice"], values["ppv"], 1.0, 0.0)
    assert (values["ltpr"], values["lfpr"], values["lesion_f1"]) == (1.0, 0.0, 1.0)
    for found in detection.detection_by_conventions(shifted.array, mask, grid):
        for rate in RATES:
            assert values[detection_key(found.convention, rate)] == getattr(found, rate)
    assert {measure.key for name, measure in MEASURES.items() if name not in ("auc", "ap")} <= values.keys()
    assert {detection_key(convention, rate) for convention in CONVENTIONS for rate in RATES} <= values.keys()


def test_adc_contrast_of_a_dark_disc_is_its_depth():
    spec = PatchSpec(("T2W", "ADC"), (1, 64, 64), {"T2W": (16, 16, 3), "ADC": (64, 64, 3)})
    y, x = np.mgrid[:64, :64] - 31.5
    patches = np.zeros((2, 2, 1, 64, 64), np.float32)
    patches[:, 1, 0] = 0.8
    patches[0, 1, 0][np.hypot(y, x) <= 6] = 0.3  # 1 mm pixels: the disc holds the centre, not the ring
    assert adc_contrast(patches, spec) == pytest.approx([0.5, 0.0], abs=1e-6)


def test_adc_contrast_refuses_patches_without_its_ring():
    spec = PatchSpec(("ADC",), (1, 8, 8), {"ADC": (8, 8, 3)}, reference="ADC")
    with pytest.raises(InputError, match="at least 32 mm"):
        adc_contrast(np.zeros((1, 1, 1, 8, 8)), spec)


def test_flair_threshold_finds_bright_lesions_on_another_scanner():
    def case(gain: float, seed: int) -> Case:
        generator = np.random.default_rng(seed)
        head, lesion = np.zeros((2, 20, 30, 24), bool)
        head[2:18, 4:26, 4:20] = True
        lesion[8:11, 10:14, 8:12] = True
        image = np.where(head, 100 + 5 * generator.normal(size=head.shape), 0) + 80.0 * lesion
        affine = np.diag([-1.0, 1.0, 2.0, 1.0])  # flipped columns: nothing may depend on array order
        grid = Grid(head.shape, affine)
        return Case("p", {"FLAIR": Volume((gain * image).astype(np.float32), grid)}, "FLAIR", Volume(lesion, grid))

    baseline = FlairThreshold().fit([case(1.0, 0)])
    other = case(7.3, 1)
    assert np.array_equal(baseline.predict(other).array, other.mask.array)


def test_a_study_file_names_what_is_wrong(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: s\ndatalist: d.json\narms:\n  - {name: TL, chain: c.yaml}\ncomparisons: [[TL, Xtl]]\n")
    with pytest.raises(InputError, match="Xtl, which is neither an arm nor a baseline"):
        load_study(path)
    path.write_text("name: s\ndatalist: d.json\nfold: 3\narms:\n  - {name: TL, chain: c.yaml}\n")
    with pytest.raises(InputError, match=r"line 3.*unknown key fold. Perhaps folds is meant"):
        load_study(path)
