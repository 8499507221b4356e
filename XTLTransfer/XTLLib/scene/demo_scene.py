"""The scene of ``xtl demo``: two unseen phantoms with the results of both arms, the comparison, the curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..study.demo_arms import ClassificationOutcome, SegmentationOutcome, TrainedArm
from ..study.demo_table import NOTE, comparison_rows
from .classification import add_classification
from .export import save_scene
from .inputs import add_case
from .segmentation import add_segmentation
from .session import new_scene
from .table import Column, fill_table
from .training import training_table
from .views import add_slice_views


def write_demo_scene(
    path: Path,
    segmentation: Mapping[str, SegmentationOutcome],
    classification: Mapping[str, ClassificationOutcome],
) -> None:
    """Save a scene with the first unseen brain and one unseen prostate as MRB.

    The results of XTL are shown; those of TL lie beside them, hidden, for comparison. All four trainings
    are there as tables and plots.

    Raises MissingPackageError when slicer-core is not installed.
    """
    with new_scene() as scene:
        prostate = add_case(classification["XTL"].result.case, scene, "Prostate MR")
        brain = add_case(segmentation["XTL"].results[0].case, scene, "Brain MR", with_mask=True)
        for arm in ("TL", "XTL"):
            rated = add_classification(classification[arm].result, scene, prostate.reference)
            found = add_segmentation(segmentation[arm].results[0], scene, brain.reference)
            for nodes in (rated, found):
                _name_after(nodes, arm)
            if arm == "TL":
                for node in (rated.findings, found.segmentation):
                    node.GetDisplayNode().SetVisibility(False)
        _add_comparison(scene, comparison_rows(segmentation, classification))
        for outcome in (*segmentation.values(), *classification.values()):
            _add_training(scene, outcome.trained)
        lesions = segmentation["XTL"].results[0].lesions
        add_slice_views(scene, brain.reference, lesions[0].position_ras if lesions else None)
        save_scene(scene, path)


def _name_after(nodes: Any, arm: str) -> None:
    for field in fields(nodes):
        node = getattr(nodes, field.name)
        if node is None:  # no uncertainty was asked for
            continue
        # of two nodes of one name the scene has numbered the second
        node.SetName(f"{arm} {node.GetName().removesuffix('_1')}")


def _add_comparison(scene: Any, rows: list[tuple[str, str, str]]) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", "Comparison of TL and XTL")
    node.SetDescription(NOTE)
    fill_table(
        node,
        [
            Column("figure", "Figure", np.array([what for what, _, _ in rows])),
            Column("tl", "TL", np.array([tl for _, tl, _ in rows])),
            Column("xtl", "XTL", np.array([xtl for _, _, xtl in rows])),
        ],
    )


def _add_training(scene: Any, trained: TrainedArm) -> None:
    training_table(trained.log, scene, f"{trained.arm} {trained.target} training", x="step", curves=("loss",))
