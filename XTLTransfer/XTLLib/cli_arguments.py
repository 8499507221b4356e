"""What the sub-commands of ``xtl`` read from their arguments in the same way."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from .data.volume import Volume


def read_volumes(texts: Sequence[str]) -> dict[str, Volume]:
    """The images of ``--volume CHANNEL=FILE``, by channel. Raises InputError for a text or a file that is wrong."""
    from .data.images import read_image

    volumes = {}
    for text in texts:
        channel, path = name_and_value(text, "--volume")
        if channel in volumes:
            raise InputError(f"--volume names the channel {channel} twice", "Give each channel once")
        volumes[channel] = read_image(path)
    return volumes


def name_and_value(text: str, option: str) -> tuple[str, str]:
    """``NAME=VALUE`` in two parts. Raises InputError when it is not of that form."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"{option} {text} is not of the form NAME=VALUE", "Write for example FLAIR=flair.nii.gz")
    return name, value


def add_identity_option(parser: argparse.ArgumentParser) -> None:
    """``--keep-identity``, for commands that write DICOM objects."""
    parser.add_argument(
        "--keep-identity",
        action="store_true",
        help="the DICOM objects written name the patient of the source series (default: nobody)",
    )


def tell_result(arguments: argparse.Namespace, **values: Any) -> None:
    """With ``--progress json``: what a command found, as a line ``{"type": "result", ...}`` for a parent process."""
    if arguments.progress == "json":
        print(json.dumps({"type": "result", **values}), flush=True)
