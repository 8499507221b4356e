"""The chain files that come with XTL."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
_PLACES = (_HERE.parents[1] / "Resources" / "Chains", _HERE.parent / "Resources" / "Chains")  # source, installed


@cache
def chain_presets() -> dict[str, Path]:
    """Name -> file, those of the paper that XTL follows first."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    found = sorted(folder.glob("*.yaml")) if folder else []
    ordered = sorted(found, key=lambda path: not path.stem.startswith(("xtl-", "tl-")))
    return {path.stem: path for path in ordered}
