"""A chain in one line, for lists of models and reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .provenance import ADAPTATION, ChainRecord

_TASKS = {
    "segmentation": "segmentation",
    "classification": "classification",
    "mammogram-segmentation": "mammogram segmentation",
    "mammogram-classification": "mammogram classification",
    "self-supervised": "self-supervised",
}
_ORGANS = {"segmentation": "MS ", "classification": "prostate "}  # of a target stage
_STARTS = {"random": "random", "frozen-random": "random, kept frozen", "imagenet": "ImageNet (torchvision)"}
_SCORES = ("Dice", "AUC", "accuracy")
_LONGEST_WORD = 60


def summarise_chain(record: ChainRecord | Mapping[str, Any]) -> str:
    """A chain's stages in one line, "" when none is recorded.

    For example "ImageNet (torchvision) -> MIAS cancer, 132 patients, AUC 0.71 (0.62 to 0.79) -> MS
    segmentation, 2 patients, Dice 0.64". The number of patients is that of the whole datalist.

    Parameters
    ----------
    record : or the content of ``configs/chain.json``, which may be somebody else's: what is not as it should
        be is left out, and nothing that a terminal would obey is passed on.
    """
    data = record.to_dict() if isinstance(record, ChainRecord) else record
    stages = data.get("stages")
    words = [_stage(stage) for stage in stages if isinstance(stage, Mapping)] if isinstance(stages, list) else []
    return " -> ".join(words)


def plain(text: Any, longest: int = _LONGEST_WORD) -> str:
    """A text of a foreign file as it may be shown: one line, no control characters, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def _stage(stage: Mapping[str, Any]) -> str:
    if stage.get("kind") == "initialisation":
        return _start(stage)
    return ", ".join([_title(stage), *_patients(stage), *_score(stage)])


def _start(stage: Mapping[str, Any]) -> str:
    configuration, source = _mapping(stage, "configuration"), _mapping(stage, "source")
    weights = configuration.get("weights")
    if isinstance(weights, str) and weights in _STARTS:
        return _STARTS[weights]
    name = weights or source.get("source")
    return plain(name) if name else "weights not recorded"


def _title(stage: Mapping[str, Any]) -> str:
    kind, task = plain(stage.get("kind", "stage")), stage.get("task")
    configuration, datalist = _mapping(stage, "configuration"), _mapping(stage, "datalist")
    words = _TASKS.get(task) if isinstance(task, str) else None
    name = plain(datalist.get("name", ""))
    if words is None:
        return f"{name} {kind}".strip()
    if kind == ADAPTATION:
        return f"{name} adaptation".strip()
    if kind == "target":
        return f"{_ORGANS.get(task, '')}{words}"
    if task == "self-supervised":
        words = f"{plain(configuration.get('method', ''))} {words}".strip()
    elif task == "mammogram-classification":
        words = _what_is_told_apart(configuration, datalist) or words
    return f"{name} {words}".strip()


def _what_is_told_apart(configuration: Mapping[str, Any], datalist: Mapping[str, Any]) -> str:
    """The class of interest of two, or how many classes there are."""
    labels = _mapping(datalist, "labels")
    classes = [plain(value) for value in labels.values()]
    if configuration.get("region") is not None:
        return "abnormal regions"
    if len(classes) > 2:
        return f"{len(classes)} classes"
    return classes[1] if len(classes) == 2 else ""


def _patients(stage: Mapping[str, Any]) -> Iterator[str]:
    count = _mapping(stage, "datalist").get("patients")
    if isinstance(count, int):
        yield f"{count} patient{'' if count == 1 else 's'}"


def _score(stage: Mapping[str, Any]) -> Iterator[str]:
    """The figure that says most: a held-out Dice or AUC."""
    metrics = _mapping(stage, "metrics")
    for score in _SCORES:
        for name, figure in metrics.items():
            if str(name).lower().split()[-1:] != [score.lower()]:
                continue
            value = figure.get("value") if isinstance(figure, Mapping) else figure
            if isinstance(value, (int, float)):
                bounds = (figure.get("low"), figure.get("high")) if isinstance(figure, Mapping) else (None, None)
                known = all(isinstance(bound, (int, float)) for bound in bounds)
                yield f"{score} {value:.2f}" + (f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if known else "")
                return


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}
