"""The command ``xtl segment``: the lesions of one case, or of every case of a datalist."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .cli_arguments import add_identity_option, read_volumes
from .errors import InputError
from .progress import Progress

if TYPE_CHECKING:
    from .bundle.load import Bundle

_CLOSING = "Research software, not a medical device."


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``xtl segment`` its arguments."""
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        required=True,
        help="repeat it: the mean of the bundles' probabilities, and their disagreement as an uncertainty",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--volume",
        action="append",
        metavar="CHANNEL=FILE",
        help="an image file or DICOM series folder (FOLDER#4 takes series 4 of several); repeat for every channel",
    )
    what.add_argument(
        "--datalist", type=Path, metavar="CASES.json", help="segment every case of it, each into a folder of its own"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="with --datalist: pass over the cases that are finished")
    parser.add_argument("--threshold", type=float, help="probability from which a voxel counts (default: the bundle's)")
    parser.add_argument(
        "--minimum-volume", type=float, metavar="MM3", help="smallest lesion kept, mm3 (default: the bundle's)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the arithmetic; float32 gives the same figures on every machine",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="openvino (when installed) is compared with torch on this model before it is used",
    )
    parser.add_argument(
        "--mirror", action="store_true", help="mean of all mirrored views: eight times the time, and an uncertainty"
    )
    parser.add_argument(
        "--register", action="store_true", help="bring every channel onto the reference by a rigid registration first"
    )
    parser.add_argument(
        "--bias-correction",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="N4 before normalisation (default: as in the bundle's training)",
    )
    parser.add_argument(
        "--mask",
        metavar="BRAIN.nii.gz",
        help="brain mask: lesions are reported within it only; the word auto makes one by the built-in method",
    )
    parser.add_argument(
        "--tissue",
        metavar="ASEG.nii.gz",
        help="tissue segmentation (FreeSurfer's numbers) on any grid: each lesion gets its place in the brain",
    )
    parser.add_argument("--tissue-labels", metavar="FILE.json", help="what the numbers of --tissue stand for")
    add_identity_option(parser)


def segment(arguments: argparse.Namespace, progress: Progress) -> tuple[str, list[str]]:
    """Run the command; returns the closing sentence, and a line for every case that failed."""
    from .bundle.load import load_bundle
    from .files import check_output_folder

    options = {
        "threshold": arguments.threshold,
        "minimum_volume_mm3": arguments.minimum_volume,
        "device": arguments.device,
        "precision": arguments.precision,
        "engine": arguments.engine,
        "mirror": arguments.mirror,
        "register": arguments.register,
        "bias_correction": arguments.bias_correction,
        "brain_mask": "auto" if arguments.mask == "auto" else "given",
    }
    if arguments.datalist is None:
        check_output_folder(arguments.out)
    bundles = [load_bundle(path) for path in arguments.bundle]
    for bundle in bundles:
        bundle.require_task("segmentation")
    run = _one_case if arguments.datalist is None else _cases
    return run(arguments, bundles, options, progress)


def _one_case(
    arguments: argparse.Namespace, bundles: list[Bundle], options: dict, progress: Progress
) -> tuple[str, list[str]]:
    from .data.case import Case
    from .data.images import read_image, read_mask
    from .inference.ensemble import segment_by
    from .inference.location import FREESURFER, read_tissue_labels, with_locations
    from .scene.folder import write_result_folder
    from .transfer.summary import summarise_chain

    if arguments.resume:
        raise InputError("--resume goes on with the cases of a datalist", "Take it out, or give --datalist")
    brain = read_mask(arguments.mask) if arguments.mask not in (None, "auto") else None
    if arguments.tissue_labels and not arguments.tissue:
        raise InputError("--tissue-labels without --tissue", "Name the tissue segmentation as well")
    labels = read_tissue_labels(arguments.tissue_labels) if arguments.tissue_labels else FREESURFER
    tissue = read_image(arguments.tissue) if arguments.tissue else None
    case = Case("case", read_volumes(arguments.volume), bundles[0].reference, brain=brain)
    result = segment_by(case, bundles, **options, progress=progress.part(0, 0.9))
    if tissue is not None:
        result = with_locations(result, tissue, labels)
    progress.report("Writing results", 0.9)
    chain = summarise_chain(bundles[0].provenance)
    write_result_folder(result, arguments.out, chain=chain, keep_identity=arguments.keep_identity)
    progress.report("Done", 1.0)
    total = sum(lesion.volume_mm3 for lesion in result.lesions)
    found = "1 lesion" if len(result.lesions) == 1 else f"{len(result.lesions)} lesions"
    lines = [f"{arguments.out}: {found}, {total:.0f} mm3. {_CLOSING}"]
    return "\n".join([*lines, *(f"note: {note}." for note in result.notes)]), []


def _cases(
    arguments: argparse.Namespace, bundles: list[Bundle], options: dict, progress: Progress
) -> tuple[str, list[str]]:
    from .data.datalist import Datalist
    from .inference.batch import segment_cases
    from .scene.folder import write_result_folder
    from .transfer.summary import summarise_chain

    if arguments.tissue:
        raise InputError("--tissue names one file for all cases of a datalist", "Take it out")
    if arguments.mask not in (None, "auto"):
        raise InputError("--mask names one file for all cases of a datalist", "Write --mask auto, or take it out")
    datalist = Datalist.load(arguments.datalist, check_files=False)  # a file that is missing fails its case only
    write = partial(
        write_result_folder, chain=summarise_chain(bundles[0].provenance), keep_identity=arguments.keep_identity
    )
    batch = segment_cases(
        datalist, bundles, arguments.out, write, resume=arguments.resume, progress=progress, **options
    )
    done = len(batch.rows) - len(batch.failed)
    words = f"{arguments.out}: {done} of {len(batch.rows)} cases segmented, see summary.tsv. {_CLOSING}"
    return words, [f"case {row.case}: {row.error}" for row in batch.failed]
