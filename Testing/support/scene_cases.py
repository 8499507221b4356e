"""What the tests of the scene share: grids of every handedness, and cases with a ball at a known place."""

from __future__ import annotations

import numpy as np
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume
from XTLLib.inference.lesions import find_lesions
from XTLLib.inference.results import SegmentationResult

CENTRE = (12.0, -8.0, 20.0)  # RAS mm, the middle of every grid
LESION = (16.3, -13.4, 26.9)  # RAS mm, the centre of the ball
RADIUS_MM = 6.5


def rotation(degrees_rl: float, degrees_ap: float, degrees_is: float) -> np.ndarray:
    """(3, 3) rotation about the three patient axes, one after the other."""
    result = np.eye(3)
    for axis, degrees in enumerate((degrees_rl, degrees_ap, degrees_is)):
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cosine, -sine, sine, cosine
        result = turn @ result
    return result


def grid(directions: np.ndarray, spacing=(1.0, 1.2, 2.5), shape=(24, 40, 44), centre=CENTRE) -> Grid:
    """A grid with axes i, j, k along the columns of ``directions``, centred on ``centre`` (RAS mm)."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=float) * np.asarray(spacing)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


GRIDS = {
    "RAS": grid(np.diag([1, 1, 1])),
    "LAS": grid(np.diag([-1, 1, 1])),
    "LPS": grid(np.diag([-1, -1, 1])),
    "oblique": grid(rotation(17, -11, 23) @ np.diag([-1, -1, 1])),
    "sagittal": grid(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
    "left-handed oblique": grid(rotation(-14, 9, 31) @ np.diag([1, -1, 1])),
}


def half_voxel_mm(of: Grid) -> float:
    """Half the diagonal of a voxel."""
    return 0.5 * float(np.linalg.norm(of.spacing_mm))


def ball(on: Grid, centre=LESION, radius_mm=RADIUS_MM) -> np.ndarray:
    """float32 (K, J, I): 0.9 inside a ball in patient space, 0.1 outside."""
    k, j, i = np.indices(on.shape)
    distance = np.linalg.norm(on.index_to_ras(np.stack([i, j, k], axis=-1)) - np.asarray(centre), axis=-1)
    return np.where(distance <= radius_mm, 0.9, 0.1).astype(np.float32)


def segmentation_result(on: Grid, probability: np.ndarray | None = None, case: Case | None = None):
    """A SegmentationResult of a probability map (default: the ball) on a grid."""
    probability = ball(on) if probability is None else probability
    if case is None:
        case = Case("patient 1", {"FLAIR": Volume(100 * probability, on, "flair.nii.gz")}, "FLAIR")
    volume = Volume(probability, on, "probability")
    label, lesions = find_lesions(volume, 0.5)
    return SegmentationResult(volume, label, lesions, 0.5, case, "a bundle")


def node_ids(scene) -> list[str]:
    """The IDs of all nodes of a scene, sorted."""
    return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))


def centroid_of_node(node) -> np.ndarray:
    """World position (RAS mm) of the mean foreground voxel of a volume node, by MRML's own matrices."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    kji = np.argwhere(slicer.util.arrayFromVolume(node) > 0).mean(axis=0)
    return np.array(matrix.MultiplyPoint((*kji[::-1], 1.0))[:3])


def centroid_of_segment(node, segment_id: str) -> np.ndarray:
    """World position (RAS mm) of the mean voxel of a segment, by MRML's own geometry."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    extent = image.GetExtent()
    shape = (extent[5] - extent[4] + 1, extent[3] - extent[2] + 1, extent[1] - extent[0] + 1)
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
    ijk = np.argwhere(array > 0)[:, ::-1].mean(axis=0) + np.array(extent[::2])
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return np.array(matrix.MultiplyPoint((*ijk, 1.0))[:3])


def segment_mask(segmentation_node, segment_id: str, reference_node) -> np.ndarray:
    """A segment as bool (K, J, I) on the grid of a volume node, exported by Slicer's own logic."""
    import slicer
    import vtk

    scene = segmentation_node.GetScene()
    ids = vtk.vtkStringArray()
    ids.InsertNextValue(segment_id)
    label = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    export = slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode
    assert export(segmentation_node, ids, label, reference_node)
    mask = slicer.util.arrayFromVolume(label) > 0
    color = label.GetDisplayNode().GetColorNode() if label.GetDisplayNode() else None
    display = label.GetDisplayNode()
    scene.RemoveNode(label)
    for node in (display, color):
        if node is not None and node.GetScene() is scene and not node.GetSingletonTag():
            scene.RemoveNode(node)
    return mask
