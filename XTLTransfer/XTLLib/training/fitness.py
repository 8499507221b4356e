"""Whether the data of a chain's stages fit them: asked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.datalist import Datalist, Entry
from ..errors import InputError
from ..networks.acs import ACS_RULES
from ..transfer.chain import Chain
from ..transfer.stages import (
    MammogramClassification,
    SelfSupervised,
    TrainedStage,
)
from .mammograms import has_marks
from .policy import require_policy
from .specs import conversion_of
from .unlabelled_cases import unique_images

_FEWEST_SLICES = 3  # below, a rule that looks at neighbouring slices or along depth has nothing to look at
_DEEP_RULES = ("slice-stack", *ACS_RULES)


def require_fit(chain: Chain, datalists: Sequence[Datalist]) -> None:
    """Raise InputError, naming the stage and the datalist, unless every stage can learn from its datalist.

    Refused: a datalist for another task, without training entries, labels, classes or channels that the stage
    needs; images of another kind; volumes too thin for the conversion; layer groups that the backbone does not
    have; a patient of a stage's training among the validation or test patients of a later stage, or of its
    validation among later test patients.
    """
    for number, (stage, datalist) in enumerate(zip(chain.trained, datalists), 1):
        where = (
            f"stage {number} ({stage.task if stage.kind == 'intermediate' else stage.kind}) of the chain {chain.name}"
        )
        if not datalist.training:
            raise InputError(f"{where}: its datalist {datalist.name} has no training entries", "Give training entries")
        if isinstance(stage, SelfSupervised):
            _require_images(where, stage, datalist)
        else:
            _require_labels(where, stage, datalist)
        _require_channels(where, stage, datalist)
        try:
            require_policy(stage.training, chain.backbone)
        except InputError as error:
            raise InputError(f"{where}: {error.what}", error.remedy) from error
    volumetric = [stage for stage in chain.trained if stage.is_volumetric]
    depths = [(stage.patch.shape if hasattr(stage, "patch") else stage.window)[0] for stage in volumetric]
    require_depth(chain, f"the volumetric stages of the chain {chain.name} show", max(depths))
    for later in range(1, len(datalists)):
        for earlier in range(later):
            _require_no_leak(earlier + 1, datalists[earlier], later + 1, datalists[later])


def seen_before(earlier: Sequence[Datalist], used: Datalist) -> int:
    """How many validation patients of a stage, as it held them out, earlier stages may have learned from."""
    seen = [shared_patients(datalist, datalist.training, used, used.validation) for datalist in earlier]
    return max(seen, default=0)


def _require_labels(where: str, stage: TrainedStage, datalist: Datalist) -> None:
    if datalist.task == "unlabelled":
        raise InputError(
            f"{where} learns from labels, its datalist {datalist.name} has none",
            f"Name a datalist for {stage.task}, or make the stage self-supervised",
        )
    if datalist.task != stage.task:
        raise InputError(
            f"{where} is for {stage.task}, its datalist {datalist.name} is for {datalist.task}",
            f"Name a datalist for {stage.task}",
        )
    if not datalist.classes:
        return
    missing = [
        name
        for label, name in enumerate(datalist.classes)
        if not any(entry.label == label for entry in datalist.training)
    ]
    if missing:
        raise InputError(
            f"{where}: the training part of its datalist {datalist.name} has no entry of the class "
            f"{', '.join(missing)}",
            "Give entries of every class",
        )
    if isinstance(stage, MammogramClassification) and stage.region is not None:
        _require_regions(where, datalist)


def _require_regions(where: str, datalist: Datalist) -> None:
    if len(datalist.classes) > 2:
        raise InputError(
            f"{where} has a region, its datalist {datalist.name} has {len(datalist.classes)} classes",
            "Leave region out of the chain, or give a datalist of normal and abnormal films",
        )
    if not any(entry.label and has_marks(entry) for entry in datalist.training):
        raise InputError(
            f"{where} has a region, but no abnormality is marked in the training films of its datalist {datalist.name}",
            "Leave region out of the chain to train on whole breasts, or add circles_px or masks to the entries",
        )


def _require_images(where: str, stage: SelfSupervised, datalist: Datalist) -> None:
    if (stage.images == "mammograms") != datalist.has_mammograms:
        there = "mammograms" if datalist.has_mammograms else "volumes"
        other = "mammograms" if datalist.has_mammograms else "slices or volumes"
        raise InputError(
            f"{where} learns from {stage.images}, its datalist {datalist.name} has {there}",
            f"Set images to {other}, or name another datalist",
        )
    if any(entry.row is not None for entry in datalist.training):
        raise InputError(
            f"{where} learns from {stage.images}, its datalist {datalist.name} has patches in array files",
            "Name a datalist of volumes",
        )
    images = len(unique_images(datalist.training))
    if stage.method == "contrastive" and stage.images == "mammograms" and images < 2:
        raise InputError(
            f"{where} tells images from each other, its datalist {datalist.name} has one training image",
            "Give two or more",
        )


def _require_channels(where: str, stage: TrainedStage, datalist: Datalist) -> None:
    missing = [name for name in getattr(stage, "channels", ()) if name not in datalist.channels]
    if missing:
        raise InputError(
            f"{where} needs the channel {', '.join(missing)}, its datalist {datalist.name} has "
            f"{', '.join(datalist.channels)}",
            "Name other channels in the chain",
        )


def require_depth(chain: Chain, where: str, slices: int) -> None:
    """Refuse a rule for depth where no volume has any: every rule would give the same network.

    Parameters
    ----------
    where : begins the message, and ends in "show" or "have". slices : the most that a network sees at once.
    """
    rule = conversion_of(chain)
    if rule in _DEEP_RULES and slices < _FEWEST_SLICES:
        raise InputError(
            f"{where} no more than {slices} slice{'' if slices == 1 else 's'} for the conversion {rule}",
            f"Give a patch, window or volumes of {_FEWEST_SLICES} slices or more, or set the conversion to inflate",
        )


def _require_no_leak(first: int, earlier: Datalist, second: int, later: Datalist) -> None:
    pairs = (
        (earlier.training, later.validation + later.test, "training", "validation or test"),
        (earlier.validation, later.test, "validation", "test"),
    )
    for seen, held_back, was, now in pairs:
        shared = shared_patients(earlier, seen, later, held_back)
        if shared:
            raise InputError(
                f"{shared} {now} patient{' of' if shared == 1 else 's of'} stage {second} (datalist {later.name}) "
                f"{'is a' if shared == 1 else 'are'} {was} patient{'' if shared == 1 else 's'} of stage {first} "
                f"(datalist {earlier.name})",
                f"Take {'this patient' if shared == 1 else 'them'} out of stage {first}",
            )


def shared_patients(a: Datalist, of_a: Sequence[Entry], b: Datalist, of_b: Sequence[Entry]) -> int:
    """How many patients of ``of_b`` are among those of ``of_a``: by name within one data set, else by their images."""
    known = {entry.patient for entry in of_a} if (a.layout, a.name) == (b.layout, b.name) else set()
    images = {image for entry in of_a for image in _images(entry)}
    return len({entry.patient for entry in of_b if entry.patient in known or images.intersection(_images(entry))})


def _images(entry: Entry) -> set[tuple[str, int | None]]:
    return {(path, entry.row) for path in entry.images.values()}
