"""Five findings of a prostate study: from nothing, with a warm worker, after one was moved, and with evidence maps.

python Testing/benchmarks/classification.py [--quick] [--out FILE.json] [--rounds 5] [--backbone NAME] [--shape K J I]

cold      the worker's process started by it: imports, weights, the network made quick
warm      the same case again, all of its images sent and prepared anew
moved     one finding elsewhere, the images where the worker has them (a case key)
evidence  with Grad-CAM and occlusion of every finding
ensemble  five networks and four views; and one view with Grad-CAM and occlusion

T2W of 384 x 384 x 19 voxels, ADC and HBV of 84 x 128 x 19, noise in 16 bits, on oblique grids; the network's weights
are random. The time is that from the case to the result, in this process. Peak memory is that of a process of its own
that rates the case with evidence.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from results import Result, Row, table_of, write_results
from XTLLib.bundle.write import write_bundle
from XTLLib.child import ALLOCATOR
from XTLLib.data.case import Case, Finding
from XTLLib.data.patches import PatchSpec
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.stored_patches import STORED_SIZE_MM
from XTLLib.data.volume import Volume
from XTLLib.inference.client import InferenceWorker
from XTLLib.inference.evidence import EVIDENCE
from XTLLib.networks.build import build_network
from XTLLib.networks.spec import NetworkSpec

NAME = "classification"
CHANNELS = ("T2W", "ADC", "HBV")
WARM_S, EVIDENCE_S, PEAK_MIB = 1.0, 10.0, 3072.0
_MEMBERS, _VIEWS = 5, 4
_SMALLEST_VIEW = 96  # pixels to which training enlarges a patch
_KEY = "the benchmark's study"
_POLL_S = 0.002


def study(spacing_mm: float = 0.5) -> Case:
    """Noise on grids of ProstateX's usual shapes, with five findings some millimetres apart."""
    fine = box_grid((0.0, 0.0, 0.0), (192.0, 192.0, 57.0), (spacing_mm, spacing_mm, 3.0), "LPS", (15.0, 3.0, 0.0))
    coarse = box_grid((1.0, 2.0, 0.0), (168.0, 256.0, 57.0), (2.0, 2.0, 3.0), "LPS", (15.0, 3.0, 0.0))
    rng = np.random.default_rng(0)
    volumes = {
        name: Volume(rng.gamma(2.0, scale, grid.shape).astype(np.int16), grid, name)
        for name, grid, scale in zip(CHANNELS, (fine, coarse, coarse), (150, 600, 30))
    }
    findings = tuple(Finding(str(n + 1), (8.0 * n - 16.0, 5.0 - 4.0 * n, 3.0 * n - 6.0), "PZ") for n in range(5))
    return Case("benchmark", volumes, "T2W", findings=findings)


def bundle(folder: Path, backbone: str, shape: tuple[int, int, int], members: int, view: int = _SMALLEST_VIEW) -> Path:
    """An untrained ensemble on patches of the usual extents, enlarged to ``view`` pixels."""
    import torch

    spec = NetworkSpec(
        "classification",
        backbone,
        len(CHANNELS),
        "inflate",
        spacing_mm=(0.5, 0.5, 3.0),
        patch_shape=shape,
        input_scale=max(1.0, view / min(shape[1:])),
    )
    torch.manual_seed(0)
    first, *further = (build_network(spec).eval() for _ in range(members))
    thick = {name: (*STORED_SIZE_MM[name][:2], 3.0 * shape[0]) for name in CHANNELS}
    patches = PatchSpec(CHANNELS, shape, thick)
    return write_bundle(folder, first, spec, "classification", patches=patches, members=further, name=folder.name)


def seconds(worker: InferenceWorker, case: Case, path: Path, **options: Any) -> float:
    """From a case to its result."""
    began = time.perf_counter()
    job = worker.classify(case, path, **options)
    while not job.is_done:
        job.poll()
        time.sleep(_POLL_S)
    job.result()
    return time.perf_counter() - began


def rounds_of(case: Case, single: Path, ensemble: Path, count: int) -> list[dict[str, float]]:
    """Seconds of each way, in turns; every round has a process of its own."""
    moved = replace(case.findings[2], position_ras=(4.0, -3.0, 0.0))
    after = replace(case, findings=(*case.findings[:2], moved, *case.findings[3:]))
    runs = []
    for _ in range(count):
        worker = InferenceWorker()
        try:
            run = {"cold": seconds(worker, case, single, case_key=_KEY)}
            run["moved"] = seconds(worker, after, single, case_key=_KEY)
            run["warm"] = seconds(worker, case, single)
            run["grad-cam"] = seconds(worker, case, single, evidence=["grad-cam"])
            run["evidence"] = seconds(worker, case, single, evidence=list(EVIDENCE))
            worker.warm(ensemble).wait()
            run["ensemble"] = seconds(worker, case, ensemble, views=_VIEWS)
            run["ensemble, moved"] = _again(worker, after, ensemble)
            run["ensemble, evidence"] = seconds(worker, case, ensemble, evidence=list(EVIDENCE))
        finally:
            worker.close()
        runs.append(run)
    return runs


def _again(worker: InferenceWorker, case: Case, path: Path) -> float:
    seconds(worker, case, path, views=_VIEWS, case_key=_KEY)
    return seconds(worker, case, path, views=_VIEWS, case_key=_KEY)


def peak_mib(path: Path, spacing_mm: float) -> float:
    """Of a process that rates the case once, with evidence."""
    command = [sys.executable, str(Path(__file__)), "--peak-of", str(path), "--spacing", str(spacing_mm)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **ALLOCATOR})
    return float(json.loads(done.stdout.splitlines()[-1]))


def _tell_peak(path: Path, spacing_mm: float) -> None:
    from segmentation_worker import peak_mib as own_peak_mib
    from XTLLib.bundle.load import load_bundle
    from XTLLib.inference.classify import classify_case

    classify_case(study(spacing_mm), load_bundle(path), device="cpu", evidence=EVIDENCE)
    print(json.dumps(own_peak_mib()))


def measure(argv: Sequence[str] = ()) -> Result:
    """Parse a command line, measure."""
    arguments = _arguments(argv)
    quick = arguments.quick
    spacing_mm, rounds = (2.0, 1) if quick else (0.5, arguments.rounds)
    backbone = "squeezenet1_0" if quick else arguments.backbone
    case = study(spacing_mm)
    with tempfile.TemporaryDirectory() as folder:
        members, view = (2, 32) if quick else (_MEMBERS, _SMALLEST_VIEW)
        single = bundle(Path(folder) / "single", backbone, tuple(arguments.shape), 1, view)
        ensemble = bundle(Path(folder) / "ensemble", backbone, tuple(arguments.shape), members, view)
        runs = rounds_of(case, single, ensemble, rounds)
        peak = peak_mib(single, spacing_mm)
    limits = {} if quick else {"warm": WARM_S, "moved": WARM_S, "evidence": EVIDENCE_S}
    words = {
        "cold": "5 findings, cold",
        "warm": "5 findings, warm",
        "moved": "one of them moved, images kept",
        "grad-cam": "with Grad-CAM",
        "evidence": "with Grad-CAM and occlusion",
        "ensemble": f"{members} networks x {_VIEWS} views",
        "ensemble, moved": f"{members} networks x {_VIEWS} views, images kept",
        "ensemble, evidence": f"{members} networks, with Grad-CAM and occlusion",
    }
    rows = [_row(words[way], median(run[way] for run in runs), limits.get(way)) for way in words]
    met = None if quick else peak <= PEAK_MIB
    rows.append(Row("peak memory, with evidence", "MiB", peak, target=f"<= {PEAK_MIB:.0f} MiB", met=met))
    details = {"backbone": backbone, "patch": list(arguments.shape), "voxels": list(case.grid.shape), "runs": runs}
    return Result(NAME, tuple(rows), details)


def _row(what: str, value: float, limit: float | None) -> Row:
    met = None if limit is None else value <= limit
    return Row(what, "s", value, target="" if limit is None else f"<= {limit:g} s", met=met)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a coarse study, a small network, one round")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--shape", type=int, nargs=3, default=[1, 32, 32], metavar=("K", "J", "I"), help="of a patch")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spacing", type=float, default=0.5, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main() -> int:
    arguments = _arguments(sys.argv[1:])
    if arguments.peak_of is not None:
        _tell_peak(arguments.peak_of, arguments.spacing)
        return 0
    result = measure(sys.argv[1:])
    print(table_of(result.rows))
    if arguments.out is not None:
        write_results([result], arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
