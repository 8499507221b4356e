"""Scene files that somebody has tampered with."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scene_cases import GRIDS, ball, segmentation_result
from web_scenes import save_results
from XTLLib.data.case import Case, Finding
from XTLLib.data.volume import Volume
from XTLLib.inference.classify import rated_case

MRML, FLAIR = "scene.mrml", "Data/FLAIR.nrrd"
ON = GRIDS["LPS"]


def good_scene(path: Path) -> Path:
    """A scene with a segmentation and a classification, as XTL writes it."""
    findings = (Finding("1", (16.0, -14.0, 25.0), "PZ"), Finding("2", (3.0, 2.0, 12.0), "TZ"))
    case = Case("p", {"T2W": Volume(100 * ball(ON), ON, "t2.nii.gz")}, "T2W", findings=findings)
    return save_results(path, segmentation_result(ON), rated_case(case, np.array([0.7, 0.2]), "a model"))


def members(scene: Path) -> dict[str, bytes]:
    """Name -> content of an MRB file's members."""
    with zipfile.ZipFile(scene) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def repacked(scene: Path, target: Path, changes: Mapping[str, bytes | Callable[[bytes], bytes] | None]) -> Path:
    """A copy of an MRB file in which members were changed.

    Parameters
    ----------
    changes : end of a member's name (of any number of members), or a new member's whole name -> its new content,
        what makes it of the old, or None to leave it out.
    """
    content = members(scene)
    for end, change in changes.items():
        found = [name for name in content if name.endswith(end)]
        assert found or isinstance(change, bytes), f"no member {end}"
        for name in found or [end]:
            if change is None:
                del content[name]
            else:
                content[name] = change if isinstance(change, bytes) else change(content[name])
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return target


def swapped(old: str, new: str) -> Callable[[bytes], bytes]:
    """Replaces words that have to be there."""

    def swap(content: bytes) -> bytes:
        assert old.encode() in content, f"nothing says {old}"
        return content.replace(old.encode(), new.encode())

    return swap


def attribute(node: str, key: str, value: str) -> dict[str, Callable[[bytes], bytes]]:
    """The attribute of the node that is called so gets a value, as MRML writes it."""

    def change(content: bytes) -> bytes:
        root = ElementTree.fromstring(content)
        (element,) = (one for one in root if one.get("name") == node)
        others = [one for one in element.get("attributes").split(";") if not one.startswith(f"{key}:")]
        text = value.replace("%", "%25").replace(";", "%3B")
        element.set("attributes", ";".join((*others, f"{key}:{text}")))
        return ElementTree.tostring(root)

    return {MRML: change}
