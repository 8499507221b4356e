"""The bundle's own threshold and minimum volume, until the user moves one of them."""

from __future__ import annotations

from typing import Any

LOWEST_THRESHOLD = 0.01
LARGEST_MINIMUM_MM3 = 1000.0


class BundleSettings:
    """Keeps ``threshold`` and ``minimumVolume`` of a parameter node those of the bundle while that is asked for.

    ``useBundleSettings`` is taken back as soon as the user moves one of the two.
    """

    def __init__(self) -> None:
        self._shown: tuple[float, float] | None = None

    def follow(self, parameters: Any, bundle: Any) -> None:
        """Called after every change of the parameters. ``bundle`` : the chosen one or None."""
        if bundle is None or not parameters.useBundleSettings:
            self._shown = None
            return
        own = (max(LOWEST_THRESHOLD, bundle.threshold), min(LARGEST_MINIMUM_MM3, bundle.minimum_volume_mm3))
        now = (parameters.threshold, parameters.minimumVolume)
        if self._shown == own and now != own:  # they were the bundle's, and the bundle is the same
            self._shown = None
            parameters.useBundleSettings = False
            return
        self._shown = own
        if now != own:
            modifying = parameters.StartModify()  # else the first looks like a move away from the second
            parameters.threshold, parameters.minimumVolume = own
            parameters.EndModify(modifying)

    def forget(self) -> None:
        """Another parameter node comes."""
        self._shown = None
