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
from ..files import atomic_file, remove_drafts
from ..transfer.chain import Chain
from ..transfer.provenance import ChainRecord, configuration_of
from .fitness import require_fit
from .folds import OUT_OF_FOLD


class RunFolder:
    """``out`` of a chain: ``chain.json``, ``stages/``, ``metrics.json``, ``bundle/``.

    Of a target with folds also ``out_of_fold.tsv``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bundle = path / "bundle"
        self.out_of_fold = path / OUT_OF_FOLD

    def stage(self, index: int, kind: str) -> Path:
        """The folder of a stage, counted from the initialisation, which is 0."""
        return self._path / "stages" / f"{index:02d}-{kind}"

    def begin(self, chain: Chain, datalists: list[Datalist], resume: bool) -> None:
        """Note down what is run here.

        Raises InputError when the folder is in use, or when it holds another chain than the one to resume.
        """
        path = self._path
        content = [replace(datalist, test=()).content_hash() for datalist in datalists]
        asked = {**_asked(chain), "content": content}
        if path.is_file():
            raise InputError(f"the output folder {path} is a file", "Name a folder")
        begun = path / "chain.json"
        if resume and path.is_dir():
            for folder in (path, *path.glob("stages/*/")):
                remove_drafts(folder)  # of a run that was killed
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

    def require_begun(self, chain: Chain) -> None:
        """Raise InputError unless this very chain was begun here; its data are left to ``begin``, which reads them."""
        begun = _read_json(self._path / "chain.json")
        self._require_same({key: value for key, value in begun.items() if key != "content"}, _asked(chain))

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


def load_datalists(
    chain: Chain, target_datalist: Datalist | None, in_place_of: Mapping[str, Datalist] | None = None
) -> list[Datalist]:
    """The datalist of every stage after the initialisation, each fit for its stage.

    ``in_place_of``: path of an intermediate stage's datalist -> what it learns from instead.
    Raises InputError when a datalist does not fit its stage, see ``fitness.require_fit``.
    """
    given = in_place_of or {}
    paths = [stage.datalist for stage in chain.intermediates]
    datalists = [given[path] if path in given else Datalist.load(path) for path in paths]
    datalists.append(target_datalist if target_datalist is not None else Datalist.load(chain.target.datalist))
    require_fit(chain, datalists)
    return datalists


def _asked(chain: Chain) -> dict[str, Any]:
    """What is noted down of a chain."""
    whole = ("name", "seed", "backbone", "conversion", "input_channels", "slice_pooling")
    stages = [configuration_of(stage) for stage in chain.stages]
    return {**{key: getattr(chain, key) for key in whole}, "stages": stages}


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
