"""Tiny image sets on which a network can learn something in a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.volume import Volume

CHANNELS = ("FLAIR", "T1")


def write_toy_volumes(folder: Path, training: int = 2, validation: int = 1, size: int = 24) -> Path:
    """Cubes of noise with bright cubes as lesions -> path of a segmentation datalist."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid((size, size, size), np.diag([-1.0, -1.0, 1.0, 1.0]))
    entries = []
    for number in range(training + validation):
        rng = np.random.default_rng(number)
        mask = np.zeros(grid.shape, bool)
        for side in (3, 5, 6):
            k, j, i = rng.integers(2, size - side - 2, 3)
            mask[k : k + side, j : j + side, i : i + side] = True
        images = {}
        for channel, contrast in zip(CHANNELS, (6.0, -3.0)):
            array = (10 + rng.standard_normal(grid.shape) + contrast * mask).astype(np.float32)
            array[:2] = 0  # background
            images[channel] = str(folder / f"p{number}_{channel}.nii")
            write_volume(Volume(array, grid), images[channel])
        label = str(folder / f"p{number}_mask.nii")
        write_volume(Volume(mask, grid), label)
        entries.append(Entry(f"p{number}", f"p{number}", images, label))
    datalist = Datalist(
        "toy volumes",
        "csv",
        "segmentation",
        CHANNELS,
        "FLAIR",
        {"0": "background", "1": "lesion"},
        training=tuple(entries[:training]),
        validation=tuple(entries[training:]),
    )
    datalist.save(folder / "volumes.json")
    return folder / "volumes.json"


def write_toy_mammograms(folder: Path, patients: int = 10, size: int = 64) -> Path:
    """Bright half discs, every other one with a brighter spot -> path of a mammogram datalist."""
    import SimpleITK

    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:size, :size]
    breast = (rows - size / 2) ** 2 + columns**2 < (0.45 * size) ** 2
    entries = []
    for number in range(patients):
        rng = np.random.default_rng(number)
        pixels = breast * (100 + 10 * rng.standard_normal(breast.shape))
        attributes = {}
        if number % 2:
            row = int(rng.integers(size // 2 - 10, size // 2 + 10))
            attributes["circles_px"] = f"{size // 5} {row} 5"
            pixels[(rows - row) ** 2 + (columns - size // 5) ** 2 < 25] = 220
        path = folder / f"m{number}.png"
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels.clip(0, 255).astype(np.uint8)), str(path))
        entries.append(Entry(f"m{number}", f"m{number}", {"MG": str(path)}, number % 2, attributes=attributes))
    datalist = Datalist(
        "toy mammograms", "csv", "mammogram-classification", ("MG",), "MG", {"0": "no", "1": "yes"}, training=entries
    )
    datalist.save(folder / "mammograms.json")
    return folder / "mammograms.json"


def write_toy_patches(folder: Path, patients: int = 12) -> Path:
    """A patch file of the layout prostatex-patches: ADC is dark in the middle where significant."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    patches = rng.uniform(0.3, 0.7, (patients, 4, 32, 32)).astype(np.float32)
    patches[1::2, 1, 10:22, 10:22] -= 0.3
    patches[0, 3] = np.nan
    path = folder / "patches.npz"
    np.savez(path, patches=patches, channels=np.array(["T2", "ADC", "BVAL", "KTRANS"]))
    channels = ("T2W", "ADC", "HBV", "KTRANS")
    entries = [Entry(f"p{n}", f"p{n}-1", dict.fromkeys(channels, str(path)), n % 2, row=n) for n in range(patients)]
    datalist = Datalist(
        "toy patches",
        "prostatex-patches",
        "classification",
        channels,
        "T2W",
        {"0": "no", "1": "yes"},
        training=tuple(entries),
    )
    datalist.save(folder / "patches.json")
    return folder / "patches.json"


def write_patterned_volumes(
    folder: Path, training: int = 4, validation: int = 2, size: int = 24, slices: int | None = None
) -> Path:
    """Smooth waves, other ones for each patient and channel -> path of a datalist without labels.

    The volumes are cubes, or have fewer ``slices``; of a cube the lowest two are background.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grid = Grid((slices or size, size, size), np.diag([-1.0, -1.0, 1.0, 1.0]))
    entries = []
    for number in range(training + validation):
        images = {}
        for channel in CHANNELS:
            array = 10 + 3 * _waves(grid.shape, np.random.default_rng([number, len(images)]))
            if slices is None:
                array[:2] = 0
            images[channel] = str(folder / f"p{number}_{channel}.nii")
            write_volume(Volume(array.astype(np.float32), grid), images[channel])
        entries.append(Entry(f"p{number}", f"p{number}", images))
    datalist = Datalist(
        "patterned volumes",
        "csv",
        "unlabelled",
        CHANNELS,
        "FLAIR",
        {},
        training=tuple(entries[:training]),
        validation=tuple(entries[training:]),
    )
    datalist.save(folder / "volumes.json")
    return folder / "volumes.json"


def write_patterned_mammograms(folder: Path, training: int = 16, validation: int = 8, size: int = 64) -> Path:
    """Half discs of smooth waves, other ones for each patient -> path of a datalist without labels."""
    import SimpleITK

    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:size, :size]
    breast = (rows - size / 2) ** 2 + columns**2 < (0.45 * size) ** 2
    entries = []
    for number in range(training + validation):
        pixels = breast * (120 + 30 * _waves(breast.shape, np.random.default_rng(number)))
        path = folder / f"m{number}.png"
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels.clip(0, 255).astype(np.uint8)), str(path))
        entries.append(Entry(f"m{number}", f"m{number}", {"MG": str(path)}))
    datalist = Datalist(
        "patterned mammograms",
        "csv",
        "unlabelled",
        ("MG",),
        "MG",
        {},
        training=tuple(entries[:training]),
        validation=tuple(entries[training:]),
    )
    datalist.save(folder / "mammograms.json")
    return folder / "mammograms.json"


def _waves(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A sum of three plane waves of one length, 6 to 24 voxels, between -1 and 1."""
    places = np.stack(np.mgrid[tuple(slice(0, n) for n in shape)])
    length, total = rng.uniform(6, 24), np.zeros(shape)
    for _ in range(3):
        direction = rng.standard_normal(len(shape))
        direction *= 2 * np.pi / (length * np.linalg.norm(direction))
        total += np.sin(np.tensordot(direction, places, 1) + rng.uniform(0, 2 * np.pi)) / 3
    return total
