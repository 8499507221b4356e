"""Mammograms as a stage's data: whole breasts, or regions of them, of one class each; or without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data.datalist import MAMMOGRAM_CHANNEL, Entry
from ..data.mammogram import positions_in_prepared, read_mammogram
from ..data.mammogram_entries import circles_of, keeps_side, lesion_mask, load_mammogram
from ..errors import InputError
from ..metrics.components import label_components
from ..progress import Progress
from .augment import PlaneMotion, change_intensities
from .classes import ClassTask
from .flat_images import FlatImages
from .order import ShuffledPasses
from .seeds import generator

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..transfer.stages import MammogramClassification, SelfSupervised

# The chest wall stays where it is; a breast of the other side is its mirror image already, where sides are alike.
FILM_MOTION = PlaneMotion(degrees=12, scale=(0.9, 1.1), shift=0.05, flips_rows=True)
REGION_MOTION = PlaneMotion(degrees=30, scale=(0.8, 1.25), shift=0.0, flips_rows=True, flips_columns=True)
REGION_MARGIN = 1.5  # side of what is cut out, to be moved, over the side of what is shown
_JITTER = 0.15  # of the region's side, by which an abnormality is off its middle
_TRIES = 50
_CONNECTIVITY = 26  # of marked regions in one slice: also across corners


class MammogramTask(ClassTask):
    """Prepared mammograms held in memory (float16), as inputs (N, 3, size, size)."""

    def __init__(self, stage: MammogramClassification, datalist: Datalist, seed: int, progress: Progress) -> None:
        self._size = stage.image_size
        super().__init__(stage.training, datalist, seed, progress)

    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        return load_films(entries, self._size, progress)

    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        return change_intensities(FILM_MOTION.apply(images, rng), rng)

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
                "Leave region out of the chain to train on whole breasts, or add circles_px or masks to the entries",
            )
        self._circles: list[np.ndarray] = []
        super().__init__(stage, replace(datalist, **usable), seed, progress)

    def load(self, entries: Sequence[Entry], datalist: Datalist, progress: Progress) -> Tensor:
        images = super().load(entries, datalist, progress)
        self._circles = [_marks(entry, self._size) for entry in entries]
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
            regions.append(square_at(film, place, self._side))
        return torch.stack(regions)

    def drawn(self, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
        side = round(self._side * REGION_MARGIN) if self._augments else self._side
        regions = []
        for number in chosen:
            film, marks = self._images[number], self._circles[number]
            place = marks[rng.integers(len(marks))] if len(marks) else self._normal_place(film, rng)
            jitter = rng.uniform(-_JITTER, _JITTER, 2) * self._side if self._augments else 0.0
            regions.append(square_at(film, place + jitter, side))
        images = torch.stack(regions).float()
        return self.augmented(images, rng) if self._augments else images

    def augmented(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        moved = REGION_MOTION.apply(images, rng)
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


class FilmImages(FlatImages):
    """A self_supervised.ImageSource of whole prepared breasts; all are seen once a pass."""

    motion = FILM_MOTION
    view_motion = PlaneMotion(degrees=20, scale=(0.8, 1.5), shift=0.1, flips_rows=True)

    def __init__(self, stage: SelfSupervised, datalist: Datalist, seed: int, progress: Progress) -> None:
        super().__init__(stage.image_size, stage.training.augmentation)
        part = len(datalist.training) / (len(datalist.training) + len(datalist.validation))
        self._films = load_films(datalist.training, stage.image_size, progress.part(0, part))
        self._held_out = load_films(datalist.validation, stage.image_size, progress.part(part, 1))
        self.held_out_patients = tuple(entry.patient for entry in datalist.validation)
        self._passes = ShuffledPasses(len(self._films), stage.training.batch_size, seed)

    def squares(self, number: int, rng: np.random.Generator) -> Tensor:
        return self._films[torch.from_numpy(self._passes.examples(number))].float()

    def held_out_squares(self) -> Tensor:
        return self._held_out.float()


def load_films(entries: Sequence[Entry], size: int, progress: Progress) -> Tensor:
    """The prepared images of entries: float16 (N, 1, size, size)."""
    images = np.empty((len(entries), 1, size, size), dtype=np.float16)
    for number, entry in enumerate(entries):
        progress.report("Preparing mammograms", number / len(entries))
        images[number, 0] = load_mammogram(entry, size)
    return torch.from_numpy(images)


def has_marks(entry: Entry) -> bool:
    """Whether circles or masks say where a film's abnormalities lie."""
    return bool(entry.attributes.get("circles_px") or entry.further_masks)


def _is_usable(entry: Entry) -> bool:
    return not entry.label or has_marks(entry)


def _marks(entry: Entry, size: int) -> np.ndarray:
    """Centres (n, 2) [row, column], in the prepared image, of an abnormal film's circles, else of its masks."""
    if not entry.label:
        return np.empty((0, 2))
    film, circles = read_mammogram(entry.images[MAMMOGRAM_CHANNEL]), circles_of(entry)
    if len(circles):
        return positions_in_prepared(film, size, circles[:, :2], keeps_side(entry))
    regions, count = label_components(lesion_mask(entry, size, film)[None], _CONNECTIVITY)
    return np.array([np.argwhere(regions[0] == number).mean(axis=0) for number in range(1, count + 1)]).reshape(-1, 2)


def square_at(film: Tensor, place: np.ndarray, side: int) -> Tensor:
    """The square (1, side, side) of a film (1, H, W) around [row, column]; 0 beyond its border."""
    first = np.round(place - side / 2).astype(int)
    padded = functional.pad(film, (side, side, side, side))
    row, column = np.clip(first + side, 0, np.array(padded.shape[1:]) - side)
    return padded[:, row : row + side, column : column + side].clone()
