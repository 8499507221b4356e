"""Adaptation: a trained bundle learns from a few corrected cases of another scanner or another rater.

There is no resume: an adaptation takes minutes, and one that is stopped or killed leaves nothing behind.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.load import Bundle, load_bundle
from ..data.case import Case
from ..errors import Cancelled, InputError
from ..files import check_output_folder
from ..inference.device import pick_device
from ..networks.segmentation import SegmentationNetwork
from ..progress import Progress
from ..transfer.adaptation import Adaptation
from ..transfer.provenance import StageRecord, today_utc
from .adapt_cases import prepare_corrected
from .adapt_measure import best_threshold, figures_of, predict_parts
from .adapt_outcome import AdaptationOutcome, PartFigures
from .adapt_record import chain_of, data_record, stage_record, write_adapted
from .adapt_replay import Replay, read_replay
from .adapt_split import Part, Split, split_cases
from .adapt_task import AdaptTask
from .engine import Engine, Fit
from .seeds import derive
from .volumes import require_values_for_batchnorm

if TYPE_CHECKING:
    import torch

    from ..data.datalist import Datalist

_WINDOW = (48, 48, 48)  # of a bundle that does not name its own
_NEVER_S = float("inf")
_HELD_OUT, _SOURCE = "Measuring on the held-out part", "Measuring on the source data"


@dataclass(frozen=True)
class AdaptationResult(AdaptationOutcome):
    """An outcome, with the stage as it stands in the adapted bundle's chain (``record``; None when refused)."""

    record: StageRecord | None = None


def adapt_bundle(
    bundle: Bundle | str | os.PathLike,
    cases: Sequence[Case],
    out: str | os.PathLike,
    *,
    settings: Adaptation | None = None,
    replay: Datalist | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "auto",
    force: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    data_name: str = "corrected cases",
    data_licence: str = "",
) -> AdaptationResult:
    """Add an adaptation stage to a segmentation bundle.

    A part of the corrected cases is held out (see ``adapt_split``). A copy of the network learns from the rest and
    is compared on the held-out part with the network that came in, both at the bundle's threshold: nothing was
    chosen on that part before the two figures are taken. Where the copy is no better, nothing is written.

    Otherwise, with ``settings.refit``, a fresh copy learns from all of the cases: of a single corrected case half
    of the lesions would else be lost for learning. The figures stay those of the first copy, which saw less; the
    record says so. The threshold is chosen on the held-out part where whole patients were held out, or where the
    first copy is the one that is written; else the bundle's is kept.

    Parameters
    ----------
    bundle : a segmentation bundle, or its folder; it stays as it is.
    cases : with masks; outside a mask's grid there is no lesion.
    out : folder of the adapted bundle.
    replay : a segmentation datalist of the source data: some of its training cases are learned from again, and
        its validation patients (or some that are held out) say what was forgotten.
    progress : told about every step; a cancel leaves nothing behind.
    force : write the adapted bundle also when it is no better, or when nothing can be held out.
    overwrite : ``out`` may be an earlier output of XTL, the bundle itself included.
    name : of the adapted bundle; default: the bundle's with ``-adapted``.
    data_name, data_licence : of the corrected cases, for the record; no patient's name.

    Raises
    ------
    InputError : a bundle for another task, ``out`` in use, bad cases or masks (see ``adapt_cases``), or lesions in
        one place only, so that nothing can be held out.
    Cancelled : as the progress says.
    """
    began, started = time.monotonic(), today_utc()
    settings, progress = settings or Adaptation(), progress or Progress()
    out = Path(out).absolute()
    _require_free(out, overwrite)
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    bundle.require_task("segmentation")
    chain, trainer = chain_of(bundle), _Trainer(bundle, settings, pick_device(device))

    corrected = prepare_corrected(cases, bundle.preparation, progress.part(0, 0.04))
    if replay is not None:
        trainer.source = read_replay(replay, bundle, settings, progress.part(0.04, 0.1))
    split = split_cases(corrected, settings)
    if split is None and not force:
        raise InputError(
            "the corrected lesions lie in one place, so that nothing can be held out to say whether the model "
            "becomes better",
            "Correct a second case, or adapt without figures with --force",
        )
    whole = tuple(Part(case, case.whole) for case in corrected)
    refits = settings.refit and split is not None
    middle = 0.53 if refits else 0.9

    original = trainer.original()
    before = predict_parts(original, split.held_out, progress.part(0.1, 0.13), _HELD_OUT) if split else []
    source_before = trainer.on_source(original, bundle.threshold, progress.part(0.13, 0.15))
    adapted, fit = trainer.fit(split.learned if split else whole, progress.part(0.15, middle))
    after = predict_parts(adapted, split.held_out, progress.part(middle, middle + 0.03), _HELD_OUT) if split else []

    figures_before, figures_after = trainer.figures(before), trainer.figures(after)
    is_worse = split is not None and not _is_better(figures_after, figures_before)
    refused = is_worse and not force
    # The threshold that suits a network of half a head need not suit the one of the whole head that takes its
    # place: on phantoms it cost up to 0.4 of Dice on other heads. That of the bundle is kept then.
    chooses = split is not None and not refused and (split.of_patients or not refits)
    threshold = best_threshold(after, bundle.threshold) if chooses else bundle.threshold
    if refits and not refused:
        adapted, fit = trainer.fit(whole, progress.part(middle + 0.03, 0.95))
    source_after = trainer.on_source(adapted, threshold, progress.part(0.95, 0.98))

    outcome = AdaptationOutcome(
        None if refused else out,
        figures_before,
        figures_after,
        split.words if split else "",
        refused,
        bundle.threshold,
        threshold,
        source_before,
        source_after,
        time.monotonic() - began,
        _notes(split, is_worse and force, refits and not refused, not chain.stages),
    )
    record = None
    progress.report("Writing the bundle", 0.98)
    if not refused:
        data = data_record(cases, split, bundle.channels, data_name, data_licence)
        record = stage_record(bundle, adapted, settings, data, trainer.source, outcome, fit, trainer.device, started)
        write_adapted(bundle, adapted.cpu(), chain.with_adaptation(record), outcome, name)
    with suppress(Cancelled):  # too late: what there was to do is done
        progress.report("Not adapted: no better than before" if refused else "Adapted", 1.0)
    return AdaptationResult(**outcome.__dict__, record=record)


@dataclass
class _Trainer:
    """Trains copies of a bundle's network and looks at them. ``source`` : data to be replayed, if there are any."""

    bundle: Bundle
    settings: Adaptation
    device: torch.device
    source: Replay | None = None

    def original(self) -> SegmentationNetwork:
        """A copy of the bundle's network."""
        return copy.deepcopy(self.bundle.network()).to(self.device)

    def fit(self, parts: Sequence[Part], progress: Progress) -> tuple[SegmentationNetwork, Fit]:
        """A copy that learns from parts of the corrected cases, always with the same draws."""
        settings, network = self.settings, self.original()
        seed = derive(settings.seed, settings.kind)
        task = AdaptTask(
            [part.case.source(part.box) for part in parts],
            () if self.source is None else self.source.sources,
            settings.window or self.bundle.spec.patch_shape or _WINDOW,
            settings,
            seed,
        )
        require_values_for_batchnorm(task.window, network.size_multiple, settings.training.batch_size)
        with tempfile.TemporaryDirectory(prefix="xtl-adapt-") as folder:
            engine = Engine(
                network,
                task,
                settings.training,
                seed=seed,
                folder=Path(folder),
                key=settings.kind,
                device=self.device,
                progress=progress,
                title="Adapting",
                checkpoint_every_s=_NEVER_S,
            )
            return network, engine.run(resume=False)

    def figures(self, predictions: Sequence, threshold: float | None = None) -> PartFigures | None:
        """At a threshold (default: the bundle's); None without predictions."""
        threshold = self.bundle.threshold if threshold is None else threshold
        return figures_of(predictions, threshold, self.bundle.minimum_volume_mm3) if predictions else None

    def on_source(self, network: SegmentationNetwork, threshold: float, progress: Progress) -> PartFigures | None:
        """Figures on held-out source data; None where there are none."""
        parts = () if self.source is None else self.source.held_out
        return self.figures(predict_parts(network, parts, progress, _SOURCE), threshold)


def _is_better(after: PartFigures, before: PartFigures) -> bool:
    return float(after.dice) > float(before.dice)


def _require_free(out: Path, overwrite: bool) -> None:
    check_output_folder(out)
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise InputError(f"the output folder {out} is in use", "Name a new one, or replace it with --replace")


def _notes(split: Split | None, was_forced: bool, was_refitted: bool, is_unrecorded: bool) -> tuple[str, ...]:
    notes = []
    if split is None:
        notes.append("nothing could be held out: whether the model became better is not known")
    else:
        notes.append(f"held out: {split.words}; both held-out figures are at the threshold of the incoming model")
    if was_forced:
        notes.append(
            "on the held-out part the adapted model is no better than the incoming one; it was written by force"
        )
    if was_refitted:
        notes.append(
            "the weights learned from all corrected cases after the figures were taken of weights that had not seen "
            "the held-out part"
        )
    if is_unrecorded:
        notes.append("what the weights went through before is not recorded")
    return tuple(notes)
