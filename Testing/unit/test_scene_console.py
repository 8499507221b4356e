"""A kept probability map at another threshold, from a script."""

from __future__ import annotations

import numpy as np
import pytest
from scene_cases import GRIDS, ball, segment_mask, segmentation_result
from XTLLib.errors import InputError
from XTLLib.scene.console import rethreshold_now
from XTLLib.scene.inputs import add_case
from XTLLib.scene.segmentation import EDITS, SEGMENT_ID, add_segmentation

slicer = pytest.importorskip("slicer")

FAR = (2.0, 4.0, 10.0)


@pytest.mark.parametrize("on", GRIDS.values(), ids=list(GRIDS))
def test_table_label_map_and_segment_follow(scene, on):
    near, far = ball(on) > 0.5, ball(on, FAR, 4.0) > 0.5
    map = np.where(near, 0.9, np.where(far, 0.3, 0.0)).astype(np.float32)
    result = segmentation_result(on, map)
    nodes = add_segmentation(result, scene, add_case(result.case, scene).reference)
    nodes.segmentation.SetAttribute(EDITS, "{}")

    for threshold, expected in ((0.2, near | far), (0.95, near & False), (0.5, near)):
        count = rethreshold_now(nodes, threshold, 0.0)
        assert count == nodes.table.GetNumberOfRows() == (2 if threshold == 0.2 else int(expected.any()))
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.label) > 0, expected)
        np.testing.assert_array_equal(segment_mask(nodes.segmentation, SEGMENT_ID, nodes.probability), expected)
    volume = slicer.util.arrayFromTableColumn(nodes.table, "volume")
    assert volume == pytest.approx([near.sum() * on.voxel_volume_mm3])
    assert nodes.segmentation.GetAttribute(EDITS) is None
    assert rethreshold_now(nodes, 0.5, float(volume[0]) + 1) == 0
    assert rethreshold_now(nodes, 0.5) == 0  # the smallest volume stays as it was set

    with pytest.raises(InputError, match=r"threshold of 1\.5"):
        rethreshold_now(nodes, 1.5)
    assert nodes.table.GetNumberOfRows() == 0
