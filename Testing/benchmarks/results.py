"""What a benchmark gives: rows of a table, and a JSON file with the facts of the machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes
    ----------
    what : what is compared, with whom. unit : of ``ours`` and ``peer``.
    ours, peer : medians; ``peer`` None where a figure of ours stands by itself.
    ratio : how many times better ours is, for a throughput ours / peer; None without a peer.
    target : in words. met : whether it is met; None where there is no target for this machine.
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Result:
    """All rows of one benchmark. ``details`` : settings and raw figures, JSON-able."""

    name: str
    rows: tuple[Row, ...]
    details: dict[str, Any] = field(default_factory=dict)


def table_of(rows: Sequence[Row]) -> str:
    """The rows as text: what | ours | peer | ratio | target."""
    lines = [("what", "ours", "peer", "ratio", "target")]
    for row in rows:
        verdict = {None: "", True: " (met)", False: " (NOT met)"}[row.met]
        lines.append(
            (
                row.what,
                _number(row.ours, row.unit),
                _number(row.peer, row.unit),
                _number(row.ratio, "x"),
                f"{row.target}{verdict}",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(" | ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def write_results(results: Sequence[Result], path: Path) -> None:
    """Write the results with the facts of this machine as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine_facts(), "benchmarks": [asdict(result) for result in results]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def machine_facts() -> dict[str, Any]:
    """What figures depend on: processor, cores, GPU, versions."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": usable,
        "torch threads": torch.get_num_threads(),
        "load before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": version("monai"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:.2f}x" if unit == "x" else f"{text} {unit}"
