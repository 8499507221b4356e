"""Run a chain: initialisation, intermediate stages, target, bundle."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..data.datalist import Datalist
from ..files import remove_drafts
from ..inference.device import pick_device
from ..networks.backbones import Backbone, build_backbone
from ..networks.weights import load_weights
from ..progress import Progress
from ..transfer.chain import Chain
from ..transfer.provenance import (
    ChainRecord,
    DatalistRecord,
    StageRecord,
    configuration_of,
    hash_of,
    hash_of_weights,
    versions,
)
from ..transfer.stages import IMAGENET, RANDOM, SegmentationTarget, TrainedStage
from .distributed import ALONE, Processes
from .engine import CHECKPOINT_EVERY_S, Engine, Fit
from .run_folder import RunFolder, load_datalists
from .seeds import derive, torch_seeded
from .stage_folder import StageFolder
from .stages import PreparedStage, calibrate, make_network, mammogram_spec, prepare_stage
from .task import require_validation

_FORMAT = 2  # part of every stage's key: raise it when the engine's figures change
_TITLES = {
    "mammogram-classification": "Mammogram classification",
    "segmentation": "MS segmentation",
    "classification": "Prostate classification",
}
_READING_SHARE = 0.1  # of a stage's progress


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
    device: str = "auto",
    stage_cache: Path | None = None,
    target_datalist: Datalist | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    processes: Processes = ALONE,
) -> ChainResult:
    """Run all stages of a chain and write its bundle.

    ``out`` gets ``chain.json`` (what was asked for), ``stages/NN-kind`` (checkpoint.pt, weights.pt,
    record.json, log.tsv), ``metrics.json`` and, last, ``bundle``. The test part of a datalist is never
    looked at.

    Parameters
    ----------
    chain : the stages.
    out : a new or empty folder; with ``resume`` also one in which this very chain was begun. On CPU a
        resumed run ends with the same weights, bit for bit, as one that was not interrupted.
    progress : told about every step; a cancel leaves a checkpoint behind.
    device : "auto", "cpu", "cuda" or "cuda:N".
    stage_cache : folder in which finished intermediate stages are kept and looked up by content, so that
        runs share them.
    target_datalist : takes the place of the target stage's datalist (a fold of a study).
    checkpoint_every_s : seconds between checkpoints.
    processes : that run this chain together, each calling this function; the first one writes.

    Raises
    ------
    InputError : ``out`` is in use, holds another chain, a datalist does not fit its stage, or a patient
        of an earlier stage's training is among the target's validation or test patients.
    Cancelled : as the progress says.
    """
    began = time.monotonic()
    progress = progress or Progress()
    datalists = load_datalists(chain, target_datalist)
    runner = _Runner(chain, Path(out).absolute(), pick_device(device), resume, checkpoint_every_s, processes)
    folder = RunFolder(runner.out)

    def begin() -> None:
        remove_drafts(runner.out)  # of a run that was killed
        folder.begin(chain, datalists, resume)

    processes.from_first(begin)
    progress.report("Initialisation", 0.0)
    with processes.first_goes_ahead():
        backbone, record = runner.initialise(progress)
    records = [record]
    is_learned = chain.initialisation.weights != RANDOM
    stages = chain.stages[1:]
    for number, (stage, datalist) in enumerate(zip(stages, datalists)):
        part = progress.part(0.02 + 0.96 * number / len(stages), 0.02 + 0.96 * (number + 1) / len(stages))
        if stage.kind == "intermediate":
            backbone, record = runner.intermediate(number + 1, datalist, backbone, is_learned, part, stage_cache)
            records.append(record)
            is_learned = True
        else:
            record = runner.target(datalist, backbone, is_learned, part, records)
            records.append(record)
    chain_record = ChainRecord.of(chain, records)
    if processes.is_first:
        folder.write_metrics(chain_record)
    progress.report("Chain complete", 1.0)
    return ChainResult(folder.bundle, chain_record, time.monotonic() - began)


@dataclass(frozen=True)
class _Runner:
    """Runs the stages of one chain into one folder."""

    chain: Chain
    out: Path
    device: torch.device
    resume: bool
    checkpoint_every_s: float
    processes: Processes

    def initialise(self, progress: Progress) -> tuple[Backbone, StageRecord]:
        """The 2D backbone with the weights that the chain begins with."""
        stage, began, source = self.chain.initialisation, time.monotonic(), None
        with torch_seeded(self.chain.seed, "initialisation"):
            backbone = build_backbone(self.chain.backbone)
        if stage.weights != RANDOM:
            report = load_weights(
                backbone, stage.weights, stage.sha256, allow_download=stage.weights == IMAGENET, progress=progress
            )
            source = {**report.to_dict(), "source": report.source.replace("\\", "/").rpartition("/")[2]}
        weights = hash_of_weights(backbone.state_dict())
        record = StageRecord(
            stage.kind,
            None,
            weights,
            configuration_of(stage),
            None,
            weights,
            source=source,
            seed=self.chain.seed,
            versions=versions(),
            seconds=time.monotonic() - began,
        )
        folder = StageFolder(self.out / "stages" / f"00-{stage.kind}", weights)
        before = folder.finished()
        if before is None and self.processes.is_first:
            folder.finish(record, None)
        return backbone, before or record

    def intermediate(
        self,
        index: int,
        datalist: Datalist,
        backbone: Backbone,
        is_learned: bool,
        progress: Progress,
        cache: Path | None,
    ) -> tuple[Backbone, StageRecord]:
        """Train the backbone on mammograms, or take it from where that was done before."""
        stage = self.chain.stages[index]
        seed, key, content = self._identity(stage, f"intermediate-{index}", datalist, backbone)
        folder = StageFolder(self.out / "stages" / f"{index:02d}-{stage.kind}", key, cache)
        record = self.processes.from_first(folder.finished)
        if record is not None:
            network, _ = make_network(mammogram_spec(stage, backbone.name), backbone, seed)
            network.load_state_dict(self.processes.from_first(folder.weights))
        else:
            prepared, fit = self._train(stage, datalist, backbone, is_learned, seed, key, folder, progress)
            network = prepared.network.cpu()
            trained = hash_of_weights(network.backbone.state_dict())
            record = self._record(stage, key, content, datalist, backbone, trained, prepared, fit, {})
            if self.processes.is_first:
                folder.finish(record, network.state_dict())
        onward = build_backbone(backbone.name)
        onward.load_state_dict(network.backbone.state_dict())
        return onward, record

    def target(
        self,
        datalist: Datalist,
        backbone: Backbone,
        is_learned: bool,
        progress: Progress,
        earlier: list[StageRecord],
    ) -> StageRecord:
        """Train the volumetric network and write the bundle."""
        stage, index = self.chain.target, len(self.chain.stages) - 1
        seed, key, content = self._identity(stage, "target", datalist, backbone)
        folder = StageFolder(self.out / "stages" / f"{index:02d}-{stage.kind}", key)
        bundle = RunFolder(self.out).bundle
        record = self.processes.from_first(lambda: folder.finished() if bundle.exists() else None)
        if record is not None:
            return record
        prepared, fit = self._train(stage, datalist, backbone, is_learned, seed, key, folder, progress)
        postprocessing = _postprocessing(stage, prepared)
        network = prepared.network.cpu()
        record = self._record(
            stage,
            key,
            content,
            datalist,
            backbone,
            hash_of_weights(network.state_dict()),
            prepared,
            fit,
            {"threshold": postprocessing["threshold"]},
        )
        if self.processes.is_first:
            folder.finish(record, network.state_dict())
            progress.report("Writing the bundle", 1.0)
            self._write_bundle(bundle, stage, prepared, postprocessing, [*earlier, record])
        return record

    def _identity(
        self, stage: TrainedStage, label: str, datalist: Datalist, backbone: Backbone
    ) -> tuple[int, str, str]:
        """Seed and key of a stage, and the hash of what it learns from."""
        content = replace(datalist, test=()).content_hash()
        configuration = stage.model_dump(mode="json", exclude={"datalist"})
        weights = hash_of_weights(backbone.state_dict())
        facts = [_FORMAT, self.chain.backbone, self.chain.seed, label, configuration, content, weights]
        return derive(self.chain.seed, label), hash_of(facts), content

    def _train(
        self,
        stage: TrainedStage,
        datalist: Datalist,
        backbone: Backbone,
        is_learned: bool,
        seed: int,
        key: str,
        folder: StageFolder,
        progress: Progress,
    ) -> tuple[PreparedStage, Fit]:
        reading, training = progress.part(0, _READING_SHARE), progress.part(_READING_SHARE, 1)
        prepared = prepare_stage(
            self.chain, stage, datalist, backbone, is_learned=is_learned, seed=seed, progress=reading
        )
        require_validation(prepared.task, stage.training)
        engine = Engine(
            prepared.network,
            prepared.task,
            stage.training,
            seed=seed,
            folder=folder.path,
            key=key,
            device=self.device,
            progress=training,
            title=f"{_TITLES[stage.task]}: training",
            checkpoint_every_s=self.checkpoint_every_s,
            processes=self.processes,
        )
        return prepared, engine.run(self.resume)

    def _record(
        self,
        stage: TrainedStage,
        key: str,
        content: str,
        datalist: Datalist,
        backbone: Backbone,
        weights_out: str,
        prepared: PreparedStage,
        fit: Fit,
        figures: dict[str, float],
    ) -> StageRecord:
        metrics = {"steps": fit.steps, "first loss": fit.first_loss, "last loss": fit.last_loss, **figures}
        if fit.best_metric is not None:
            metrics |= {prepared.task.metric: fit.best_metric, "best step": fit.best_step}
        return StageRecord(
            stage.kind,
            stage.task,
            key,
            configuration_of(stage),
            hash_of_weights(backbone.state_dict()),
            weights_out,
            DatalistRecord.of(prepared.datalist, content),
            conversion=prepared.conversion.to_dict(),
            metrics=metrics,
            notes=prepared.notes,
            seed=self.chain.seed,
            device=str(self.device),
            versions=versions(),
            seconds=fit.seconds,
        )

    def _write_bundle(
        self,
        path: Path,
        stage: TrainedStage,
        prepared: PreparedStage,
        postprocessing: dict[str, float],
        records: list[StageRecord],
    ) -> None:
        from ..bundle.write import write_bundle

        words = {RANDOM: "random weights", IMAGENET: "ImageNet weights"}
        weights = self.chain.initialisation.weights
        start = words.get(weights, f"weights of {Path(weights).name}")
        via = ", then mammograms," if self.chain.intermediates else ""
        write_bundle(
            path,
            prepared.network,
            prepared.spec,
            stage.task,
            prepared.preparation,
            prepared.patches,
            postprocessing,
            ChainRecord.of(self.chain, records).to_dict(),
            self.chain.name,
            f"{_TITLES[stage.task]} on {self.chain.backbone}: {start}{via} then "
            f"{', '.join(stage.channels)} of {prepared.datalist.name}",
        )


def _postprocessing(stage: TrainedStage, prepared: PreparedStage) -> dict[str, float]:
    """Threshold and smallest lesion; what validation patients decide is decided here."""
    if not isinstance(stage, SegmentationTarget):
        return {"threshold": calibrate(prepared.network, prepared.task), "minimum_volume_mm3": 0.0}
    threshold = stage.threshold
    if threshold is None:
        threshold = prepared.task.best_threshold(prepared.network) if prepared.task.can_validate else 0.5
    return {"threshold": threshold, "minimum_volume_mm3": stage.minimum_volume_mm3}
