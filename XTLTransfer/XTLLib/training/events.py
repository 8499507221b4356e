"""The curves of a training as TensorBoard events, where the package ``tensorboard`` is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path


class Events:
    """Writes named numbers of steps into a folder; without the package it does nothing.

    Parameters
    ----------
    folder : of the event files; None writes none.
    step : from where on earlier events do not count, as a resumed training writes them anew.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer = None
        if folder is not None and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, figures: Mapping[str, float | None]) -> None:
        """The figures of a step; those that are None are left out."""
        if self._writer is not None:
            for name, value in figures.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Bring everything to the disk."""
        if self._writer is not None:
            self._writer.close()
