"""The Advanced part of the XTL Segment panel: what is asked of a segmentation beyond the usual.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from typing import Any

from .brain_extraction import brain_modules
from .worker_run import BUILT_IN, Around


class AdvancedSection:
    """Mirrored views, bias correction, brain mask and tissue segmentation.

    Parameters
    ----------
    ui : has ``brainMethodComboBox``.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._methods: tuple[str, ...] = ()
        self._parameters: Any = None

    def update(self, parameters: Any) -> None:
        """Show what the parameter node says."""
        self._parameters = None  # what is set here was not chosen by the user
        box, chosen = self._ui.brainMethodComboBox, parameters.brainMethod
        methods = ("", BUILT_IN, *brain_modules())
        methods += () if chosen in methods else (chosen,)  # of a scene from elsewhere: Apply says what is missing
        if methods != self._methods:
            self._methods = methods
            box.clear()
            for method in methods:
                box.addItem(_text(method))
        box.currentIndex = methods.index(chosen)
        box.enabled = parameters.brainMask is None
        self._parameters = parameters

    def release(self) -> None:
        """Let go of the scene."""
        self._parameters = None

    def method_chosen(self, index: int) -> None:
        """A way to a brain mask was chosen in the list."""
        if self._parameters is not None and 0 <= index < len(self._methods):
            self._parameters.brainMethod = self._methods[index]


def options_of(parameters: Any) -> dict[str, Any]:
    """The options of inference.segment.segment_case that a parameter node asks for."""
    own = parameters.useBundleSettings
    return {
        "threshold": None if own else parameters.threshold,
        "minimum_volume_mm3": None if own else parameters.minimumVolume,
        "register": parameters.register,
        "mirror": parameters.mirror,
        "bias_correction": True if parameters.biasCorrection else None,
    }


def around_of(parameters: Any) -> Around:
    """The brain mask and the tissue segmentation that a parameter node names."""
    return Around(parameters.brainMask, parameters.brainMethod, parameters.tissue)


def _text(method: str) -> str:
    from slicer.i18n import tr as _

    if not method:
        return _("The whole image")
    return _("A mask by the built-in method") if method == BUILT_IN else _("A mask by {name}").format(name=method)
