"""Pretrained weights of 2D backbones, from a file or from the usual address."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files import sha256_of
from ..progress import Progress
from .backbones import BACKBONES, Backbone, build_backbone
from .download import cache_folder, download, require_checksum
from .normalisation import is_folded

IMAGENET = "imagenet"
IMAGENET_URL = "https://download.pytorch.org/models/"
# torchvision's files; what follows the last dash of a name is the beginning of the file's SHA-256.
IMAGENET_FILES = {
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "squeezenet1_0": "squeezenet1_0-b66bff10.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "densenet121": "densenet121-a639ec97.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth",
}
_IMAGENET_LICENCE = "torchvision (BSD-3-Clause); trained on ImageNet, whose images are for non-commercial research"
_UNKNOWN_LICENCE = "not stated in the file; see where it came from"

_COUNTER = "num_batches_tracked"
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    pickle.PickleError,
)


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded into a backbone; part of a chain's record.

    Attributes
    ----------
    source : the file's path, or the address it was fetched from.
    sha256 : of the file.
    matched : number of the backbone's tensors that were loaded (all of them).
    missing : the backbone's keys that the file lacks (only BatchNorm's batch counters may be).
    unexpected : keys of the file that were dropped (the classifier).
    licence : the weights' licence as far as it is known.
    folded_batchnorm : BatchNorm was folded into the convolutions: freeze or recalibrate it before training.
    """

    source: str
    sha256: str
    matched: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    licence: str
    folded_batchnorm: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_weights(
    backbone: Backbone,
    source: str | Path,
    sha256: str | None = None,
    allow_download: bool = False,
    *,
    base_url: str = IMAGENET_URL,
    progress: Progress | None = None,
) -> WeightsReport:
    """Load a state dict with torchvision's key names into a 2D backbone, as float32.

    Parameters
    ----------
    backbone : changed only when all its tensors are found.
    source : a file, or "imagenet" for torchvision's ImageNet weights, kept under ``XTL_HOME/weights``.
    sha256 : the expected checksum or its beginning (8 digits or more).
    allow_download : fetch "imagenet" when it is not kept yet.
    base_url : where torchvision's files lie; a mirror may be named.

    Raises
    ------
    InputError : the file is missing, is no state dict, holds code, has another checksum or belongs to
        another network; or "imagenet" is not kept and may not be fetched.
    """
    if str(source) == IMAGENET:
        path, origin = _imagenet_file(backbone.name, allow_download, base_url, progress)
        licence = _IMAGENET_LICENCE
    else:
        path = Path(source)
        origin, licence = str(path), _UNKNOWN_LICENCE
        if not path.is_file():
            raise InputError(f"the weights file {path} does not exist", f"Check the path, or write {IMAGENET}")
    digest = sha256_of(path)
    if sha256 is not None:
        require_checksum(path, digest, sha256)
    state = read_state_dict(path)
    dropped = tuple(key for key in state if key.startswith(backbone.classifier_prefixes))
    state = {_modern_key(key): value for key, value in state.items() if key not in dropped}
    missing = _require_fit(backbone, state, path)
    backbone.load_state_dict(state, strict=False)
    return WeightsReport(origin, digest, len(state), missing, dropped, licence, is_folded(backbone))


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file that ``torch.save`` wrote: a state dict, or a checkpoint holding one as "state_dict".

    Nothing in the file is executed. Raises InputError when it is anything else or holds values that are
    not finite.
    """
    remedy = "Give a state dict saved with torch.save, with torchvision's key names"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120].rstrip(".: ")
        raise InputError(f"the weights file {path} is not a state dict ({reason})", remedy) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"the weights file {path} holds {_kind_of(content)}, not a state dict", remedy)
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                f"the weights file {path} is not a state dict ({key!r} is {_kind_of(value)}, not a tensor)", remedy
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"the weights file {path} holds values that are not finite ({key})", "Give another file")
    return dict(content)


def _imagenet_file(name: str, allow_download: bool, base_url: str, progress: Progress | None) -> tuple[Path, str]:
    file = IMAGENET_FILES[name]
    url, path = base_url.rstrip("/") + "/" + file, cache_folder() / file
    prefix = file.rpartition("-")[2].partition(".")[0]
    if path.is_file() and sha256_of(path).startswith(prefix):
        return path, url
    if not allow_download:
        raise InputError(
            f"the ImageNet weights of {name} are not on this computer ({path})",
            f"Allow the download, or fetch {url} and give the path of the file",
        )
    download(url, path, prefix, progress)
    return path, url


def _require_fit(backbone: Backbone, state: Mapping[str, Tensor], path: Path) -> tuple[str, ...]:
    """The batch counters that the file lacks; InputError when anything else is missing, different or too much."""
    matched, needed, unknown = _fit(backbone, state)
    if matched == needed and not unknown:
        return tuple(key for key in backbone.state_dict() if key.endswith(_COUNTER) and key not in state)
    raise InputError(
        f"the weights file {path} does not fit {backbone.name}: {matched} of {needed} tensors match, "
        f"{unknown} are unknown",
        f"It fits {other}; name that backbone" if (other := _fitting_backbone(state)) else "Give the file that belongs",
    )


def _fit(backbone: Backbone, state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """(tensors that match, tensors needed, tensors of the file that the backbone does not know)."""
    own = backbone.state_dict()
    needed = [key for key in own if not key.endswith(_COUNTER)]
    matched = sum(key in state and state[key].shape == own[key].shape for key in needed)
    unknown = [key for key in state if key not in own and not key.startswith(backbone.classifier_prefixes)]
    return matched, len(needed), len(unknown)


def _fitting_backbone(state: Mapping[str, Tensor]) -> str | None:
    for name in BACKBONES:
        with torch.device("meta"):
            matched, needed, unknown = _fit(build_backbone(name), state)
        if matched == needed and not unknown:
            return name
    return None


def _modern_key(key: str) -> str:
    """torchvision once named DenseNet's layers ``norm.1``, and its files still do; now ``norm1``."""
    return _OLD_DENSENET.sub(r"\1\2.", key)


def _kind_of(value: object) -> str:
    return f"a {type(value).__name__}"
