"""Runs a study: arms x seeds x folds, each run once, and tells what came out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..data.datalist import Datalist
from ..data.patches import PatchSpec
from ..errors import InputError
from ..files import atomic_file
from ..progress import Progress
from ..training.run import run_chain
from ..transfer.provenance import hash_of
from . import evaluate
from .config import Arm, Study
from .report import StudyResult, write_study_report
from .scores import Score, read_scores, write_scores


@dataclass(frozen=True)
class _Run:
    """One arm on one fold with one seed."""

    arm: Arm
    seed: int
    fold: int

    @property
    def folder(self) -> Path:
        return Path("runs") / self.arm.name / f"seed-{self.seed}" / f"fold-{self.fold}"


def run_study(
    study: Study, out: Path, *, resume: bool = False, progress: Progress | None = None, device: str = "auto"
) -> StudyResult:
    """Train every arm on every fold with every seed, test it on the fold's held-out patients, and report.

    Stages that arms, folds and seeds share (the mammogram stage of all XTL folds of one seed) are
    trained once, in ``out/cache``. A finished run leaves ``scores.tsv`` in its folder and is not
    repeated on resume; a run whose chain, data or fold has changed since is.

    Parameters
    ----------
    study : what to compare.
    out : folder; must be new or empty unless ``resume``.

    Returns
    -------
    StudyResult, also written to ``out/scores.tsv``, ``out/results.json`` and ``out/report.md``.

    Raises
    ------
    InputError : the datalist does not fit the arms, or ``out`` is in use.
    """
    progress = progress or Progress()
    out = Path(out).absolute()
    if out.exists() and any(out.iterdir()) and not resume:
        raise InputError(f"the output folder {out} is not empty", "Add --resume to continue it, or name a new folder")
    datalist = Datalist.load(study.datalist)
    evaluate.require_truth(datalist)
    chains = {arm.name: arm.load() for arm in study.arms}
    for arm in study.arms:
        if chains[arm.name].target.task != datalist.task:
            raise InputError(
                f"the arm {arm.name} ends in {chains[arm.name].target.task}, the datalist {study.datalist} "
                f"is for {datalist.task}",
                "Give the arm a chain for this task",
            )
    folds = datalist.folds(study.folds, seed=0)

    runs = [_Run(arm, seed, fold) for seed in study.seeds for fold in range(study.folds) for arm in study.arms]
    scores: list[Score] = []
    for number, run in enumerate(runs):
        part = progress.part(number / len(runs), (number + 1) / len(runs))
        part.report(f"{run.arm.name}, seed {run.seed}, fold {run.fold + 1} of {study.folds}", 0.0)
        scores += _run_once(run, chains[run.arm.name], folds[run.fold], out, part, device)
    for name in study.baselines:
        scores += _baseline_scores(name, folds, chains[study.arms[0].name])
    write_scores(scores, out / "scores.tsv")
    result = StudyResult(study, datalist.task, tuple(scores))
    write_study_report(result, out)
    progress.report("Study complete", 1.0)
    return result


def _run_once(run: _Run, chain, fold: Datalist, out: Path, progress: Progress, device: str) -> list[Score]:
    folder = out / run.folder
    chain = chain.model_copy(update={"seed": run.seed})
    key = _run_key(chain, fold)
    done = folder / "scores.tsv"
    key_file = folder / "run.key"
    is_begun = key_file.is_file() and key_file.read_text() == key
    if is_begun and done.is_file():
        return read_scores(done)
    if not is_begun and folder.exists():
        shutil.rmtree(folder)
    with atomic_file(key_file) as draft:
        draft.write_text(key)
    chain_folder = folder / "chain"
    result = run_chain(
        chain,
        chain_folder,
        resume=chain_folder.exists(),
        progress=progress,
        device=device,
        stage_cache=out / "cache",
        target_datalist=fold,
    )
    test = evaluate.evaluate_segmentation if fold.task == "segmentation" else evaluate.evaluate_classification
    scores = _as_scores(run.arm.name, run.seed, run.fold, fold, test(result.bundle, fold, device))
    write_scores(scores, done)
    return scores


def _baseline_scores(name: str, folds: list[Datalist], chain) -> list[Score]:
    values: Callable[[Datalist], list[dict[str, float]]]
    if name == "flair-threshold":
        values = evaluate.evaluate_flair_threshold
    else:
        spec = PatchSpec(("ADC",), (1, 32, 32), {"ADC": (64.0, 64.0, 3.0)}, reference="ADC")
        values = lambda fold: evaluate.evaluate_adc_contrast(fold, spec)  # noqa: E731
    return [score for number, fold in enumerate(folds) for score in _as_scores(name, 0, number, fold, values(fold))]


def _as_scores(arm: str, seed: int, fold_number: int, fold: Datalist, values: list[dict[str, float]]) -> list[Score]:
    return [Score(arm, seed, fold_number, entry.patient, entry.case, value) for entry, value in zip(fold.test, values)]


def _run_key(chain, fold: Datalist) -> str:
    """What a run depends on: the chain as it is, and the content of its target data."""
    return hash_of([chain.model_dump(mode="json"), fold.content_hash()])
