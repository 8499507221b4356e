"""MIAS mini-mammographic database, for the mammogram classification stage.

Suckling J et al. (1994) The Mammographic Image Analysis Society Digital Mammogram Database, Exerpta
Medica ICS 1069:375-378. Two forms are read:

* a folder with ``images.csv`` (image_id, file, patient_id, label normal | benign | malignant, ...) and,
  if there, ``abnormalities.csv`` (image_id, x_px, y_px, radius_px from the top left);
* the original: ``Info.txt`` beside ``mdb001.pgm`` ... It has 330 rows for 322 films (one a abnormality),
  y counts from the BOTTOM of the 1024 rows, and films 2n-1 and 2n are the two breasts of patient n.

Odd films are left breasts, even ones right ones: so the letters say that stand on the films (which are
stored mirrored). Info.txt says the opposite.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InputError
from ..datalist import Datalist
from ..tables import read_table
from .common import choose
from .films import FilmFacts, film_datalist

TARGETS = ("abnormal", "cancer", "density", "laterality", "lesions", "none")
LICENCE = "MIAS licence agreement: research use only, not to be rented, leased or sold"
_SEVERITIES = ("normal", "benign", "malignant")
_ROWS_OF_A_FILM = 1024
_INFO_LINE = re.compile(r"^(mdb(\d{3}))\s+([FGD])\s+(NORM|CALC|CIRC|SPIC|MISC|ARCH|ASYM)\b\s*([BM]?)\b(.*)$")


def read(source: Path, target: str = "abnormal") -> Datalist:
    """Read MIAS.

    Parameters
    ----------
    source : folder with images.csv, or with Info.txt and the .pgm files.
    target : what the labels say: "abnormal" (benign or malignant against normal), "cancer" (malignant
        against the rest), "density" (fatty, glandular, dense), "laterality" (the side printed on the
        film); "lesions": the marked circles as masks, without abnormal films that have no mark; "none":
        no labels. Every film is an MLO view.

    Each entry is one film; its attributes are view, laterality, tissue (F fatty, G glandular, D dense),
    severity, classes, and circles_px: "x y radius" of each annotated circle in pixels from the top
    left, separated by ";".
    """
    choose("mias", "target", target, TARGETS)
    films = (_films_of_table if (source / "images.csv").is_file() else _films_of_info)(source)
    told = {"abnormal": "; label 1 is benign or malignant", "cancer": "; label 1 is malignant"}.get(target, "")
    return film_datalist(
        [FilmFacts(patient, case, str(path), attributes) for patient, case, path, attributes in films],
        layout="mias",
        name="MIAS",
        target=target,
        licence=LICENCE,
        description=f"{len(films)} films{told}",
        source=source,
    )


def _films_of_table(source: Path) -> list[tuple[str, str, Path, dict[str, str]]]:
    circles: dict[str, list[str]] = {}
    if (source / "abnormalities.csv").is_file():
        for row in read_table(source / "abnormalities.csv", ("image_id", "x_px", "y_px", "radius_px")):
            circle = " ".join(row[column] for column in ("x_px", "y_px", "radius_px"))
            if circle.strip():
                circles.setdefault(row["image_id"], []).append(circle)
    films = []
    for row in read_table(source / "images.csv", ("image_id", "file", "patient_id", "label")):
        if row["label"] not in _SEVERITIES:
            raise InputError(f"{row.where} has the label '{row['label']}'", f"Use one of: {', '.join(_SEVERITIES)}")
        attributes = {
            "severity": row["label"],
            "view": row.get("view"),
            "laterality": row.get("laterality_by_film_marker"),
            "tissue": row.get("tissue"),
            "classes": row.get("classes"),
            "circles_px": ";".join(circles.get(row["image_id"], [])),
        }
        attributes = {name: value for name, value in attributes.items() if value}
        films.append((row["patient_id"], row["image_id"], source / row["file"], attributes))
    return films


def _films_of_info(source: Path) -> list[tuple[str, str, Path, dict[str, str]]]:
    info = next((source / name for name in ("Info.txt", "info.txt", "README") if (source / name).is_file()), None)
    if info is None:
        raise InputError(
            f"{source} holds neither images.csv nor Info.txt",
            "Name the folder that holds the MIAS images and one of them",
        )
    films: dict[str, tuple[str, str, Path, dict[str, str]]] = {}
    for line in info.read_text(encoding="latin-1").splitlines():
        match = _INFO_LINE.match(line.strip())
        if match is None:
            continue
        case, number, tissue, kind, letter, rest = match.groups()
        severity = {"": "normal", "B": "benign", "M": "malignant"}[letter]
        laterality = "L" if int(number) % 2 else "R"  # as printed on the films; Info.txt says the opposite
        attributes = {"severity": severity, "view": "MLO", "laterality": laterality, "tissue": tissue}
        patient = f"MIAS-{(int(number) + 1) // 2:03d}"
        film = films.setdefault(case, (patient, case, source / f"{case}.pgm", attributes))
        if _SEVERITIES.index(severity) > _SEVERITIES.index(film[3]["severity"]):
            film[3]["severity"] = severity
        if kind != "NORM":
            classes = film[3].get("classes", "").split(";") if "classes" in film[3] else []
            film[3]["classes"] = ";".join(dict.fromkeys([*classes, kind]))
        circle = re.match(r"\s*(\d+)\s+(\d+)\s+(\d+)\s*$", rest)
        if circle:
            x, y, radius = map(int, circle.groups())
            text = f"{x} {_ROWS_OF_A_FILM - 1 - y} {radius}"
            film[3]["circles_px"] = ";".join(filter(None, [film[3].get("circles_px", ""), text]))
    return list(films.values())
