"""Do the channels of a case show the head in one place? Checked, and put right on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..progress import Progress
from .case import Case
from .registration import Registration, register_rigid
from .volume import Volume

PLAUSIBLE_MM = 3.0  # aligned heads measure up to 0.7 mm in this check, shifted ones their shift
_SMALLEST_EXTENT_MM = 60.0  # below, there is too little to compare
_REMEDY = "register the channels (--register, register=True, or Register channels in the panel)"


@dataclass(frozen=True, eq=False)
class Alignment:
    """A case whose channels were checked or registered.

    Attributes
    ----------
    case : with the registered channels where their transforms put them; arrays are not touched.
    transforms : channel -> (4, 4), RAS mm of a point as the channel had it -> RAS mm in the reference's space;
        of the registered channels only.
    notes : what a user has to know.
    """

    case: Case
    transforms: Mapping[str, np.ndarray]
    notes: tuple[str, ...]


def align_channels(
    case: Case, channels: tuple[str, ...], *, register: bool = False, progress: Progress | None = None
) -> Alignment:
    """Check that channels lie on the reference in patient space, or register them to it.

    The check is a coarse rigid registration (about a tenth of a second a channel) whose result is looked at and
    not used: where it would move the head by more than 3 mm, the channel probably lies elsewhere, by at least
    that distance (a quick look does not find all of a turn). Channels of
    another DICOM frame of reference are said. Neither stops the work: a user may know better. Images that reach
    less than 60 mm along some axis are not judged.

    Parameters
    ----------
    channels : those to look at; missing ones and the reference are passed over.
    register : bring each channel onto the reference by a rigid registration (mutual information).

    Raises
    ------
    InputError : ``register``, and a channel has nothing in common with the reference.
    Cancelled : at the request of ``progress``.
    """
    progress = progress or Progress()
    others = [name for name in channels if name in case.channels and name != case.reference]
    reference = case.channels[case.reference]
    volumes, transforms, notes = dict(case.channels), {}, []
    for number, name in enumerate(others):
        part = progress.part(number / len(others), (number + 1) / len(others))
        if register:
            part.report(f"Registering {name}", 0.0)
            found = register_rigid(case.channels[name], reference, progress=part)
            volumes[name] = found.apply(case.channels[name])
            transforms[name] = found.moving_to_fixed
            notes.append(_what_was_done(name, case.reference, found))
        else:
            part.report(f"Checking {name}", 0.0)
            notes += _frame_note(name, case) + _displacement_note(name, case)
    return Alignment(replace(case, channels=volumes), transforms, tuple(notes))


def _what_was_done(name: str, reference: str, found: Registration) -> str:
    if found.displacement_mm == 0:
        return f"{name} was registered to {reference}: it agrees best as it lies"
    return (
        f"{name} was registered to {reference}: moved by {found.displacement_mm:.1f} mm, "
        f"turned by {found.rotation_degrees:.1f} degrees"
    )


def _frame_note(name: str, case: Case) -> list[str]:
    frames = [case.channels[channel].frame_of_reference for channel in (name, case.reference)]
    if not all(frames) or frames[0] == frames[1]:
        return []
    return [
        f"{name} has another DICOM frame of reference than {case.reference}: their positions come from two "
        f"set-ups of the patient. If they do not agree, {_REMEDY}"
    ]


def _displacement_note(name: str, case: Case) -> list[str]:
    volume, reference = case.channels[name], case.channels[case.reference]
    if min(_extent_mm(volume), _extent_mm(reference)) < _SMALLEST_EXTENT_MM:
        return []
    try:
        found = register_rigid(volume, reference, coarse=True)
    except InputError:  # images that do not overlap are refused elsewhere, by name
        return []
    if found.displacement_mm <= PLAUSIBLE_MM:
        return []
    return [
        f"The head in {name} seems to lie {found.displacement_mm:.0f} mm away from that in {case.reference}. "
        f"If so, {_REMEDY}"
    ]


def _extent_mm(volume: Volume) -> float:
    """Along the shortest axis."""
    return min(n * mm for n, mm in zip(volume.grid.shape[::-1], volume.grid.spacing_mm))
