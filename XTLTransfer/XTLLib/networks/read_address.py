"""A small text from the network that has no checksum: an index, never weights."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from ..errors import InputError
from .download import _checked_address, _opener, shown_address

_TIMEOUT_S = 20


def read_address(url: str, size_limit_bytes: int) -> str:
    """The UTF-8 text at an https address, or at an http address on this computer.

    Raises InputError when it cannot be reached, is longer than the limit or is no text.
    """
    shown, remedy = shown_address(url), "Check the address and the network, or save it as a file and name that"
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "XTL"})
        with _opener(_checked_address(url)).open(request, timeout=_TIMEOUT_S) as answer:
            data = answer.read(size_limit_bytes + 1)
    except urllib.error.HTTPError as error:
        raise InputError(f"{shown} was refused by the server ({error.code})", remedy) from error
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{shown} could not be fetched ({getattr(error, 'reason', error)})", remedy) from error
    if len(data) > size_limit_bytes:
        raise InputError(f"{shown} is larger than {size_limit_bytes / 1e6:.0f} MB", "Check the address")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown} is no UTF-8 text", "Check the address") from error
