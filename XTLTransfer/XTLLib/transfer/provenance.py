"""The record of what a set of weights went through; travels in the bundle as ``configs/chain.json``.

Records name datalists by layout, counts and content hash: never a patient, never a path of a machine.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.datalist import Datalist
    from .chain import Chain, Stage

_PACKAGES = ("torch", "monai", "numpy", "SimpleITK")


@dataclass(frozen=True)
class DatalistRecord:
    """What a stage learned from.

    Attributes
    ----------
    layout, name, licence : as the datalist says.
    entries, patients : counts over the whole datalist.
    training, validation : counts of entries of these parts, as the stage used them.
    content_hash : SHA-256 over entries and image files.
    """

    layout: str
    name: str
    licence: str
    entries: int
    patients: int
    training: int
    validation: int
    content_hash: str

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
    datalist : what it learned from. source : report on the weights file, for an initialisation.
    conversion : report on the step to 3D, for a target.
    metrics : named figures (loss, validation AUC or Dice, threshold).
    notes : what a reader has to know, in sentences.
    seed : of the chain. device, versions : where it ran. seconds : how long.
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
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seed: int = 0
    device: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("configuration", "source", "conversion", "metrics"):  # as they come back from a file
            object.__setattr__(self, name, json.loads(json.dumps(getattr(self, name))))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageRecord:
        """The record that :meth:`to_dict` gave."""
        values = {key: data[key] for key in (f.name for f in fields(cls)) if key in data}
        if values.get("datalist") is not None:
            values["datalist"] = DatalistRecord(**values["datalist"])
        values["notes"] = tuple(values.get("notes", ()))
        return cls(**values)


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
            "format": 1,
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
