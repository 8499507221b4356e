"""``PyTorchUtils`` of the extension PyTorch: installs nothing.

Names and parameters are those of github.com/fepegar/SlicerPyTorch, PyTorchUtils/PyTorchUtils.py of 2024-04-24; a test
compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CalledProcessError
from typing import Any


class PyTorchUtilsLogic:
    """Prints what it is told to, and then has installed torch, or not."""

    asked: list[dict[str, Any]] = []
    lines: tuple[str, ...] = ()
    code: int = 0
    effect: Callable[[], None] | None = None

    def installTorch(
        self,
        askConfirmation: bool = False,
        forceComputationBackend: str | None = None,
        torchVersionRequirement: str | None = None,
        torchvisionVersionRequirement: str | None = None,
    ) -> Any:
        self.asked.append({"askConfirmation": askConfirmation, "torchVersionRequirement": torchVersionRequirement})
        for line in self.lines:
            print(line)
        if self.code:
            raise CalledProcessError(self.code, "light_the_torch")
        if type(self).effect is not None:
            type(self).effect()
        return object()
