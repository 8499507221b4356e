"""Python packages inside Slicer: asked for at the moment they are needed, with the user's consent."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingPackageError

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
    _ensure_torch()
    if training:
        import slicer.packaging

        requirements = slicer.packaging.load_requirements(REQUIREMENTS)
        try:
            slicer.packaging.pip_ensure(requirements, requester=requester)
        except RuntimeError as error:  # the user declined
            names = ", ".join(str(requirement) for requirement in requirements)
            raise MissingPackageError(
                f"training needs the Python packages {names}", "Press Apply again and agree to their installation"
            ) from error


def _ensure_torch() -> None:
    if find_spec("torch") is not None:
        return
    try:
        import PyTorchUtils
    except ImportError as error:
        raise MissingPackageError(
            "PyTorch is not installed, and the extension PyTorch that installs it is missing",
            "Install the extension PyTorch in the Extensions Manager, restart Slicer and try again",
        ) from error
    torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=MINIMUM_TORCH)
    if torch is None:
        raise MissingPackageError(
            "PyTorch is not installed", "Try again and agree to its installation, or open the module PyTorch Utils"
        )
