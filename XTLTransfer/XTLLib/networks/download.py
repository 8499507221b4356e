"""Fetching a file from the network, whole and checked, or not at all."""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import SplitResult, urlsplit

from ..errors import Cancelled, InputError
from ..files import sha256_of
from ..progress import Progress

SIZE_LIMIT_BYTES = 1 << 30
_BLOCK = 1 << 18
_TIMEOUT_S = 20
_PAUSES_S = (0.5, 2.0, 5.0)  # before going on after a cut connection
_ABANDONED_S = 120  # an unfinished file that nobody has written to for so long was left by a killed process
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
_WEB_PAGE = (b"<!doctype html", b"<html")


class _Unfinished(InputError):
    """The transfer ended early; what has come stays for the next attempt."""


def download(
    url: str,
    path: str | os.PathLike,
    sha256: str,
    progress: Progress | None = None,
    *,
    size: int | None = None,
    size_limit_bytes: int = SIZE_LIMIT_BYTES,
) -> str:
    """Fetch ``url`` into the file ``path``, which appears only when its checksum is right.

    A cut connection is taken up where it broke, in this call and, because what has come is kept beside
    ``path`` as ``.NAME.part``, in a later one. A file of another length or checksum leaves nothing.

    Parameters
    ----------
    url : https, or http on this computer (localhost); redirects keep the scheme.
    path : the file to make; its folder is made as well.
    sha256 : the expected SHA-256 in hexadecimal, or its beginning (8 digits or more).
    progress : told how much has come; a cancel there stops the transfer.
    size : the expected length in bytes, when it is known.
    size_limit_bytes : a longer answer is refused.

    Returns
    -------
    The file's whole SHA-256.

    Raises
    ------
    InputError : the address is no https address or cannot be reached; the answer is too long, cut short, a
        web page, or has another length or checksum; the disk is full.
    Cancelled : as the progress says.
    """
    transfer = _Transfer(url, _checked_address(url), Path(path).absolute(), progress, size, size_limit_bytes)
    if not is_checksum(sha256):
        raise InputError(f"the SHA-256 {sha256!r} of {transfer.shown}", "Give 8 to 64 hexadecimal digits")
    with _draft(transfer.path) as draft:
        was_begun = draft.stat().st_size > 0
        transfer.fetch(draft)
        digest = sha256_of(draft)
        if was_begun and not digest.startswith(sha256.lower()):
            os.truncate(draft, 0)  # the beginning was of another file
            transfer.fetch(draft)
            digest = sha256_of(draft)
        _require_checksum(
            digest, sha256, transfer.shown, "Try again; if it happens again, the file was changed: do not use it"
        )
        _put_in_place(draft, transfer.path)
    return digest


@dataclass(frozen=True)
class _Transfer:
    """One file on its way."""

    url: str
    address: SplitResult
    path: Path
    progress: Progress | None
    size: int | None
    size_limit: int

    @property
    def shown(self) -> str:
        """The address without its query, which may hold a password."""
        return shown_address(self.url)

    @property
    def name(self) -> str:
        return PurePosixPath(self.address.path).name or self.path.name

    @property
    def by_hand(self) -> str:
        return f"Check the network, or fetch {self.shown} by other means and give the path of the file"

    def fetch(self, draft: Path) -> None:
        """Append to ``draft`` until it is whole, over several connections when they are cut."""
        for pause in (*_PAUSES_S, None):
            before = draft.stat().st_size
            try:
                self._receive(draft)
                return
            except _Unfinished:
                if pause is None or draft.stat().st_size <= before:
                    raise
                time.sleep(pause)

    def _receive(self, draft: Path) -> None:
        begun = draft.stat().st_size
        headers = {"User-Agent": "XTL"} | ({"Range": f"bytes={begun}-"} if begun else {})
        try:
            with _opener(self.address).open(
                urllib.request.Request(self.url, headers=headers), timeout=_TIMEOUT_S
            ) as answer:
                begun, total = self._check_answer(answer, begun)
                with open(draft, "r+b") as stream:
                    stream.truncate(begun)
                    stream.seek(begun)
                    self._copy(answer, stream, begun, total)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and begun:
                if _range_of(error.headers)[1] != begun:
                    os.truncate(draft, 0)
                    self._receive(draft)
                return
            raise _Unfinished(
                f"{self.shown} was refused by the server ({error.code} {_phrase(error.code)})", self.by_hand
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            raise _Unfinished(f"{self.shown} could not be fetched ({reason[:200]})", self.by_hand) from error

    def _check_answer(self, answer: http.client.HTTPResponse, begun: int) -> tuple[int, int | None]:
        """(position of the answer's first byte, length of the whole file if the server tells it)."""
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            first, total = _range_of(answer.headers)
            if first != begun:
                raise InputError(f"{self.shown} was answered with another part of the file", self.by_hand)
        elif answer.status == HTTPStatus.OK:
            length = answer.headers.get("Content-Length", "")
            begun, total = 0, int(length) if length.isascii() and length.isdigit() else None
        else:
            raise InputError(f"{self.shown} was answered with {answer.status} {_phrase(answer.status)}", self.by_hand)
        if self._is_web_page(answer):
            raise InputError(
                f"{self.shown} was answered with a web page, not with a file",
                "Log in to the network if it asks for that, check the address, or fetch the file by other means",
            )
        self._require_length(total)
        if total is not None and shutil.disk_usage(self.path.parent).free < total - begun:
            raise InputError(f"{self.path.parent} has no room for {total / 1e6:.0f} MB", "Make room on that disk")
        return begun, total

    def _is_web_page(self, answer: http.client.HTTPResponse) -> bool:
        if not answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            return False
        return self.path.suffix.lower() not in (".htm", ".html") and answer.peek(64).lstrip().lower().startswith(
            _WEB_PAGE
        )

    def _require_length(self, length: int | None) -> None:
        if length is None:
            return
        if length > self.size_limit:
            raise InputError(f"{self.shown} is larger than {self.size_limit / 1e6:.0f} MB", self.by_hand)
        if self.size is not None and length != self.size:
            raise InputError(
                f"{self.shown} has {length} bytes where {self.size} were expected",
                "Check the address; if it is right, the file was changed: do not use it",
            )

    def _copy(self, answer: http.client.HTTPResponse, stream: BinaryIO, length: int, total: int | None) -> None:
        limit = self.size_limit if self.size is None else min(self.size, self.size_limit)
        # read1 returns what is there, so that a slow server still lets a cancel through.
        while block := answer.read1(_BLOCK):
            length += len(block)
            if length > limit:
                self._require_length(length)
            try:
                stream.write(block)
                stream.flush()
            except OSError as error:
                raise InputError(
                    f"{self.path} cannot be written ({error.strerror})", "Make room on that disk"
                ) from error
            if self.progress is not None:
                self.progress.report(f"Fetching {self.name}", length / total if total else 0.0)
        if total is not None and length != total:
            raise _Unfinished(
                f"{self.shown} was cut short ({length} of {total} bytes)", "Try again: it goes on where it stopped"
            )
        self._require_length(length)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file of this process to download into, with what an earlier attempt has left in it."""
    kept = path.with_name(f".{path.name}.part")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch(exist_ok=False)
    except OSError as error:
        raise _unwritable(path, error) from error
    for earlier in (kept, *_abandoned(path, draft)):
        try:
            os.replace(earlier, draft)  # renaming takes it from every other process
        except OSError:
            continue
        break
    try:
        yield draft
    except (_Unfinished, Cancelled, KeyboardInterrupt):
        if draft.stat().st_size > 0:
            os.replace(draft, kept)
        raise
    finally:
        draft.unlink(missing_ok=True)


def _abandoned(path: Path, draft: Path) -> list[Path]:
    """Unfinished files of processes that are gone, judged by their age."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    found = []
    for other in path.parent.iterdir():
        if other != draft and pattern.fullmatch(other.name):
            with suppress(OSError):  # its owner may just have finished
                if time.time() - other.stat().st_mtime > _ABANDONED_S:
                    found.append(other)
    return found


def _put_in_place(draft: Path, path: Path) -> None:
    try:
        with open(draft, "r+b") as stream:  # Windows syncs only what is open for writing
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be written ({error.strerror})", "Make room there, or choose a place that can be written to"
    )


def _checked_address(url: str) -> SplitResult:
    """The parts of an https address, or of an http address on this computer; InputError for any other."""
    try:
        address = urlsplit(url)
        host, _ = address.hostname or "", address.port
    except ValueError:
        address, host = SplitResult("", "", "", "", ""), ""
    shown = shown_address(url)
    if not host or address.scheme not in ("https", "http"):
        raise InputError(f"the address {shown} is not http or https", "Give a web address that begins with https://")
    if address.username is not None or address.password is not None:
        raise InputError(f"the address {address.scheme}://...@{host} holds a user name", "Give it without")
    if address.scheme == "http" and not _is_this_computer(host):
        raise InputError(f"the address {shown} is not encrypted", "Give the https address")
    return address


def shown_address(url: str) -> str:
    """An address fit for a message or a record: without query and fragment, which may hold a password."""
    shown = re.split(r"[?#]", url, maxsplit=1)[0]
    return shown if shown.isprintable() and len(shown) <= 300 else ascii(shown[:300])


def is_address(source: str) -> bool:
    """Whether ``source`` is written like an address on the network, of whatever scheme, rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def _is_this_computer(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _KeepScheme(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only within https, or on this computer."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        target = _checked_address(newurl)
        if target.scheme != urlsplit(req.full_url).scheme:
            raise InputError(
                f"{shown_address(req.full_url)} leads to {shown_address(newurl)}, which has another scheme",
                "Give the address of the file itself",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(address: SplitResult) -> urllib.request.OpenerDirector:
    # http is for this computer alone: no proxy
    proxies = [urllib.request.ProxyHandler({})] if address.scheme == "http" else []
    return urllib.request.build_opener(_KeepScheme, *proxies)


def _range_of(headers: http.client.HTTPMessage) -> tuple[int | None, int | None]:
    """(first byte, length of the whole file) of a Content-Range header, None for what it does not tell."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None, None
    return None if found[1] is None else int(found[1]), int(found[2])


def _phrase(code: int) -> str:
    return HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else "unknown status"


def is_checksum(text: str) -> bool:
    """Whether a text is a SHA-256 in hexadecimal, or a beginning of one with 8 digits or more."""
    return re.fullmatch("[0-9a-fA-F]{8,64}", text) is not None


def require_checksum(path: Path, actual: str, expected: str) -> None:
    """Raise InputError unless ``actual`` begins with ``expected`` (SHA-256, hexadecimal)."""
    _require_checksum(actual, expected, str(path), "Give the file that was meant, or the right checksum")


def _require_checksum(actual: str, expected: str, name: str, remedy: str) -> None:
    if not is_checksum(expected) or not actual.startswith(expected.lower()):
        raise InputError(f"{name} has the SHA-256 {actual} where {expected!r} was expected", remedy)


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
