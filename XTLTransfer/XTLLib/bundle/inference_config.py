"""``configs/inference.json``: the bundle as ``python -m monai.bundle run`` executes it.

The same functions run as behind an Apply click: the configuration only names XTLLib's classes. XTL itself
never reads it: its own description of a bundle is ``configs/xtl.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.patches import PatchSpec
from ..data.prepare import Preparation
from ..networks.spec import NetworkSpec
from .calibration import Calibration
from .layout import WEIGHTS

_WORKFLOW = "XTLLib.inference.monai_workflow"
_CALIBRATION = "XTLLib.bundle.calibration.Calibration.from_dict"


def inference_config(
    spec: NetworkSpec,
    preparation: Preparation | None,
    patches: PatchSpec | None,
    threshold: float,
    minimum_volume_mm3: float,
    name: str,
    members: Sequence[str] = (),
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """The configuration as JSON-able data; the volumes are looked for in ``dataset_dir`` by channel name.

    Parameters
    ----------
    members : files of the further networks of an ensemble. calibration : of a classification.
    """
    channels = (preparation or patches).channels
    volumes = {channel: f"$@dataset_dir + '/{channel}.nii.gz'" for channel in channels}
    if preparation is not None:
        case = {"volumes": "@volumes"}
        preprocessing = {
            "_target_": f"{_WORKFLOW}.PrepareCase",
            "preparation": {"_target_": "XTLLib.data.prepare.Preparation", **preparation_to_dict(preparation)},
        }
        inferer = {"_target_": f"{_WORKFLOW}.WindowInferer", "window": None, "overlap": 0.5}
        postprocessing = {
            "_target_": f"{_WORKFLOW}.SaveLesions",
            "output_dir": "@output_dir",
            "threshold": threshold,
            "minimum_volume_mm3": minimum_volume_mm3,
        }
    else:
        case = {"volumes": "@volumes", "findings": "$@dataset_dir + '/findings.csv'"}
        preprocessing = {
            "_target_": f"{_WORKFLOW}.CutPatches",
            "patches": {"_target_": "XTLLib.data.patches.PatchSpec", **patches.to_dict()},
        }
        inferer = {"_target_": f"{_WORKFLOW}.PatchInferer", "batch": 32}
        if members:
            inferer["members"] = [_network(spec, file) for file in members]
        if calibration is not None:
            inferer["calibration"] = {"_target_": _CALIBRATION, "values": calibration.to_dict()}
        postprocessing = {"_target_": f"{_WORKFLOW}.SaveRatings", "output_dir": "@output_dir"}
    return {
        "bundle_root": ".",
        "dataset_dir": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": {"_target_": "XTLLib.inference.device.pick_device", "name": "auto"},
        "volumes": volumes,
        "network_def": _network_def(spec),
        "network": {**_network(spec, WEIGHTS), "network": "@network_def"},
        "preprocessing": preprocessing,
        "dataset": {"_target_": "monai.data.Dataset", "data": [case], "transform": "@preprocessing"},
        "inferer": inferer,
        "postprocessing": {**postprocessing, "bundle_name": name},
        "evaluator": {
            "_target_": f"{_WORKFLOW}.CaseEvaluator",
            "dataset": "@dataset",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "device": "@device",
        },
        "run": ["$@evaluator.run()"],
    }


def _network_def(spec: NetworkSpec) -> dict[str, Any]:
    return {
        "_target_": "XTLLib.networks.build.build_network",
        "spec": {"_target_": "XTLLib.networks.spec.NetworkSpec", **spec.to_dict()},
    }


def _network(spec: NetworkSpec, file: str) -> dict[str, Any]:
    return {
        "_target_": "XTLLib.bundle.weights.load_weights_into",
        "network": _network_def(spec),
        "path": f"$@bundle_root + '/{file}'",
    }


def preparation_to_dict(preparation: Preparation) -> dict[str, Any]:
    """A Preparation as JSON-able data. What later versions added is there only when it is used."""
    spacing = preparation.spacing_mm
    values = {
        "channels": list(preparation.channels),
        "reference": preparation.reference,
        "spacing_mm": None if spacing is None else list(spacing),
    }
    if preparation.optional:
        values["optional"] = list(preparation.optional)
    if preparation.bias_correction:
        values["bias_correction"] = True
    return values
