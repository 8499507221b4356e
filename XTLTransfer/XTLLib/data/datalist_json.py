"""The datalist file: the Medical Segmentation Decathlon's JSON, which MONAI reads, with a block of our own.

``monai.data.load_decathlon_datalist(file, data_list_key="training")`` gives the entries with their
paths resolved. ``image`` is a list in the order of ``modality``, or one path when one file holds all
channels. The block ``xtl`` keeps what MONAI's format has no word for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError
from ..files import atomic_file
from .case import Finding
from .datalist import PARTS, Datalist, Entry
from .tables import nearest

_REMEDY = "Write the datalist again with: xtl data LAYOUT SOURCE --out datalist.json"
_ENTRY_KEYS = ("image", "label", "patient", "case", "row", "finding", "attributes", "further_masks")


def write_datalist(datalist: Datalist, path: str | os.PathLike) -> None:
    """Write a datalist, whole or not at all. Paths below the file's folder are relative, others absolute."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"the datalist {path} is a folder", "Name a file, for example datalist.json")
    folder = os.path.abspath(path.parent)
    document = {
        "name": datalist.name,
        "description": datalist.description,
        "licence": datalist.licence,
        "tensorImageSize": "2D" if datalist.has_mammograms else "3D",
        "modality": {str(index): channel for index, channel in enumerate(datalist.channels)},
        "labels": dict(datalist.labels),
        "numTraining": len(datalist.training),
        "numValidation": len(datalist.validation),
        "numTest": len(datalist.test),
        **{part: [_to_json(entry, datalist, folder) for entry in getattr(datalist, part)] for part in PARTS},
        "xtl": {
            "layout": datalist.layout,
            "task": datalist.task,
            "reference": datalist.reference,
            "split": "by patient: no patient stands in two parts",
        },
    }
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_datalist(path: str | os.PathLike, check_files: bool = True) -> Datalist:
    """Read a datalist and check it; see Datalist.load."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the datalist {path} does not exist", "Check the path, or write it with xtl data")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"the datalist {path} is not UTF-8 text", _REMEDY) from error
    except json.JSONDecodeError as error:
        raise InputError(f"the datalist {path}, line {error.lineno}, is not JSON ({error.msg})", _REMEDY) from error
    xtl = _get(document, "xtl", dict, str(path))
    modality = _get(document, "modality", dict, str(path))
    channels = tuple(str(modality[index]) for index in sorted(modality, key=_as_index))
    parts = {}
    for part in PARTS:
        items = _get(document, part, list, str(path))
        parts[part] = tuple(_from_json(item, f"{path}, {part}[{n}]", channels, path) for n, item in enumerate(items))
    layout, task, reference = (_get(xtl, key, str, f"{path}, xtl") for key in ("layout", "task", "reference"))
    labels = {str(key): str(value) for key, value in _get(document, "labels", dict, str(path)).items()}
    try:
        datalist = Datalist(
            name=str(document.get("name", path.stem)),
            layout=layout,
            task=task,
            channels=channels,
            reference=reference,
            labels=labels,
            licence=str(document.get("licence", "")),
            description=str(document.get("description", "")),
            **parts,
        )
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.remedy) from error
    if not datalist.entries:
        raise InputError(f"the datalist {path} has no entries", _REMEDY)
    if check_files:
        require_files(datalist, path)
    return datalist


def require_files(datalist: Datalist, path: str | os.PathLike) -> None:
    """Raise InputError, naming the first few and the count, when files of the datalist at ``path`` are gone."""
    needed = dict.fromkeys(file for entry in datalist.entries for file in entry.files())
    gone = [file for file in needed if not os.path.exists(file)]
    if gone:
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        raise InputError(
            f"the datalist {path} names {len(gone)} of {len(needed)} files that do not exist: "
            f"{', '.join(gone[:3])}{more}",
            "Put the files back, or write the datalist again with xtl data where they are now",
        )


def _to_json(entry: Entry, datalist: Datalist, folder: str) -> dict[str, Any]:
    paths = [_shorten(entry.images[channel], folder) for channel in datalist.channels]
    shared = len(set(paths)) == 1
    item: dict[str, Any] = {"image": paths[0] if shared else paths}
    if entry.label is not None:
        item["label"] = _shorten(entry.label, folder) if isinstance(entry.label, str) else entry.label
    item.update(patient=entry.patient, case=entry.case)
    if entry.row is not None:
        item["row"] = entry.row
    if entry.finding is not None:
        finding = entry.finding
        item["finding"] = {"identifier": finding.identifier, "position_ras": list(finding.position_ras)}
        item["finding"].update(zone=finding.zone, significant=finding.significant)
    if entry.attributes:
        item["attributes"] = dict(entry.attributes)
    if entry.further_masks:
        item["further_masks"] = [_shorten(mask, folder) for mask in entry.further_masks]
    return item


def _from_json(item: Any, where: str, channels: tuple[str, ...], path: Path) -> Entry:
    if not isinstance(item, dict):
        raise InputError(f"{where} is not an object with keys", _REMEDY)
    unknown = [key for key in item if key not in _ENTRY_KEYS]
    if unknown:
        close = nearest(unknown[0], _ENTRY_KEYS)
        raise InputError(
            f"{where} has the unknown key {unknown[0]}", f"Did you mean {close}" if close else "Take the key out"
        )
    folder = os.path.abspath(path.parent)
    image = _get(item, "image", (str, list), where)
    paths = [image] * len(channels) if isinstance(image, str) else image
    if len(paths) != len(channels):
        raise InputError(
            f"{where} has {len(paths)} images for {len(channels)} channels ({', '.join(channels)})", _REMEDY
        )
    label = item.get("label")
    if isinstance(label, str):
        label = _lengthen(label, folder)
    return Entry(
        patient=_get(item, "patient", str, where),
        case=_get(item, "case", str, where),
        images={channel: _lengthen(_text(one, where), folder) for channel, one in zip(channels, paths)},
        label=label,
        finding=_finding(item["finding"], where) if item.get("finding") else None,
        row=_get(item, "row", int, where) if "row" in item else None,
        attributes={str(k): str(v) for k, v in _get(item, "attributes", dict, where, {}).items()},
        further_masks=tuple(
            _lengthen(_text(mask, where), folder) for mask in _get(item, "further_masks", list, where, [])
        ),
    )


def _finding(item: Any, where: str) -> Finding:
    where = f"{where}, finding"
    position = _get(item, "position_ras", list, where)
    try:
        r, a, s = (float(value) for value in position)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} has the position {position}", "Give three numbers: r, a, s in mm") from error
    return Finding(_get(item, "identifier", str, where), (r, a, s), str(item.get("zone", "")), item.get("significant"))


def _get(mapping: Any, key: str, kind: type | tuple[type, ...], where: str, default: Any = None) -> Any:
    if default is not None and key not in mapping:
        return default
    if not isinstance(mapping, dict) or key not in mapping:
        close = nearest(key, mapping) if isinstance(mapping, dict) else ""
        remedy = f"Rename {close} to {key}" if close else _REMEDY
        raise InputError(f"the datalist {where} has no {key}", remedy)
    if not isinstance(mapping[key], kind):
        raise InputError(f"the datalist {where} has a {key} of the wrong kind ({type(mapping[key]).__name__})", _REMEDY)
    return mapping[key]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{where} has a path that is not text", _REMEDY)
    return value


def _as_index(key: str) -> tuple[int, str]:
    return (int(key), key) if str(key).isdigit() else (1 << 30, str(key))


def _shorten(path: str, folder: str) -> str:
    path = os.path.abspath(path)
    inside = path.startswith(os.path.join(folder, ""))
    return PurePath(os.path.relpath(path, folder) if inside else path).as_posix()


def _lengthen(path: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, path))
