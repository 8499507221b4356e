"""Whether a study can be run, and its answer be believed: asked before anything runs."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.datalist import Datalist, Entry, digest_of_image
from ..errors import InputError, MissingPackageError
from ..training.fitness import shared_patients
from ..training.run_folder import load_datalists
from ..transfer.chain import Chain
from ..transfer.presets import PRESETS
from .config import BASELINE_TASKS, METRICS, Study
from .evaluate import require_truth
from .runs import PlannedRun, fold_datalist, stage_datalists

# Of a stage's training: how much is learned from and how long. The other keys say how.
BUDGET_KEYS = ("steps", "epochs", "batch_size", "accumulate", "validation", "validations", "early_stopping")
_UNITS = {"classification": ("patient", "finding"), "segmentation": ("patient", "case")}


def require_runnable(study: Study, datalist: Datalist) -> None:
    """Raise InputError, naming the arm, fold or size and the remedy, unless every run of the study can be believed.

    Raises MissingPackageError when a baseline needs a package that is not installed.

    Refused: arms, baselines, metrics and units for another task; cases without a label; arms whose target stages
    differ in more than the study file says; one image under two patients, or in a source and in the target; a fold
    without a class; a size above the training part of a fold or without a class; stages that cannot learn from
    their datalist.

    Parameters
    ----------
    datalist : of the target, as ``study.datalist`` names it.
    """
    if datalist.task not in METRICS:
        raise InputError(
            f"the datalist {study.datalist} is for {datalist.task}, which a study has no figures for",
            f"Name a datalist for {' or '.join(METRICS)}",
        )
    require_truth(datalist)
    _require_task(study, datalist.task)
    chains = {arm.name: arm.load() for arm in study.arms}
    _require_equal_targets(study, chains, datalist.task)
    _require_own_images(datalist)
    for repeat in range(study.repeats):
        for fold in range(study.folds):
            _require_fold(study, datalist, repeat, fold)
    _require_sources(study, chains, datalist)


def _require_task(study: Study, task: str) -> None:
    for name in study.baselines:
        if BASELINE_TASKS[name] != task:
            raise InputError(
                f"the baseline {name} is for {BASELINE_TASKS[name]}, the datalist {study.datalist} is for {task}",
                f"Choose among {', '.join(b for b, t in BASELINE_TASKS.items() if t == task)}",
            )
    if "radiomics-lr" in study.baselines and importlib.util.find_spec("skimage") is None:
        raise MissingPackageError.of("radiomics features", "scikit-image", "study")
    if study.metric_of(task) not in METRICS[task]:
        raise InputError(
            f"the primary_metric {study.primary_metric} does not exist in {task}",
            f"Choose among {', '.join(METRICS[task])}",
        )
    if study.unit not in _UNITS[task]:
        raise InputError(f"the unit {study.unit} does not exist in {task}", f"Choose among {', '.join(_UNITS[task])}")


def _require_equal_targets(study: Study, chains: Mapping[str, Chain], task: str) -> None:
    """Arms differ in their chains: what is learned at the end, from what and for how long, is the same in all."""
    for name, chain in chains.items():
        if chain.target.task != task:
            raise InputError(
                f"the arm {name} ends in {chain.target.task}, the datalist {study.datalist} is for {task}",
                "Give the arm a chain for this task",
            )
    first, *others = chains
    for other in others:
        ours, theirs = (_target_of(chains[name]) for name in (first, other))
        differing = _differing(ours, theirs)
        if differing:
            raise InputError(
                f"the arms {first} and {other} differ in more than their chain: the target stage's "
                f"{_both(differing, ours, theirs)}",
                "Give both the same",
            )
        if study.allow_different_budgets:
            continue
        ours, theirs = (chains[name].target.training.model_dump(mode="json") for name in (first, other))
        declared = _declared(study, chains, first) | _declared(study, chains, other)
        differing = [key for key in _differing(ours, theirs) if key in BUDGET_KEYS or key not in declared]
        if differing:
            is_budget = any(key in BUDGET_KEYS for key in differing)
            raise InputError(
                f"the arms {first} and {other} differ in more than their chain: the target training's "
                f"{_both(differing, ours, theirs)}",
                "Give both the same, or set allow_different_budgets to true"
                if is_budget
                else f"Give both the same, or write the difference into the arm {other}, under training",
            )


def _target_of(chain: Chain) -> dict[str, Any]:
    return chain.target.model_dump(mode="json", exclude={"datalist", "decoder", "training"})


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [key for key in {**a, **b} if a.get(key) != b.get(key)]


def _both(keys: Sequence[str], a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} ({a.get(key)} and {b.get(key)})" for key in keys)


def _declared(study: Study, chains: Mapping[str, Chain], name: str) -> set[str]:
    """Keys of the target's training that the study file itself sets for an arm."""
    keys = set(study.arm(name).training)
    if "preset" in keys:  # the values of the preset that went, and of the one that came
        for preset in {chain.target.training.preset for chain in chains.values()} - {None}:
            keys |= set(PRESETS[preset])
        keys |= {"encoder_rate", "discriminative"}
    return keys


def _require_own_images(datalist: Datalist) -> None:
    """No image belongs to two patients: folds by patient would part what is one."""
    twice = sum(1 for patients in _patients_by_image(datalist.entries).values() if len(patients) > 1)
    if twice:
        raise InputError(
            f"the datalist {datalist.name} has {twice} image{'s' * (twice > 1)} under two patients, who may fall into "
            "training and test of one fold",
            "Give all entries of a patient the same patient name",
        )


def _patients_by_image(entries: Sequence[Entry]) -> dict[Any, set[str]]:
    """Image -> patients whose entries show it. Files of one size are told apart by their content."""
    found: dict[Any, set[str]] = defaultdict(set)
    by_size: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in entries:
        for path in entry.images.values():
            if entry.row is not None:
                found[path, entry.row].add(entry.patient)
            elif Path(path).is_file():
                by_size[Path(path).stat().st_size][path].add(entry.patient)
            else:
                found[path].add(entry.patient)
    for paths in by_size.values():
        is_alone = len(set().union(*paths.values())) == 1
        for path, patients in paths.items():
            found[path if is_alone else digest_of_image(Path(path))] |= patients
    return found


def _require_fold(study: Study, datalist: Datalist, repeat: int, fold: int) -> None:
    """Both classes in both parts of a fold, and in every smaller training part that is asked for."""
    for size in study.training_sizes:
        dealt = fold_datalist(study, datalist, PlannedRun(study.names[0], study.seeds[0], repeat, fold))
        where = f"fold {fold + 1} of {study.folds}" + (f", repeat {repeat + 1}" if study.repeats > 1 else "")
        if size is not None:
            if size > len(dealt.training):
                raise InputError(
                    f"the size {size}: {where} has {len(dealt.training)} training cases",
                    f"Give sizes up to {len(dealt.training)}, or all",
                )
            dealt = fold_datalist(study, datalist, PlannedRun(study.names[0], study.seeds[0], repeat, fold, size))
        for part in ("training", "test"):
            labels = {entry.label for entry in getattr(dealt, part)}
            for label, meaning in enumerate(datalist.classes):
                if label not in labels:
                    of_size = f" of size {size}" if size is not None and part == "training" else ""
                    raise InputError(
                        f"the {part} part{of_size} of {where} has no case of the class {label} ({meaning})",
                        "Ask for larger sizes" if of_size else "Ask for fewer folds, or add patients of this class",
                    )


def _require_sources(study: Study, chains: Mapping[str, Chain], datalist: Datalist) -> None:
    """Every stage can learn from its datalist, and from no patient of the target, all of whom are tested."""
    fold = fold_datalist(study, datalist, PlannedRun(study.names[0], study.seeds[0], 0, 0))
    for name, chain in chains.items():
        own = stage_datalists(study.datalist, chain, fold)
        sources = {path: Datalist.load(path) for path in {s.datalist for s in chain.intermediates} - set(own)}
        for source in sources.values():
            _require_other_patients(name, source, datalist)
        try:
            load_datalists(chain, fold, {**sources, **own})
        except InputError as error:
            raise InputError(f"the arm {name}: {error.what}", error.remedy) from error


def _require_other_patients(arm: str, source: Datalist, target: Datalist) -> None:
    """No patient of the target in a source: by name within one data set, by images also under another path."""
    learned = [*source.training, *source.validation]
    count, what = shared_patients(source, learned, target, target.entries), "patient"
    if not count and not source.has_mammograms:  # films and volumes have no image in common
        roles = [("source", entry) for entry in learned] + [("target", entry) for entry in target.entries]
        marked = [replace(entry, patient=role) for role, entry in roles]
        count, what = sum(len(owners) == 2 for owners in _patients_by_image(marked).values()), "image"
    if count:
        raise InputError(
            f"the arm {arm}: {count} {what}{'s' * (count > 1)} of the target's datalist {target.name} "
            f"{'stand' if count > 1 else 'stands'} in the datalist {source.name}, which an earlier stage learns from",
            "Take these patients out of the source, or name the target's datalist as the source: then each fold "
            "gives its training part only",
        )
