"""A network's weights on disk: a plain state dict, read without running any code from the file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

_UNREADABLE = (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError)
_REMEDY = "Get the bundle again from where it came, or train it again"


def save_weights(network: nn.Module, path: str | os.PathLike) -> None:
    """Write the network's state dict: CPU tensors in the default memory layout."""
    import torch

    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    torch.save(state, path)


def load_weights_into(network: nn.Module, path: str | os.PathLike, sha256: str | None = None) -> nn.Module:
    """Load a state dict into a network, every key and shape matching; the network is returned in evaluation mode.

    Parameters
    ----------
    sha256 : expected hash of the file; None skips that check.

    Raises
    ------
    InputError : the file is missing, was changed, is truncated, holds anything but a state dict of finite
        tensors, or fits another network.
    """
    state = read_weights(path, sha256)
    expected = network.state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    reshaped = sorted(name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape)
    if missing or unexpected or reshaped:
        example = (missing or unexpected or reshaped)[0]
        raise InputError(
            f"the weights {path} do not fit the network that the bundle describes ({len(missing)} missing, "
            f"{len(unexpected)} unexpected, {len(reshaped)} of another shape, for example {example})",
            _REMEDY,
        )
    # Only now: a tensor of a hostile file may claim a shape that no memory holds.
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise InputError(f"the weights {path} hold NaN or infinite values ({broken[0]})", "Train the bundle again")
    network.load_state_dict(state, strict=True)
    return network.eval()


def read_weights(path: str | os.PathLike, sha256: str | None = None) -> dict[str, Tensor]:
    """The state dict in a file, on CPU; nothing in the file is executed, its values are not looked at.

    Raises InputError as :func:`load_weights_into` does for the file itself.
    """
    import io
    import pickle
    import warnings

    import torch

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"the weights {path} cannot be read ({error.strerror})", _REMEDY) from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"the weights {path} are not those that the bundle was written with", _REMEDY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which are refused below
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise InputError(f"the weights {path} are damaged or no plain state dict", _REMEDY) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise InputError(f"the weights {path} are no plain state dict (names and tensors only)", _REMEDY)
    return state
