"""Readers of public layouts, one a file, each giving a datalist whose entries all stand in the training part."""

from __future__ import annotations

import importlib
import inspect
import os
from pathlib import Path

from ...errors import InputError
from ..datalist import Datalist
from ..tables import nearest

LAYOUTS = ("mias", "cbis-ddsm", "dicom-mg", "open-ms", "isbi2015", "prostatex", "prostatex-patches", "picai", "csv")


def read_layout(layout: str, source: str | os.PathLike, **options: str) -> Datalist:
    """Read ``source``, which is laid out as ``layout`` says, into a datalist; split it afterwards.

    Parameters
    ----------
    layout : one of LAYOUTS.
    source : the folder (``csv``: the table) to read.
    options : of that layout; see the reader's ``read`` function.

    Raises
    ------
    InputError : unknown layout or option, or a source that does not hold what the layout promises.
    """
    if layout not in LAYOUTS:
        close = nearest(layout, LAYOUTS)
        raise InputError(
            f"there is no layout {layout} (there are: {', '.join(LAYOUTS)})",
            f"Did you mean {close}" if close else "Choose one of them",
        )
    source = Path(os.path.abspath(source))
    if not source.exists():
        raise InputError(f"the source {source} of the layout {layout} does not exist", "Check the path")
    read = importlib.import_module(f".{layout.replace('-', '_')}_layout", __package__).read
    known = list(inspect.signature(read).parameters)[1:]
    for name in options:
        if name not in known:
            raise InputError(
                f"the layout {layout} has no option {name}",
                f"Its options are: {', '.join(known)}" if known else "Leave it out",
            )
    return read(source, **options)
