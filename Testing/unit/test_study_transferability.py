"""Transferability of an arm's source: what it is computed on, and where it comes from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.study_lists import CLASSIFICATION, SEGMENTATION, chain_values, study_of
from support.toys import write_toy_mammograms, write_toy_patches, write_toy_volumes
from XTLLib.data.datalist import Datalist
from XTLLib.data.patches import load_patch
from XTLLib.errors import InputError
from XTLLib.metrics.transferability import logme
from XTLLib.study.run import task_of
from XTLLib.study.runs import Deals, chain_of, fold_datalist, planned_runs
from XTLLib.study.transferability import incoming_of, score_source, transferability_columns
from XTLLib.training.patches import patch_spec_of
from XTLLib.training.run import run_chain
from XTLLib.transfer.chain import chain_from_dict

PATCHES = {"channels": ["ADC"], "training": {"epochs": 1, "batch_size": 4, "validation": 0}}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lists")
    return {
        "mammograms": write_toy_mammograms(folder / "m", 8),
        "patches": write_toy_patches(folder / "p", 12),
        "volumes": write_toy_volumes(folder / "v", 3, 0),
    }


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """A study of two arms whose runs of the first fold are done."""
    out = tmp_path_factory.mktemp("study")
    between = {
        "kind": "intermediate", "task": "mammogram-classification", "datalist": str(files["mammograms"]),
        "image_size": 64, "training": {"epochs": 1, "batch_size": 4, "validation": 0},
    }  # fmt: skip
    chain = chain_values({**CLASSIFICATION, **PATCHES}, between, backbone="squeezenet1_0")
    arms = [{"name": "XTL", "chain": chain}, {"name": "scratch", "chain": chain, "intermediate": False}]
    study, datalist = study_of(arms, datalist=str(files["patches"])), Datalist.load(files["patches"])
    run = planned_runs(study)[0]
    task = task_of(study, run, Deals(study, datalist), out)
    fold = fold_datalist(study, datalist, run)
    run_chain(
        chain_of(study, run), task.folder / "chain", device="cpu", stage_cache=out / "cache", target_datalist=fold
    )
    return study, datalist, out


def test_columns_are_those_of_the_backbone_before_the_target_stage(finished):
    study, datalist, out = finished
    columns = transferability_columns(study, datalist, out)
    assert set(columns) == {"XTL", "scratch"}
    assert all(math.isfinite(columns["XTL"][name]) for name in ("logme", "h_score", "leep", "nce"))
    assert columns["XTL"]["leep"] <= 0 and columns["XTL"]["nce"] <= 0
    assert columns["scratch"]["leep"] is None  # no source that has classes
    assert columns == transferability_columns(study, datalist, out)


def test_features_are_the_pooled_deepest_stage_of_the_training_patches_alone(finished):
    study, datalist, out = finished
    run = next(run for run in planned_runs(study) if run.arm == "scratch")
    chain, fold = chain_of(study, run), fold_datalist(study, datalist, run)
    incoming, source = incoming_of(chain, out / "nowhere", out / "cache")
    assert source is None
    # By hand: one slice of ADC, standardised, enlarged to 96 pixels, through the 2D backbone in grey.
    incoming.backbone.eval()
    spec = patch_spec_of(chain.target, fold)
    patches = torch.from_numpy(np.stack([load_patch(entry, fold, spec) for entry in fold.training])).float()
    grey = (patches[:, :1, 0] - 0.5) / 12**-0.5
    images = torch.nn.functional.interpolate(grey, size=(96, 96), mode="bilinear", align_corners=False)
    with torch.no_grad():
        features = incoming.backbone(images.expand(-1, 3, -1, -1))[-1].mean((2, 3)).numpy()
    labels = np.array([entry.label for entry in fold.training])
    assert score_source(chain, fold, incoming).logme == pytest.approx(logme(features, labels), rel=1e-3)


def test_an_arm_that_has_not_run_says_so(finished, tmp_path):
    study, datalist, _ = finished
    columns = transferability_columns(study, datalist, tmp_path)
    assert set(columns["XTL"]) == {"left_out"} and "record.json cannot be read" in columns["XTL"]["left_out"]
    assert math.isfinite(columns["scratch"]["logme"])
    with pytest.raises(InputError, match="Run the study first"):
        incoming_of(chain_of(study, planned_runs(study)[0]), tmp_path, tmp_path)


def test_a_segmentation_is_scored_by_cells_with_and_without_lesion(files):
    target = {**SEGMENTATION, "channels": ["FLAIR", "T1"], "window": [24, 24, 24], "training": {"steps": 3}}
    chain = chain_from_dict(chain_values(target, backbone="resnet18"))
    study = study_of([{"name": "A", "chain": chain.model_dump(exclude_unset=True)}], datalist=str(files["volumes"]))
    fold = fold_datalist(study, Datalist.load(files["volumes"]), planned_runs(study)[0])
    incoming, _ = incoming_of(chain, Path("nowhere"), Path("nowhere"))
    found = score_source(chain, fold, incoming)
    assert math.isfinite(found.logme) and 0 <= found.h_score <= 1 and found.leep is None
