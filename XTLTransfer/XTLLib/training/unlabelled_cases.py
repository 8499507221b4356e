"""Cases whose labels are not looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..data.load import load_case
from ..data.prepare import Preparation, PreparedCase
from ..progress import Progress

if TYPE_CHECKING:
    from ..data.datalist import Datalist, Entry

Cases = list[tuple[str, PreparedCase]]


def prepared_cases(datalist: Datalist, preparation: Preparation, progress: Progress) -> tuple[Cases, Cases]:
    """(patient, case) of the training and of the validation entries. Masks are not read.

    Raises InputError when a case cannot be read or prepared.
    """
    entries = [unique_images(datalist.training), unique_images(datalist.validation)]
    total, parts = sum(map(len, entries)), ([], [])
    for number, (entry, part) in enumerate((entry, part) for some, part in zip(entries, parts) for entry in some):
        progress.report("Preparing volumes", number / total)
        bare = replace(entry, label=None, further_masks=())
        part.append((entry.patient, preparation(load_case(bare, datalist))))
    return parts


def unique_images(entries: Sequence[Entry]) -> list[Entry]:
    """The entries without those that show what an earlier one shows: findings share the images of their case."""
    first: dict[tuple, Entry] = {}
    for entry in entries:
        first.setdefault(tuple(sorted(entry.images.items())), entry)
    return list(first.values())


def cases_of_a_batch(count: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Which of ``count`` cases each image of a batch comes from: all take part before one does for a second time."""
    rounds = [rng.permutation(count) for _ in range(math.ceil(batch_size / count))]
    return np.concatenate(rounds)[:batch_size]
