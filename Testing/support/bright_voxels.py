"""A bundle that finds what is bright, exactly, and heads with bright balls where they are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from XTLLib.bundle.load import Bundle
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.networks.spec import NetworkSpec

HEAD_MM = 32.0
LESIONS = (((9.0, -8.0, 6.0), 6.0), ((-12.0, 5.0, -9.0), 4.0))  # centre RAS mm, radius mm


class Bright(nn.Module):
    """Logit of a voxel whose first channel is far brighter than the head's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x):
        return self.scale * (x[:, :1] - 2.0)


def bright_bundle(channels=("FLAIR", "T1"), task="segmentation", spacing_mm=None, **changes) -> Bundle:
    spec = NetworkSpec("segmentation", "resnet18", in_channels=len(channels), conversion="inflate")
    values = {
        "path": Path("nowhere"),
        "name": "bright voxels",
        "description": "",
        "task": task,
        "spec": spec,
        "preparation": Preparation(channels, channels[0], spacing_mm),
        "patch_spec": None,
        "threshold": 0.5,
        "minimum_volume_mm3": 5.0,
        "weights_sha256": "",
        "provenance": {},
        "metadata": {},
        "_network": Bright(),
    }
    return Bundle(**{**values, **changes})


def head_grid(directions, spacing=(1.0, 1.0, 1.0), extent_mm=72.0, centre=(2.0, -3.0, 4.0)) -> Grid:
    shape = tuple(round(extent_mm / s) for s in spacing[::-1])
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=float) * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def oblique() -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", (15.0, -10.0, 20.0), degrees=True).as_matrix()


GRIDS = {
    "RAS": head_grid(np.eye(3)),
    "LAS, left-handed": head_grid(np.diag([-1, 1, 1])),
    "LPS": head_grid(np.diag([-1, -1, 1])),
    "sagittal, thick slices": head_grid([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], (1.0, 1.0, 2.0)),
    "oblique": head_grid(oblique(), (0.9, 1.1, 1.5)),
    "oblique, left-handed": head_grid(oblique() @ np.diag([1, 1, -1]), (0.9, 1.1, 1.5)),
}


def head_image(grid: Grid, lesions=LESIONS, brightness=100.0) -> np.ndarray:
    """A ball of tissue (values about 50) with bright balls in it, air outside."""
    points = grid.index_to_ras(np.moveaxis(np.indices(grid.shape)[::-1], 0, -1))
    image = np.where(np.linalg.norm(points, axis=-1) <= HEAD_MM, 50.0, 0.0)
    image += np.where(image > 0, 5 * np.sin(points.sum(axis=-1)), 0.0)
    for centre, radius in lesions:
        image[np.linalg.norm(points - np.array(centre), axis=-1) <= radius] += brightness
    return image.astype(np.float32)


def head_case(grid: Grid, other: Grid | None = None, lesions=LESIONS) -> Case:
    other = other or grid
    channels = {
        "FLAIR": Volume(head_image(grid, lesions), grid, "flair.nii"),
        "T1": Volume(head_image(other, ()), other, "t1.nii"),
    }
    return Case("p", channels, "FLAIR")
