"""Anybody's mammograms as DICOM (MG): a folder of files, what their tags say, and a table of labels where there is one.

Patients get pseudonyms. Of the headers nothing is kept but laterality, view and intent; file paths are kept
as they are, as they must be found again.

The table of labels (CSV) has one line a film, a breast or a patient, found by the first of these that it has:

========================  ============================================================================
file                      path, relative to the table's or the images' folder, or the file's name alone
sop_instance_uid          (or SOPInstanceUID)
patient, laterality, view PatientID as in the files; laterality and view may be missing or empty: any
========================  ============================================================================

and any of: severity (normal, benign, malignant), cancer (0, 1), abnormal (0, 1), density (1 to 4, or A to D),
mask (a path), circles_px ("x y radius" in pixels from the top left, separated by ";"), part (training, test).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..datalist import Datalist
from ..mammogram import read_film
from ..mammogram_dicom import FilmTags, is_dicom, read_header, require_pixels, tags_of
from ..tables import Row, read_table, unique_names
from .common import choose
from .films import FilmFacts, film_datalist

TARGETS = ("none", "cancer", "abnormal", "density", "view", "laterality", "view-laterality", "lesions")
_BY_TABLE = ("cancer", "abnormal", "density", "lesions")
_UID_COLUMNS = ("sop_instance_uid", "SOPInstanceUID")
_VALUES = {
    "severity": {name: name for name in ("normal", "benign", "malignant")},
    "cancer": {"0": "0", "1": "1"},
    "abnormal": {"0": "0", "1": "1"},
    "density": {**{n: n for n in "1234"}, **dict(zip("abcd", "1234"))},
    "part": {"training": "training", "test": "test"},
}


@dataclass(frozen=True)
class _File:
    """One mammogram; the identifiers of the header stay in here."""

    path: str
    tags: FilmTags
    patient_id: str
    study_uid: str
    sop_uid: str

    @property
    def shown(self) -> tuple[str, str, str, str]:
        return self.patient_id, self.study_uid, self.tags.laterality, self.tags.view


def read(
    source: Path,
    target: str = "none",
    labels: str = "",
    patients: str = "hashed",
    salt: str = "",
    check: str = "headers",
) -> Datalist:
    """Read a folder of DICOM mammograms.

    Parameters
    ----------
    source : a folder above the files; other modalities and multi-frame images (tomosynthesis) below it are left
        out and counted.
    target : what the labels say: by the tags "view" (CC or MLO), "laterality", "view-laterality"; by the table
        "cancer", "abnormal", "density", "lesions" (masks or circles); "none": no labels.
    labels : the table, see this file's docstring.
    patients : "hashed": pseudonyms, the same for a patient within the datalist; "plain": the PatientID.
    salt : text that the pseudonyms depend on; the same one gives a patient the same pseudonym in another
        folder. When empty, it is made of the identifiers of all films.
    check : "headers", or "pixels": every film is read too, and what is odd about it noted in its entry.

    Of a view that is there for presentation, the images FOR PROCESSING are left out and counted.

    Raises
    ------
    InputError : a DICOM file that is cut off or has no pixels, no mammogram, a table that fits no film.
    """
    choose("dicom-mg", "target", target, TARGETS)
    choose("dicom-mg", "patients", patients, ("hashed", "plain"))
    choose("dicom-mg", "check", check, ("headers", "pixels"))
    if target in _BY_TABLE and not labels:
        raise InputError(
            f"the target {target} of the layout dicom-mg needs a table, as no tag tells it",
            "Name the table with the option labels",
        )
    files, left_out = _mammograms(source)
    names = _pseudonyms(files, salt) if patients == "hashed" else {file: _identity(file) for file in files}
    given = _Labels(Path(os.path.abspath(labels)), source, files) if labels else None
    cases = unique_names([f"{names[f]}-{f.tags.laterality or 'X'}-{f.tags.view or 'X'}" for f in files])
    films = []
    for file, case in zip(files, cases):
        attributes, masks = {}, ()
        if given:
            attributes, masks = given.of(file)
        is_test = attributes.pop("part", "") == "test"
        attributes.update(_attributes(file.tags))
        notes = "; ".join(read_film(file.path).notes) if check == "pixels" else ""
        attributes.update({"note": notes} if notes else {})
        films.append(FilmFacts(names[file], case, file.path, attributes, masks, is_test))
    told = [f"{len(films)} films"]
    told += [f"{count} {what} left out" for what, count in sorted(left_out.items())]
    told += [f"{given.unused} lines of the table fit no film"] if given and given.unused else []
    noted = sum("note" in film.attributes for film in films)
    told += [f"{noted} with a note"] if noted else []
    return film_datalist(films, "dicom-mg", "DICOM mammograms", target, "", "; ".join(told), source)


def _attributes(tags: FilmTags) -> dict[str, str]:
    facts = {"laterality": tags.laterality, "view": tags.view, "intent": "processing" if tags.is_raw else ""}
    return {name: value for name, value in facts.items() if value}


def _mammograms(source: Path) -> tuple[list[_File], Counter]:
    found, left_out = [], Counter()
    for root, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            if name.startswith(".") or name.upper() == "DICOMDIR" or not is_dicom(path):
                continue
            dataset = read_header(path)
            tags = tags_of(dataset)
            if tags.modality != "MG":
                left_out["of other modalities"] += 1
            elif tags.frames > 1 or tags.is_tomosynthesis:
                left_out["multi-frame (tomosynthesis)"] += 1
            else:
                require_pixels(dataset, path)
                keys = ("PatientID", "StudyInstanceUID", "SOPInstanceUID")
                found.append(_File(str(path), tags, *(str(dataset.get(key) or "").strip() for key in keys)))
    if not found:
        there = ", ".join(f"{count} {what}" for what, count in left_out.items())
        raise InputError(
            f"{source} holds no DICOM mammograms" + (f" (left out: {there})" if there else ""),
            "Name a folder above files of the modality MG",
        )
    presented = {file.shown for file in found if not file.tags.is_raw}
    # Without laterality and view it cannot be told that two images show the same.
    kept = [f for f in found if not (f.tags.is_raw and f.tags.laterality and f.tags.view and f.shown in presented)]
    if len(kept) < len(found):
        left_out["FOR PROCESSING, there for presentation too,"] = len(found) - len(kept)
    return kept, left_out


def _identity(file: _File) -> str:
    """What tells the patient: the PatientID, else the study, else the file."""
    return file.patient_id or file.study_uid or file.sop_uid or file.path


def _pseudonyms(files: list[_File], salt: str) -> dict[_File, str]:
    """Names that cannot be turned back by trying identifiers, as the salt is known to nobody who lacks the files."""
    if not salt:
        salt = "\n".join(sorted(f"{file.sop_uid}\t{_identity(file)}" for file in files))
    key = hashlib.sha256(salt.encode()).digest()
    return {file: f"MG-{hashlib.sha256(key + _identity(file).encode()).hexdigest()[:12]}" for file in files}


class _Labels:
    """The table of labels, looked up by film."""

    def __init__(self, path: Path, source: Path, files: list[_File]) -> None:
        self._folder = path.parent
        rows = read_table(path)
        columns = list(rows[0].values) if rows else []
        self._uid = next((column for column in _UID_COLUMNS if column in columns), "")
        self._key = "file" if "file" in columns else self._uid or ("patient" if "patient" in columns else "")
        if not self._key:
            raise InputError(
                f"the table {path} has no column file, sop_instance_uid or patient (it has: {', '.join(columns)})",
                "Add one of them",
            )
        self._rows: dict[tuple[str, ...], Row] = {}
        for row in rows:
            key = self._key_of(row)
            if key in self._rows:
                raise InputError(f"{row.where} speaks of what an earlier line speaks of", "Keep one of them")
            self._rows[key] = row
        matched = {id(row) for file in files if (row := self._find(file, source)) is not None}
        self._by_path = {file.path: self._find(file, source) for file in files}
        self.unused = len(rows) - len(matched)
        if not matched:
            raise InputError(f"no line of the table {path} fits a film in {source}", f"Check its column {self._key}")

    def of(self, file: _File) -> tuple[dict[str, str], tuple[str, ...]]:
        """The film's attributes and masks by its line; nothing when it has none."""
        row = self._by_path[file.path]
        if row is None:
            return {}, ()
        facts = {}
        for column, known in _VALUES.items():
            text = row.get(column).lower()
            if text and text not in known:
                raise InputError(f"{row.where} has the {column} '{row[column]}'", f"Use one of: {', '.join(known)}")
            facts |= {column: known[text]} if text else {}
        if row.get("circles_px"):
            facts["circles_px"] = row["circles_px"]
        masks = (os.path.normpath(self._folder / row["mask"]),) if row.get("mask") else ()
        return facts, masks

    def _key_of(self, row: Row) -> tuple[str, ...]:
        if self._key == "patient":
            return row["patient"], row.get("laterality").upper()[:1], row.get("view").upper()
        text = row[self._key]
        return (os.path.normpath(text) if self._key == "file" else text,)

    def _find(self, file: _File, source: Path) -> Row | None:
        """The line that says most exactly which film it speaks of."""
        if self._key == "file":
            bases = (self._folder, source)
            names = [file.path, *(os.path.relpath(file.path, base) for base in bases), os.path.basename(file.path)]
            keys = [(name,) for name in names]
        elif self._key == self._uid:
            keys = [(file.sop_uid,)]
        else:
            side, view = file.tags.laterality, file.tags.view
            keys = [(file.patient_id, *rest) for rest in ((side, view), (side, ""), ("", view), ("", ""))]
        return next((self._rows[key] for key in keys if key in self._rows), None)
