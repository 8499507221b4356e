"""Names of an archive's members: which may become files, on any system, below the folder they are meant for."""

from __future__ import annotations

import re
import unicodedata

from ..errors import InputError

_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE)
_FORBIDDEN = frozenset('<>:"|?*\\')
_LONGEST_PART_BYTES = 200
_DEEPEST = 8


def is_portable(part: str) -> bool:
    """Whether one part of a path is a plain name on Linux, macOS and Windows: no device, stream, dot or blank end."""
    return (
        0 < len(part.encode("utf-8", "replace")) <= _LONGEST_PART_BYTES
        and part.isprintable()
        and not _FORBIDDEN & set(part)
        and part[-1] not in ". "
        and not _DEVICE.fullmatch(part.rstrip(". "))
        and not _DEVICE.fullmatch(part.partition(".")[0].rstrip(" "))
    )


def checked_member(name: str, source: str) -> str:
    """The relative path ("/" between parts, none at the end) of a member of ``source``.

    Raises InputError for anything that could leave the target: absolute paths, ``..``, drives, shares,
    backslashes, alternate streams, device names.
    """
    path = name[:-1] if name.endswith("/") else name
    parts = path.split("/")
    if not path or len(parts) > _DEEPEST or not all(is_portable(part) for part in parts):
        raise InputError(
            f"{source} holds a file named {name[:80]!r}, which could be written outside of its folder or is "
            "no portable name",
            "Do not use this file; get it from a source that you trust",
        )
    return path


def same_file_key(path: str) -> str:
    """Equal for two paths that are one file on a system that ignores case or Unicode composition."""
    return unicodedata.normalize("NFC", path).casefold()
