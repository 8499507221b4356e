"""A model of the catalogue comes into the library."""

from __future__ import annotations

from functools import partial

from ..errors import InputError
from ..files import sha256_of
from ..networks.download import download
from ..progress import Progress
from .catalogue import CatalogueEntry
from .importing import Imported, import_bundle, require_free_name
from .library import downloads_folder
from .load import Bundle


def download_model(
    entry: CatalogueEntry, *, name: str | None = None, replace: bool = False, progress: Progress | None = None
) -> Imported:
    """Fetch a model's archive, check it and import it; never with trust in code it may name.

    A transfer that was cut is taken up where it broke. A whole archive is kept in ``XTL_HOME/downloads`` until
    the model is removed, so that it is fetched once.

    Parameters
    ----------
    name : by which the library shall know it; None takes the catalogue's. replace : as in ``import_bundle``.

    Raises
    ------
    InputError : the address, the archive or the bundle in it is not as the catalogue promises.
    """
    progress, final = progress or Progress(), name or entry.name
    require_free_name(final, replace)
    archive = downloads_folder(final) / f"{entry.sha256[:16]}.zip"
    if not (archive.is_file() and sha256_of(archive) == entry.sha256):
        fetching = progress.part(0.0, 0.8)
        download(entry.url, archive, entry.sha256, fetching, size=entry.size, size_limit_bytes=entry.size)
    try:
        return import_bundle(
            archive,
            name=final,
            replace=replace,
            check=partial(_require_promised, entry),
            progress=progress.part(0.8, 1.0),
        )
    except InputError:
        archive.unlink(missing_ok=True)  # right by its hash and no good all the same
        raise


def _require_promised(entry: CatalogueEntry, bundle: Bundle) -> None:
    if (bundle.task, bundle.channels) != (entry.task, entry.channels):
        raise InputError(
            f"the model {entry.name} is for {bundle.task} on {', '.join(bundle.channels)}, the catalogue says "
            f"{entry.task} on {', '.join(entry.channels)}",
            "Tell whoever keeps the catalogue",
        )
