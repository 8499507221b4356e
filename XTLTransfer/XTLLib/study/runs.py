"""The runs of a study: who learns from which patients, and what a run's outcome depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..data.datalist import Datalist, Entry
from ..files import sha256_of
from ..transfer.chain import Chain
from ..transfer.provenance import hash_of
from ..transfer.stages import FROZEN_RANDOM, IMAGENET, RANDOM
from .config import LEARNED_BASELINES, Study

_FORMAT = 1  # part of every key: raise it when the same run would give other scores
_NO_SEED = 0  # the commonest first seed: what it gave stands under the same key


@dataclass(frozen=True)
class PlannedRun:
    """One arm or baseline, trained and tested once.

    Attributes
    ----------
    arm : name of the arm or baseline. seed : of everything random in the training.
    repeat, fold : which dealing of the patients, and which of its folds is tested; both from 0.
    size : training cases to learn from; None for all of the fold.
    """

    arm: str
    seed: int
    repeat: int
    fold: int
    size: int | None = None

    @property
    def name(self) -> str:
        """Unique in the study, fit for a relative path: ``XTL/seed-0/repeat-0/fold-0/size-all``."""
        size = "all" if self.size is None else self.size
        return f"{self.arm}/seed-{self.seed}/repeat-{self.repeat}/fold-{self.fold}/size-{size}"


def planned_runs(study: Study) -> tuple[PlannedRun, ...]:
    """All runs of a study, the arms of one fold beside each other.

    A baseline that draws nothing at random is run with the first seed only.
    """
    fixed = set(study.baselines) - set(LEARNED_BASELINES)
    return tuple(
        PlannedRun(name, seed, repeat, fold, size)
        for seed in study.seeds
        for repeat in range(study.repeats)
        for size in reversed(study.training_sizes)
        for fold in range(study.folds)
        for name in study.names
        if name not in fixed or seed == study.seeds[0]
    )


def fold_datalist(study: Study, datalist: Datalist, run: PlannedRun) -> Datalist:
    """What a run learns from and is tested on: training and test part, no validation part.

    Depends on the patients, their labels and the run's repeat, fold and size alone: not on the arm, the seed, the
    parts that the datalist names, or the order of its entries. A smaller size lies within a larger one of the
    same fold; it is reached with whole patients, so that it may be exceeded by the cases of the last one.
    """
    fold = datalist.folds(study.folds, seed=run.repeat)[run.fold]
    training = sorted(fold.training, key=_order)
    if run.size is not None:
        kept = _first_patients(training, run.size, run.repeat)
        training = [entry for entry in training if entry.patient in kept]
    return replace(fold, training=tuple(training), validation=(), test=tuple(sorted(fold.test, key=_order)))


def stage_datalists(path: str, chain: Chain, fold: Datalist) -> dict[str, Datalist]:
    """Path -> what intermediate stages learn from in its place: of the study's own datalist the fold's training part.

    So a stage that learns from the target's own images, without their labels or with them, sees no patient who is
    tested.

    Parameters
    ----------
    path : of the study's datalist. fold : as :func:`fold_datalist` gives it.
    """
    own = {stage.datalist for stage in chain.intermediates if is_same_file(stage.datalist, path)}
    return {name: replace(fold, test=()) for name in own}


def chain_of(study: Study, run: PlannedRun) -> Chain | None:
    """The chain of a run with the run's seed; None for a baseline."""
    arm = study.arm(run.arm)
    return None if arm is None else arm.load().model_copy(update={"seed": run.seed})


def run_key(study: Study, run: PlannedRun, datalist: Datalist) -> str:
    """SHA-256 of all that decides a run's scores: the chain, its weights file, the content of its data.

    Names of the study, the arm and the files, and what is asked of other runs, are no part of it; nor is the seed of a
    baseline that draws nothing at random.
    """
    return Deals(study, datalist).key(run)


class Deals:
    """Folds, chains and keys of a study's runs; what several runs share is read and hashed once."""

    def __init__(self, study: Study, datalist: Datalist) -> None:
        self._study, self._datalist = study, datalist
        self._folds: dict[tuple[int, int, int | None], Datalist] = {}
        self._chains: dict[str, Chain | None] = {}
        self._hashes: dict[tuple[object, ...], str] = {}

    def fold(self, run: PlannedRun) -> Datalist:
        """As :func:`fold_datalist`."""
        dealt = (run.repeat, run.fold, run.size)
        if dealt not in self._folds:
            self._folds[dealt] = fold_datalist(self._study, self._datalist, run)
        return self._folds[dealt]

    def chain(self, run: PlannedRun) -> Chain | None:
        """As :func:`chain_of`."""
        if run.arm not in self._chains:
            self._chains[run.arm] = chain_of(self._study, run)
        chain = self._chains[run.arm]
        return None if chain is None else chain.model_copy(update={"seed": run.seed})

    def key(self, run: PlannedRun) -> str:
        """As :func:`run_key`."""
        fold, chain = self.fold(run), self.chain(run)
        dealt = (run.repeat, run.fold, run.size)
        content = self._hash(("fold", *dealt), fold.content_hash)
        if chain is None:
            seed = run.seed if run.arm in LEARNED_BASELINES else _NO_SEED
            return hash_of([_FORMAT, "baseline", run.arm, seed, content])
        own = stage_datalists(self._study.datalist, chain, fold)
        stages = []
        for stage in chain.stages[:-1]:
            values = stage.model_dump(mode="json")
            weights, path = values.get("weights"), values.get("datalist")
            if weights not in (None, IMAGENET, RANDOM, FROZEN_RANDOM) and Path(weights).is_file():
                values["weights"] = self._hash((weights,), partial(sha256_of, weights))
            if path in own:
                values["datalist"] = self._hash(("own", *dealt), own[path].content_hash)
            elif path is not None:
                values["datalist"] = self._hash((path,), partial(_content_of, path))
            stages.append(values)
        target = chain.target.model_dump(mode="json", exclude={"datalist"})
        rest = chain.model_dump(mode="json", exclude={"name", "stages"})
        return hash_of([_FORMAT, rest, stages, target, content])

    def _hash(self, what: tuple[object, ...], compute: Callable[[], str]) -> str:
        if what not in self._hashes:
            self._hashes[what] = compute()
        return self._hashes[what]


def _content_of(path: str) -> str:
    return replace(Datalist.load(path), test=()).content_hash()


def _first_patients(entries: Iterable[Entry], size: int, repeat: int) -> set[str]:
    """The fewest patients, in a fixed order that keeps the share of the classes, who have ``size`` entries."""
    counts: dict[str, int] = {}
    worst: dict[str, int] = {}
    for entry in entries:
        label = entry.label if isinstance(entry.label, int) else 0
        counts[entry.patient] = counts.get(entry.patient, 0) + 1
        worst[entry.patient] = max(label, worst.get(entry.patient, 0))
    by_class: dict[int, list[str]] = {}
    for patient in sorted(worst, key=lambda name: _draw(name, repeat)):
        by_class.setdefault(worst[patient], []).append(patient)
    # The n-th of a class of N stands at (n + 1/2) / N of the way, so that every beginning has all classes in
    # proportion.
    places = {
        patient: ((number + 0.5) / len(members), -label)
        for label, members in by_class.items()
        for number, patient in enumerate(members)
    }
    kept: set[str] = set()
    reached = 0
    for patient in sorted(places, key=places.__getitem__):
        if reached >= size:
            break
        kept.add(patient)
        reached += counts[patient]
    return kept


def _draw(patient: str, repeat: int) -> bytes:
    return hashlib.sha256(f"sizes:{repeat}:{patient}".encode()).digest()


def _order(entry: Entry) -> tuple[str, str]:
    return entry.patient, entry.case


def is_same_file(a: str, b: str) -> bool:
    """Whether two paths lead to one file."""
    return Path(a).resolve() == Path(b).resolve()
