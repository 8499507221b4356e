"""The command ``xtl adapt``: a trained bundle learns from corrected cases."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, XTLError

if TYPE_CHECKING:
    from .bundle.load import Bundle
    from .data.case import Case
    from .data.datalist import Datalist
    from .data.volume import Volume
    from .progress import Progress
    from .transfer.adaptation import Adaptation

PEFT_KINDS = ("norm", "none", "ssf", "bias", "adapters", "lora", "linear-probe")


def add_adapt_options(adapt: argparse.ArgumentParser) -> None:
    """Give the parser of ``xtl adapt`` its options."""
    adapt.add_argument("--bundle", type=Path, required=True, help="the segmentation bundle; it is not changed")
    adapt.add_argument(
        "--volume",
        action="append",
        default=[],
        metavar="CHANNEL=FILE",
        help="an image of the corrected case; repeat for every channel",
    )
    adapt.add_argument("--mask", type=Path, help="the corrected case's lesions; may lie on a grid of its own")
    adapt.add_argument(
        "--datalist",
        type=Path,
        metavar="CORRECTED.json",
        help="several corrected cases (its training and validation part), beside or instead of --volume and --mask",
    )
    adapt.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    adapt.add_argument(
        "--replay",
        type=Path,
        metavar="DATALIST.json",
        help="the source data: some of it is learned from again, and its validation patients say what was forgotten",
    )
    adapt.add_argument("--steps", type=int, help="of the optimiser (default: 100)")
    adapt.add_argument(
        "--peft",
        choices=PEFT_KINDS,
        help="what of the encoder learns beside the decoder (default: norm, its BatchNorm; none: all of it)",
    )
    adapt.add_argument("--settings", type=Path, metavar="FILE.yaml", help="the keys of transfer/adaptation.py")
    adapt.add_argument("--seed", type=int)
    adapt.add_argument("--name", help="of the adapted bundle (default: the bundle's with -adapted)")
    adapt.add_argument("--force", action="store_true", help="write the adapted bundle even when it is no better")
    adapt.add_argument(
        "--replace", action="store_true", help="let --out be an earlier bundle, such as the one that is adapted"
    )


def run_adapt(
    arguments: argparse.Namespace,
    progress_of: Callable[[argparse.Namespace], AbstractContextManager[Progress]],
    volumes_of: Callable[[Sequence[str]], dict[str, Volume]],
    say: Callable[[argparse.Namespace, str], None],
) -> None:
    """Adapt, and say what came of it: with JSON progress as a line ``{"type": "result", ...}``.

    Raises XTLError when the adapted model is no better, and so was not written.
    """
    from .bundle.load import load_bundle
    from .data.datalist import Datalist
    from .training.adapt import adapt_bundle

    bundle = load_bundle(arguments.bundle)
    bundle.require_task("segmentation")
    settings = _settings(arguments)
    corrected = None if arguments.datalist is None else Datalist.load(arguments.datalist)
    replay = None if arguments.replay is None else Datalist.load(arguments.replay)
    cases = [*_case(arguments, bundle, volumes_of), *_listed(corrected)]
    about = {} if corrected is None else {"data_name": corrected.name, "data_licence": corrected.licence}
    with progress_of(arguments) as progress:
        result = adapt_bundle(
            bundle,
            cases,
            arguments.out,
            settings=settings,
            replay=replay,
            progress=progress,
            device=arguments.device,
            force=arguments.force,
            overwrite=arguments.replace,
            name=arguments.name,
            **about,
        )
    if arguments.progress == "json":
        print(json.dumps({"type": "result", **result.to_dict()}), flush=True)
    if result.refused:
        raise XTLError(
            f"the adapted model is no better and was not written: {result}",
            "Correct more, give --replay or other --steps, or write it all the same with --force",
        )
    say(arguments, f"{arguments.out}: {result}. Research software, not a medical device.")


def _settings(arguments: argparse.Namespace) -> Adaptation:
    from .transfer.adaptation import Adaptation
    from .transfer.yaml_model import load_model, validate_model

    settings = Adaptation() if arguments.settings is None else load_model(arguments.settings, Adaptation, {})
    values = settings.model_dump(exclude_unset=True)
    training = dict(values.pop("training", {}))
    training |= {key: getattr(arguments, key) for key in ("steps", "peft") if getattr(arguments, key) is not None}
    values |= {} if arguments.seed is None else {"seed": arguments.seed}
    return validate_model({**values, "training": training}, Adaptation, "the adaptation")


def _case(
    arguments: argparse.Namespace, bundle: Bundle, volumes_of: Callable[[Sequence[str]], dict[str, Volume]]
) -> list[Case]:
    """The case of --volume and --mask, if there is one."""
    from .data.case import Case
    from .data.images import read_mask
    from .data.load import settle_on

    if not arguments.volume and arguments.mask is None:
        if arguments.datalist is None:
            raise InputError("no corrected case was given", "Give --volume and --mask, or --datalist")
        return []
    if arguments.mask is None or not arguments.volume:
        there, missing = ("--volume", "--mask") if arguments.mask is None else ("--mask", "--volume")
        raise InputError(f"{there} without {missing}", "A corrected case is its images and its mask: give both")
    case = Case("corrected", volumes_of(arguments.volume), bundle.reference)
    return [replace(case, mask=settle_on(read_mask(arguments.mask), case.grid))]


def _listed(datalist: Datalist | None) -> list[Case]:
    from .data.load import load_case

    if datalist is None:
        return []
    if datalist.task != "segmentation":
        raise InputError(f"the datalist {datalist.name} is for {datalist.task}", "Give cases with lesion masks")
    return [load_case(entry, datalist) for entry in (*datalist.training, *datalist.validation)]
