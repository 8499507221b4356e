"""From a trained network to a bundle on disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.patches import PatchSpec
from ..data.prepare import Preparation
from ..errors import InputError
from ..files import atomic_folder, sha256_of
from ..networks.spec import NetworkSpec
from ..transfer.provenance import hash_of_weights
from . import layout
from .calibration import Calibration
from .documents import licence_text, readme_text
from .hashes import write_hashes
from .inference_config import inference_config, preparation_to_dict
from .metadata import bundle_metadata
from .plain import require_plain
from .postprocessing import check_postprocessing
from .weights import save_weights

if TYPE_CHECKING:
    from torch import nn

_ABSOLUTE = re.compile(r"^(/|~|\\\\|[A-Za-z]:[\\/])")


def write_bundle(
    out: str | os.PathLike,
    network: nn.Module,
    spec: NetworkSpec,
    task: str,
    preparation: Preparation | None = None,
    patches: PatchSpec | None = None,
    postprocessing: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    name: str = "XTL",
    description: str = "",
    members: Sequence[nn.Module] = (),
    calibration: Calibration | None = None,
) -> Path:
    """Write a trained network as a MONAI Bundle, whole or not at all.

    Parameters
    ----------
    out : the bundle's folder; replaced when it is an earlier output of XTL.
    network : trained, of ``spec``.
    task : "segmentation" (needs ``preparation``) or "classification" (needs ``patches``).
    postprocessing : ``{"threshold": 0 to 1, "minimum_volume_mm3": mm³}``; missing ones are 0.5 and 0.
    provenance : what the weights went through, JSON-able (``ChainRecord.to_dict``); its last stage's
        ``weights_out`` is the hash of this network. Absolute paths in it are cut to their last part: a
        bundle tells nothing about the machine it was made on.
    name, description : for people.
    members : further trained networks of ``spec``, which make an ensemble with ``network``; of a classification.
    calibration : of a classification's probabilities.

    Raises
    ------
    InputError : parts that do not belong together, or a folder that cannot be written.
    """
    post = {"threshold": 0.5, "minimum_volume_mm3": 0.0, **(postprocessing or {})}
    _check(spec, task, preparation, patches, post)
    _check_ensemble(network, members, calibration, task)
    provenance = _without_absolute_paths(dict(provenance or {}))
    _require_own_provenance(network, provenance)
    description = description or layout.TASKS[task]
    size_multiple = getattr(network, "size_multiple", (1, 1, 1))
    with atomic_folder(out) as draft:
        for part in ("configs", "models", "docs"):
            (draft / part).mkdir()
        save_weights(network, draft / layout.WEIGHTS)
        described = {
            "format": layout.FORMAT,
            "name": name,
            "description": description,
            "task": task,
            "network": spec.to_dict(),
            "preparation": None if preparation is None else preparation_to_dict(preparation),
            "patches": None if patches is None else patches.to_dict(),
            "postprocessing": post,
            "weights": {"file": layout.WEIGHTS, "sha256": sha256_of(draft / layout.WEIGHTS)},
        }
        if members:
            described["weights"]["members"] = [_save_member(draft, *member) for member in enumerate(members, start=2)]
        if calibration is not None:
            described["calibration"] = calibration.to_dict()
        require_plain(described, (preparation or patches).channels)
        metadata = bundle_metadata(name, description, task, preparation, patches, size_multiple)
        files = [member["file"] for member in described["weights"].get("members", ())]
        inference = inference_config(
            spec, preparation, patches, **post, name=name, members=files, calibration=calibration
        )
        for file, values in (
            (layout.XTL, described),
            (layout.METADATA, metadata),
            (layout.INFERENCE, inference),
            (layout.CHAIN, provenance),
        ):
            text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
            (draft / file).write_text(text + "\n", encoding="utf-8")
        (draft / layout.README).write_text(readme_text(described, provenance), encoding="utf-8")
        (draft / layout.LICENSE).write_text(licence_text(name, provenance), encoding="utf-8")
        write_hashes(draft)
    return Path(out)


def _check(spec: NetworkSpec, task: str, preparation, patches, post: Mapping[str, float]) -> None:
    if task not in layout.TASKS:
        raise InputError(f"a bundle for the task {task!r}", f"Choose one of {', '.join(layout.TASKS)}")
    needed, other = (preparation, patches) if task == "segmentation" else (patches, preparation)
    if needed is None or other is not None or spec.kind != task:
        raise InputError(
            f"a bundle for {task} with a network for {spec.kind}",
            "Give a preparation with a segmentation network, or patches with a classification network",
        )
    if spec.in_channels != len(needed.channels):
        raise InputError(
            f"a network of {spec.in_channels} channels for the channels {', '.join(needed.channels)}",
            "Give as many channels as the network takes",
        )
    unknown = sorted(set(post) - {"threshold", "minimum_volume_mm3"})
    if unknown:
        raise InputError(f"unknown postprocessing {', '.join(unknown)}", "Use threshold and minimum_volume_mm3")
    check_postprocessing(**post)


def _check_ensemble(
    network: nn.Module, members: Sequence[nn.Module], calibration: Calibration | None, task: str
) -> None:
    if len(members) >= layout.MOST_NETWORKS:
        raise InputError(
            f"an ensemble of {len(members) + 1} networks", f"Give at most {layout.MOST_NETWORKS}, as fewer folds do"
        )
    if members and task != "classification":
        raise InputError(f"an ensemble for {task} in one bundle", "Write one bundle each, and segment with several")
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    for number, member in enumerate(members, start=2):
        if {name: value.shape for name, value in member.state_dict().items()} != shapes:
            raise InputError(f"network {number} of an ensemble differs from the first", "Give networks of one kind")
    if calibration is not None and task != "classification":
        raise InputError(f"a calibration of a {task}", "Leave it out")
    if calibration is not None:
        Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))  # what is refused is not written


def _save_member(draft: Path, number: int, network: nn.Module) -> dict[str, str]:
    file = layout.MEMBER.format(number=number)
    save_weights(network, draft / file)
    return {"file": file, "sha256": sha256_of(draft / file)}


def _require_own_provenance(network: nn.Module, provenance: Mapping[str, Any]) -> None:
    stages = provenance.get("stages") or [{}]
    recorded = stages[-1].get("weights_out")
    if recorded is not None and recorded != hash_of_weights(network.state_dict()):
        raise InputError(
            f"the record of the chain {provenance.get('name')} ends in other weights than those of the bundle",
            "Record the hash of the network that is written",
        )


def _without_absolute_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_absolute_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_absolute_paths(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and _ABSOLUTE.match(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
