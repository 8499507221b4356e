"""The command ``xtl compare``: lesions over time."""

from __future__ import annotations

import argparse
from pathlib import Path

from .errors import InputError
from .progress import Progress


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``xtl compare`` its arguments."""
    parser.add_argument(
        "--time",
        action="append",
        nargs=3,
        required=True,
        metavar=("NAME", "MASK", "FLAIR"),
        help="a time point: its name, its lesion mask (a file, or the result folder of xtl segment), and its FLAIR "
        "(a file or a DICOM series folder; - for none, with --no-register); repeat it, in order of time",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-register", action="store_true", help="trust the images' headers")
    parser.add_argument("--minimum-volume", type=float, metavar="MM3", help="smaller lesions are left out (default: 3)")
    parser.add_argument(
        "--relative", type=float, metavar="SHARE", help="change of volume that counts, as a share of it (default: 0.25)"
    )
    parser.add_argument("--absolute", type=float, metavar="MM3", help="and at least so much (default: 10)")
    parser.add_argument("--patient", default="patient", help="what to call the patient in the scene")


def compare(arguments: argparse.Namespace, progress: Progress) -> str:
    """Run the command; returns the closing sentence."""
    from .data.images import read_image
    from .files import check_output_folder
    from .inference.longitudinal import STATUSES, ChangeRules, TimePoint, compare_over_time
    from .scene.longitudinal_folder import write_longitudinal_folder

    check_output_folder(arguments.out)
    given = {
        "minimum_volume_mm3": arguments.minimum_volume,
        "relative": arguments.relative,
        "absolute_mm3": arguments.absolute,
    }
    rules = ChangeRules(**{name: value for name, value in given.items() if value is not None})
    names = [name for name, _, _ in arguments.time]
    if len(set(names)) < len(names):
        raise InputError(f"--time names {max(names, key=names.count)} twice", "Give each time point a name of its own")
    points = [
        TimePoint(name, read_image(_mask_file(mask)), None if image == "-" else read_image(image))
        for name, mask, image in arguments.time
    ]
    result = compare_over_time(points, rules, register=not arguments.no_register, progress=progress.part(0, 0.9))
    progress.report("Writing results", 0.9)
    write_longitudinal_folder(result, points, arguments.out, arguments.patient)
    progress.report("Done", 1.0)
    counts = ", ".join(f"{result.count(status)} {status}" for status in STATUSES)
    return f"{arguments.out}: {counts}. Research software, not a medical device."


def _mask_file(text: str) -> Path:
    path = Path(text)
    label_map = path / "labelmap.nii.gz"
    return label_map if label_map.is_file() else path
