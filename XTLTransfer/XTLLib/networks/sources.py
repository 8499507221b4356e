"""Where weights come from: a file, an address, or torchvision's ImageNet weights; and what may be done with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ..errors import InputError
from ..files import sha256_of
from ..progress import Progress
from .download import cache_folder, download, is_address, shown_address
from .state_files import SUFFIXES

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
_MEDICALNET_LICENCE = "not stated in the file; MedicalNet's own files are under the MIT licence"
_UNKNOWN_LICENCE = "not stated in the file; see where it came from"


@dataclass(frozen=True)
class LocatedWeights:
    """A weights file on this computer.

    Attributes
    ----------
    path : the file. origin : its path or the address it was fetched from, for a message or a record.
    """

    path: Path
    origin: str


def locate(
    source: str,
    backbone: str,
    sha256: str | None,
    allow_download: bool,
    base_url: str = IMAGENET_URL,
    progress: Progress | None = None,
) -> LocatedWeights:
    """The file that ``source`` means, fetched into ``XTL_HOME/weights`` when that is needed and allowed.

    What was fetched is kept by its SHA-256 and taken from there the next time.

    Raises
    ------
    InputError : there is no such file; an address without its whole SHA-256; or the file is not on this
        computer and may not be, or cannot be, fetched.
    """
    if source == IMAGENET:
        file = IMAGENET_FILES[backbone]
        url = base_url.rstrip("/") + "/" + file
        return _kept(url, cache_folder() / file, _hash_in_name(file), allow_download, progress)
    if is_address(source):
        shown = shown_address(source)
        if re.fullmatch("[0-9a-fA-F]{64}", sha256 or "") is None:
            raise InputError(
                f"the weights at {shown} are named without their SHA-256",
                "Add sha256 with the 64 digits that the source states",
            )
        suffix = PurePosixPath(urlsplit(shown).path).suffix.lower()
        name = sha256.lower() + (suffix if suffix in SUFFIXES else ".pth")
        return _kept(source, cache_folder() / name, sha256.lower(), allow_download, progress)
    path = Path(source)
    if not path.is_file():
        raise InputError(f"the weights file {path} does not exist", f"Check the path, or write {IMAGENET}")
    return LocatedWeights(path, source)


def licence_of(sha256: str, layout: str) -> str:
    """What is known of the licence of a file with this hash and this layout of names."""
    if any(sha256.startswith(_hash_in_name(file)) for file in IMAGENET_FILES.values()):
        return _IMAGENET_LICENCE
    return _MEDICALNET_LICENCE if layout == "medicalnet" else _UNKNOWN_LICENCE


def _kept(url: str, path: Path, sha256: str, allow_download: bool, progress: Progress | None) -> LocatedWeights:
    shown = shown_address(url)
    if not (path.is_file() and sha256_of(path).startswith(sha256)):
        if not allow_download:
            raise InputError(
                f"the weights of {shown} are not on this computer ({path})",
                f"Allow the download, or fetch {shown} and give the path of the file",
            )
        download(url, path, sha256, progress)
    return LocatedWeights(path, shown)


def _hash_in_name(file: str) -> str:
    return file.rpartition("-")[2].partition(".")[0]
