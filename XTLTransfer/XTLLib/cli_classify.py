"""The command ``xtl classify``: the findings of one case, or of every study of a datalist."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_arguments import add_identity_option, read_volumes
from .errors import InputError
from .progress import Progress

if TYPE_CHECKING:
    from .bundle.load import Bundle
    from .data.case import Case, Finding

Say = Callable[[str], None]

_CLOSING = "Research software, not a medical device."
_EVIDENCE = ("grad-cam", "occlusion")
# What speaks of one case, by the names in the parsed arguments.
_OF_ONE_CASE = {
    "findings": "--findings",
    "patient": "--patient",
    "zones": "--zones",
    "zone_labels": "--zone-labels",
    "ktrans": "--ktrans",
}


def add_classify_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``xtl classify`` its arguments."""
    parser.add_argument(
        "--bundle", type=Path, action="append", required=True, help="repeat it: the bundles rate as one ensemble"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--study", type=Path, metavar="FOLDER", help="of DICOM files in any arrangement, or of a PI-CAI triple of .mha"
    )
    what.add_argument(
        "--volume",
        action="append",
        metavar="CHANNEL=FILE",
        help="an image file or DICOM series folder (FOLDER#4 takes series 4 of several); repeat for every channel",
    )
    what.add_argument(
        "--datalist",
        type=Path,
        metavar="CASES.json",
        help="rate all its findings, each study in a folder of its own",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="with --datalist: pass over studies that are finished")
    parser.add_argument(
        "--findings",
        type=Path,
        help="CSV with ProxID,fid,pos,zone (pos in LPS mm) or finding,r,a,s,zone (RAS mm); points placed in Slicer "
        "(.mrk.json, .fcsv); or a lesion mask, each region of which is a finding",
    )
    parser.add_argument("--patient", help="the patient's rows in a findings CSV of several; also names submission.csv")
    parser.add_argument("--zones", type=Path, metavar="MASK", help="zonal mask: tells the zone of findings without one")
    parser.add_argument("--zone-labels", metavar="1=PZ,2=TZ", help="what labels of --zones mean (default: PI-CAI's)")
    parser.add_argument("--ktrans", type=Path, metavar="FILE.mhd", help="with --study: the map, if it lies elsewhere")
    parser.add_argument("--views", type=int, metavar="N", help="mean of N slightly moved views (default: 1)")
    parser.add_argument(
        "--evidence",
        action="append",
        nargs="?",
        const=_EVIDENCE[0],
        choices=_EVIDENCE,
        help="maps of what each rating rests on; without a word grad-cam, repeat it for both",
    )
    parser.add_argument(
        "--operating-point", metavar="NAME", help="which of the bundle's thresholds gives the class (default: Youden)"
    )
    add_identity_option(parser)


def classify(arguments: argparse.Namespace, progress: Progress, say: Say) -> tuple[str, list[str]]:
    """Run the command; returns the closing sentence, and a line for every study that failed.

    Parameters
    ----------
    say : gets, a line each, what was chosen of a study and why, and what is to be known of the result.
    """
    from .bundle.load import load_bundle
    from .files import check_output_folder

    asked = {
        "views": arguments.views,
        "evidence": tuple(dict.fromkeys(arguments.evidence)) if arguments.evidence else None,
        "operating_point": arguments.operating_point,
    }
    options = {"device": arguments.device, **{name: value for name, value in asked.items() if value is not None}}
    _require_fitting(arguments)
    if arguments.datalist is None:
        check_output_folder(arguments.out)
    bundles = [load_bundle(path) for path in arguments.bundle]
    for bundle in bundles:
        bundle.require_task("classification")
        if arguments.operating_point is not None and bundle.calibration is None:
            raise InputError(f"the bundle {bundle.name} has no operating points", "Take --operating-point out")
    run = _one_case if arguments.datalist is None else _cases
    return run(arguments, bundles, options, progress, say)


def _one_case(
    arguments: argparse.Namespace, bundles: list[Bundle], options: dict[str, Any], progress: Progress, say: Say
) -> tuple[str, list[str]]:
    from .inference.classify import classify_case
    from .scene.folder import write_result_folder
    from .transfer.summary import summarise_chain

    case = _read_case(arguments, bundles[0].reference, say)
    ensemble = bundles[0] if len(bundles) == 1 else bundles
    result = classify_case(case, ensemble, **options, progress=progress.part(0, 0.9))
    progress.report("Writing results", 0.9)
    write_result_folder(
        result,
        arguments.out,
        chain=summarise_chain(bundles[0].provenance),
        proxid=arguments.patient,
        keep_identity=arguments.keep_identity,
    )
    progress.report("Done", 1.0)
    for note in dict.fromkeys((*result.notes, *(said for rated in result.findings for said in rated.warnings))):
        say(note)
    rated = "1 finding" if len(result.findings) == 1 else f"{len(result.findings)} findings"
    return f"{arguments.out}: {rated} rated. {_CLOSING}", []


def _cases(
    arguments: argparse.Namespace, bundles: list[Bundle], options: dict[str, Any], progress: Progress, say: Say
) -> tuple[str, list[str]]:
    from .data.datalist import Datalist
    from .inference.classify_batch import classify_cases
    from .scene.folder import write_result_folder
    from .transfer.summary import summarise_chain

    datalist = Datalist.load(arguments.datalist, check_files=False)  # a file that is missing fails its study only
    write = partial(
        write_result_folder, chain=summarise_chain(bundles[0].provenance), keep_identity=arguments.keep_identity
    )
    cohort = classify_cases(
        datalist, bundles, arguments.out, write, resume=arguments.resume, progress=progress, **options
    )
    if cohort.accuracy is not None:
        area = cohort.accuracy.auc
        say(f"AUC {area.auc:.3f} ({area.level:.0%} interval {area.low:.3f} to {area.high:.3f}), see report.png")
    done = len(cohort.rows) - len(cohort.failed)
    words = f"{arguments.out}: {len(cohort.findings)} findings of {done} of {len(cohort.rows)} studies rated"
    return f"{words}, see findings.tsv. {_CLOSING}", [f"case {row.case}: {row.error}" for row in cohort.failed]


def _read_case(arguments: argparse.Namespace, reference: str, say: Say) -> Case:
    from .data.case import Case
    from .data.prostate_study import read_prostate_study

    findings = _read_findings(arguments, say)
    if arguments.volume is not None:
        return Case("case", read_volumes(arguments.volume), reference, findings=findings)
    study = read_prostate_study(arguments.study, findings=findings, ktrans=arguments.ktrans)
    _require_same_patient(arguments, study.patient)
    for choice in study.choices:
        say(choice)
    return replace(study.case, reference=reference)


def _require_same_patient(arguments: argparse.Namespace, of_images: str) -> None:
    """Raise InputError when the table of findings has the images' patient, too, and another one was named.

    A patient may be called otherwise in images and tables: that alone says nothing.
    """
    from .data.findings import patients_of

    if arguments.patient not in (None, of_images) and of_images in patients_of(arguments.findings):
        raise InputError(
            f"the images in {arguments.study} are of another patient of the table {arguments.findings} than --patient "
            "names",
            "Name the patient of these images, or the folder of that patient",
        )


def _read_findings(arguments: argparse.Namespace, say: Say) -> tuple[Finding, ...]:
    from .data.findings import read_findings
    from .data.images import read_volume
    from .data.zones import guess_zones, parse_zone_mapping

    mapping = parse_zone_mapping(arguments.zone_labels) if arguments.zone_labels else None
    findings = read_findings(arguments.findings, patient=arguments.patient)
    if arguments.zones is None:
        return findings
    told = guess_zones(findings, read_volume(arguments.zones), mapping)
    for note in told.notes:
        say(note)
    return told.findings


def _require_fitting(arguments: argparse.Namespace) -> None:
    """Raise InputError for options that go with another kind of input."""
    given = [option for name, option in _OF_ONE_CASE.items() if getattr(arguments, name) is not None]
    if arguments.datalist is not None and given:
        raise InputError(f"{given[0]} speaks of one case, and --datalist names many", f"Take {given[0]} out")
    if arguments.datalist is None and arguments.findings is None:
        raise InputError("--findings is missing", "Name a table, a point list of Slicer or a lesion mask")
    if arguments.datalist is None and arguments.resume:
        raise InputError("--resume goes on with the studies of a datalist", "Take it out, or give --datalist")
    if arguments.ktrans is not None and arguments.study is None:
        raise InputError("--ktrans goes with --study", "Write --volume KTRANS=FILE.mhd")
    if arguments.zone_labels is not None and arguments.zones is None:
        raise InputError("--zone-labels without --zones", "Name the zonal mask as well")
