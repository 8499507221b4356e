"""The source data of a model that is adapted: learned from again, and measured by, so that they are not forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..data.load import load_case
from ..errors import InputError
from ..progress import Progress
from .adapt_cases import prepare_case
from .adapt_split import Part
from .seeds import generator
from .windows import WindowSource

if TYPE_CHECKING:
    from ..bundle.load import Bundle
    from ..data.datalist import Datalist, Entry
    from ..transfer.adaptation import Adaptation

_VALIDATION_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Replay:
    """Source data.

    Attributes
    ----------
    datalist : the entries that were used. sources : windows to learn from. held_out : cases to measure by.
    """

    datalist: Datalist
    sources: tuple[WindowSource, ...]
    held_out: tuple[Part, ...]


def read_replay(datalist: Datalist, bundle: Bundle, settings: Adaptation, progress: Progress) -> Replay:
    """Read some training cases and half as many validation cases of the source data, drawn at random.

    Where the datalist names no validation patients, some of its training patients are held out; the bundle may
    have learned from these.

    Raises InputError when the datalist is of another task or lacks a channel, or a case cannot be prepared.
    """
    lacking = [name for name in bundle.channels if name not in datalist.channels]
    if datalist.task != "segmentation" or lacking:
        what = f"lacks the channels {', '.join(lacking)}" if lacking else f"is for {datalist.task}"
        raise InputError(f"the replay datalist {datalist.name} {what}", "Give the data that the bundle learned from")
    datalist = replace(datalist, test=())
    if not datalist.validation and len({entry.patient for entry in datalist.training}) > 1:
        datalist = datalist.hold_out(_VALIDATION_SHARE, settings.seed)
    if not datalist.training:
        raise InputError(f"the replay datalist {datalist.name} has no training case", "Give one with training cases")
    rng = generator(settings.seed, "replay")
    datalist = replace(
        datalist,
        training=_some(datalist.training, settings.replay_cases, rng),
        validation=_some(datalist.validation, max(1, settings.replay_cases // 2), rng),
    )
    prepared = []
    for number, entry in enumerate(datalist.entries):
        progress.report("Preparing the source data", number / len(datalist.entries))
        prepared.append(prepare_case(load_case(entry, datalist), bundle.preparation))
    count = len(datalist.training)
    return Replay(
        datalist,
        tuple(case.source(case.whole) for case in prepared[:count]),
        tuple(Part(case, case.whole) for case in prepared[count:]),
    )


def _some(entries: Sequence[Entry], count: int, rng) -> tuple[Entry, ...]:
    chosen = sorted(rng.permutation(len(entries))[:count])
    return tuple(entries[index] for index in chosen)
