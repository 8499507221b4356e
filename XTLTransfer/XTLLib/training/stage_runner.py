"""What every stage of a chain goes through: its key, preparation, training, figures, record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.datalist import Datalist
from ..networks.peft_adapters import adapter_rank
from ..progress import Progress
from ..transfer.chain import Chain
from ..transfer.figure import Figure
from ..transfer.provenance import (
    DatalistRecord,
    StageRecord,
    configuration_of,
    device_words,
    hash_of,
    hash_of_weights,
    today_utc,
    versions,
)
from ..transfer.stages import FROZEN_RANDOM
from .distributed import Processes
from .engine import Engine, Fit
from .fitness import seen_before
from .outcome import title_of
from .run_folder import RunFolder
from .seeds import derive
from .specs import conversion_of
from .stage_folder import StageFolder
from .stages import PreparedStage, prepare_stage
from .task import require_validation
from .travelling import Travelling

if TYPE_CHECKING:
    import torch

_FORMAT = 3  # part of every stage's key: raise it when the engine's figures change
_READING_SHARE = 0.1  # of a stage's progress


@dataclass(frozen=True)
class StageFacts:
    """What is known of a stage before it runs: its seed, its key, the hashes of its data and weights, the day."""

    seed: int
    key: str
    content: str
    weights_in: str
    started: str


@dataclass
class StageRunner:
    """Runs stages of one chain in one folder; ``records`` grows with every stage."""

    chain: Chain
    folder: RunFolder
    datalists: Sequence[Datalist]
    device: torch.device
    resume: bool
    cache: Path | None
    checkpoint_every_s: float
    processes: Processes
    records: list[StageRecord] = field(default_factory=list)

    def facts(self, index: int, label: str, incoming: Travelling) -> StageFacts:
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
        return StageFacts(derive(chain.seed, label), hash_of(decides), content, incoming.hash(), today_utc())

    def train(
        self,
        index: int,
        facts: StageFacts,
        incoming: Travelling,
        folder: StageFolder,
        progress: Progress,
        datalist: Datalist | None = None,
        title: str = "",
    ) -> tuple[PreparedStage, Fit]:
        """Prepare a stage and train it, on its own datalist unless another one is given."""
        stage = self.chain.stages[index]
        prepared = prepare_stage(
            self.chain,
            stage,
            datalist or self.datalists[index - 1],
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
            title=title or f"{title_of(stage)}: training",
            checkpoint_every_s=self.checkpoint_every_s,
            processes=self.processes,
        )
        fit = engine.run(self.resume)
        # Adapters are the one kind of fine-tuning that stays part of the network.
        spec = replace(prepared.spec, adapters=adapter_rank(prepared.network.backbone))
        return replace(prepared, spec=spec), fit

    def figures(self, prepared: PreparedStage, fit: Fit) -> dict[str, float | Figure]:
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

    def record(
        self,
        index: int,
        facts: StageFacts,
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

    def finished(self, folder: StageFolder) -> StageRecord | None:
        return self.processes.from_first(folder.finished)

    def finish(self, folder: StageFolder, record: StageRecord, state: dict[str, torch.Tensor] | None) -> StageRecord:
        if self.processes.is_first:
            folder.finish(record, state)
        self.processes.wait()
        return record
