"""From a bundle on disk to everything that inference needs, with every file checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.patches import PatchSpec
from ..data.prepare import Preparation
from ..errors import InputError
from ..networks.spec import NetworkSpec
from . import layout
from .calibration import Calibration
from .plain import require_plain
from .postprocessing import check_postprocessing

if TYPE_CHECKING:
    import torch
    from torch import nn

_REMEDY = "Get the bundle again from where it came, or train it again"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model.

    Attributes
    ----------
    path : the bundle's folder.
    name, description : for people. task : "segmentation" or "classification".
    spec : the network. weights_sha256 : hash of its weights' file.
    preparation : how a case becomes the input, for segmentation, else None.
    patch_spec : how a finding becomes the input, for classification, else None.
    threshold : smallest probability of a lesion voxel. minimum_volume_mm3 : smaller lesions are dropped.
    provenance : ``configs/chain.json``. metadata : ``configs/metadata.json``.
    calibration : of the probabilities of a classification, None when the bundle has none.
    members : (file, SHA-256) of the further networks of an ensemble, all of ``spec``.
    """

    path: Path
    name: str
    description: str
    task: str
    spec: NetworkSpec
    preparation: Preparation | None
    patch_spec: PatchSpec | None
    threshold: float
    minimum_volume_mm3: float
    weights_sha256: str
    provenance: Mapping[str, Any]
    metadata: Mapping[str, Any]
    _network: nn.Module | None = None
    calibration: Calibration | None = None
    members: tuple[tuple[str, str], ...] = ()
    _further: tuple[nn.Module, ...] | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the network's input channels, in order."""
        return (self.preparation or self.patch_spec).channels

    @property
    def reference(self) -> str:
        """The channel on whose grid results are given."""
        return (self.preparation or self.patch_spec).reference

    def require_task(self, task: str) -> None:
        """Raise InputError unless the bundle is for this task."""
        if self.task != task:
            raise InputError(f"the bundle {self.name} is for {self.task}, not for {task}", "Choose another bundle")

    def network(self, device: str | torch.device = "cpu") -> nn.Module:
        """The network with its weights, in evaluation mode, in the fast memory layout, on a device.

        Of an ensemble the first one; ``networks`` gives all.
        It is made once; every call gives the same module, moved to the device. Copy it before training it.
        """
        if self._network is None:
            object.__setattr__(self, "_network", _read_network(self, layout.WEIGHTS, self.weights_sha256))
        return self._network.to(device).eval()

    def networks(self, device: str | torch.device = "cpu") -> tuple[nn.Module, ...]:
        """All networks of the ensemble, each as ``network`` gives the first; one where there is no ensemble."""
        if self._further is None:
            further = tuple(_read_network(self, file, sha256) for file, sha256 in self.members)
            object.__setattr__(self, "_further", further)
        return (self.network(device), *(network.to(device).eval() for network in self._further))


def load_bundle(path: str | os.PathLike) -> Bundle:
    """Read a bundle and check every file of it, the weights included.

    Raises
    ------
    InputError : names the file that is missing, broken, of a later format or does not fit the others.
    """
    bundle = read_bundle(path)
    bundle.networks()
    return bundle


def read_bundle(path: str | os.PathLike) -> Bundle:
    """Read a bundle's description only; its weights are read when ``network`` is first called.

    Raises InputError for anything wrong in the description.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"the bundle {path} is not a folder", "Name a folder that holds configs/ and models/")
    missing = [file for file in layout.REQUIRED if not (path / file).is_file()]
    if missing:
        raise InputError(
            f"the bundle {path} lacks {', '.join(missing)}",
            _REMEDY if len(missing) < len(layout.REQUIRED) else "Name the folder of a bundle that XTL wrote",
        )
    described, metadata, provenance, _ = (
        _read_json(path / file) for file in (layout.XTL, layout.METADATA, layout.CHAIN, layout.INFERENCE)
    )
    file = path / layout.XTL
    if described.get("format") != layout.FORMAT:
        raise InputError(
            f"{file} has the format {described.get('format')}, this version of XTL reads {layout.FORMAT}",
            "Update XTL, or write the bundle again",
        )
    try:
        return _bundle(path, described, metadata, provenance)
    except InputError as error:
        raise InputError(f"{file}: {error.what}", _REMEDY) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} is not as XTL writes it ({type(error).__name__}: {error})", _REMEDY) from error


def _bundle(path: Path, described: dict, metadata: dict, provenance: dict) -> Bundle:
    task = described["task"]
    if task not in layout.TASKS:
        raise InputError(f"the task {task!r} is unknown", _REMEDY)
    spec = NetworkSpec.from_dict(described["network"])
    preparation = _preparation(described["preparation"]) if task == "segmentation" else None
    patches = PatchSpec.from_dict(described["patches"]) if task == "classification" else None
    channels = (preparation or patches).channels
    if spec.in_channels != len(channels) or spec.kind != task:
        raise InputError(
            f"a {spec.kind} network of {spec.in_channels} channels for {task} on {', '.join(channels)}", _REMEDY
        )
    post = {name: float(described["postprocessing"][name]) for name in ("threshold", "minimum_volume_mm3")}
    check_postprocessing(**post)
    plain = {key: described[key] for key in ("name", "description", "network", "preparation", "patches")}
    require_plain({**plain, "calibration": described.get("calibration")}, channels)
    return Bundle(
        path=path,
        name=str(described["name"]),
        description=str(described["description"]),
        task=task,
        spec=spec,
        preparation=preparation,
        patch_spec=patches,
        **post,
        weights_sha256=str(described["weights"]["sha256"]),
        provenance=provenance,
        metadata=metadata,
        calibration=_calibration(described, task),
        members=_members(path, described["weights"].get("members", []), task),
    )


def _calibration(described: Mapping[str, Any], task: str) -> Calibration | None:
    values = described.get("calibration")  # bundles of before have none
    if values is None:
        return None
    if task != "classification":
        raise InputError(f"a calibration of a {task}", _REMEDY)
    return Calibration.from_dict(values)


def _members(path: Path, listed: Any, task: str) -> tuple[tuple[str, str], ...]:
    """(file, SHA-256) of the further networks; each is where XTL would have written it, and nowhere else."""
    if not isinstance(listed, list) or len(listed) >= layout.MOST_NETWORKS:
        raise InputError(f"the members of an ensemble are no list of at most {layout.MOST_NETWORKS - 1}", _REMEDY)
    if listed and task != "classification":
        raise InputError(f"an ensemble for {task}, which is not made of one bundle", _REMEDY)
    members = []
    for number, member in enumerate(listed, start=2):
        file, sha256 = member["file"], member["sha256"]
        if file != layout.MEMBER.format(number=number):
            raise InputError(f"network {number} of the ensemble is said to be in {str(file)[:80]!r}", _REMEDY)
        if not isinstance(sha256, str):
            raise InputError(f"network {number} of the ensemble has no hash", _REMEDY)
        if not (path / file).is_file():
            raise InputError(f"{file} is missing", _REMEDY)
        members.append((file, sha256))
    return tuple(members)


def _preparation(values: Mapping[str, Any]) -> Preparation:
    needed = {"channels", "reference", "spacing_mm"}
    wrong = sorted((set(values) - {field.name for field in fields(Preparation)}) | (needed - set(values)))
    if wrong:
        raise InputError(f"the preparation has a key too many or too few: {', '.join(wrong)}", _REMEDY)
    return Preparation(**values)


def _read_network(bundle: Bundle, file: str, sha256: str) -> nn.Module:
    from ..networks.build import build_network
    from ..networks.layout import to_fast_layout
    from .weights import load_weights_into

    return to_fast_layout(load_weights_into(_build(build_network, bundle), bundle.path / file, sha256))


def _build(build_network, bundle: Bundle) -> nn.Module:
    """The network with whatever its memory holds: drawing random values takes longer than reading the right ones."""
    from torch.overrides import TorchFunctionMode

    class WithoutDrawing(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if getattr(function, "__module__", "") == "torch.nn.init":
                return kwargs["tensor"] if "tensor" in kwargs else args[0]
            return function(*args, **kwargs)

    try:
        with WithoutDrawing():
            return build_network(bundle.spec)
    except InputError as error:
        raise InputError(f"{bundle.path / layout.XTL}: {error.what}", _REMEDY) from error


def _read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})", _REMEDY) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is broken JSON (line {error.lineno}: {error.msg})", _REMEDY) from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply", _REMEDY) from error
    if not isinstance(values, dict):
        raise InputError(f"{path} does not hold a JSON object", _REMEDY)
    return values
