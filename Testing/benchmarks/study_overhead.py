"""What a study takes beyond its trainings: 60 short runs on the processes that the cores have room for.

python Testing/benchmarks/study_overhead.py [--quick] [--out FILE.json] [--processes 2] [--epochs 10]

The command ``xtl study`` is timed as a whole, from its start to its end: imports, checks, processes, reading,
conversion, testing, bundles, report. Two arms on made-up patches, of which one has a mammogram stage that its folds
share; every run computes in one thread. The sum of trainings counts each trained stage once.

overhead = wall time x processes / sum of trainings - 1
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
from pathlib import Path
from typing import Any

import numpy as np
from results import Result, Row, table_of, write_results
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.phantoms.write import Parts, write_mammograms
from XTLLib.progress import Progress
from XTLLib.study.places import usable_cores

NAME = "study-overhead"
TARGET = 0.10
_CHANNELS = ("T2W", "ADC", "HBV", "KTRANS")


def write_study(folder: Path, patients: int, folds: int, seeds: int, epochs: int) -> Path:
    """Data, chain and study file in ``folder`` -> path of the study file."""
    import yaml

    rng = np.random.default_rng(0)
    patches = rng.uniform(0.3, 0.7, (patients, 4, 32, 32)).astype(np.float32)
    patches[1::2, 1, 10:22, 10:22] -= 0.1  # significant findings are darker on ADC
    np.savez(folder / "patches.npz", patches=patches, channels=np.array(["T2", "ADC", "BVAL", "KTRANS"]))
    images = dict.fromkeys(_CHANNELS, str(folder / "patches.npz"))
    entries = [Entry(f"p{n}", f"p{n}-1", images, n % 2, row=n) for n in range(patients)]
    kind = ("patches", "prostatex-patches", "classification")
    Datalist(*kind, _CHANNELS, "T2W", {"0": "no", "1": "yes"}, training=tuple(entries)).save(folder / "patches.json")
    write_mammograms(folder / "mammograms", Parts(16, 0), 0, Progress())
    training = {"batch_size": 16, "validation": 0}
    mammograms = {"kind": "intermediate", "task": "mammogram-classification", "image_size": 64}
    mammograms |= {"datalist": "mammograms/datalist.json", "training": {**training, "epochs": epochs}}
    target = {"kind": "target", "task": "classification", "datalist": "patches.json", "channels": list(_CHANNELS[:3])}
    target["training"] = {**training, "epochs": epochs}
    stages = [{"kind": "initialisation", "weights": "random"}, mammograms, target]
    chain = {"name": "short", "seed": 0, "backbone": "squeezenet1_0", "stages": stages}
    (folder / "chain.yaml").write_text(yaml.safe_dump(chain))
    arms = [{"name": "TL", "chain": "chain.yaml", "intermediate": False}, {"name": "XTL", "chain": "chain.yaml"}]
    study = {"name": "short runs", "datalist": "patches.json", "folds": folds, "seeds": list(range(seeds))}
    (folder / "study.yaml").write_text(yaml.safe_dump({**study, "arms": arms, "comparisons": [["XTL", "TL"]]}))
    return folder / "study.yaml"


def run(study: Path, out: Path, processes: int) -> float:
    """Wall seconds of the command."""
    command = [sys.executable, "-m", "XTLLib.cli", "study", str(study), "--out", str(out), "--device", "cpu"]
    command += ["--processes", str(processes), "--progress", "none"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


def seconds_of(out: Path) -> dict[str, Any]:
    """Seconds of all runs, and of every trained stage once."""
    outcomes = [json.loads(path.read_text()) for path in out.glob("runs/*/values.json")]
    stages = {key: seconds for outcome in outcomes for key, seconds in outcome["training"].items()}
    return {"runs": [outcome["seconds"] for outcome in outcomes], "stages": list(stages.values())}


def measure(argv: Sequence[str] = ()) -> Result:
    """Parse a command line, measure."""
    arguments = _arguments(argv)
    quick, processes = arguments.quick, arguments.processes
    sizes = (
        {"patients": 12, "folds": 2, "seeds": 1, "epochs": 1} if quick else {"patients": 100, "folds": 5, "seeds": 6}
    )
    sizes.setdefault("epochs", arguments.epochs)
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), **sizes)
        wall = run(study, Path(folder) / "out", processes)
        seconds = seconds_of(Path(folder) / "out")
    training, runs = sum(seconds["stages"]), sum(seconds["runs"])
    overhead = wall * processes / training - 1
    words = f"{len(seconds['runs'])} runs on {processes} processes"
    rows = (
        Row(
            f"overhead of {words}",
            "%",
            100 * overhead,
            target="" if quick else f"<= {TARGET:.0%}",
            met=None if quick else overhead <= TARGET,
        ),
        Row("  sum of trainings", "s", training),
        Row("  beside training, within runs", "s", runs - training),
        Row("  wall time x processes", "s", wall * processes),
    )
    return Result(NAME, rows, {**sizes, "processes": processes, "wall_s": wall, **seconds})


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four runs of one epoch")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--processes", type=int, default=usable_cores(), help="default: the cores")
    parser.add_argument("--epochs", type=int, default=10, help="of every stage, default 10: about 5 s a run")
    return parser.parse_args(argv)


def main() -> int:
    result = measure(sys.argv[1:])
    print(table_of(result.rows))
    out = _arguments(sys.argv[1:]).out
    if out is not None:
        write_results([result], out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
