"""What a study tells: scores, baselines and the words of its report."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.patches import PatchSpec
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.study.baselines import FlairThreshold, adc_contrast
from XTLLib.study.config import Study, load_study
from XTLLib.study.report import StudyResult, auc_difference_of, auc_of, out_of_fold, smallest_p_value
from XTLLib.study.scores import Score, read_scores, write_scores


def _study(**changes) -> Study:
    values = {
        "name": "s",
        "datalist": "d.json",
        "arms": [{"name": "TL", "chain": "c.yaml", "intermediate": False}, {"name": "XTL", "chain": "c.yaml"}],
        "comparisons": [("XTL", "TL")],
        "seeds": (0, 1),
    }
    return Study.model_validate(values | changes)


def _scores(seed: int = 0) -> list[Score]:
    """Two arms, two seeds, 60 findings of 30 patients; XTL sees the truth better than TL."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, 60)
    rows = []
    for arm, noise in (("TL", 3.0), ("XTL", 0.3)):
        for run in (0, 1):
            for number in range(60):
                score = truth[number] + noise * generator.normal()
                values = {"truth": float(truth[number]), "score": float(score)}
                rows.append(Score(arm, run, number % 5, f"p{number // 2:02d}", f"c{number:02d}", values))
    return rows


def test_scores_survive_their_file(tmp_path):
    scores = _scores()
    write_scores(scores, tmp_path / "scores.tsv")
    assert read_scores(tmp_path / "scores.tsv") == scores


def test_out_of_fold_scores_are_means_over_seeds_and_the_auc_is_scikit_learns():
    result = StudyResult(_study(), "classification", tuple(_scores()))
    means, truth, patients = out_of_fold(result.of("TL"))
    by_hand = {}
    for score in result.of("TL"):
        by_hand.setdefault(score.case, []).append(score.values["score"])
    assert np.allclose(means, [np.mean(by_hand[case]) for case in sorted(by_hand)])
    assert auc_of(result, "TL").auc == pytest.approx(roc_auc_score(truth, means))
    assert len(set(patients)) == 30


def test_a_clear_difference_is_called_better_and_a_null_one_undecided():
    result = StudyResult(_study(), "classification", tuple(_scores()))
    assert auc_difference_of(result, ("XTL", "TL")).low > 0
    assert "better" in result.table_text
    same = [Score("XTL", s.seed, s.fold, s.patient, s.case, s.values) for s in result.of("TL")]
    null = StudyResult(_study(), "classification", (*result.of("TL"), *same))
    assert "undecided" in null.table_text


@pytest.mark.parametrize(("patients", "p_value"), [(2, 0.5), (5, 0.0625), (6, 0.03125)])
def test_smallest_p_value_of_the_exact_sign_flip_test(patients, p_value):
    assert smallest_p_value(patients) == p_value


def test_a_segmentation_study_of_two_patients_states_its_lack_of_power():
    values = dict.fromkeys(("dice", "ppv", "tpr", "ltpr", "lfpr", "reference_ml", "predicted_ml"), 0.5)
    scores = tuple(Score(arm, 0, n, f"p{n}", f"c{n}", values) for arm in ("TL", "XTL") for n in (0, 1))
    text = StudyResult(_study(seeds=(0,)), "segmentation", scores).table_text
    assert "With 2 patients an exact paired test cannot fall below p = 0.5" in text


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
