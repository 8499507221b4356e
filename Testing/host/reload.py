"""Save the scene, close it and open it again, as a user does between two days."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any


def save_and_reload(scene: Any, folder: Path) -> None:
    """Save ``scene`` as an MRB in ``folder``, close it, and open what was saved."""
    from XTLLib.scene.export import save_scene

    save_scene(scene, folder / "saved.mrb")
    with zipfile.ZipFile(folder / "saved.mrb") as archive:
        archive.extractall(folder)
    (file,) = folder.rglob("*.mrml")
    scene.Clear(0)
    scene.SetURL(str(file))
    assert scene.Import(), f"{file} cannot be opened"
