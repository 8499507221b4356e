"""A model for somebody else: the bundle as a folder or zip archive, or its network alone for other programs."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import InputError
from ..files import atomic_file, atomic_folder
from ..progress import Progress
from .compiled import PARITY, write_compiled
from .hashes import bundle_files
from .load import read_bundle
from .verify import verify_bundle

ExportFormat = Literal["folder", "zip", "torchscript", "torch-export", "onnx"]
FORMATS = get_args(ExportFormat)
_SUFFIXES = {"zip": ".zip", "torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx"}
_WEIGHTS_FOLDER = "models/"  # tensors do not shrink
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the archive of one bundle is the same file at any time


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : the folder or file.
    difference : of a network alone: largest difference of a logit from the bundle's own network, over the
        largest logit, on random inputs; None for a whole bundle.
    sizes : the inputs (N, C, D, H, W) on which that was found.
    """

    path: Path
    difference: float | None = None
    sizes: tuple[tuple[int, ...], ...] = ()


def export_bundle(
    bundle: Path, out: str | os.PathLike, form: ExportFormat = "folder", progress: Progress | None = None
) -> Exported:
    """Write the bundle in the folder ``bundle`` to ``out``, whole or not at all.

    "folder" and "zip" hold the whole bundle. "torchscript", "torch-export" and "onnx" hold the network alone
    (float32, logits out; preparation and post-processing stand in their metadata): it is run again from the
    file and compared with the bundle's network on two random inputs, of different size where the network
    takes any. Nothing is written when a logit differs by more than ``PARITY`` of the largest.

    Raises
    ------
    InputError : the bundle does not agree with its records, ``out`` is in use, or the comparison failed.
    MissingPackageError : "onnx" without the packages onnx, onnxscript and onnxruntime.
    """
    bundle, out, progress = Path(bundle), Path(out), progress or Progress()
    if form not in FORMATS:
        raise InputError(f"there is no export format {form!r}", f"Choose one of {', '.join(FORMATS)}")
    _require_free_place(out, form)
    verified = verify_bundle(bundle, progress.part(0, 0.3))
    if not verified.agrees:
        raise InputError(
            f"{bundle} is not what its records say: {(*verified.changed, *verified.problems)[0]}",
            "Get the model again, or train it again",
        )
    if form == "folder":
        with atomic_folder(out) as draft:
            _copy(bundle, draft)
        exported = Exported(out)
    elif form == "zip":
        with atomic_file(out) as draft:
            _zip(bundle, draft, read_bundle(bundle).name)
        exported = Exported(out)
    else:
        with atomic_file(out) as draft:
            difference, sizes = write_compiled(read_bundle(bundle), draft, form, progress.part(0.3, 1.0))
            if not difference <= PARITY:
                raise InputError(
                    f"the exported network differs from the bundle's by {difference:.2g} of its largest logit",
                    "Export to another format, and report it",
                )
        exported = Exported(out, difference, sizes)
    progress.report("Exported", 1.0)
    return exported


def _require_free_place(out: Path, form: str) -> None:
    if form == "folder":
        return  # atomic_folder says
    if out.suffix.lower() != _SUFFIXES[form]:
        raise InputError(
            f"the file {out} is no name for the format {form}", f"Name a file that ends with {_SUFFIXES[form]}"
        )
    if out.exists():
        raise InputError(f"the file {out} exists already", "Name a new file")


def _copy(bundle: Path, draft: Path) -> None:
    for file in bundle_files(bundle):
        (draft / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / file, draft / file)


def _zip(bundle: Path, draft: Path, name: str) -> None:
    """The bundle in one folder of the archive, as MONAI's own archives are."""
    folder = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".") or "model"
    with zipfile.ZipFile(draft, "w") as archive:
        for file in bundle_files(bundle):
            method = zipfile.ZIP_STORED if file.startswith(_WEIGHTS_FOLDER) else zipfile.ZIP_DEFLATED
            info = zipfile.ZipInfo(f"{folder}/{file}", _EARLIEST)
            info.compress_type, info.external_attr = method, 0o100644 << 16
            with open(bundle / file, "rb") as stream, archive.open(info, "w", force_zip64=True) as out:
                shutil.copyfileobj(stream, out, 1 << 20)
