"""Python packages inside Slicer: asked for at the moment they are needed, with the user's consent."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingPackageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MINIMUM_TORCH = ">=2.3"
REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "XTLRequirements.txt"


def ensure_packages(requester: str, training: bool = False) -> None:
    """Make sure that PyTorch, and for training the packages of XTLRequirements.txt, can be imported.

    Meant for an Apply button: Slicer asks the user before it installs anything.

    Parameters
    ----------
    requester : the module's title, shown in Slicer's question.
    training : whether a chain is to be trained; applying a bundle needs PyTorch alone.

    Raises
    ------
    MissingPackageError : a package is missing and was not installed.
    """
    import slicer.packaging

    _ensure_torch(slicer.packaging.pip_check)
    if training:
        requirements = slicer.packaging.load_requirements(REQUIREMENTS)
        try:
            slicer.packaging.pip_ensure(requirements, requester=requester)
        except RuntimeError as error:  # the user declined
            names = ", ".join(str(requirement) for requirement in requirements)
            raise MissingPackageError(
                f"training needs the Python packages {names}", "Press Apply again and agree to their installation"
            ) from error


def _ensure_torch(pip_check: Callable[[Requirement], bool]) -> None:
    from packaging.requirements import Requirement

    if pip_check(Requirement(f"torch{MINIMUM_TORCH}")):
        return
    if find_spec("torch") is not None:
        raise MissingPackageError(
            f"PyTorch {version('torch')} is installed, XTL needs {MINIMUM_TORCH}",
            "Uninstall it in the module PyTorch Utils, restart Slicer and press Apply again",
        )
    try:
        import PyTorchUtils
    except ImportError as error:
        raise MissingPackageError(
            "PyTorch is not installed, and the extension PyTorch that installs it is missing",
            "Install the extension PyTorch in the Extensions Manager, restart Slicer and press Apply again",
        ) from error
    torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=MINIMUM_TORCH)
    if torch is None:
        raise MissingPackageError("PyTorch is not installed", "Press Apply again and agree to its installation")
