"""The set of 32 x 32 ProstateX patches: ``patches.npz`` (n, 4, 32, 32) described by ``patches.csv``.

A patch is an in-plane crop of native pixels centred on the finding, in the finding's slice; its value
is the fraction of its volume's voxels that are not brighter (0..1). A channel that a patient lacks is
NaN there, and becomes constant 0.5, the middle of the range, when the patch is loaded.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ..case import Finding
from ..datalist import Datalist, Entry
from ..findings import position_lps, truth_of, zone_of
from ..stored_patches import STORED_NAMES, open_patches, state_of
from ..tables import read_table, unique_names
from .common import choose, require_entries, require_exist

LICENCE = "from TCIA PROSTATEx (CC BY 3.0), doi 10.7937/K9TCIA.2017.MURS5CL"
KEEP = ("all", "complete")
_REQUIRED = ("row", "ProxID", "fid", "pos_lps_mm", "zone", "ClinSig")


def read(source: Path, keep: str = "all") -> Datalist:
    """Read the patch set.

    Parameters
    ----------
    source : the folder that holds patches.npz and patches.csv.
    keep : "all" findings, also those that lack channels, or the "complete" ones, which have T2W, ADC and HBV.

    One entry a finding, label ClinSig. Its attributes: ``missing`` (channels, comma-separated), the pixel
    spacing of each channel (``T2W_spacing_mm`` = "0.5x0.5x3"), ``grade`` (Gleason grade group, where known).
    """
    choose("prostatex-patches", "keep", keep, KEEP)
    array, table = source / "patches.npz", source / "patches.csv"
    require_exist((array, table), source)
    count = _count_patches(array)
    rows = read_table(table, _REQUIRED)
    if [row["row"] for row in rows] != [str(index) for index in range(count)]:
        raise InputError(f"{table} does not describe the {count} rows of {array} in order", "Take both from one source")
    identifiers = unique_names([f"{row['ProxID']}-{row['fid']}" for row in rows])
    entries = []
    for index, (row, case) in enumerate(zip(rows, identifiers)):
        missing = [channel for channel, stored in STORED_NAMES.items() if truth_of(row, f"has_{stored}") is False]
        if keep == "complete" and set(missing) - {"KTRANS"}:
            continue
        significant = truth_of(row, "ClinSig")
        if significant is None:
            raise InputError(f"{row.where} has no ClinSig", "Give 0 or 1")
        attributes = {
            f"{channel}_spacing_mm": row.get(f"{stored}_spacing_mm") for channel, stored in STORED_NAMES.items()
        }
        attributes.update(zone=zone_of(row), grade=row.get("gleason_grade_group"), missing=",".join(missing))
        finding = Finding(
            case.removeprefix(f"{row['ProxID']}-"), position_lps(row, "pos_lps_mm"), zone_of(row), significant
        )
        entries.append(
            Entry(
                patient=row["ProxID"],
                case=case,
                images=dict.fromkeys(STORED_NAMES, str(array)),
                label=int(significant),
                finding=finding,
                row=index,
                attributes={name: value for name, value in attributes.items() if value},
            )
        )
    incomplete = sum("missing" in entry.attributes for entry in entries)
    return Datalist(
        name="ProstateX patches",
        layout="prostatex-patches",
        task="classification",
        channels=tuple(STORED_NAMES),
        reference="T2W",
        labels={"0": "not significant", "1": "clinically significant"},
        licence=LICENCE,
        description=f"{len(entries)} findings, {incomplete} of them without some channel (constant 0.5 in its place)",
        training=require_entries(entries, source, "findings"),
    )


def _count_patches(path: Path) -> int:
    patches, stored = open_patches(str(path), state_of(str(path)))
    if patches.ndim != 4 or stored != list(STORED_NAMES.values()) or patches.shape[1] != len(stored):
        raise InputError(
            f"the patch file {path} holds {stored} in an array of shape {patches.shape}",
            f"Give (n, {len(STORED_NAMES)}, rows, columns) with the channels {', '.join(STORED_NAMES.values())}",
        )
    return len(patches)
