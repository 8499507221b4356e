"""What the layouts of mammograms share: what a label says, and the datalist made of films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..datalist import MAMMOGRAM_CHANNEL, Datalist, Entry
from ..mammogram_entries import KEPT_SIDE
from .common import require_entries

_BINARY = {"cancer": ("no cancer", "cancer"), "abnormal": ("normal", "abnormal")}
_SIDES = ("laterality", "view-laterality")
_VIEWS = ("CC", "MLO")
_VIEW_SIDES = tuple(f"{side}-{view}" for side in "LR" for view in _VIEWS)
DENSITIES = {"F": "fatty", "G": "glandular", "D": "dense", **{number: f"density {number}" for number in "1234"}}


@dataclass(frozen=True)
class FilmFacts:
    """What a layout knows of one film.

    Attributes
    ----------
    patient, case : as in Entry. path : the image.
    attributes : severity (normal, benign, malignant), laterality (L, R), view (CC, MLO, ...), tissue
        (F, G, D), density (1 to 4), cancer and abnormal (0, 1; they go before severity), circles_px
        ("x y radius" in pixels from the top left, separated by ";").
    masks : files that mark abnormalities on the film's grid.
    is_test : in the official test part.
    """

    patient: str
    case: str
    path: str
    attributes: Mapping[str, str]
    masks: tuple[str, ...] = ()
    is_test: bool = False


def film_datalist(
    films: Sequence[FilmFacts], layout: str, name: str, target: str, licence: str, description: str, source: Path
) -> Datalist:
    """The datalist of films for a target.

    Parameters
    ----------
    target : "cancer" (malignant against the rest), "abnormal" (benign or malignant against normal),
        "density", "view" (CC or MLO), "laterality", "view-laterality": classification into the classes that
        occur; "lesions": segmentation of what is marked; "none": no labels.
    description : what is said of the films, before what the target leaves out.

    Films of which the target's fact is not known are left out and counted. Where the label is a side,
    the entries say that a prepared image keeps its own.

    Raises
    ------
    InputError : no film, or all of one class.
    """
    if target == "none":
        entries = [_entry(film, None, ()) for film in films]
        return _datalist(films, entries, layout, name, "unlabelled", {}, licence, description, source)
    if target == "lesions":
        entries = [_marked_entry(film) for film in films]
        labels = {"0": "background", "1": "abnormality"}
        return _datalist(films, entries, layout, name, "mammogram-segmentation", labels, licence, description, source)
    facts = [_class_of(film.attributes, target) for film in films]
    classes = _BINARY.get(target) or _occurring(facts, target)
    if len(classes) < 2:
        there = f"is {classes[0]}" if classes else "has none"
        raise InputError(
            f"the films in {source} cannot be told apart by {target}: every one {there}", "Choose another target"
        )
    kept = KEPT_SIDE if target in _SIDES else ()
    entries = [
        _entry(film, classes.index(fact), kept, film.masks) if fact else None for film, fact in zip(films, facts)
    ]
    labels = {str(number): text for number, text in enumerate(classes)}
    return _datalist(films, entries, layout, name, "mammogram-classification", labels, licence, description, source)


def _datalist(films, entries, layout, name, task, labels, licence, description, source) -> Datalist:
    """Entries are in the order of the films, None where the film is left out."""
    kept = [(film, entry) for film, entry in zip(films, entries) if entry is not None]
    left_out = len(films) - len(kept)
    description += f"; {left_out} left out whose label is not known" if left_out else ""
    require_entries([entry for _, entry in kept], source, "films with a known label" if films else "films")
    return Datalist(
        name=name,
        layout=layout,
        task=task,
        channels=(MAMMOGRAM_CHANNEL,),
        reference=MAMMOGRAM_CHANNEL,
        labels=labels,
        licence=licence,
        description=description,
        training=tuple(entry for film, entry in kept if not film.is_test),
        test=tuple(entry for film, entry in kept if film.is_test),
    )


def _entry(film: FilmFacts, label, kept: tuple[str, ...], masks: tuple[str, ...] = ()) -> Entry:
    attributes = dict(film.attributes) | (dict([kept]) if kept else {})
    return Entry(
        film.patient, film.case, {MAMMOGRAM_CHANNEL: film.path}, label, attributes=attributes, further_masks=masks
    )


def _marked_entry(film: FilmFacts) -> Entry | None:
    """An entry with masks, with circles, or of a normal film; None for an abnormal film without marks."""
    if film.masks:
        return _entry(film, film.masks[0], (), film.masks[1:])
    if film.attributes.get("circles_px"):
        return _entry(film, 1, ())
    return _entry(film, 0, ()) if film.attributes.get("severity") == "normal" else None


def _class_of(attributes: Mapping[str, str], target: str) -> str:
    """The film's class, "" when it is not known."""
    severity, view = attributes.get("severity", ""), attributes.get("view", "")
    laterality = attributes.get("laterality", "")
    if target in _BINARY and target in attributes:
        return _BINARY[target][int(attributes[target])]
    if target in _BINARY:
        positive = ("malignant",) if target == "cancer" else ("benign", "malignant")
        return _BINARY[target][severity in positive] if severity else ""
    if target == "density":
        return DENSITIES.get(attributes.get("tissue") or attributes.get("density", ""), "")
    if target == "view":
        return view if view in _VIEWS else ""
    if target == "laterality":
        return laterality
    return f"{laterality}-{view}" if laterality and view in _VIEWS else ""


def _occurring(facts: Sequence[str], target: str) -> tuple[str, ...]:
    """The target's classes in their own order, without those of which there is no film."""
    order = {"density": tuple(DENSITIES.values()), "view": _VIEWS, "laterality": ("L", "R")}.get(target, _VIEW_SIDES)
    return tuple(one for one in order if one in facts)
