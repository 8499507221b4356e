"""What the readers of layouts share: options that are checked, and files that must be there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import InputError
from ..datalist import Entry

UNLABELLED = "unlabelled"


def choose(layout: str, option: str, value: str, allowed: Sequence[str]) -> str:
    """The option's value, or InputError that lists the allowed ones."""
    if str(value) not in allowed:
        raise InputError(f"the option {option} of the layout {layout} is {value}", f"Use one of: {', '.join(allowed)}")
    return str(value)


def require_entries(entries: Sequence[Entry], source: Path, expected: str) -> tuple[Entry, ...]:
    """The entries, or InputError when there are none or when files they name do not exist."""
    if not entries:
        raise InputError(f"{source} holds no {expected}", "Check that this is the folder that the layout describes")
    require_exist((file for entry in entries for file in entry.files()), source)
    return tuple(entries)


def require_exist(paths: Iterable[str | os.PathLike], source: Path) -> None:
    """Raise InputError naming the first few of the paths that do not exist, and their number."""
    gone = [str(path) for path in dict.fromkeys(paths) if not os.path.exists(path)]
    if gone:
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        raise InputError(
            f"{source} lacks {len(gone)} files: {', '.join(gone[:3])}{more}", "Complete the download, or check the path"
        )
