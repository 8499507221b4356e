"""A target stage as an ensemble: one network for each fold of the training patients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..networks.spec import NetworkSpec
from ..transfer.provenance import DatalistRecord, StageRecord, hash_of, hash_of_weights
from .figures import auc_figure
from .fitness import seen_before
from .folds import (
    OUT_OF_FOLD,
    OutOfFoldScore,
    calibrated_threshold,
    calibration_of_folds,
    fold_datalists,
    read_scores,
    scores_of,
    write_scores,
)
from .outcome import Outcome, title_of
from .patches import patch_spec_of
from .seeds import derive
from .stage_folder import StageFolder
from .stages import calibrate
from .travelling import network_again

if TYPE_CHECKING:
    from ..data.datalist import Datalist
    from ..networks.build import Network
    from ..progress import Progress
    from .stage_runner import StageFacts, StageRunner
    from .travelling import Travelling


@dataclass(frozen=True, eq=False)
class _TrainedFold:
    """The network of a fold (on CPU), its record, and what it says of the patients that it never saw."""

    network: Network
    record: StageRecord
    scores: list[OutOfFoldScore]


def train_folds(
    runner: StageRunner, index: int, facts: StageFacts, incoming: Travelling, folder: StageFolder, progress: Progress
) -> tuple[StageRecord, Outcome]:
    """Train the networks of all folds, each from the weights that came in, in folders ``fold-1``, ... of the stage's.

    What a run before finished is taken from there. Leaves the out-of-fold scores in the folder of the run.

    Returns
    -------
    The record of the stage, whose ``weights_out`` are those of the first network, and the ensemble.
    """
    stage, datalist = runner.chain.target, runner.datalists[index - 1]
    folds = fold_datalists(datalist, stage.folds, facts.seed)
    trained = []
    for number, fold in enumerate(folds, start=1):
        part = progress.part((number - 1) / len(folds), number / len(folds))
        trained.append(_train_fold(runner, index, facts, incoming, folder, number, fold, part))
    scores = [score for one in trained for score in one.scores]
    if runner.processes.is_first:
        write_scores(scores, runner.folder.out_of_fold)
    calibration = calibration_of_folds(scores, stage.calibration)
    balanced = float(np.mean([one.record.metrics["threshold"] for one in trained]))
    outcome = Outcome(
        tuple(one.network for one in trained),
        NetworkSpec.from_dict(trained[0].record.network),
        calibrated_threshold(calibration, balanced),
        patches=patch_spec_of(stage, datalist),
        calibration=calibration,
    )
    records = [one.record for one in trained]
    notes = [note for record in records for note in record.notes]
    unseen = replace(datalist, training=(), validation=datalist.training, test=())
    if count := seen_before(runner.datalists[: index - 1], unseen):
        notes.append(f"{count} of the out-of-fold patients may have been seen by an earlier stage: see its data")
    record = replace(
        records[0],
        key=facts.key,
        datalist=DatalistRecord.of(replace(datalist, test=()), facts.content),
        metrics={
            "networks": len(folds),
            "steps": sum(record.metrics["steps"] for record in records),
            "first loss": float(np.mean([record.metrics["first loss"] for record in records])),
            "last loss": float(np.mean([record.metrics["last loss"] for record in records])),
            "out-of-fold AUC": auc_figure(
                np.array([[score.score] for score in scores]),
                np.array([score.truth for score in scores]),
                [score.patient for score in scores],
            ),
            "threshold": outcome.threshold,
        },
        notes=tuple(dict.fromkeys([*notes, f"{len(folds)} networks on folds; the weights' hash is the first one's"])),
        seconds=sum(record.seconds for record in records),
    )
    return record, outcome


def _train_fold(
    runner: StageRunner,
    index: int,
    facts: StageFacts,
    incoming: Travelling,
    folder: StageFolder,
    number: int,
    fold: Datalist,
    progress: Progress,
) -> _TrainedFold:
    """One network, or what a run before left of it."""
    facts = replace(facts, seed=derive(facts.seed, "fold", number), key=hash_of([facts.key, "fold", number]))
    own = StageFolder(folder.path / f"fold-{number}", facts.key)
    table = own.path / OUT_OF_FOLD
    record = runner.finished(own)
    if record is not None:
        network = network_again(record.network, own.weights(), str(own.path)).eval()
        return _TrainedFold(network, record, runner.processes.from_first(lambda: read_scores(table)))
    title = f"{title_of(runner.chain.target)}: training fold {number} of {runner.chain.target.folds}"
    learned = replace(fold, test=())
    prepared, fit = runner.train(index, facts, incoming, own, progress.part(0, 0.95), learned, title)
    figures = runner.figures(prepared, fit)
    figures["threshold"] = calibrate(prepared.network, prepared.task)
    rate = partial(prepared.task.rate, prepared.network, fold.test, fold, progress.part(0.95, 1))
    scores = scores_of(fold, number, runner.processes.from_first(rate))
    network = prepared.network.cpu().eval()
    if runner.processes.is_first:
        write_scores(scores, table)  # before the record, which says that the fold is finished
    weights = hash_of_weights(network.state_dict())
    record = runner.record(index, facts, incoming, prepared, fit, figures, weights)
    return _TrainedFold(network, runner.finish(own, record, network.state_dict()), scores)
