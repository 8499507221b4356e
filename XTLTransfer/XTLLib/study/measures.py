"""The figures that a study's tables are made of: what they are called, their unit, and which direction is good."""

from __future__ import annotations

from dataclasses import dataclass

from ..metrics.picai import SMALLEST_IOU


@dataclass(frozen=True)
class Measure:
    """A figure of a case or of an arm.

    Attributes
    ----------
    name : as a study file says it. title : as tables say it. unit : "mm", "ml", "" for a pure number.
    higher_is_better : which direction a conclusion calls better.
    definition : one line for the foot of a table.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    definition: str = ""

    @property
    def key(self) -> str:
        """Name of the value in :class:`.scores.Score`."""
        return self.name.replace("-", "_")

    @property
    def decimals(self) -> int:
        return 1 if self.unit == "mm" else 2 if self.unit == "ml" else 3


_MEASURES = (
    Measure("auc", "AUC", definition="area under the ROC curve by midranks"),
    Measure("ap", "AP", definition="average precision, the area under the precision-recall curve as a step function"),
    Measure("dice", "Dice", definition="2|P∩G| / (|P|+|G|)"),
    Measure("iou", "IoU", definition="|P∩G| / |P∪G| of the lesions, without the background"),
    Measure("ppv", "PPV", definition="|P∩G| / |P|, of voxels"),
    Measure("tpr", "TPR", definition="|P∩G| / |G|, of voxels"),
    Measure("avd", "AVD", higher_is_better=False, definition="||P|-|G|| / |G|, 0 is perfect"),
    Measure("hd95", "HD95", "mm", False, "the larger of both directed 95th percentiles of surface distances"),
    Measure("assd", "ASSD", "mm", False, "mean over the voxels of both surfaces of the distance to the other one"),
    Measure("ltpr", "LTPR", definition="share of reference lesions of which a voxel is predicted"),
    Measure("lfpr", "LFPR", higher_is_better=False, definition="share of predicted lesions without a reference voxel"),
    Measure("lesion-f1", "lesion F1", definition="harmonic mean of LTPR and 1-LFPR"),
    Measure("isbi", "ISBI raw", definition="(Dice/8 + PPV/8 + (1-LFPR)/4 + LTPR/4) x 4/3 of each scan"),
)
MEASURES = {measure.name: measure for measure in _MEASURES}
OVERLAP = ("dice", "iou", "ppv", "tpr", "avd", "hd95", "assd")
LESION_WISE = ("ltpr", "lfpr", "lesion-f1", "isbi")
# Columns of a score are called <convention>_<rate>, for example anima_sensitivity (see metrics.detection).
CONVENTIONS = ("any-overlap", "anima", f"iou-{SMALLEST_IOU:.2f}")
# Of arms in plots: told apart by colour-blind readers, on white and on black (after Okabe & Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08a00", "#56b4e9", "#8a6fbf", "#7f7f7f")
RATES = ("sensitivity", "precision", "f1")


def detection_key(convention: str, rate: str) -> str:
    """Name of the value in a score of a lesion detection rate by one convention."""
    return f"{convention}_{rate}"
