"""Run a chain: initialisation, intermediate stages, target, bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.datalist import Datalist
from ..inference.device import pick_device
from ..networks.initialisation import initialise_backbone
from ..progress import Progress
from ..transfer.chain import Chain
from ..transfer.provenance import (
    ChainRecord,
    StageRecord,
    configuration_of,
    hash_of_weights,
    today_utc,
    versions,
)
from ..transfer.stages import IMAGENET, SegmentationTarget, TrainedStage
from .distributed import ALONE, Processes
from .engine import CHECKPOINT_EVERY_S
from .fold_run import train_folds
from .folds import calibrated_threshold, calibration_of_validation
from .outcome import Outcome, without_folders, write_outcome
from .patches import probabilities_of
from .run_folder import RunFolder, load_datalists
from .seeds import derive
from .stage_folder import StageFolder
from .stage_runner import StageFacts, StageRunner
from .stages import PreparedStage, calibrate
from .travelling import Travelling, network_again

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ChainResult:
    """What a chain left.

    Attributes
    ----------
    bundle : folder of the trained model. record : of the chain and its stages, as in the bundle.
    seconds : of this run.
    """

    bundle: Path
    record: ChainRecord
    seconds: float

    @property
    def stages(self) -> tuple[StageRecord, ...]:
        return self.record.stages


def run_chain(
    chain: Chain,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    device: str | torch.device = "auto",
    stage_cache: Path | None = None,
    target_datalist: Datalist | None = None,
    stage_datalists: Mapping[str, Datalist] | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    processes: Processes = ALONE,
) -> ChainResult:
    """Run all stages of a chain and write its bundle.

    ``out`` gets ``chain.json`` (what was asked for), ``stages/NN-kind`` (checkpoint.pt, weights.pt,
    record.json, log.tsv), ``metrics.json`` and, last, ``bundle``; of a target with folds also
    ``out_of_fold.tsv``. The test part of a datalist is never looked at.

    Parameters
    ----------
    chain : the stages.
    out : a new or empty folder; with ``resume`` also one in which this very chain was begun. On CPU a
        resumed run ends with the same weights, bit for bit, as one that was not interrupted.
    progress : told about every step; a cancel leaves a checkpoint behind.
    device : "auto", "cpu", "cuda" or "cuda:N", or a torch device.
    stage_cache : folder in which finished intermediate stages are kept and looked up by content, so that
        runs share them.
    target_datalist : takes the place of the target stage's datalist (a fold of a study).
    stage_datalists : path of an intermediate stage's datalist -> what takes its place (the training part of a
        fold, where a stage learns from the target's own images).
    checkpoint_every_s : seconds between checkpoints.
    processes : that train together (see ``distributed.joined``); the first one writes.

    Raises
    ------
    InputError : ``out`` is in use, holds another chain, or a datalist does not fit its stage or those of
        other stages (see ``fitness.require_fit``).
    Cancelled : as the progress says.
    """
    began = time.monotonic()
    progress = progress or Progress()
    datalists = load_datalists(chain, target_datalist, stage_datalists)
    folder = RunFolder(Path(out).absolute())
    processes.from_first(lambda: folder.begin(chain, datalists, resume))
    runner = _Runner(chain, folder, datalists, pick_device(device), resume, stage_cache, checkpoint_every_s, processes)

    progress.report("Initialisation", 0.0)
    travelling = runner.initialise(progress)
    count = len(chain.trained)
    for index in range(1, count):
        part = progress.part(0.02 + 0.96 * (index - 1) / count, 0.02 + 0.96 * index / count)
        travelling = runner.intermediate(index, travelling, part)
    runner.target(travelling, progress.part(0.02 + 0.96 * (count - 1) / count, 0.98))
    record = ChainRecord.of(chain, runner.records)
    if processes.is_first:
        folder.write_metrics(record)
    progress.report("Chain complete", 1.0)
    return ChainResult(folder.bundle, record, time.monotonic() - began)


class _Runner(StageRunner):
    """The kinds of stages, one after the other."""

    def initialise(self, progress: Progress) -> Travelling:
        """The backbone with the weights that the chain begins with."""
        stage, began = self.chain.initialisation, time.monotonic()
        if not self.processes.is_first:
            self.processes.wait()  # the first one downloads
        backbone, report = initialise_backbone(
            self.chain.backbone,
            weights=stage.weights,
            sha256=stage.sha256,
            layout=stage.layout,
            keys=stage.keys,
            minimum_match=stage.minimum_match,
            licence=stage.licence,
            seed=derive(self.chain.seed, "initialisation"),
            allow_download=stage.weights == IMAGENET or stage.is_address,
            progress=progress,
        )
        if self.processes.is_first:
            self.processes.wait()
        weights = hash_of_weights(backbone.state_dict())
        record = StageRecord(
            stage.kind,
            None,
            weights,
            configuration_of(stage),
            None,
            weights,
            source=report.to_dict() | {"source": without_folders(report.source)} if stage.is_learned else None,
            notes=report.notes,
            seed=self.chain.seed,
            versions=versions(),
            seconds=time.monotonic() - began,
            started=today_utc(),
        )
        folder = StageFolder(self.folder.stage(0, stage.kind), weights)
        self.records.append(self.finished(folder) or self.finish(folder, record, None))
        return Travelling(backbone, stage.is_learned)

    def intermediate(self, index: int, incoming: Travelling, progress: Progress) -> Travelling:
        """Train an intermediate stage, or take it from where that was done before."""
        stage = self.chain.stages[index]
        facts = self.facts(index, f"intermediate-{index}", incoming)
        folder = StageFolder(self.folder.stage(index, stage.kind), facts.key, self.cache)
        with folder.alone(progress) if self.processes.is_first else nullcontext():
            record = self.finished(folder)
            if record is not None:
                network = network_again(record.network, folder.weights(), str(folder.path))
                self.records.append(record)
                return Travelling.after(stage, network)
            prepared, fit = self.train(index, facts, incoming, folder, progress)
            figures = self.figures(prepared, fit)
            network = prepared.network.cpu()
            outgoing = Travelling.after(stage, network)
            record = self.record(index, facts, incoming, prepared, fit, figures, outgoing.hash())
            self.records.append(self.finish(folder, record, network.state_dict()))
            return outgoing

    def target(self, incoming: Travelling, progress: Progress) -> None:
        """Train the volumetric network and write the bundle."""
        stage, index = self.chain.target, len(self.chain.stages) - 1
        facts = self.facts(index, "target", incoming)
        folder = StageFolder(self.folder.stage(index, stage.kind), facts.key)
        record = self.finished(folder)
        if record is not None and self.processes.from_first(self.folder.bundle.exists):
            self.records.append(record)
            return
        if getattr(stage, "folds", None):
            record, outcome = train_folds(self, index, facts, incoming, folder, progress)
        else:
            record, outcome = self._train_target(index, facts, incoming, folder, progress)
        self.records.append(self.finish(folder, record, outcome.networks[0].state_dict()))
        progress.report("Writing the bundle", 1.0)
        if self.processes.is_first:
            write_outcome(self.folder.bundle, self.chain, self.datalists, self.records, outcome)
        self.processes.wait()

    def _train_target(
        self, index: int, facts: StageFacts, incoming: Travelling, folder: StageFolder, progress: Progress
    ) -> tuple[StageRecord, Outcome]:
        """One network on the whole training part."""
        prepared, fit = self.train(index, facts, incoming, folder, progress)
        figures = self.figures(prepared, fit)
        outcome = self._outcome(self.chain.target, prepared)
        figures["threshold"] = outcome.threshold
        weights = hash_of_weights(prepared.network.cpu().state_dict())
        return self.record(index, facts, incoming, prepared, fit, figures, weights), outcome

    def _outcome(self, stage: TrainedStage, prepared: PreparedStage) -> Outcome:
        """The network with its threshold, smallest lesion and calibration, as validation patients decide them."""
        task, spec = prepared.task, prepared.spec
        if isinstance(stage, SegmentationTarget):
            threshold = stage.threshold
            if threshold is None:
                can = task.can_validate
                threshold = self.processes.from_first(lambda: task.best_threshold(prepared.network) if can else 0.5)
            return Outcome((prepared.network,), spec, threshold, stage.minimum_volume_mm3, prepared.preparation)
        threshold = calibrate(prepared.network, task)
        calibration = None
        if task.can_validate:
            logits = self.processes.from_first(lambda: task.held_out_logits(prepared.network))
            held_out, probabilities = prepared.datalist.validation, probabilities_of(logits)
            calibration = calibration_of_validation(held_out, probabilities, stage.calibration)
            threshold = calibrated_threshold(calibration, threshold)
        return Outcome((prepared.network,), spec, threshold, patches=prepared.patches, calibration=calibration)
