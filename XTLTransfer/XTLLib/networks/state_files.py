"""Reading the tensors of a weights file that nobody vouches for: nothing in it is executed."""

from __future__ import annotations

import mmap
import pickle
import struct
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, MissingPackageError

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".npz")
_SIZE_LIMIT_BYTES = 4 << 30
_UNPACKING_LIMIT = 20  # times the file's size; weights hardly shrink when they are packed
_COUNT_LIMIT = 50_000
_NAME_LIMIT = 300
_DEPTH_LIMIT = 3
# Where training programs put the weights within a checkpoint, the likeliest first: of a self-distilled pair
# (DINO) the teacher is the one to use.
CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "student", "network_weights", "network")
_BYTEARRAY = b"\nbytearray\n"
_REMEDY = (
    "Give a state dict as .pth (torch.save of model.state_dict()), .safetensors or .npz; if this file should be "
    "one, fetch it again"
)
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    ArithmeticError,
    ImportError,
    MemoryError,
    struct.error,
    pickle.PickleError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class StateFile:
    """The tensors of a weights file.

    Attributes
    ----------
    tensors : name -> tensor on the CPU; floating point ones as finite float32.
    container : where in the file they were, for example "state_dict"; "" at the top.
    """

    tensors: dict[str, Tensor]
    container: str


def read_state_file(path: str | Path) -> StateFile:
    """Read a state dict from a file that torch, safetensors or NumPy wrote; the content tells which.

    A torch file may hold a checkpoint with the state dict inside (see ``CONTAINERS``). Code in a pickle is
    not run: such a file is refused.

    Raises
    ------
    InputError : the file is missing, damaged or no weights file; it holds code, unpacks to far more than its
        size, or holds values that are not finite.
    MissingPackageError : a .safetensors file, and the package safetensors is not installed.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            head = stream.read(512)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"the weights file {path} cannot be read ({error.strerror})", "Check the path") from error
    if size > _SIZE_LIMIT_BYTES:
        raise InputError(f"the weights file {path} is larger than {_SIZE_LIMIT_BYTES >> 30} GB", _REMEDY)
    if (other := _what_else(head)) is not None:
        raise InputError(f"the weights file {path} is {other}, not a state dict", _REMEDY)
    try:
        content = _read(path, head, size)
    except _UNREADABLE as error:
        raise InputError(f"the weights file {path} is not a state dict ({_reason(error)})", _REMEDY) from error
    content, container = _innermost(content)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"the weights file {path} holds {_kind_of(content)}, not a state dict", _REMEDY)
    if len(content) > _COUNT_LIMIT:
        raise InputError(f"the weights file {path} holds {len(content)} tensors", _REMEDY)
    try:
        tensors = {_checked_name(name, path): _checked(name, value, path) for name, value in content.items()}
    except (RuntimeError, MemoryError) as error:
        raise InputError(f"the weights file {path} is not a state dict ({_reason(error)})", _REMEDY) from error
    return StateFile(tensors, container)


def _what_else(head: bytes) -> str | None:
    """Name of something that is often found in the place of a weights file."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "empty"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith(b"version https://git-lfs"):
        return "a pointer to a file in Git LFS"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file (Keras)"
    return None


def _read(path: Path, head: bytes, size: int) -> Any:
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > min(_UNPACKING_LIMIT * size, _SIZE_LIMIT_BYTES):
            raise ValueError(f"it unpacks to {unpacked / 1e6:.0f} MB from {size / 1e6:.1f} MB")
        if all(entry.filename.endswith(".npy") for entry in entries):
            return _read_npz(path)
        with zipfile.ZipFile(path) as archive:
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    _require_no_allocator(archive.read(entry))
    elif head[8:9] == b"{":
        return _read_safetensors(path)
    else:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _require_no_allocator(content)
    # Training programs like to leave their options in a checkpoint; a Namespace holds names and values only.
    allow = getattr(torch.serialization, "safe_globals", None)
    with warnings.catch_warnings(), allow([Namespace]) if allow else nullcontext():
        warnings.simplefilter("ignore")  # torch warns of odd pickles, which are refused
        return torch.load(path, map_location="cpu", weights_only=True)


def _require_no_allocator(content: bytes | mmap.mmap) -> None:
    """torch builds a bytearray of any length that a pickle asks for, which could fill the memory."""
    if content.find(_BYTEARRAY) >= 0:
        raise pickle.UnpicklingError("GLOBAL bytearray")


def _read_npz(path: Path) -> dict[str, Tensor]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingPackageError(
            f"the weights file {path} needs the Python package safetensors", "Install safetensors"
        ) from error
    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _innermost(content: Any) -> tuple[Any, str]:
    """The state dict in a checkpoint, and where it was."""
    names: list[str] = []
    for _ in range(_DEPTH_LIMIT):
        if not isinstance(content, Mapping):
            break
        inner = next((name for name in CONTAINERS if isinstance(content.get(name), Mapping) and content[name]), None)
        if inner is None:
            break
        content = content[inner]
        names.append(inner)
    return content, ".".join(names)


def _checked_name(name: Any, path: Path) -> str:
    if not isinstance(name, str) or len(name) > _NAME_LIMIT or not name.isprintable():
        raise InputError(f"the weights file {path} is not a state dict (a name {ascii(name)[:60]})", _REMEDY)
    return name


def _checked(name: str, value: Any, path: Path) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(
            f"the weights file {path} is not a state dict ({name!r} is {_kind_of(value)}, not a tensor)", _REMEDY
        )
    value = value.detach()
    is_plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    # A tensor may repeat a few stored values without end: strides of 0.
    if not is_plain or value.is_complex() or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise InputError(
            f"the weights file {path} is not a state dict ({name!r} is no plain tensor of real numbers)", _REMEDY
        )
    if not value.is_floating_point():
        return value
    value = value.float()
    if not torch.isfinite(value).all():
        raise InputError(f"the weights file {path} holds values that are not finite ({name})", "Give another file")
    return value


def _reason(error: BaseException) -> str:
    """An error of a foreign reader in a few words."""
    text = str(error).strip()
    if isinstance(error, pickle.UnpicklingError):
        if "GLOBAL" in text or "global" in text:
            return "it holds code or objects that are no tensors, which are never loaded"
        return "it is no weights file, or a damaged one"
    line = (text or type(error).__name__).splitlines()[0][:120].rstrip(".: ")
    return line if line.isprintable() else ascii(line)


def _kind_of(value: object) -> str:
    return f"a {type(value).__name__}"
