"""Run a chain: initialisation, intermediate stages, target, bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.datalist import Datalist
from ..inference.device import pick_device
from ..networks.initialisation import initialise_backbone
from ..networks.peft_adapters import adapter_rank
from ..progress import Progress
from ..transfer.chain import Chain
from ..transfer.figure import Figure
from ..transfer.provenance import (
    ChainRecord,
    DatalistRecord,
    StageRecord,
    configuration_of,
    device_words,
    hash_of,
    hash_of_weights,
    today_utc,
    versions,
)
from ..transfer.stages import FROZEN_RANDOM, IMAGENET, RANDOM, SegmentationTarget, TrainedStage
from .distributed import ALONE, Processes
from .engine import CHECKPOINT_EVERY_S, Engine, Fit
from .fitness import seen_before
from .run_folder import RunFolder, load_datalists
from .seeds import derive
from .specs import conversion_of
from .stage_folder import StageFolder
from .stages import PreparedStage, calibrate, prepare_stage
from .task import require_validation
from .travelling import Travelling, network_again

if TYPE_CHECKING:
    import torch

_FORMAT = 3  # part of every stage's key: raise it when the engine's figures change
_TITLES = {
    "mammogram-classification": "Mammogram classification",
    "mammogram-segmentation": "Mammogram segmentation",
    "segmentation": "MS segmentation",
    "classification": "Prostate classification",
}
_STARTS = {RANDOM: "random weights", FROZEN_RANDOM: "random weights, kept", IMAGENET: "ImageNet weights"}
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
    device: str | torch.device = "auto",
    stage_cache: Path | None = None,
    target_datalist: Datalist | None = None,
    stage_datalists: Mapping[str, Datalist] | None = None,
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


@dataclass
class _Runner:
    """Runs the stages of one chain into one folder; ``records`` grows with every stage."""

    chain: Chain
    folder: RunFolder
    datalists: Sequence[Datalist]
    device: torch.device
    resume: bool
    cache: Path | None
    checkpoint_every_s: float
    processes: Processes
    records: list[StageRecord] = field(default_factory=list)

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
            source=report.to_dict() | {"source": _without_folders(report.source)} if stage.is_learned else None,
            notes=report.notes,
            seed=self.chain.seed,
            versions=versions(),
            seconds=time.monotonic() - began,
            started=today_utc(),
        )
        folder = StageFolder(self.folder.stage(0, stage.kind), weights)
        self.records.append(self._finished(folder) or self._finish(folder, record, None))
        return Travelling(backbone, stage.is_learned)

    def intermediate(self, index: int, incoming: Travelling, progress: Progress) -> Travelling:
        """Train an intermediate stage, or take it from where that was done before."""
        stage = self.chain.stages[index]
        facts = self._facts(index, f"intermediate-{index}", incoming)
        folder = StageFolder(self.folder.stage(index, stage.kind), facts.key, self.cache)
        with folder.alone(progress) if self.processes.is_first else nullcontext():
            record = self._finished(folder)
            if record is not None:
                network = network_again(record.network, folder.weights(), str(folder.path))
                self.records.append(record)
                return Travelling.after(stage, network)
            prepared, fit = self._train(index, facts, incoming, folder, progress)
            figures = self._figures(prepared, fit)
            network = prepared.network.cpu()
            outgoing = Travelling.after(stage, network)
            record = self._record(index, facts, incoming, prepared, fit, figures, outgoing.hash())
            self.records.append(self._finish(folder, record, network.state_dict()))
            return outgoing

    def target(self, incoming: Travelling, progress: Progress) -> None:
        """Train the volumetric network and write the bundle."""
        stage, index = self.chain.target, len(self.chain.stages) - 1
        facts = self._facts(index, "target", incoming)
        folder = StageFolder(self.folder.stage(index, stage.kind), facts.key)
        record = self._finished(folder)
        if record is not None and self.processes.from_first(self.folder.bundle.exists):
            self.records.append(record)
            return
        prepared, fit = self._train(index, facts, incoming, folder, progress)
        figures = self._figures(prepared, fit)
        postprocessing = self._postprocessing(stage, prepared)
        figures["threshold"] = postprocessing["threshold"]
        network = prepared.network.cpu()
        weights = hash_of_weights(network.state_dict())
        record = self._record(index, facts, incoming, prepared, fit, figures, weights)
        self.records.append(self._finish(folder, record, network.state_dict()))
        progress.report("Writing the bundle", 1.0)
        if self.processes.is_first:
            self._write_bundle(prepared, postprocessing)
        self.processes.wait()

    def _facts(self, index: int, label: str, incoming: Travelling) -> _Facts:
        """Seed and key of a stage, and the hash of what it learns from."""
        stage, chain = self.chain.stages[index], self.chain
        datalist = self.datalists[index - 1]
        content = replace(datalist, test=()).content_hash()
        decides: list[Any] = [
            _FORMAT,
            chain.backbone,
            chain.seed,
            label,
            stage.model_dump(mode="json", exclude={"datalist"}),
            content,
            incoming.hash(),
            chain.initialisation.weights == FROZEN_RANDOM,
        ]
        if stage.is_volumetric:
            decides += [conversion_of(chain), chain.input_channels, chain.slice_pooling]
        if getattr(stage, "decoder", "new") == "carried":
            decides.append(hash_of_weights(incoming.decoder))
        return _Facts(derive(chain.seed, label), hash_of(decides), content, incoming.hash(), today_utc())

    def _train(
        self, index: int, facts: _Facts, incoming: Travelling, folder: StageFolder, progress: Progress
    ) -> tuple[PreparedStage, Fit]:
        stage = self.chain.stages[index]
        prepared = prepare_stage(
            self.chain,
            stage,
            self.datalists[index - 1],
            incoming.backbone,
            is_learned=incoming.is_learned,
            seed=facts.seed,
            progress=progress.part(0, _READING_SHARE),
            decoder=incoming.decoder,
        )
        require_validation(prepared.task, prepared.training)
        engine = Engine(
            prepared.network,
            prepared.task,
            prepared.training,
            seed=facts.seed,
            folder=folder.path,
            key=facts.key,
            device=self.device,
            progress=progress.part(_READING_SHARE, 1),
            title=f"{_title(stage)}: training",
            checkpoint_every_s=self.checkpoint_every_s,
            processes=self.processes,
        )
        fit = engine.run(self.resume)
        # Adapters are the one kind of fine-tuning that stays part of the network.
        spec = replace(prepared.spec, adapters=adapter_rank(prepared.network.backbone))
        return replace(prepared, spec=spec), fit

    def _figures(self, prepared: PreparedStage, fit: Fit) -> dict[str, float | Figure]:
        """The figures of a trained stage; what validation patients say, with an interval over them."""
        figures: dict[str, float | Figure] = {
            "steps": fit.steps,
            "first loss": fit.first_loss,
            "last loss": fit.last_loss,
        }
        if prepared.task.can_validate:
            figure = self.processes.from_first(lambda: prepared.task.figure(prepared.network))
            figures |= {prepared.task.metric: figure, "best step": fit.best_step, "validation loss": fit.best_loss}
        return figures

    def _postprocessing(self, stage: TrainedStage, prepared: PreparedStage) -> dict[str, float]:
        """Threshold and smallest lesion; what validation patients decide is decided here."""
        if not isinstance(stage, SegmentationTarget):
            return {"threshold": calibrate(prepared.network, prepared.task), "minimum_volume_mm3": 0.0}
        threshold, task = stage.threshold, prepared.task
        if threshold is None:
            can = task.can_validate
            threshold = self.processes.from_first(lambda: task.best_threshold(prepared.network) if can else 0.5)
        return {"threshold": threshold, "minimum_volume_mm3": stage.minimum_volume_mm3}

    def _record(
        self,
        index: int,
        facts: _Facts,
        incoming: Travelling,
        prepared: PreparedStage,
        fit: Fit,
        figures: dict[str, float | Figure],
        weights_out: str,
    ) -> StageRecord:
        stage = self.chain.stages[index]
        notes = prepared.notes
        if count := seen_before(self.datalists[: index - 1], prepared.datalist):
            notes += (f"{count} of the validation patients may have been seen by an earlier stage: see its data",)
        return StageRecord(
            stage.kind,
            stage.task,
            facts.key,
            configuration_of(stage),
            facts.weights_in,
            weights_out,
            DatalistRecord.of(prepared.datalist, facts.content),
            conversion=prepared.conversion.to_dict(),
            metrics=figures,
            notes=notes,
            seed=self.chain.seed,
            device=device_words(self.device),
            versions=versions(),
            seconds=fit.seconds,
            started=facts.started,
            network=prepared.spec.to_dict(),
        )

    def _finished(self, folder: StageFolder) -> StageRecord | None:
        return self.processes.from_first(folder.finished)

    def _finish(self, folder: StageFolder, record: StageRecord, state: dict[str, torch.Tensor] | None) -> StageRecord:
        if self.processes.is_first:
            folder.finish(record, state)
        self.processes.wait()
        return record

    def _write_bundle(self, prepared: PreparedStage, postprocessing: dict[str, float]) -> None:
        from ..bundle.write import write_bundle

        stage, weights = self.chain.target, self.chain.initialisation.weights
        steps = [_STARTS.get(weights, f"weights of {_without_folders(weights)}")]
        for earlier, datalist in zip(self.chain.intermediates, self.datalists):
            steps.append(f"{_title(earlier).lower()} on {datalist.name}")
        steps.append(f"{', '.join(stage.channels)} of {prepared.datalist.name}")
        write_bundle(
            self.folder.bundle,
            prepared.network,
            prepared.spec,
            stage.task,
            prepared.preparation,
            prepared.patches,
            postprocessing,
            ChainRecord.of(self.chain, self.records).to_dict(),
            self.chain.name,
            f"{_title(stage)} on {self.chain.backbone}: {', then '.join(steps)}",
        )


@dataclass(frozen=True)
class _Facts:
    """What is known of a stage before it runs: its seed, its key, the hashes of its data and weights, the day."""

    seed: int
    key: str
    content: str
    weights_in: str
    started: str


def _title(stage: TrainedStage) -> str:
    if stage.task == "self-supervised":
        return f"Self-supervision on {stage.images} ({stage.method})"
    return _TITLES[stage.task]


def _without_folders(source: str) -> str:
    """The name of a weights file; an address stays whole."""
    return source if "://" in source else source.replace("\\", "/").rpartition("/")[2]
