"""The commands ``xtl models …``: what the model library holds, and what comes into it and goes out of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from .cli_arguments import tell_result
from .errors import InputError

if TYPE_CHECKING:
    from .bundle.importing import Imported
    from .progress import Progress

# From the arguments of a command: its progress, and where closing sentences go.
ProgressOf = Callable[[argparse.Namespace], "AbstractContextManager[Progress]"]
Say = Callable[[argparse.Namespace, str], None]


def add_models_actions(models: argparse.ArgumentParser, progress_of: ProgressOf, say: Say) -> None:
    """Give the parser of ``xtl models`` its actions.

    Parameters
    ----------
    progress_of, say : how the command line shows progress and closing sentences.
    """
    actions = models.add_subparsers(title="actions", required=True, metavar="ACTION")

    def add(name: str, command: Callable, summary: str, *, with_progress: bool = True) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=summary, description=summary)
        parser.set_defaults(command=lambda arguments: command(arguments, progress_of, say))
        # Also after the action; without a default here, what stood before it counts.
        if with_progress:
            parser.add_argument("--progress", choices=("terminal", "json", "none"), default=argparse.SUPPRESS)
        parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)
        return parser

    add("list", _list, "the models of the library, each with its chain")

    importing = add("import", _import, "take a bundle (folder or zip archive) into the library, safely")
    importing.add_argument("source", type=Path, metavar="SRC")
    _add_place(importing)
    importing.add_argument(
        "--trust",
        action="store_true",
        help="also when its files name code other than XTL's own; XTL runs none of it, other programs may",
    )

    export = add("export", _export, "write a model, or its network alone, for somebody else")
    _add_model(export)
    export.add_argument("out", type=Path, metavar="OUT")
    export.add_argument(
        "--format",
        choices=("folder", "zip", "torchscript", "torch-export", "onnx"),
        default="folder",
        help="folder and zip: the whole bundle; the others: the network alone, compared with the bundle's",
    )

    remove = add("remove", _remove, "delete a model of the library, and its download")
    remove.add_argument("name", metavar="NAME")

    verify = add("verify", _verify, "compute every hash of a model again; exit code 2 when one does not agree")
    _add_model(verify, optional=True)

    download = add("download", _download, "fetch a model of the catalogue, check it, take it into the library")
    download.add_argument("model", metavar="NAME")
    _add_place(download)
    _add_catalogue(download)

    _add_catalogue(add("available", _available, "the models that a catalogue offers", with_progress=False))


def _add_model(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    help = "a model of the library, or a bundle's folder" + ("; without it, the whole library" if optional else "")
    parser.add_argument("name", metavar="NAME", nargs="?" if optional else None, help=help)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="by which the library shall know it (default: its own)")
    parser.add_argument("--replace", action="store_true", help="take the place of the model of that name")


def _add_catalogue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--catalogue", metavar="FILE|URL", help="default: the catalogue that comes with XTL")


# --- actions ------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace, progress_of: ProgressOf, say: Say) -> None:
    from .bundle.library import list_models, models_folder

    models = list_models()
    if arguments.progress == "json":
        tell_result(arguments, folder=str(models_folder()), models=[model.to_dict() for model in models])
        return
    if not models:
        print(f"no models in {models_folder()} (each is a bundle's folder)")
    rows = [
        (m.name, m.task, ", ".join(m.channels), m.chain or "chain not recorded")
        if not m.problem
        else (m.name, "cannot be used", "", m.problem)
        for m in models
    ]
    _print_table(("name", "task", "channels", "chain"), rows)


def _import(arguments: argparse.Namespace, progress_of: ProgressOf, say: Say) -> None:
    from .bundle.importing import NeedsConsent, import_bundle

    try:
        with progress_of(arguments) as progress:
            imported = import_bundle(
                arguments.source,
                name=arguments.name,
                trust=arguments.trust,
                replace=arguments.replace,
                progress=progress,
            )
    except NeedsConsent as error:
        tell_result(arguments, needs=error.needs, about=error.about)  # the parent can ask its user
        raise
    _tell_imported(imported, arguments, say)


def _export(arguments: argparse.Namespace, progress_of: ProgressOf, say: Say) -> None:
    from .bundle.export import export_bundle
    from .bundle.library import find_model

    with progress_of(arguments) as progress:
        exported = export_bundle(find_model(arguments.name), arguments.out, arguments.format, progress)
    words = ""
    if exported.difference is not None:
        sizes = " and ".join(" x ".join(map(str, size)) for size in exported.sizes)
        words = f": agrees with the bundle to {exported.difference:.1e} of the largest logit on inputs of {sizes}"
    say(arguments, f"{exported.path}{words}")
    tell_result(arguments, path=str(exported.path), words=words)


def _remove(arguments: argparse.Namespace, progress_of: ProgressOf, say: Say) -> None:
    from .bundle.library import remove_model

    path = remove_model(arguments.name)
    say(arguments, f"removed {path}")
    tell_result(arguments, path=str(path))


def _verify(arguments: argparse.Namespace, progress_of: ProgressOf, say: Say) -> None:
    from .bundle.library import find_model, list_models
    from .bundle.verify import verify_bundle

    paths = [find_model(arguments.name)] if arguments.name else [model.path for model in list_models()]
    with progress_of(arguments) as progress:
        parts = [progress.part(n / len(paths), (n + 1) / len(paths)) for n in range(len(paths))]
        verified = [verify_bundle(path, part) for path, part in zip(paths, parts)]
    for one in verified:
        words = "agrees with its records" if one.agrees else "DOES NOT AGREE with its records"
        say(arguments, f"{one.path.name}: {words} ({one.files} files, {one.stages} stages)")
        for line in (*one.changed, *one.problems, *(f"note: {note}" for note in one.notes)):
            say(arguments, f"  {line}")
    tell_result(
        arguments,
        verified={
            str(one.path): {
                "agrees": one.agrees,
                "problems": [*one.changed, *one.problems],
                "notes": one.notes,
                "files": one.files,
            }
            for one in verified
        },
    )
    wrong = [one.path.name for one in verified if not one.agrees]
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(verified)} models do not agree with their records: {', '.join(wrong)}",
            "Get them again from where they came, or train them again",
        )
    if not verified:
        say(arguments, "no models to verify")


def _download(arguments: argparse.Namespace, progress_of: ProgressOf, say: Say) -> None:
    from .bundle.catalogue import find_entry, read_catalogue
    from .bundle.fetch import download_model

    entry = find_entry(arguments.model, read_catalogue(arguments.catalogue))
    with progress_of(arguments) as progress:
        imported = download_model(entry, name=arguments.name, replace=arguments.replace, progress=progress)
    _tell_imported(imported, arguments, say)
    say(arguments, f"licence of the weights: {entry.licence}")


def _available(arguments: argparse.Namespace, progress_of: ProgressOf, say: Say) -> None:
    from .bundle.catalogue import read_catalogue

    entries = read_catalogue(arguments.catalogue)
    if not entries:
        print("the catalogue offers no models yet: train one, or name a catalogue with --catalogue")
    rows = [
        (e.name, e.version, e.task, ", ".join(e.channels), f"{e.size / 1e6:.0f} MB", e.licence, e.chain)
        for e in entries
    ]
    _print_table(("name", "version", "task", "channels", "size", "licence", "chain"), rows)


# --- what the actions share ---------------------------------------------------------------------


def _tell_imported(imported: Imported, arguments: argparse.Namespace, say: Say) -> None:
    say(arguments, f"{imported.name}: {imported.path}. Research software, not a medical device.")
    for note in imported.notes:
        say(arguments, f"  note: {note}")
    tell_result(arguments, name=imported.name, path=str(imported.path), notes=imported.notes)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A row a line, columns aligned; the last column is as wide as it is."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip())
