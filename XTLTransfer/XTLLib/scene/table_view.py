"""Tables as a panel shows them."""

from __future__ import annotations

from typing import Any

_ROWS = 12  # the first ones and those in view: a table of hundreds of lesions would hold the window up


def fit_columns(view: Any) -> None:
    """Give the columns of a table view the width of what stands in them, as its first rows and its header tell."""
    view.horizontalHeader().setResizeContentsPrecision(_ROWS)
    view.resizeColumnsToContents()
