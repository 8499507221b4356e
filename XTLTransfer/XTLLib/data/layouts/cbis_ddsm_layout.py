"""CBIS-DDSM: digitised film mammograms with the pathology and outlines of masses and calcifications.

Lee RS et al., Sci Data 2017;4:170177, doi 10.1038/sdata.2017.177; images at The Cancer Imaging Archive.
Four tables name the images, ``{mass,calc}_case_description_{train,test}_set.csv``, one row an abnormality:

* newlines inside quoted paths; ``breast_density`` or ``breast density``;
* a variant of 2017 with ``side``, ``view``, ``abn_num``, ``od_img_path``, ``mask_path`` and backslashes;
* the paths of the cropped image and of the mask lie in one folder and are exchanged in some rows: the mask is
  the image that is as large as the film;
* downloads keep the paths of the tables, or name folders by series UID, or by subject, and files 1-1.dcm.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..datalist import Datalist
from ..mammogram import SUFFIXES, film_shape
from ..tables import Row, read_table
from .common import choose
from .films import FilmFacts, film_datalist

TARGETS = ("cancer", "density", "view", "laterality", "view-laterality", "lesions", "none")
LICENCE = "CC BY 3.0"
_TABLE = re.compile(r"(?i).*?(mass|calc)_case_description_(train|test)_set\.csv")
_PATHOLOGIES = {"MALIGNANT": "malignant", "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"}
_COLUMNS = {
    "density": ("breast_density", "breast density"),
    "side": ("left or right breast", "side"),
    "view": ("image view", "view"),
    "kind": ("abnormality type", "abnormality_type"),
    "film": ("image file path", "od_img_path"),
    "crop": ("cropped image file path", "od_crop_path"),
    "mask": ("ROI mask file path", "mask_path"),
}
_SHAPE_TOLERANCE = 0.02


@dataclass(frozen=True)
class _Abnormality:
    """One row of a table; paths are as written there, with slashes."""

    patient: str
    side: str
    view: str
    density: str
    kind: str
    severity: str
    film: str
    crop: str
    mask: str
    is_test: bool


def read(source: Path, target: str = "cancer", tables: str = "") -> Datalist:
    """Read CBIS-DDSM.

    Parameters
    ----------
    source : a folder above the images.
    target : what the labels say: "cancer" (malignant against benign, with or without callback), "density"
        (1 to 4), "view" (CC or MLO), "laterality", "view-laterality"; "lesions": the outlines as masks;
        "none": no labels.
    tables : folder with the case description tables; when empty, they lie in ``source`` or below it.

    Each entry is one view of one breast. Its abnormalities, from both kinds of tables, make one entry:
    malignant when one of them is. The official parts are kept, as training and test; a patient who is
    in both (of different kinds of tables) is put into training with all films, and named in the
    description. Views whose image is not there are left out and counted.

    Raises
    ------
    InputError : no tables, a row that cannot be understood, or no image under ``source``.
    """
    choose("cbis-ddsm", "target", target, TARGETS)
    rows = _abnormalities(Path(os.path.abspath(tables)) if tables else source, source)
    files = _Files(source, rows)
    parts: dict[str, set[bool]] = {}
    views: dict[tuple[str, str, str], list[_Abnormality]] = {}
    for row in rows:
        parts.setdefault(row.patient, set()).add(row.is_test)
        views.setdefault((row.patient, row.side, row.view), []).append(row)
    in_both = sorted(patient for patient, tested in parts.items() if len(tested) == 2)
    films = []
    for (patient, side, view), found in sorted(views.items()):
        path = next((path for row in found if (path := files.film(row))), None)
        if path is None:
            continue
        masks = files.masks(found, path) if target in ("cancer", "lesions") else ()
        is_test = True in parts[patient] and patient not in in_both
        films.append(FilmFacts(patient, f"{patient}-{side}-{view}", path, _attributes(found), masks, is_test))
    missing = len(views) - len(films)
    if not films:
        raise InputError(
            f"none of the {len(views)} views that the tables name has an image under {source}",
            "Download the images from The Cancer Imaging Archive, and name the folder above them",
        )
    told = f"{len(films)} views of {len({film.patient for film in films})} patients"
    told += f"; {missing} without an image left out" if missing else ""
    told += f"; in both official parts, now in training: {', '.join(in_both)}" if in_both else ""
    return film_datalist(films, "cbis-ddsm", "CBIS-DDSM", target, LICENCE, told, source)


def _attributes(rows: list[_Abnormality]) -> dict[str, str]:
    facts = {
        "severity": "malignant" if any(row.severity == "malignant" for row in rows) else "benign",
        "view": rows[0].view,
        "laterality": rows[0].side,
        "density": next((row.density for row in rows if row.density in ("1", "2", "3", "4")), ""),
        "classes": ";".join(sorted({row.kind for row in rows})),
        "abnormalities": str(len(rows)),
    }
    return {name: value for name, value in facts.items() if value}


def _abnormalities(folder: Path, source: Path) -> list[_Abnormality]:
    tables: dict[tuple[str, str], Path] = {}
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names, key=lambda name: (len(name), name)):  # the plain name before its variants
            match = _TABLE.fullmatch(name)
            if match:
                tables.setdefault((match.group(1).lower(), match.group(2).lower()), Path(root) / name)
    if not tables:
        raise InputError(
            f"{folder} holds no table such as mass_case_description_train_set.csv",
            "Put the tables there, or name their folder with the option tables",
        )
    # Masses first: where a view has one image in each collection, that of the mass is shown.
    return [
        _abnormality(row, part == "test")
        for (_, part), path in sorted(tables.items(), reverse=True)
        for row in read_table(path, ("patient_id", "pathology"))
    ]


def _abnormality(row: Row, is_test: bool) -> _Abnormality:
    facts = {}
    for fact, names in _COLUMNS.items():
        column = next((name for name in names if name in row.values), None)
        if column is None:
            raise InputError(f"{row.where}: the table has no column '{names[0]}'", "Take the table as published")
        facts[fact] = row[column]
    side, view, severity = facts["side"].upper()[:1], facts["view"].upper(), _PATHOLOGIES.get(row["pathology"].upper())
    for fact, value, is_known in (
        ("breast", facts["side"], side in ("L", "R")),
        ("view", view, view in ("CC", "MLO")),
        ("pathology", row["pathology"], severity is not None),
        ("patient", row["patient_id"], bool(row["patient_id"])),
    ):
        if not is_known:
            raise InputError(f"{row.where} has the {fact} '{value}'", "Take the table as published")
    paths = {name: facts[name].replace("\\", "/").strip("/") for name in ("film", "crop", "mask")}
    kind = facts["kind"].lower() or "abnormality"
    return _Abnormality(row["patient_id"], side, view, facts["density"], kind, severity, **paths, is_test=is_test)


class _Files:
    """The images under a folder by the names that the tables' paths hold: series UID and subject."""

    def __init__(self, source: Path, rows: Iterable[_Abnormality]) -> None:
        self._by_name: dict[str, list[str]] = {}
        wanted = {name for row in rows for path in (row.film, row.crop, row.mask) for name in _names(path)}
        for root, folders, files in os.walk(source):
            folders.sort()
            above = [part for part in Path(os.path.relpath(root, source)).parts if part in wanted]
            for file in sorted(files):
                stem, suffix = os.path.splitext(file)
                if suffix.lower() in SUFFIXES:
                    for name in {*above, *([stem] if stem in wanted else [])}:
                        self._by_name.setdefault(name, []).append(os.path.join(root, file))

    def film(self, row: _Abnormality) -> str | None:
        """The image of the whole film, None when it is not there."""
        return next(iter(self._found(row.film)), None)

    def masks(self, rows: list[_Abnormality], film: str) -> tuple[str, ...]:
        """The masks on the film's grid of those rows that have one."""
        shape = film_shape(film)
        masks = []
        for row in rows:
            found = dict.fromkeys([*self._found(row.mask), *self._found(row.crop)])
            shapes = {path: film_shape(path) for path in found if path != film}
            # The cropped image beside it is smaller, and seldom of the film's proportions.
            fitting = [path for path in shapes if shapes[path] == shape]
            fitting += sorted((path for path in shapes if _is_alike(shapes[path], shape)), key=lambda p: -shapes[p][0])
            masks += fitting[:1]
        return tuple(dict.fromkeys(masks))

    def _found(self, path: str) -> list[str]:
        """Files of the path's series, else of its subject; the file of that name first."""
        found = next((self._by_name[name] for name in _names(path) if name in self._by_name), [])
        stem = Path(path).stem
        return sorted(found, key=lambda file: (Path(file).stem != stem, file))


def _names(path: str) -> list[str]:
    """The series UID and the subject of a table's path ``subject/study/series/file``."""
    parts = path.split("/")
    return [parts[-2], parts[0]] if len(parts) >= 3 else []


def _is_alike(shape: tuple[int, int], film: tuple[int, int]) -> bool:
    """Whether an image of ``shape`` may be the film's mask in another size: as large about, and of one aspect."""
    ratios = [n / m for n, m in zip(shape, film)]
    return min(ratios) > 0.5 and abs(ratios[0] / ratios[1] - 1) <= _SHAPE_TOLERANCE
