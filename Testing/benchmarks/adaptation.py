"""Adaptation to a new scanner: how much of the lost Dice one corrected case brings back, and how long it takes.

python Testing/benchmarks/adaptation.py [--quick] [--seeds 0 1 2] [--out FILE.json]

A model is trained on ordinary brain phantoms. Phantoms of a new scanner (other contrast, noise, shading and
spacing: ``XTLLib.data.phantoms.scanner``) cost it a part of its Dice. ``xtl adapt``, a process of its own, gets one
corrected case of that scanner; the model that comes out is measured on other phantoms of it, which nothing has
seen. For each seed another case is corrected. The lost Dice is that between ordinary and new phantoms of the same
anatomies before the adaptation; new phantoms have thicker slices and more noise, so that not all of it can come back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from results import Result, Row, table_of, write_results

NAME = "adaptation"
CHANNELS = ("FLAIR", "T1", "T2")
RECOVERY_TARGET, SECONDS_TARGET = 0.5, 180.0
_UNSEEN, _CORRECTED = 900, 500  # first seeds of the anatomies


@dataclass(frozen=True)
class Size:
    """How much is generated and trained.

    Attributes
    ----------
    spacing_mm : of the model. window : side of a training window, voxels.
    patients, steps : of the model's own training. adaptation : options of ``xtl adapt``.
    unseen : anatomies that are measured on.
    """

    spacing_mm: float
    window: int
    patients: int
    steps: int
    unseen: int
    adaptation: tuple[str, ...] = ()
    backbone: str = "mobilenet_v2"


FULL = Size(spacing_mm=2.0, window=48, patients=16, steps=150, unseen=4)
QUICK = Size(spacing_mm=4.0, window=32, patients=4, steps=60, unseen=2, adaptation=("--steps", "40"))


@dataclass(frozen=True)
class Recovery:
    """One adaptation.

    Attributes
    ----------
    ordinary, before, after : mean Dice on unseen anatomies: of ordinary phantoms, and of the new scanner's before
        and after the adaptation. ordinary_after : of ordinary phantoms afterwards, what was forgotten.
    seconds : of the process. said : what ``xtl adapt`` said of its held-out part.
    """

    ordinary: float
    before: float
    after: float
    ordinary_after: float
    seconds: float
    said: str

    @property
    def share(self) -> float:
        """Of the lost Dice that came back."""
        return (self.after - self.before) / (self.ordinary - self.before)


def train_model(folder: Path, size: Size) -> Path:
    """Train on ordinary phantoms -> the bundle."""
    from XTLLib.data.phantoms.write import Parts, write_brains
    from XTLLib.training.run import run_chain
    from XTLLib.transfer.chain import chain_from_dict

    write_brains(folder / "brains", Parts(size.patients), seed=5)
    target = {
        "kind": "target",
        "task": "segmentation",
        "datalist": str(folder / "brains" / "datalist.json"),
        "channels": list(CHANNELS),
        "spacing_mm": [size.spacing_mm] * 3,
        "window": [size.window] * 3,
        "threshold": 0.5,
        "minimum_volume_mm3": 20.0,
        "training": {
            "steps": size.steps,
            "batch_size": 2,
            "learning_rate": 6e-3,
            "encoder_rate": 1.0,
            "validation": 0,
        },
    }
    stages = [{"kind": "initialisation", "weights": "random"}, target]
    chain = chain_from_dict({"name": "phantoms", "backbone": size.backbone, "stages": stages})
    return run_chain(chain, folder / "run").bundle


def adapt_to_new_scanner(bundle: Path, folder: Path, size: Size, seed: int, replay: bool = False) -> Recovery:
    """Correct one case of the new scanner, run ``xtl adapt`` on it, and measure on cases that nothing has seen."""
    from XTLLib.data.images import write_volume
    from XTLLib.data.phantoms.brain import brain_case
    from XTLLib.data.phantoms.scanner import scanned_case

    corrected = scanned_case(_CORRECTED + seed, "corrected")
    place = folder / f"corrected-{seed}"
    place.mkdir()
    for name, volume in (*corrected.channels.items(), ("mask", corrected.mask)):
        write_volume(volume, place / f"{name}.nii")
    out = folder / f"adapted-{seed}"
    volumes = [f"--volume={name}={place / name}.nii" for name in CHANNELS]
    command = ["adapt", "--bundle", str(bundle), *volumes, "--mask", str(place / "mask.nii"), "--out", str(out)]
    options = ["--replay", str(folder / "brains" / "datalist.json")] if replay else []
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "XTLLib.cli", *command, *options, *size.adaptation, "--progress", "none"],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{NAME}: {done.stderr.strip()}")
    seeds = range(_UNSEEN, _UNSEEN + size.unseen)
    ordinary = [brain_case(number, "unseen") for number in seeds]
    new = [scanned_case(number, "unseen") for number in seeds]
    dice = {path: [_dice(path, cases) for cases in (ordinary, new)] for path in (bundle, out)}
    (ordinary_before, before), (ordinary_after, after) = dice[bundle], dice[out]
    return Recovery(ordinary_before, before, after, ordinary_after, seconds, done.stdout.strip().partition(": ")[2])


def _dice(bundle: Path, cases) -> float:
    """Mean Dice of cases as a user gets it, on their own grids at the bundle's threshold."""
    from XTLLib.bundle.load import load_bundle
    from XTLLib.inference.segment import segment_case
    from XTLLib.metrics.overlap import dice

    model = load_bundle(bundle)
    found = [segment_case(case, model, precision="float32").label.array > 0 for case in cases]
    return mean(dice(mask, case.mask.array) for mask, case in zip(found, cases))


def measure(argv: Sequence[str] | None = None) -> Result:
    """Run what the arguments ask for."""
    arguments = parser().parse_args(argv)
    size = QUICK if arguments.quick else FULL
    seeds = arguments.seeds if arguments.seeds is not None else ([0] if arguments.quick else [0, 1, 2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = train_model(folder, size)
        runs = {seed: adapt_to_new_scanner(bundle, folder, size, seed, arguments.replay) for seed in seeds}
    rows = []
    for seed, run in runs.items():
        share, seconds = f">= {RECOVERY_TARGET:.0%}", f"<= {SECONDS_TARGET:.0f} s"
        words = f"case {seed}: Dice {run.ordinary:.3f} ordinary, {run.before:.3f} -> {run.after:.3f} new"
        met = None if arguments.quick else run.share >= RECOVERY_TARGET
        rows.append(Row(f"{words}; brought back", "%", 100 * run.share, None, None, share, met))
        rows.append(Row(f"case {seed}: Dice on ordinary phantoms afterwards", "", run.ordinary_after))
        rows.append(
            Row(f"case {seed}: the process", "s", run.seconds, None, None, seconds, run.seconds <= SECONDS_TARGET)
        )
    details = {"size": asdict(size), "replay": arguments.replay, "runs": {s: asdict(run) for s, run in runs.items()}}
    return Result(NAME, tuple(rows), json.loads(json.dumps(details)))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a coarse model and few steps")
    options.add_argument("--out", type=Path, metavar="FILE.json")
    options.add_argument("--seeds", nargs="+", type=int, help="one adaptation each (default: 0 1 2)")
    options.add_argument("--replay", action="store_true", help="with the phantoms that the model was trained on")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    result = measure(argv)
    print(table_of(result.rows))
    out = parser().parse_args(argv).out
    if out is not None:
        write_results([result], out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
