"""What in a bundle of somebody else could make a computer run code.

XTL executes nothing of a bundle: it reads ``configs/xtl.json`` and weights as plain tensors. But a user may give
the folder to ``python -m monai.bundle run``, which executes what its configuration names. A configuration is
trusted when it is what XTL itself would write for the bundle's description, and not otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError
from ..networks.spec import NetworkSpec
from . import layout
from .hashes import bundle_files
from .inference_config import inference_config
from .load import Bundle, read_bundle
from .plain import active_values

_DOCUMENTS = {"", ".md", ".txt", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".csv", ".tsv"}
_KINDS = {
    ".py": "Python code",
    ".pyc": "Python code",
    ".so": "machine code",
    ".dll": "machine code",
    ".dylib": "machine code",
    ".exe": "machine code",
    ".sh": "a script",
    ".bat": "a script",
    ".ts": "a compiled network",
    ".pt2": "a compiled network",
    ".pkl": "a pickle",
    ".json": "a configuration that XTL does not write",
    ".yaml": "a configuration that XTL does not write",
    ".yml": "a configuration that XTL does not write",
    ".conf": "a configuration that XTL does not write",
}
_SHOWN = 4


def code_in(folder: Path) -> tuple[str, ...]:
    """Everything in a bundle's folder that names code other than XTL's own, each with its place, in words."""
    members = _listed_members(folder)
    files = (
        f"{file} ({_KINDS.get(PurePosixPath(file).suffix.lower(), 'a file that XTL does not know')})"
        for file in bundle_files(folder)
        if not _is_known(file, members)
    )
    return (*files, *_code_in_inference(folder), *_code_in_metadata(folder))


def enumerate_some(words: tuple[str, ...]) -> str:
    """The first few of several findings, and how many more there are."""
    more = len(words) - _SHOWN
    return "; ".join(words[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _listed_members(folder: Path) -> tuple[str, ...]:
    """The further networks that the bundle's description lists: XTL reads them as plain tensors."""
    try:
        return tuple(file for file, _ in read_bundle(folder).members)
    except InputError:
        return ()


def _is_known(file: str, members: tuple[str, ...]) -> bool:
    if file in layout.WRITTEN or file in members:
        return True
    path = PurePosixPath(file)
    in_place = path.parts[0] == "docs" or (
        len(path.parts) == 1 and path.stem.upper().startswith(("README", "LICENSE", "LICENCE", "NOTICE", "CHANGELOG"))
    )
    return in_place and path.suffix.lower() in _DOCUMENTS


def _code_in_inference(folder: Path) -> Iterator[str]:
    theirs = _read(folder / layout.INFERENCE)
    if theirs is None:
        yield f"{layout.INFERENCE} (cannot be read)"
        return
    try:
        bundle = read_bundle(folder)
    except InputError:  # no model of XTL: nothing to compare with
        ours: Mapping[str, Any] = {}
    else:
        ours, theirs = own_inference_config(bundle), _at_present_defaults(theirs, bundle.spec)
        if theirs == _inference_config(bundle):  # as it was written before it had members and calibration
            return
    if theirs == ours:
        return
    active = [f"{layout.INFERENCE}, {place}: {value[:80]}" for place, value in active_values(theirs)]
    own = {f"{layout.INFERENCE}, {place}: {value[:80]}" for place, value in active_values(ours)}
    yield from [words for words in active if words not in own] or [
        f"{layout.INFERENCE} (differs from what XTL writes for {layout.XTL})"
    ]


def own_inference_config(bundle: Bundle) -> dict[str, Any]:
    """What XTL writes into ``configs/inference.json`` for a bundle's description."""
    files = [file for file, _ in bundle.members]
    return _inference_config(bundle, members=files, calibration=bundle.calibration)


def _inference_config(bundle: Bundle, **ensemble: Any) -> dict[str, Any]:
    post = {"threshold": bundle.threshold, "minimum_volume_mm3": bundle.minimum_volume_mm3}
    values = inference_config(bundle.spec, bundle.preparation, bundle.patch_spec, **post, name=bundle.name, **ensemble)
    return json.loads(json.dumps(values))


def _at_present_defaults(config: dict[str, Any], spec: NetworkSpec) -> dict[str, Any]:
    """The configuration with the keys of its network that were not known when it was written."""
    described = config.get("network_def", {}).get("spec") if isinstance(config.get("network_def"), dict) else None
    if not isinstance(described, dict) or "_target_" not in described:
        return config
    try:
        same = NetworkSpec.from_dict({key: value for key, value in described.items() if key != "_target_"}) == spec
    except InputError:
        return config
    if not same:
        return config
    present = {"_target_": described["_target_"], **spec.to_dict()}
    return {**config, "network_def": {**config["network_def"], "spec": present}}


def _code_in_metadata(folder: Path) -> Iterator[str]:
    values = _read(folder / layout.METADATA)
    if values is None:
        yield f"{layout.METADATA} (cannot be read)"
        return
    for place, value in active_values(values):
        yield f"{layout.METADATA}, {place}: {value[:80]}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
