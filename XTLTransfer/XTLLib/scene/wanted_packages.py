"""Which Python packages a user lacks, how large they are, and which build of PyTorch fits the computer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from ..inference.probe import IMPORT_NAMES

MINIMUM_TORCH = ">=2.3"
REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "XTLRequirements.txt"

# Megabytes to download and on disk, with what comes along. The sizes of wheels for Linux, Python 3.11, as pip says
# them, read in November 2026: torch 2.13.0+cpu 192 (754 installed), monai 1.6.1 1.7, pydantic 2.14.3 0.5 and
# pydantic-core 2.50.4 2.3, PyYAML 6.0.3 0.8, scikit-learn 1.9.1 9.3, tqdm 4.70.1 0.1. PyTorch's build for NVIDIA
# cards, with the CUDA libraries it brings, is an estimate. Only meant to tell minutes from hours.
_MEGABYTES = {"monai": (2, 10), "pydantic": (3, 10), "PyYAML": (1, 3), "scikit-learn": (10, 45), "tqdm": (1, 1)}
_TORCH_CPU, _TORCH_CUDA = (200, 800), (3000, 7000)
_UNKNOWN = (10, 40)


@dataclass(frozen=True)
class WantedPackage:
    """A package that is lacking.

    Attributes
    ----------
    name : of the distribution. specifier : acceptable versions, ">=2.3" for example.
    installed : the version that is there and does not suffice, or "incomplete"; "" for none.
    download_mb, disk_mb : roughly, with what comes along.
    build : of PyTorch, in words; "" for others.
    """

    name: str
    specifier: str
    installed: str
    download_mb: int
    disk_mb: int
    build: str = ""

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return self.name + self.specifier


def wanted_packages(training: bool) -> tuple[WantedPackage, ...]:
    """What is lacking for applying bundles, and for training where asked; PyTorch comes first.

    A package counts as there when its version suffices and its installation was finished: pip writes the list of a
    package's files last.
    """
    wanted = [(name, specifier) for name, specifier in _requirements(training) if not _suffices(name, specifier)]
    return tuple(_describe(name, specifier) for name, specifier in wanted)


def has_nvidia_driver() -> bool:
    """Whether this computer has a driver for NVIDIA graphics cards, so that PyTorch's CUDA build is chosen."""
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").is_file()
    return sys.platform == "linux" and Path("/proc/driver/nvidia/version").is_file()


def installed_version(name: str) -> str:
    """The version of a package that is installed; "incomplete" where its installation was interrupted, "" for none."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return ""
    # The list of files is written last. Its text is enough: ``files`` makes a path of each of torch's 15,000.
    is_whole = any(found.read_text(record) for record in ("RECORD", "installed-files.txt", "SOURCES.txt"))
    version = found.version  # each look reads all that the package says of itself
    if version is None or not is_whole or find_spec(IMPORT_NAMES.get(name, name)) is None:
        return "incomplete"
    return version


def _requirements(training: bool) -> Iterable[tuple[str, str]]:
    yield "torch", MINIMUM_TORCH
    if training:
        from packaging.requirements import Requirement

        for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith(("#", "-")):
                requirement = Requirement(line.strip())
                yield requirement.name, str(requirement.specifier)


def _suffices(name: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    installed = installed_version(name)
    if installed in ("", "incomplete"):
        return False
    return SpecifierSet(specifier).contains(installed, prereleases=True)


def _describe(name: str, specifier: str) -> WantedPackage:
    size, build = _MEGABYTES.get(name, _UNKNOWN), ""
    if name == "torch":
        with_gpu = has_nvidia_driver()
        size = _TORCH_CUDA if with_gpu else _TORCH_CPU
        build = "for NVIDIA graphics cards" if with_gpu else "for the processor"
    return WantedPackage(name, specifier, installed_version(name), *size, build)
