"""What people read in a bundle: README and LICENSE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..transfer.summary import summarise_chain
from .layout import TASKS

_README = """# {name}

{task}. {description}

**Research software, not a medical device.** Do not use it for diagnosis or treatment.

## Input
{inputs}

## Use
    xtl {command}
    python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir CASE --output_dir OUT

The second line needs XTLLib on the Python path and looks for one file a channel in CASE ({files}).{ensemble}

## Chain
{chain}

`configs/chain.json` has every stage as it was run; `configs/xtl.json` describes the network, its input and its
post-processing (threshold {threshold:g}, smallest lesion {minimum:g} mm³) and holds the hash of the weights;
`configs/hashes.json` holds those of all files. `xtl models verify` recomputes them.
"""


def readme_text(described: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """docs/README.md, from the content of ``configs/xtl.json`` and ``configs/chain.json``."""
    segmentation = described["task"] == "segmentation"
    source = described["preparation"] if segmentation else described["patches"]
    channels = source["channels"]
    volumes = " ".join(f"--volume {channel}={channel}.nii.gz" for channel in channels)
    files = ", ".join(f"{channel}.nii.gz" for channel in channels)
    post = described["postprocessing"]
    return _README.format(
        name=described["name"],
        task=TASKS[described["task"]],
        description=described["description"],
        inputs=f"Channels in this order: {', '.join(channels)}. "
        f"Results are given on the grid of {source['reference']}. "
        "Channels may lie on different voxel grids; they are brought together in patient space.",
        command=f"segment --bundle . {volumes} --out OUT"
        if segmentation
        else f"classify --bundle . {volumes} --findings findings.csv --out OUT",
        ensemble=_ensemble_text(described),
        files=files if segmentation else f"{files}, findings.csv",
        chain=_chain_text(provenance),
        threshold=post["threshold"],
        minimum=post["minimum_volume_mm3"],
    )


def _ensemble_text(described: Mapping[str, Any]) -> str:
    """How many networks there are, what the calibration rests on, and what the second line of "Use" leaves out."""
    count, calibration = 1 + len(described["weights"].get("members", ())), described.get("calibration")
    lines = []
    if count > 1:
        lines.append(f"These are {count} networks, whose mean is the result.")
    if calibration is not None:
        points = ", ".join(point["rule"] for point in calibration["operating_points"]) or "none"
        lines.append(
            f"Probabilities are calibrated ({calibration['method']}) on {calibration['findings']} findings of "
            f"{calibration['patients']} patients, {calibration['positives']} of them positive "
            f"({calibration['source']}); operating points: {points}. The second line writes no class."
        )
    return "".join(f"\n\n{line}" for line in lines)


def licence_text(name: str, provenance: Mapping[str, Any]) -> str:
    """LICENSE: configuration and weights are different works; the weights follow the data they learned from."""
    lines = [
        f"{name}",
        "",
        "Configuration files and documents of this bundle: Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0).",
        "",
        "Weights (models/): derived from the sources below. Their terms, which may forbid commercial use or",
        "redistribution, apply to the weights. Check them before you pass the bundle on.",
        "",
    ]
    sources = list(sources_of(provenance)) or ["not recorded"]
    return "\n".join([*lines, *(f"- {source}" for source in sources), ""])


def _chain_text(provenance: Mapping[str, Any]) -> str:
    line = summarise_chain(provenance)
    if not line:
        return "Not recorded."
    sources = "\n".join(f"- {source}" for source in sources_of(provenance))
    return f"{line}\n\n{sources}"


def sources_of(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Where weights and data of each stage came from, with their licence; the record may be somebody else's."""
    stages = provenance.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        if not isinstance(stage, Mapping):
            continue
        learned, loaded = stage.get("datalist"), stage.get("source")
        if isinstance(learned, Mapping) and learned:
            licence = learned.get("licence") or "licence not stated"
            yield f"{stage.get('kind')}: {learned.get('name')} ({learned.get('layout')}), {licence}"
        elif isinstance(loaded, Mapping) and loaded:
            licence = loaded.get("licence") or "licence not stated"
            yield f"{stage.get('kind')}: {loaded.get('source', 'weights')}, {licence}"
