"""What a panel has to know of the user's choices before it can run: bundle, chain, and likely volumes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError, XTLError
from .words import in_sentences, tr

# How a channel is called in the names of volumes, besides its own name.
_ALIASES = {
    "T1": ("t1w", "mprage"),
    "T2": ("t2w",),
    "PD": ("pdw",),
    "T2W": ("t2", "t2 tse"),
    "HBV": ("highb", "b800", "b1000", "b1400", "bval"),
    "KTRANS": ("k trans",),
}


class BundleReader:
    """The bundle in a chosen folder, read once for as long as the choice stands.

    Parameters
    ----------
    task : "segmentation" or "classification"; a bundle of another task is refused.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self.forget()

    def forget(self) -> None:
        """Read the folder anew at the next call: it may hold something else by now."""
        self._path: Path | None = None
        self._bundle: Any = None
        self._problem = ""

    def read(self, path: str | os.PathLike) -> tuple[Any, str]:
        """The bundle in the folder ``path`` and "", or None and why there is none ("" for an empty path)."""
        path = Path(path)
        if path == Path():
            return None, ""
        if path != self._path:
            self._path, self._bundle, self._problem = path, None, ""
            try:
                self._bundle = bundle_for(self._task, path)
            except XTLError as error:
                self._problem = in_sentences(str(error))
            except OSError as error:  # too long for a path, or in a folder that may not be entered
                text = tr("The folder of the bundle cannot be opened ({reason}). Choose another one.")
                self._problem = text.format(reason=error.strerror)
        return self._bundle, self._problem


def bundle_for(task: str, path: str | os.PathLike) -> Any:
    """The bundle in a folder, its weights not yet read.

    Raises InputError where there is none, or one of another task than ``task``.
    """
    from ..bundle.load import read_bundle

    bundle = read_bundle(path)
    if bundle.task != task:
        raise InputError(f"the bundle {path} is one for {bundle.task}", f"Choose a bundle for {task}")
    return bundle


def chosen_chain(path: str | os.PathLike) -> tuple[Any, str]:
    """The chain in the file ``path`` and "", or None and why there is none ("" for an empty path).

    Where the packages that read a chain are not installed yet, None and "": they are installed when the
    user presses Apply.
    """
    path = Path(path)
    if path == Path():
        return None, ""
    if find_spec("pydantic") is None or find_spec("yaml") is None:
        return None, "" if path.is_file() else f"{path} is not a file. Choose a chain file."
    from ..transfer.chain import load_chain

    try:
        return load_chain(path), ""
    except XTLError as error:
        return None, str(error)


def missing_choice(bundle: Any, volumes: Mapping[str, Any]) -> str:
    """What the user has to choose before a bundle can be applied; "" when nothing is missing.

    Parameters
    ----------
    bundle : the chosen bundle or None.
    volumes : channel -> the volume node chosen for it or None, for every input that the panel has.
    """
    from .words import tr as _

    if bundle is None:
        return _("Choose a bundle: the folder of a trained model.")
    unknown = [channel for channel in bundle.channels if channel not in volumes]
    if unknown:
        text = _("This module has no input for the channel {channels} that the bundle needs.")
        return text.format(channels=", ".join(unknown))
    optional = optional_channels(bundle)
    empty = [channel for channel in bundle.channels if volumes[channel] is None and channel not in optional]
    if empty:
        return _("Choose a volume for {channels}.").format(channels=", ".join(empty))
    chosen = [volumes[channel] for channel in bundle.channels if volumes[channel] is not None]
    if len(set(chosen)) < len(chosen):
        return _("Choose a different volume for each channel.")
    return ""


def optional_channels(bundle: Any) -> tuple[str, ...]:
    """The channels that a bundle can do without."""
    if bundle.preparation is not None:
        return tuple(bundle.preparation.optional)
    if bundle.patch_spec is None or bundle.patch_spec.missing == "refuse":
        return ()
    return tuple(channel for channel in bundle.channels if channel != bundle.reference)


def describe_bundle(bundle: Any) -> str:
    """One line about a bundle for its panel; "" for None."""
    from .words import tr as _

    if bundle is None:
        return ""
    text = _("{name}: takes {channels}; results on the grid of {reference}")
    return text.format(name=bundle.name, channels=", ".join(bundle.channels), reference=bundle.reference)


def guess_volumes(parameters: Any, names: Mapping[str, str], scene: Any) -> None:
    """Give each channel without a volume the scene's only volume that is named like it.

    Parameters
    ----------
    parameters : parameter node. names : channel -> the parameter that holds its volume.
    """
    for channel, name in names.items():
        if getattr(parameters, name) is None:
            taken = [getattr(parameters, other) for other in names.values()]
            setattr(parameters, name, volume_named_like(channel, scene, taken))


def volume_named_like(channel: str, scene: Any, taken: Iterable[Any] = ()) -> Any:
    """The only volume node of the scene whose name says that it is this channel, or None.

    ``patient07_FLAIR`` is FLAIR; ``T1`` is no ``T10``. Label maps, nodes of ``taken`` and results of XTL
    are left out; of several candidates none is chosen, because a wrong guess is worse than none.
    """
    names = "|".join(name.replace(" ", "[-_ ]?") for name in (channel.lower(), *_ALIASES.get(channel, ())))
    pattern = re.compile(rf"(?<![a-z0-9])({names})(?![a-z0-9])")
    taken = list(taken)
    candidates = []
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLScalarVolumeNode")
        plain = node.GetClassName() == "vtkMRMLScalarVolumeNode" and node.GetAttribute("XTL.Bundle") is None
        if plain and node not in taken and pattern.search(node.GetName().lower()):
            candidates.append(node)
    return candidates[0] if len(candidates) == 1 else None
