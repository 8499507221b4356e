"""The record of what a set of weights went through; travels in the bundle as ``configs/chain.json``.

Records name datalists by layout, counts and content hash: never a patient, never a path of a machine, and
of the time only the day.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError
from .figure import Figure, figure_from

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..data.datalist import Datalist
    from .chain import Chain, Stage

_PACKAGES = ("torch", "monai", "numpy", "SimpleITK")
FORMAT = 2  # of chain.json: since 2 a figure may have an interval, and a stage the day it was begun
ADAPTATION = "adaptation"  # kind of a stage that was added to a trained model


@dataclass(frozen=True)
class DatalistRecord:
    """What a stage learned from.

    Attributes
    ----------
    layout, name, licence : as the datalist says.
    entries, patients : counts over the whole datalist.
    training, validation : counts of entries of these parts, as the stage used them.
    content_hash : SHA-256 over entries and image files.
    task : of the datalist. labels : label value -> meaning, for example ``{"0": "normal", "1": "cancer"}``.
    """

    layout: str
    name: str
    licence: str
    entries: int
    patients: int
    training: int
    validation: int
    content_hash: str
    task: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, datalist: Datalist, content_hash: str) -> DatalistRecord:
        return cls(
            datalist.layout,
            datalist.name,
            datalist.licence,
            len(datalist.entries),
            len(datalist.patients()),
            len(datalist.training),
            len(datalist.validation),
            content_hash,
            datalist.task,
            dict(datalist.labels),
        )


@dataclass(frozen=True)
class StageRecord:
    """One stage as it was run.

    Attributes
    ----------
    kind, task : as in the chain; an initialisation has no task.
    key : hash of all that decides the stage's outcome.
    configuration : the stage as the chain describes it, paths cut to file names.
    weights_in, weights_out : hashes of the backbone's weights before and after; after the target stage,
        of the whole network. The ``weights_out`` of a stage is the ``weights_in`` of the next.
    datalist : what it learned from, with its licence. source : report on the weights file, with its licence,
        for an initialisation.
    conversion : report on the step to 3D and its self-test, for the stage at which it happened.
    metrics : named numbers (loss, threshold), and figures with an interval (validation AUC or Dice).
    notes : what a reader has to know, in sentences.
    seed : of the chain. device, versions : where it ran (see ``device_words``).
    network : its description (``NetworkSpec.to_dict``), from which and from its weights it can be made again.
    seconds : how long. started : the day, UTC, as "2026-01-31"; no hour, which would tell who was at work.
    """

    kind: str
    task: str | None
    key: str
    configuration: Mapping[str, Any]
    weights_in: str | None
    weights_out: str
    datalist: DatalistRecord | None = None
    source: Mapping[str, Any] | None = None
    conversion: Mapping[str, Any] | None = None
    metrics: Mapping[str, float | Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seed: int = 0
    device: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    started: str | None = None
    network: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("configuration", "source", "conversion", "network"):  # as they come back from a file
            object.__setattr__(self, name, json.loads(json.dumps(getattr(self, name))))
        figures = {str(name): figure_from(value, str(name)) for name, value in self.metrics.items()}
        object.__setattr__(self, "metrics", figures)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        metrics = {
            name: value.to_dict() if isinstance(value, Figure) else value for name, value in self.metrics.items()
        }
        return json.loads(json.dumps({**asdict(self), "metrics": metrics}))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageRecord:
        """The record that :meth:`to_dict` gave."""
        values = {key: data[key] for key in (f.name for f in fields(cls)) if key in data}
        if values.get("datalist") is not None:
            values["datalist"] = DatalistRecord(**values["datalist"])
        values["notes"] = tuple(values.get("notes", ()))
        return cls(**values)

    @property
    def licences(self) -> tuple[str, ...]:
        """Terms of the weights and of the data that this stage brought in, as far as they are known."""
        brought = (self.source or {}).get("licence"), self.datalist.licence if self.datalist else None
        return tuple(str(licence) for licence in brought if licence)


@dataclass(frozen=True)
class ChainRecord:
    """A chain as it was run: its name, seed and backbone, and its stages in order."""

    name: str
    seed: int
    backbone: str
    stages: tuple[StageRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data, the content of ``configs/chain.json``."""
        return {
            "format": FORMAT,
            "name": self.name,
            "seed": self.seed,
            "backbone": self.backbone,
            "stages": [stage.to_dict() for stage in self.stages],
        }

    @classmethod
    def of(cls, chain: Chain, stages: list[StageRecord]) -> ChainRecord:
        return cls(chain.name, chain.seed, chain.backbone, tuple(stages))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ChainRecord:
        """The record that :meth:`to_dict` gave."""
        stages = tuple(StageRecord.from_dict(stage) for stage in data["stages"])
        return cls(data["name"], data["seed"], data["backbone"], stages)

    @property
    def licences(self) -> tuple[str, ...]:
        """Terms of everything that the weights were made from, each once, in the order of the stages."""
        return tuple(dict.fromkeys(licence for stage in self.stages for licence in stage.licences))

    @property
    def breaks(self) -> tuple[str, ...]:
        """Where a stage did not begin with the weights that the one before left, in words; () when none."""
        pairs = zip(self.stages, self.stages[1:])
        return tuple(
            f"stage {number} ({after.kind}) began with other weights than stage {number - 1} ({before.kind}) left"
            for number, (before, after) in enumerate(pairs, 1)
            if after.weights_in != before.weights_out
        )

    def with_adaptation(self, stage: StageRecord) -> ChainRecord:
        """This chain with an adaptation stage after its last one.

        Raises InputError when the stage is of another kind, or began with other weights than the chain left.
        """
        longer = replace(self, stages=(*self.stages, stage))
        if stage.kind != ADAPTATION or longer.breaks != self.breaks:
            raise InputError(
                f"a stage of kind {stage.kind} cannot be added to the chain {self.name}"
                if stage.kind != ADAPTATION
                else f"{longer.breaks[-1]} in the chain {self.name}",
                "Adapt the model that this chain ends in",
            )
        return longer


def configuration_of(stage: Stage) -> dict[str, Any]:
    """A stage of a chain as JSON-able data, with paths cut to their file names."""
    values = stage.model_dump(mode="json")
    for key in ("datalist", "weights"):
        if isinstance(values.get(key), str):
            values[key] = Path(values[key]).name
    return values


def hash_of(values: Any) -> str:
    """SHA-256 of JSON-able data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def hash_of_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of XTL, Python and the packages whose release may change a figure."""
    found = {"xtl": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def today_utc() -> str:
    """The day, UTC, as records name it: "2026-01-31"."""
    return datetime.now(timezone.utc).date().isoformat()


def device_words(device: str | torch.device) -> str:
    """A device as records name it: its kind, and of a GPU its product name. Says nothing about the machine."""
    kind = str(device).partition(":")[0]
    if kind != "cuda":
        return kind
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})"
