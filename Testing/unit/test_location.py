"""Where lesions lie: gaps between boxes at known distances, and phantoms whose anatomy is a formula."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scene_cases import GRIDS, grid, rotation, segmentation_result
from XTLLib.data.geometry import Grid
from XTLLib.data.phantoms.brain import BrainPhantom
from XTLLib.data.volume import Volume, resample
from XTLLib.errors import InputError
from XTLLib.inference.location import (
    FREESURFER,
    LocationRules,
    TissueLabels,
    locate,
    read_tissue_labels,
    with_locations,
)
from XTLLib.inference.table import lesion_columns, write_lesion_table
from XTLLib.metrics.components import label_components

TURNED = rotation(12, -25, 40)
VENTRICLE, CORTEX, WHITE, STEM = 43, 1022, 41, 16


def slab(on: Grid, low, high, turned=TURNED) -> np.ndarray:
    """Bool (K, J, I): voxels whose centres lie in a box with its sides along the columns of ``turned``."""
    k, j, i = np.indices(on.shape)
    place = (on.index_to_ras(np.stack([i, j, k], axis=-1)) - (12.0, -8.0, 20.0)) @ turned
    return ((place >= low) & (place <= high)).all(axis=-1)


def tissue(on: Grid) -> Volume:
    """White matter between a ventricle (x < -10), cortex (x > 10) and brain stem (z < -12), in turned coordinates."""
    values = np.full(on.shape, WHITE, np.int16)
    values[slab(on, (-99, -99, -99), (-10, 99, 99))] = VENTRICLE
    values[slab(on, (10, -99, -99), (99, 99, 99))] = CORTEX
    values[slab(on, (-99, -99, -99), (99, 99, -12))] = STEM
    return Volume(values, on, "aseg.mgz")


FINE = grid(TURNED, (0.5, 0.5, 0.5), (80, 80, 80))  # its planes lie along the structures
MIDDLE = {"x": (-3, 3), "y": (-3, 3), "z": (-3, 3)}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 3.0)], ids=["fine", "thick slices"])
@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((-9.4, -4, -4), (-5, 4, 4), "periventricular"),
        ((-5.0, -4, -4), (5.0, 4, 4), "deep white matter"),
        ((4.0, -4, -4), (9.4, 4, 4), "juxtacortical"),
        ((-9.4, -4, -4), (9.4, 4, 4), "periventricular"),  # from one to the other
        ((-14.0, -4, -4), (-11, 4, 4), "periventricular"),  # within the ventricle
        ((-5.0, -4, -30), (5, 4, -14), "infratentorial"),
        ((-9.5, -4, -20), (-4, 4, -11), "infratentorial"),  # and beside the ventricle
    ],
)
def test_a_lesion_lies_where_it_was_put(low, high, expected, spacing):
    on = grid(rotation(-8, 4, 11) @ np.diag([-1, -1, 1]), spacing, (int(60 / spacing[2]), 60, 60))
    lesion = slab(on, low, high).astype(np.int32)
    assert lesion.any()
    assert locate(Volume(lesion, on), tissue(grid(TURNED, (1, 1, 1), (60, 60, 60)))) == {1: expected}


def test_the_gap_is_that_between_the_boxes_of_the_voxels():
    on = grid(np.eye(3), (1, 1, 1), (20, 20, 20))
    values = np.full(on.shape, WHITE, np.int16)
    values[:, :, :5], values[:, :, 19:] = VENTRICLE, CORTEX
    for column, gap in ((5, 0.0), (6, 1.0), (7, 2.0)):
        lesion = np.zeros(on.shape, np.int32)
        lesion[8:10, 8:10, column : column + 2] = 3
        for allowed, near in ((gap, True), (gap - 0.1, False)):
            if allowed >= 0:
                found = locate(Volume(lesion, on), Volume(values, on), rules=LocationRules(allowed, 0.0))
                assert found == {3: "periventricular" if near else "deep white matter"}


def test_voxels_that_meet_in_a_corner_touch():
    on = grid(np.eye(3), (1, 1, 1), (12, 12, 12))
    values = np.full(on.shape, WHITE, np.int16)
    values[5, 5, 5], values[0, 0, 0] = VENTRICLE, CORTEX
    lesion = np.zeros(on.shape, np.int32)
    lesion[6, 6, 6] = 1
    assert locate(Volume(lesion, on), Volume(values, on), rules=LocationRules(0.0, 0.0)) == {1: "periventricular"}
    lesion[6, 6, 6], lesion[7, 7, 7] = 0, 1  # one voxel between them along the diagonal: sqrt(3) mm
    for gap, expected in ((1.7, "deep white matter"), (1.74, "periventricular")):
        assert locate(Volume(lesion, on), Volume(values, on), rules=LocationRules(gap, 0.0)) == {1: expected}


def test_the_lesions_grid_does_not_matter():
    there = tissue(FINE)
    found = set()
    for on in GRIDS.values():
        lesion = slab(on, (-9, -6, -6), (-3, 6, 6)).astype(np.int32)
        found.add(locate(Volume(lesion, on), there)[1])
    assert found == {"periventricular"}


def test_what_lies_out_of_the_brain_is_said_to():
    on = grid(np.eye(3), (1, 1, 1), (20, 20, 20))
    values = np.zeros(on.shape, np.int16)
    values[5:15, 5:15, 5:15], values[8, 8, 8], values[5, 5, 5] = WHITE, VENTRICLE, CORTEX
    lesion = np.zeros(on.shape, np.int32)
    lesion[1:3, 1:3, 12:14] = 1
    assert locate(Volume(lesion, on), Volume(values, on)) == {1: "outside"}
    unlabelled = replace(FREESURFER, zero_is_outside=False)
    assert locate(Volume(lesion, on), Volume(values, on), unlabelled) == {1: "deep white matter"}
    small = (slice(5, 15),) * 3
    assert locate(Volume(lesion, on), Volume(values[small], on.crop(small)), unlabelled) == {1: "outside"}


@pytest.mark.parametrize("seed", [2, 6])
def test_phantoms_whose_distances_are_formulas(seed):
    """Distances at the lesions' voxels are those of the phantom's formulas; the tissue map lies on another grid."""
    phantom = BrainPhantom(seed)
    on, other = (
        grid(
            rotation(*angles) @ np.diag([-1, -1, 1]), (mm,) * 3, tuple(int(n / mm) for n in (120, 160, 130)), (0, 0, 2)
        )
        for angles, mm in (((5, 2, -4), 1.5), ((0, 0, 0), 1.2))
    )
    k, j, i = np.indices(other.shape)
    depths = phantom._depths(other.index_to_ras(np.stack([i, j, k], axis=-1)).astype(np.float32).transpose(3, 0, 1, 2))
    values = np.zeros(other.shape, np.int16)
    values[depths.brain < 0] = WHITE
    values[(depths.brain < 0) & (depths.pia < 3.0)] = 42
    values[depths.ventricles < 0] = VENTRICLE
    label, count = label_components(phantom.truth(on), 26)
    found = locate(Volume(label, on), Volume(values, other))
    assert set(found) == set(range(1, count + 1))
    sure = []
    for lesion in found:
        ras = on.index_to_ras(np.argwhere(label == lesion)[:, ::-1])
        there = phantom._depths(ras.T.astype(np.float32))
        ventricles, cortex = there.ventricles.min(), there.pia.min() - 3.0  # of voxel centres
        if ventricles < 1.2:
            sure.append((found[lesion], "periventricular"))
        elif ventricles > 4.0 and cortex < 0.8:
            sure.append((found[lesion], "juxtacortical"))
        elif ventricles > 4.0 and cortex > 4.0:
            sure.append((found[lesion], "deep white matter"))
    assert len(sure) >= 0.6 * count and {expected for _, expected in sure} == set(found.values())
    assert [is_said for is_said, _ in sure] == [expected for _, expected in sure]


def test_another_numbering_comes_from_a_file(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"lateral_ventricles": [1], "cortex": [[2, 3], 9], "infratentorial": [4]}))
    labels = read_tissue_labels(path)
    assert labels == TissueLabels(((1, 1),), ((2, 3), (9, 9)), ((4, 4),))
    on = GRIDS["LPS"]
    values = np.zeros(on.shape, np.uint8)
    values[:, :, :4], values[:, :, 30:] = 1, 9
    lesion = np.zeros(on.shape, np.int32)
    lesion[10:14, 10:14, 20:29] = 1
    lesion[10:14, 20:24, 10:14] = 2
    found = locate(Volume(lesion, on), Volume(values, on), labels, LocationRules(1.0, 1.0))
    assert found == {1: "juxtacortical", 2: "deep white matter"}
    for text in ("no json", "[]", '{"cortex": [1]}', json.dumps({**json.loads(path.read_text()), "cortex": ["grey"]})):
        path.write_text(text)
        with pytest.raises(InputError, match="lateral_ventricles"):
            read_tissue_labels(path)


def test_a_segmentation_that_cannot_tell_is_refused():
    on = GRIDS["LPS"]
    lesion = Volume(np.ones(on.shape, np.int32), on)
    with pytest.raises(InputError, match=r"mask\.nii has no voxel of lateral ventricles \(labels 4-5, 43-44\)"):
        locate(lesion, Volume(np.ones(on.shape, np.uint8), on, "mask.nii"))
    far = grid(np.eye(3), shape=(9, 9, 9), centre=(500, 0, 0))
    values = np.full(far.shape, 3)
    values[0] = 4
    with pytest.raises(InputError, match="does not overlap"):
        locate(lesion, Volume(values, far, "aseg.mgz"))


def test_the_table_has_a_column_for_it_only_when_it_is_known(tmp_path):
    result = segmentation_result(GRIDS["oblique"])
    assert [column.name for column in lesion_columns(result)][-1] == "maximum_probability"
    located = with_locations(result, tissue(FINE))
    tsv, as_json = write_lesion_table(located, tmp_path)
    header, row = (line.split("\t") for line in tsv.read_text().splitlines())
    assert header[-1] == "location" and row[-1] == located.lesions[0].location != ""
    assert "within 1 mm of a lateral ventricle" in json.loads(as_json.read_text())["location_rule"]
    empty = segmentation_result(GRIDS["oblique"], np.zeros(GRIDS["oblique"].shape, np.float32))
    tsv, _ = write_lesion_table(with_locations(empty, tissue(FINE)), tmp_path)
    assert tsv.read_text().split("\t")[-1] == "location\n"


def test_the_nearest_label_is_what_resampling_gives():
    on, there = GRIDS["sagittal"], tissue(FINE)
    lesion = (resample(there, on, "nearest").array == STEM).astype(np.int32)
    assert locate(Volume(lesion, on), there, rules=LocationRules(0, 0, 1.0)) == {1: "infratentorial"}
