"""Fetching a file from the network, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from ..errors import InputError
from ..files import atomic_file
from ..progress import Progress

_BLOCK = 1 << 18
_TIMEOUT_S = 30
SIZE_LIMIT_BYTES = 1 << 30


def download(
    url: str,
    target: Path,
    sha256: str,
    progress: Progress | None = None,
    size_limit_bytes: int = SIZE_LIMIT_BYTES,
) -> str:
    """Fetch ``url`` into the file ``target``, which appears only when its checksum is right.

    Parameters
    ----------
    url : http or https.
    target : the file to make; its folder is made as well.
    sha256 : the expected SHA-256 in hexadecimal, or its beginning (8 digits or more).
    progress : told how much has come; a cancel there stops the transfer.
    size_limit_bytes : a longer answer is refused.

    Returns
    -------
    The file's whole SHA-256.

    Raises
    ------
    InputError : the address cannot be reached, the answer is too long, cut short or has another checksum.
    """
    by_hand = f"Check the network, or fetch {url} by other means and give the path of the file"
    if not url.startswith(("https://", "http://")):
        raise InputError(f"the address {url} is not http or https", "Give a web address")
    try:
        with atomic_file(target) as draft:
            digest, length, announced = hashlib.sha256(), 0, None
            request = urllib.request.Request(url, headers={"User-Agent": "XTL"})
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, open(draft, "wb") as stream:
                announced = _announced_length(answer.headers.get("Content-Length"))
                while block := answer.read(_BLOCK):
                    length += len(block)
                    if max(length, announced or 0) > size_limit_bytes:
                        raise InputError(f"{url} is larger than {size_limit_bytes / 1e6:.0f} MB", by_hand)
                    digest.update(block)
                    stream.write(block)
                    if progress is not None:
                        progress.report(f"Fetching {target.name}", length / announced if announced else 0.0)
            if announced is not None and length != announced:
                raise InputError(f"{url} was cut short ({length} of {announced} bytes)", by_hand)
            _require_checksum(digest.hexdigest(), sha256, url, "Try again; if it happens again, the file was changed")
    except urllib.error.HTTPError as error:
        raise InputError(f"{url} was refused by the server ({error.code} {error.reason})", by_hand) from error
    except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and a full disk are OSErrors
        raise InputError(f"{url} could not be fetched ({getattr(error, 'reason', error)})", by_hand) from error
    return digest.hexdigest()


def require_checksum(path: Path, actual: str, expected: str) -> None:
    """Raise InputError unless ``actual`` begins with ``expected`` (SHA-256, hexadecimal)."""
    _require_checksum(actual, expected, str(path), "Give the file that was meant, or the right checksum")


def _require_checksum(actual: str, expected: str, name: str, remedy: str) -> None:
    expected = expected.lower()
    if len(expected) < 8 or not actual.startswith(expected):
        raise InputError(f"{name} has the SHA-256 {actual} where {expected!r} was expected", remedy)


def _announced_length(header: str | None) -> int | None:
    return int(header) if header and header.isdigit() else None


def cache_folder() -> Path:
    """Where fetched weights are kept: ``weights`` in ``XTL_HOME`` (default: the platform's user data folder)."""
    home = os.environ.get("XTL_HOME")
    return (Path(home).expanduser() if home else _user_data_folder() / "XTL") / "weights"


def _user_data_folder() -> Path:
    import sys

    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
