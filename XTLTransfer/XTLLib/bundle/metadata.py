"""``configs/metadata.json``: what MONAI's tools and a reader need to know of a bundle.

Fields and types follow MONAI's bundle specification (docs.monai.io, mb_specification) and its schema
of 2024-07-25.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata as packages
from typing import Any

from .. import __version__
from ..data.patches import PatchSpec
from ..data.prepare import Preparation
from .layout import TASKS

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
INTENDED_USE = "Research only. Research software, not a medical device"
_REFERENCES = [
    "Lee J, Nishikawa RM. Cross-organ, cross-modality transfer learning. IEEE Access 2020;8:210194-210205. "
    "doi:10.1109/ACCESS.2020.3038909",
]


def bundle_metadata(
    name: str,
    description: str,
    task: str,
    preparation: Preparation | None,
    patches: PatchSpec | None,
    size_multiple: Sequence[int],
) -> dict[str, Any]:
    """The metadata of a bundle as JSON-able data."""
    return {
        "schema": SCHEMA,
        "name": name,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"written by XTL {__version__}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {
            "xtl-transfer": __version__,
            "SimpleITK": _version("SimpleITK"),
            "scipy": _version("scipy"),
        },
        "task": TASKS[task],
        "description": description,
        "authors": "Trained with XTL; configs/chain.json says on what",
        "copyright": "See LICENSE",
        "intended_use": INTENDED_USE,
        "references": _REFERENCES,
        "network_data_format": (
            _segmentation_format(preparation, size_multiple) if preparation else _classification_format(patches)
        ),
    }


def _segmentation_format(preparation: Preparation, size_multiple: Sequence[int]) -> dict[str, Any]:
    shape = [f"{multiple}*n" for multiple in size_multiple]
    lesion = {"0": "logit of lesion; the sigmoid is the probability"}
    return {
        "inputs": {
            "image": _tensor("image", "magnitude", preparation.channels, shape, [], True),
        },
        "outputs": {"pred": {**_tensor("image", "segmentation", ("lesion",), shape, [], True), "channel_def": lesion}},
        "post_processed_outputs": {
            "pred": {
                **_tensor("image", "segmentation", ("lesion",), ["*", "*", "*"], [], False),
                "dtype": "int32",
                "channel_def": {"0": "0 background, 1..n lesions by decreasing volume"},
            }
        },
    }


def _classification_format(patches: PatchSpec) -> dict[str, Any]:
    value_range = [0, 1] if patches.intensity == "rank" else []
    significant = {"0": "logit of clinically significant cancer; the sigmoid is the probability"}
    return {
        "inputs": {"image": _tensor("image", "magnitude", patches.channels, list(patches.shape), value_range, True)},
        "outputs": {
            "pred": {**_tensor("probabilities", "classes", ("significant",), [], [], True), "channel_def": significant}
        },
    }


def _tensor(kind: str, data_format: str, channels, shape: list, value_range: list, is_patch: bool) -> dict[str, Any]:
    return {
        "type": kind,
        "format": data_format,
        "modality": "MR",
        "num_channels": len(channels),
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": is_patch,
        "channel_def": {str(index): channel for index, channel in enumerate(channels)},
    }


def _version(package: str) -> str:
    try:
        return packages.version(package)
    except packages.PackageNotFoundError:
        return "unknown"
