"""A bundle of somebody else becomes a model of the library, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import atomic_folder
from ..progress import Progress
from . import layout
from .code import code_in, enumerate_some
from .library import checked_name, models_folder
from .load import Bundle, read_bundle
from .unpack import DEFAULT_LIMITS, Limits, check_weights_archive, unpack_bundle
from .verify import verify_bundle

_FEWEST_BYTES = 2  # of a parameter: float16


@dataclass(frozen=True)
class Imported:
    """A model that has come into the library: its name, its folder, and what its user has to know."""

    name: str
    path: Path
    notes: tuple[str, ...]


class NeedsConsent(InputError):
    """A model that comes in only when its user says so.

    Attributes
    ----------
    needs : the argument of import_bundle that says it, "trust" or "replace".
    about : what there is to consent to: the code that is named, or the name of the model that goes.
    """

    def __init__(self, what: str, remedy: str, *, needs: str, about: str) -> None:
        super().__init__(what, remedy)
        self.needs, self.about = needs, about


def import_bundle(
    source: str | os.PathLike,
    *,
    name: str | None = None,
    trust: bool = False,
    replace: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    check: Callable[[Bundle], None] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Copy a bundle from a folder or zip archive into the library, after every check that can be made.

    Nothing of the bundle is executed: weights are read as plain tensors, ``configs/inference.json`` is compared
    and not evaluated.

    Parameters
    ----------
    name : by which the library shall know the model; None takes the bundle's own.
    trust : take a bundle although its files name code other than XTL's own, which XTL does not run but
        ``python -m monai.bundle run`` would. Files that disagree with the bundle's hashes are then noted only.
    replace : take the place of the model that has this name.
    check : a further check of the description; raises InputError.

    Raises
    ------
    NeedsConsent : it would come in with ``trust`` or ``replace``, as far as was looked.
    InputError : names what is wrong. The library is then as it was.
    """
    progress = progress or Progress()
    library = models_folder()
    if name is not None:
        require_free_name(name, replace)
    library.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import.", dir=library) as stage:
        draft = Path(stage)
        unpack_bundle(source, draft, limits, progress.part(0, 0.5))
        code = code_in(draft)
        if code and not trust:
            raise NeedsConsent(
                f"{source} names code that XTL did not write: {enumerate_some(code)}",
                "XTL would not run it, python -m monai.bundle run would. If you trust where it comes from, "
                "import it with --trust",
                needs="trust",
                about=enumerate_some(code),
            )
        bundle = _described(draft, source)
        if check is not None:
            check(bundle)
        final = name if name is not None else bundle.name
        require_free_name(final, replace)
        for file in (layout.WEIGHTS, *(file for file, _ in bundle.members)):
            check_weights_archive(draft / file, limits)
        _require_network_of_the_weights_size(bundle, source)
        notes = _verified(draft, source, trust, progress.part(0.5, 1.0))
        with atomic_folder(library / final) as place:
            for part in draft.iterdir():
                os.replace(part, place / part.name)
    return Imported(final, library / final, notes)


def require_free_name(name: str, replace: bool) -> None:
    """Raise NeedsConsent, or InputError for what is no name, unless the library can take a model of that name."""
    if (models_folder() / checked_name(name)).exists() and not replace:
        raise NeedsConsent(
            f"the library has a model {name} already",
            "Remove it first, give another name with --name, or replace it with --replace",
            needs="replace",
            about=name,
        )


def _described(draft: Path, source: str | os.PathLike) -> Bundle:
    if not (draft / layout.XTL).is_file():
        raise InputError(
            f"{source} is no model that XTL can run: it lacks {layout.XTL}",
            "Import a bundle that XTL wrote; others run with python -m monai.bundle run",
        )
    try:
        return read_bundle(draft)
    except InputError as error:
        raise InputError(f"{source}: {_without(draft, error.what)}", error.remedy) from error


def _require_network_of_the_weights_size(bundle: Bundle, source: str | os.PathLike) -> None:
    """A description may ask for a network that no memory holds: count its parameters before it is built."""
    import torch

    from ..networks.build import build_network

    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build_network(bundle.spec).parameters())
    for file in (layout.WEIGHTS, *(file for file, _ in bundle.members)):
        size = (bundle.path / file).stat().st_size
        if count * _FEWEST_BYTES > size:
            raise InputError(
                f"{source} describes a network of {count} parameters and holds weights of {size} bytes",
                "Get the model again from where it came",
            )


def _verified(draft: Path, source: str | os.PathLike, trust: bool, progress: Progress) -> tuple[str, ...]:
    """What is worth knowing of a bundle that agrees with its records. Raises InputError when it does not."""
    verified = verify_bundle(draft, progress)
    wrong = verified.problems if trust else (*verified.changed, *verified.problems)
    if wrong:
        words = enumerate_some(tuple(_without(draft, problem) for problem in wrong))
        raise InputError(f"{source} is not what its records say: {words}", "Get the model again from where it came")
    return (*verified.notes, *(verified.changed if trust else ()))


def _without(draft: Path, words: str) -> str:
    return words.replace(f"{draft}{os.sep}", "")
