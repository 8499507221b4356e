"""The submission file of the ProstateX challenge: ``proxid,clinsig``, a line a finding."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from ..files import atomic_file


def write_submission(rows: Iterable[tuple[str, float]], path: str | os.PathLike) -> Path:
    """Write the probabilities of findings; the file appears whole or not at all.

    Parameters
    ----------
    rows : (patient, probability) of each finding. Lines of a patient are told apart by their order alone: give the
        findings in the order of the challenge's table.

    Returns
    -------
    The path.
    """
    path = Path(path)
    with atomic_file(path) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["proxid", "clinsig"])
        writer.writerows([patient, f"{probability:.6f}"] for patient, probability in rows)
    return path
