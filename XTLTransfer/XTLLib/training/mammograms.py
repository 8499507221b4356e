"""The mammogram stage's data: whole breasts, or regions of them, one probability each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data.datalist import Entry
from ..data.mammogram import positions_in_prepared, prepare_mammogram, read_mammogram
from ..errors import InputError
from ..progress import Progress
from .augment import PlaneMotion, change_intensities
from .classes import ClassTask
from .seeds import generator

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.stages import MammogramClassification

# The chest wall stays at the left; a breast of the other side is its mirror image already.
_MOTION = PlaneMotion(degrees=12, scale=(0.9, 1.1), shift=0.05, flips_rows=True)
_REGION_MOTION = PlaneMotion(degrees=30, scale=(0.8, 1.25), shift=0.0, flips_rows=True, flips_columns=True)
_REGION_MARGIN = 1.5  # side of what is cut out, to be moved, over the side of what is shown
_JITTER = 0.15  # of the region's side, by which an abnormality is off its middle
_TRIES = 50


class MammogramTask(ClassTask):
    """Prepared mammograms held in memory (float16), as inputs (N, 3, size, size)."""

    def __init__(self, stage: MammogramClassification, datalist: Datalist, seed: int, progress: Progress) -> None:
        self._size = stage.image_size
        super().__init__(stage.training, datalist, seed, progress)

    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        images = np.empty((len(entries), 1, self._size, self._size), dtype=np.float16)
        for number, entry in enumerate(entries):
            progress.report("Preparing mammograms", number / len(entries))
            film = read_mammogram(_path_of(entry))
            images[number, 0] = prepare_mammogram(film, self._size)
        return torch.from_numpy(images)

    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        return change_intensities(_MOTION.apply(images, rng), rng)

    def as_input(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


class RegionTask(MammogramTask):
    """Square regions: of an abnormal film around one of its marked abnormalities, of a normal film anywhere.

    A whole film of a hundred patients' set says little about a spot of a few millimetres; the region around
    it does. Where abnormalities lie is no clue: regions of normal breasts are drawn at the places that
    abnormalities of other films have. Abnormal films without a mark are left out, and counted in ``unmarked``.

    Raises
    ------
    InputError : no abnormal film of the training part has a mark.
    """

    def __init__(self, stage: MammogramClassification, datalist: Datalist, seed: int, progress: Progress) -> None:
        self._side = stage.region
        usable = {part: [e for e in getattr(datalist, part) if _is_usable(e)] for part in ("training", "validation")}
        self.unmarked = len(datalist.training) + len(datalist.validation) - sum(map(len, usable.values()))
        if not any(entry.label for entry in usable["training"]):
            raise InputError(
                f"no abnormality is marked in the training films of the datalist {datalist.name}",
                "Leave region out of the chain to train on whole breasts, or add circles_px to the entries",
            )
        self._circles: list[np.ndarray] = []
        super().__init__(stage, replace(datalist, **usable), seed, progress)

    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        images = super().load(entries, datalist, progress)
        self._circles = [positions_in_prepared(read_mammogram(_path_of(e)), self._size, _marks(e)) for e in entries]
        self._places = np.concatenate([c for c in self._circles if len(c)])
        return images

    def load_held_out(self, datalist: Datalist, progress: Progress) -> Tensor:
        """One region of each validation film: around its first mark, or at a place drawn once and for all."""
        training, places = self._circles, self._places
        films = self.load(datalist.validation, datalist, progress)
        circles, self._circles, self._places = self._circles, training, places
        regions = []
        for number, (film, marks) in enumerate(zip(films, circles)):
            rng = generator(self._seed, "held-out region", number)
            place = marks[0] if len(marks) else self._normal_place(film, rng)
            regions.append(_square_at(film, place, self._side))
        return torch.stack(regions)

    def drawn(self, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
        side = round(self._side * _REGION_MARGIN) if self._augments else self._side
        regions = []
        for number in chosen:
            film, marks = self._images[number], self._circles[number]
            place = marks[rng.integers(len(marks))] if len(marks) else self._normal_place(film, rng)
            jitter = rng.uniform(-_JITTER, _JITTER, 2) * self._side if self._augments else 0.0
            regions.append(_square_at(film, place + jitter, side))
        images = torch.stack(regions).float()
        return self.augmented(images, rng) if self._augments else images

    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        moved = _REGION_MOTION.apply(images, rng)
        first = (images.shape[-1] - self._side) // 2
        middle = slice(first, first + self._side)
        return change_intensities(moved[..., middle, middle].contiguous(), rng)

    def _normal_place(self, film: Tensor, rng: np.random.Generator) -> np.ndarray:
        """[row, column] in the breast where some abnormality of another film lies."""
        for _ in range(_TRIES):
            place = self._places[rng.integers(len(self._places))]
            row, column = np.clip(place.round().astype(int), 0, self._size - 1)
            if film[0, row, column] != 0:
                return place
        inside = np.argwhere(film[0].numpy() != 0)
        return inside[rng.integers(len(inside))].astype(float)


def _path_of(entry: Entry) -> str:
    return next(iter(entry.images.values()))


def _is_usable(entry: Entry) -> bool:
    return not entry.label or bool(entry.attributes.get("circles_px"))


def _marks(entry: Entry) -> np.ndarray:
    """Centres (n, 2) [row, column] of an abnormal film's circles, which its attributes give as "x y radius;..."."""
    circles = entry.attributes.get("circles_px", "") if entry.label else ""
    values = [[float(number) for number in circle.split()] for circle in circles.split(";") if circle.strip()]
    return np.array([[y, x] for x, y, *_ in values]).reshape(-1, 2)


def _square_at(film: Tensor, place: np.ndarray, side: int) -> Tensor:
    """The square (1, side, side) of a film (1, H, W) around [row, column]; 0 beyond its border."""
    first = np.round(place - side / 2).astype(int)
    padded = functional.pad(film, (side, side, side, side))
    row, column = np.clip(first + side, 0, np.array(padded.shape[1:]) - side)
    return padded[:, row : row + side, column : column + side].clone()
