"""Images to time a training on: noise heads with bright lesions, as files that every side reads alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.volume import Volume

CHANNELS = ("FLAIR", "T1", "T2")
_LESIONS = 20


def write_heads(folder: Path, shape: tuple[int, int, int], count: int = 2) -> Path:
    """``count`` cases (K, J, I) of 1 mm voxels, an ellipsoid of noise with cubes as lesions -> path of a datalist."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid(shape, np.diag([-1.0, -1.0, 1.0, 1.0]))
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    head = sum(axis**2 for axis in axes) < 0.95
    entries = []
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = np.zeros(shape, bool)
        for corner in rng.uniform(0.25, 0.7, (_LESIONS, 3)):
            k, j, i = (corner * shape).astype(int)
            side = rng.integers(2, 7)
            mask[k : k + side, j : j + side, i : i + side] = True
        images = {}
        for channel, contrast in zip(CHANNELS, (4.0, -2.0, 3.0)):
            array = head * (10 + rng.standard_normal(shape, dtype=np.float32) + contrast * mask)
            images[channel] = str(folder / f"{number}-{channel}.nii")
            write_volume(Volume(array.astype(np.float32), grid), images[channel])
        label = str(folder / f"{number}-mask.nii")
        write_volume(Volume(mask & head, grid), label)
        entries.append(Entry(f"case-{number}", f"case-{number}", images, label))
    datalist = Datalist(
        "noise heads",
        "csv",
        "segmentation",
        CHANNELS,
        "FLAIR",
        {"0": "background", "1": "lesion"},
        training=tuple(entries),
    )
    datalist.save(folder / "datalist.json")
    return folder / "datalist.json"
