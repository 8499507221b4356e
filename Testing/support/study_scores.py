"""Synthetic scores of studies whose truth is planted: what the tests of the report and of the scene share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from XTLLib.metrics.isbi import isbi_score
from XTLLib.metrics.lesionwise import harmonic_mean
from XTLLib.study.config import Study
from XTLLib.study.result import StudyResult
from XTLLib.study.runs import planned_runs
from XTLLib.study.scores import Score

CHAIN = {
    "name": "toy",
    "backbone": "squeezenet1_0",
    "stages": [
        {"kind": "initialisation", "weights": "random"},
        {"kind": "target", "task": "classification", "datalist": "none.json", "channels": ["T2W", "ADC"]},
    ],
}


def study_of(**changes) -> Study:
    """A study of two arms on a datalist that does not exist: the report has to do without it."""
    values = {
        "name": "planted",
        "datalist": "none.json",
        "folds": 5,
        "arms": [{"name": "TL", "chain": CHAIN}, {"name": "XTL", "chain": CHAIN}],
        "comparisons": [("XTL", "TL")],
    }
    return Study.model_validate(values | changes)


def classification(study: Study, noise: Mapping[str, float], patients: int = 60, seed: int = 0) -> StudyResult:
    """Two findings a patient, a third of them positive; a finding's score is a logistic of truth plus noise.

    The noise of a finding is shared by the arms and drawn anew for each seed, so that arms of one noise differ by
    nothing but chance. More training cases mean less noise.
    """
    generator = np.random.default_rng(seed)
    truth = (generator.random(2 * patients) < 1 / 3).astype(float)
    own = generator.normal(size=2 * patients)
    scores = []
    for run in planned_runs(study):
        drawn = np.random.default_rng([seed, study.names.index(run.arm), run.seed, run.repeat]).normal(
            size=2 * patients
        )
        spread = noise[run.arm] * (1.0 if run.size is None else 1.0 + 20.0 / run.size)
        values = 1 / (1 + np.exp(-(2.0 * truth - 1.0 + spread * (0.6 * own + 0.8 * drawn))))
        for number in range(2 * patients):
            if (number // 2 + run.repeat) % study.folds == run.fold:
                case = {"truth": truth[number], "score": float(values[number])}
                scores.append(_score(run, f"p{number // 2:03d}", f"c{number:03d}", case))
    return StudyResult(study, "classification", tuple(scores))


def segmentation(study: Study, gain: Mapping[str, float], patients: int = 12, seed: int = 0) -> StudyResult:
    """Two scans a patient; Dice of a scan is the patient's own plus the arm's gain plus noise."""
    generator = np.random.default_rng(seed)
    middle = generator.uniform(0.45, 0.65, patients)
    volume = generator.lognormal(1.0, 0.8, 2 * patients)
    scores = []
    for run in planned_runs(study):
        drawn = np.random.default_rng([seed, study.names.index(run.arm), run.seed, run.repeat])
        for number in range(2 * patients):
            noise = drawn.normal(size=8)
            if (number // 2 + run.repeat) % study.folds != run.fold:
                continue
            less = 0.0 if run.size is None else 0.8 / run.size
            dice = float(np.clip(middle[number // 2] + gain[run.arm] - less + 0.03 * noise[0], 0.01, 0.99))
            rate = np.clip(dice + 0.1 * noise[1:7], 0.01, 0.99).tolist()
            case = {
                "dice": dice, "iou": dice / (2 - dice), "ppv": rate[0], "tpr": rate[1], "avd": 1 - rate[2],
                "hd95": 40.0 * (1 - dice), "assd": 8.0 * (1 - dice), "ltpr": rate[3], "lfpr": 1 - rate[4],
                "reference_ml": float(volume[number]), "predicted_ml": float(volume[number] * (0.7 + 0.4 * rate[5])),
            }  # fmt: skip
            case["lesion_f1"] = harmonic_mean(case["ltpr"], 1 - case["lfpr"])
            case["isbi"] = isbi_score(*(case[name] for name in ("dice", "ppv", "ltpr", "lfpr")))
            for convention in ("any-overlap", "anima", "iou-0.10"):
                for place, name in enumerate(("sensitivity", "precision", "f1")):
                    case[f"{convention}_{name}"] = rate[place]
            scores.append(_score(run, f"p{number // 2:03d}", f"p{number // 2:03d}_{number % 2}", case))
    return StudyResult(study, "segmentation", tuple(scores))


def _score(run, patient: str, case: str, values: dict[str, float]) -> Score:
    return Score(run.arm, run.seed, run.fold, patient, case, values, repeat=run.repeat, size=run.size)
