"""The folder of a run, and whether it may be begun or gone on with there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.datalist import Datalist
from ..errors import InputError
from ..files import atomic_file
from ..transfer.chain import Chain
from ..transfer.provenance import ChainRecord, configuration_of
from ..transfer.stages import TrainedStage


class RunFolder:
    """``out`` of a chain: ``chain.json``, ``stages/``, ``metrics.json``, ``bundle/``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bundle = path / "bundle"

    def begin(self, chain: Chain, datalists: list[Datalist], resume: bool) -> None:
        """Note down what is run here.

        Raises InputError when the folder is in use, or when it holds another chain than the one to resume.
        """
        path = self._path
        asked = {
            "name": chain.name,
            "seed": chain.seed,
            "backbone": chain.backbone,
            "stages": [configuration_of(stage) for stage in chain.stages],
            "content": [replace(datalist, test=()).content_hash() for datalist in datalists],
        }
        if path.is_file():
            raise InputError(f"the output folder {path} is a file", "Name a folder")
        begun = path / "chain.json"
        if path.is_dir() and any(path.iterdir()):
            if not begun.is_file():
                raise InputError(f"the output folder {path} holds files, but no chain", "Name a new or an empty folder")
            if not resume:
                raise InputError(
                    f"the output folder {path} holds a chain already",
                    "Add --resume to go on with it, or name a new one",
                )
            self._require_same(_read_json(begun), asked)
            return
        with atomic_file(begun) as draft:
            draft.write_text(json.dumps(asked, indent=2), encoding="utf-8")

    def write_metrics(self, record: ChainRecord) -> None:
        """Write ``metrics.json``: the figures of every stage."""
        stages = [
            {"kind": stage.kind, "task": stage.task, **stage.to_dict()["metrics"], "seconds": round(stage.seconds, 1)}
            for stage in record.stages
        ]
        with atomic_file(self._path / "metrics.json") as draft:
            draft.write_text(json.dumps({"name": record.name, "seed": record.seed, "stages": stages}, indent=2))

    def _require_same(self, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        before, now = dict(_leaves(begun)), dict(_leaves(asked))
        different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if different:
            raise InputError(
                f"the output folder {self._path} holds another chain (different: {', '.join(different[:4])})",
                "Resume with the chain and the data it was begun with, or name a new folder",
            )


def load_datalists(chain: Chain, target_datalist: Datalist | None) -> list[Datalist]:
    """The datalist of every stage after the initialisation, each fit for its stage.

    Raises InputError when a datalist is for another task or lacks channels, or when a patient from whom an
    intermediate stage learns is a validation or test patient of the target.
    """
    datalists = [Datalist.load(stage.datalist) for stage in chain.stages[1:-1]]
    datalists.append(target_datalist if target_datalist is not None else Datalist.load(chain.target.datalist))
    for number, (stage, datalist) in enumerate(zip(chain.stages[1:], datalists), 1):
        _require_fit(f"stage {number} ({stage.kind}) of the chain {chain.name}", stage, datalist)
    target = datalists[-1]
    held_back = {entry.patient for entry in target.validation + target.test}
    for datalist in datalists[:-1]:
        shared = {entry.patient for entry in datalist.training + datalist.validation} & held_back
        # Names say who a patient is within one data set only.
        if shared and (datalist.layout, datalist.name) == (target.layout, target.name):
            raise InputError(
                f"{len(shared)} validation or test patients of the target's datalist {target.name} are training "
                f"patients of an intermediate stage ({datalist.name})",
                "Take them out of the intermediate stage",
            )
    return datalists


def _require_fit(where: str, stage: TrainedStage, datalist: Datalist) -> None:
    if datalist.task != stage.task:
        raise InputError(
            f"{where} is for {stage.task}, its datalist {datalist.name} is for {datalist.task}",
            f"Name a datalist for {stage.task}",
        )
    if not datalist.training:
        raise InputError(f"{where}: its datalist {datalist.name} has no training entries", "Give training entries")
    if not stage.is_volumetric:
        return
    missing = [name for name in stage.channels if name not in datalist.channels]
    if missing:
        raise InputError(
            f"{where} needs the channel {', '.join(missing)}, its datalist {datalist.name} has "
            f"{', '.join(datalist.channels)}",
            "Name other channels in the chain",
        )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of everything in nested JSON data, as ``stages[1].training.steps``."""
    if isinstance(value, Mapping):
        parts = ((f"{name}.{key}".lstrip("."), item) for key, item in value.items())
    elif isinstance(value, list):
        parts = ((f"{name}[{index}]", item) for index, item in enumerate(value))
    else:
        yield name, value
        return
    yield from itertools.chain.from_iterable(_leaves(item, part) for part, item in parts)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})", "Name a new output folder") from error
