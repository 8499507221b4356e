"""Values that MONAI's configuration language would execute or look up, and names that may stand in an expression.

``python -m monai.bundle run`` evaluates every string that begins with ``$``, imports what ``_target_`` names and
follows ``@`` and ``%``. So what XTL writes into ``configs/inference.json`` on behalf of a description has to be
plain, whoever wrote that description. XTL itself never evaluates that file: it reads ``configs/xtl.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InputError

# Channel names stand between quotes in an expression, and are file names in the folder of a case.
_CHANNEL = re.compile(r"[^\W_][\w .+-]*")


def active_values(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(place, what stands there) of everything in JSON data that MONAI would execute, import or look up."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            place = f"{where}.{key}".lstrip(".")
            if key.startswith(("_", "$", "%", "@", "+", "~")):
                yield place, str(item)
            else:
                yield from active_values(item, place)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from active_values(item, f"{where}[{index}]")
    elif isinstance(value, str) and value.startswith(("$", "%", "@")):
        yield where, value


def require_plain(description: Mapping[str, Any], channels: tuple[str, ...]) -> None:
    """Raise InputError when a description holds what MONAI would execute, or a channel's name is no name."""
    for place, value in active_values(description):
        raise InputError(
            f"{place} is {value[:60]!r}, which MONAI would execute", "Write it without a leading $, @, % or _"
        )
    for channel in channels:
        if not _CHANNEL.fullmatch(channel):
            raise InputError(
                f"the channel name {channel[:60]!r}",
                "Use letters, digits, blanks and . _ + - only, a letter or digit first",
            )
