"""How a network does on parts of cases, and which threshold suits it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..inference.sliding_window import predict
from ..metrics.components import label_components
from ..metrics.lesionwise import detect_lesions
from ..metrics.overlap import dice
from ..progress import Progress
from ..transfer.figure import Figure
from .adapt_outcome import PartFigures
from .adapt_split import Part
from .figures import mean_figure

_CONNECTIVITY = 26
_THRESHOLDS = tuple(round(0.1 * n, 1) for n in range(1, 10))
_NOISE = 0.02  # of Dice: below it one threshold is as good as another


@dataclass(frozen=True, eq=False)
class PartPrediction:
    """What a network says of a part of a case.

    Attributes
    ----------
    part : the case and the box. probability : float32 of the box's shape.
    """

    part: Part
    probability: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        return self.part.case.mask[self.part.box]

    def dice(self, threshold: float) -> float:
        return dice(self.probability >= threshold, self.truth)

    def lesion_f1(self, threshold: float, minimum_volume_mm3: float) -> float:
        """Of lesions as results have them, without those smaller than ``minimum_volume_mm3``."""
        labels, count = label_components(self.probability >= threshold, _CONNECTIVITY)
        sizes = np.bincount(labels.ravel(), minlength=count + 1) * self.part.case.prepared.grid.voxel_volume_mm3
        sizes[0] = 0.0
        predicted = (sizes >= max(minimum_volume_mm3, 1e-9))[labels]
        return detect_lesions(predicted, self.truth, _CONNECTIVITY).f1


def predict_parts(network: nn.Module, parts: Sequence[Part], progress: Progress, stage: str) -> list[PartPrediction]:
    """A network on whole cases, as in use, of which the parts are then looked at."""
    predictions = []
    for number, part in enumerate(parts):
        prepared, span = part.case.prepared, progress.part(number / len(parts), (number + 1) / len(parts))
        probability = predict(network, prepared.image, prepared.foreground, progress=span, stage=stage)
        predictions.append(PartPrediction(part, probability[part.box]))
    return predictions


def figures_of(predictions: Sequence[PartPrediction], threshold: float, minimum_volume_mm3: float) -> PartFigures:
    """Dice and lesion F1 at a threshold."""
    patients = [prediction.part.case.patient for prediction in predictions]
    return PartFigures(
        _mean([prediction.dice(threshold) for prediction in predictions], patients),
        _mean([prediction.lesion_f1(threshold, minimum_volume_mm3) for prediction in predictions], patients),
        sum(prediction.part.lesions for prediction in predictions),
        len(predictions),
    )


def best_threshold(predictions: Sequence[PartPrediction], present: float) -> float:
    """The threshold of the highest mean Dice; of those as good but for noise the one nearest to the present one."""
    candidates = (present, *_THRESHOLDS)
    scores = [np.mean([prediction.dice(threshold) for prediction in predictions]) for threshold in candidates]
    good = [threshold for threshold, score in zip(candidates, scores) if score >= max(scores) - _NOISE]
    return min(good, key=lambda threshold: abs(threshold - present))


def _mean(values: Sequence[float], patients: Sequence[str]) -> Figure:
    if len(set(patients)) < 2:  # one patient says nothing of others
        return Figure(float(np.mean(values)))
    return mean_figure(values, patients)
