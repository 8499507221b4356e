"""Fetching over a real (local) network connection: cut, slow, lying and hostile servers."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from XTLLib.errors import Cancelled, InputError
from XTLLib.networks import download as module
from XTLLib.networks import sources
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.download import cache_folder, download
from XTLLib.networks.initialisation import initialise_backbone
from XTLLib.networks.weights import load_weights
from XTLLib.progress import Progress

torch.set_num_threads(1)

CONTENT = random.Random(0).randbytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Log in to the hospital network</body></html>"


class Handler(BaseHTTPRequestHandler):
    """Serves ``site.files``; ``site.behaviour`` says how. Notes the Range of every request."""

    protocol_version = "HTTP/1.0"

    def __init__(self, site: SimpleNamespace, *args) -> None:
        self.site = site
        super().__init__(*args)

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        site, behaviour = self.site, self.site.behaviour
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        site.ranges.append(None if asked is None else int(asked[1]))
        content = site.files.get(self.path.partition("?")[0].lstrip("/"))
        if behaviour == "portal":
            return self._answer(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        if self.path.startswith("/to/"):
            return self._answer(302, b"", {"Location": site.target})
        if content is None:
            return self._answer(404, b"")
        begun = 0 if asked is None or behaviour == "no ranges" else int(asked[1])
        if behaviour == "wrong range" and asked is not None:
            return self._answer(206, content[5:], {"Content-Range": f"bytes 5-{len(content) - 1}/{len(content)}"})
        if begun >= len(content):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        status = 206 if asked is not None and behaviour != "no ranges" else 200
        headers = {"Content-Length": str(len(content) - begun)}
        if status == 206:
            headers["Content-Range"] = f"bytes {begun}-{len(content) - 1}/{len(content)}"
        if behaviour == "endless":
            headers = {}
        body = content[begun:]
        if behaviour in ("cut", "no ranges") and site.cuts > 0:
            site.cuts -= 1
            body = body[: len(body) // 2]
        return self._answer(status, body, headers, slow=behaviour == "slow")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, slow: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for first in range(0, len(body), 1000 if slow else len(body)) if body else ():
                self.wfile.write(body[first : first + 1000] if slow else body)
                if slow:
                    time.sleep(0.02)
        except OSError:  # the client has gone
            pass


@pytest.fixture
def site(monkeypatch):
    """A server on this machine: what it holds, how it behaves, what it was asked."""
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0, 0.0))
    site = SimpleNamespace(files={"file.pth": CONTENT}, behaviour="", cuts=0, ranges=[], target="")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        site.address = f"http://127.0.0.1:{running.server_port}/"
        site.url = site.address + "file.pth"
        yield site
        running.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target" / "file.pth"


def left_in(folder) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_whole_file(site, target):
    events = []
    assert download(site.url, target, SHA256[:8], Progress(events.append), size=len(CONTENT)) == SHA256
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == ["file.pth"]
    assert events[-1].fraction == 1 and events[-1].stage == "Fetching file.pth"
    assert site.ranges == [None]


def test_cut_connection_is_taken_up_where_it_broke(site, target):
    site.behaviour, site.cuts = "cut", 2
    assert download(site.url, target, SHA256) == SHA256
    assert target.read_bytes() == CONTENT
    assert site.ranges == [None, 750_000, 1_125_000]
    assert left_in(target.parent) == ["file.pth"]


def test_server_without_ranges_is_asked_again_from_the_start(site, target):
    site.behaviour, site.cuts = "no ranges", 1
    assert download(site.url, target, SHA256) == SHA256
    assert target.read_bytes() == CONTENT


def test_what_has_come_is_kept_for_a_later_attempt(site, target):
    site.behaviour, site.cuts = "cut", 99
    with pytest.raises(InputError, match=r"was cut short \(1406250 of 1500000 bytes\).*it goes on where it stopped"):
        download(site.url, target, SHA256)
    assert left_in(target.parent) == [".file.pth.part"]
    site.cuts, site.ranges = 0, []
    assert download(site.url, target, SHA256) == SHA256
    assert site.ranges == [1_406_250]
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == ["file.pth"]


def test_file_of_a_killed_process_is_taken_up(site, target):
    target.parent.mkdir()
    young, old = (target.with_name(f".file.pth.{digits * 8}.part") for digits in "ab")
    young.write_bytes(CONTENT[:10])
    old.write_bytes(CONTENT[:1000])
    os.utime(old, (time.time() - 1000,) * 2)
    assert download(site.url, target, SHA256) == SHA256
    assert site.ranges == [1000]
    assert left_in(target.parent) == [young.name, "file.pth"]  # another process may be at work on the young one


def test_kept_beginning_of_another_file_is_given_up(site, target):
    target.parent.mkdir()
    for stale, ranges in ((b"x" * 1000, [1000, None]), (b"x" * 2_000_000, [2_000_000, None])):
        site.ranges.clear()
        target.with_name(".file.pth.part").write_bytes(stale)
        assert download(site.url, target, SHA256) == SHA256
        assert site.ranges == ranges
        assert target.read_bytes() == CONTENT
    target.with_name(".file.pth.part").write_bytes(CONTENT)  # whole, but its process died before the check
    site.ranges.clear()
    assert download(site.url, target, SHA256) == SHA256
    assert site.ranges == [len(CONTENT)]


def test_cancel_stops_a_slow_transfer_at_once_and_keeps_what_has_come(site, target):
    site.behaviour = "slow"  # 30 s for the file
    events = []
    progress = Progress(events.append, is_cancelled=lambda: len(events) >= 3)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        download(site.url, target, SHA256, progress)
    assert time.monotonic() - began < 25, "it waited for the whole file"
    assert 0 < events[-1].fraction < 0.1
    assert left_in(target.parent) == [".file.pth.part"]
    site.behaviour = ""
    assert download(site.url, target, SHA256) == SHA256
    assert site.ranges[-1] > 0


def test_silent_server_is_given_up(target, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/file.pth"
        with pytest.raises(InputError, match=r"could not be fetched .*timed out"):
            download(address, target, SHA256)
    assert left_in(target.parent) == []


@pytest.mark.parametrize(
    ("behaviour", "options", "message"),
    [
        ("", {"sha256": "0" * 64}, "has the SHA-256 .* was expected. Try again"),
        ("", {"sha256": ""}, "the SHA-256 '' of .*Give 8 to 64"),
        ("", {"sha256": "g" * 64}, "Give 8 to 64 hexadecimal digits"),
        ("", {"size": len(CONTENT) + 1}, "has 1500000 bytes where 1500001 were expected"),
        ("endless", {"size": len(CONTENT) + 1}, "has 1500000 bytes where 1500001 were expected"),
        ("endless", {"size": 1_000_000}, "bytes where 1000000 were expected"),
        ("", {"size_limit_bytes": 1_000_000}, "larger than 1 MB"),
        ("endless", {"size_limit_bytes": 1_000_000}, "larger than 1 MB"),
        ("portal", {}, "answered with a web page, not with a file. Log in to the network"),
        ("portal", {"size": 5}, "answered with a web page"),
    ],
)
def test_refused_answer_leaves_nothing(site, target, behaviour, options, message):
    site.behaviour = behaviour
    with pytest.raises(InputError, match=message):
        download(site.url, target, **{"sha256": SHA256, **options})
    assert left_in(target.parent) == []


def test_wrong_range_leaves_nothing(site, target):
    target.parent.mkdir()
    target.with_name(".file.pth.part").write_bytes(CONTENT[:1000])
    site.behaviour = "wrong range"
    with pytest.raises(InputError, match="answered with another part of the file"):
        download(site.url, target, SHA256)
    assert left_in(target.parent) == []


def test_earlier_file_stays_when_a_new_one_is_refused(site, target):
    target.parent.mkdir()
    target.write_bytes(b"earlier")
    with pytest.raises(InputError, match="SHA-256"):
        download(site.url, target, "0" * 64)
    assert target.read_bytes() == b"earlier"


def test_unreachable_and_unwritable(site, target, tmp_path):
    with pytest.raises(InputError, match=r"was refused by the server \(404 Not Found\)"):
        download(site.address + "gone.pth", target, SHA256)
    with pytest.raises(InputError, match="could not be fetched"):
        download("http://127.0.0.1:9/x.pth", target, SHA256)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        download(site.url, tmp_path / "file" / "x.pth", SHA256)
    assert left_in(target.parent) == []


def test_full_disk_is_told_before_anything_comes(site, target, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(InputError, match="has no room for 2 MB"):
        download(site.url, target, SHA256)
    assert left_in(target.parent) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/hostname", "is not http or https"),
        ("ftp://example.org/a.pth", "is not http or https"),
        ("https:///a.pth", "is not http or https"),
        ("https://[bad/a.pth", "is not http or https"),
        ("http://example.org/a.pth", "is not encrypted"),
        ("http://127.0.0.1.example.org/a.pth", "is not encrypted"),
        ("https://me:secret@example.org/a.pth", "holds a user name"),
    ],
)
def test_address_that_is_not_taken(target, url, message):
    with pytest.raises(InputError, match=message) as caught:
        download(url, target, SHA256)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("file:///etc/hostname", r"refused by the server \(302 Found\)"),
        ("ftp://example.org/a", "is not http or https"),
        ("http://example.org/a", "is not encrypted"),
        ("https://example.org/a", "another scheme"),
    ],
)
def test_redirect_to_another_scheme_is_refused(site, target, to, message):
    site.target = to
    with pytest.raises(InputError, match=message):
        download(site.address + "to/file.pth", target, SHA256)
    assert left_in(target.parent) == []


def test_redirect_within_the_scheme_is_followed(site, target):
    site.target = site.url
    assert download(site.address + "to/file.pth", target, SHA256) == SHA256


def test_password_in_a_query_is_not_shown(site, target):
    with pytest.raises(InputError) as caught:
        download(site.address + "gone.pth?token=secret", target, SHA256)
    assert "secret" not in str(caught.value)


# --- weights from the network -----------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[bytes, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    state = build_backbone("squeezenet1_0").state_dict()
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(state, path)
    return path.read_bytes(), state


def test_imagenet_weights_are_fetched_once_and_kept(site, home, saved, monkeypatch):
    content, state = saved
    digest = hashlib.sha256(content).hexdigest()
    name = f"squeezenet1_0-{digest[:8]}.pth"
    site.files[name] = content
    monkeypatch.setitem(sources.IMAGENET_FILES, "squeezenet1_0", name)
    backbone = build_backbone("squeezenet1_0")
    with pytest.raises(InputError, match=r"not on this computer.*Allow the download, or fetch http"):
        load_weights(backbone, "imagenet", base_url=site.address)
    report = load_weights(backbone, "imagenet", allow_download=True, base_url=site.address)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert (report.source, report.sha256) == (site.address + name, digest)
    assert "ImageNet" in report.licence
    site.files.clear()
    kept = load_weights(build_backbone("squeezenet1_0"), "imagenet", base_url=site.address)
    assert kept.sha256 == digest
    assert cache_folder() == home / "weights"
    assert left_in(home / "weights") == [name]
    # the same file given by hand is known by its hash
    assert "ImageNet" in load_weights(backbone, home / "weights" / name).licence


def test_changed_imagenet_file_never_appears(site, home, saved):
    site.files[sources.IMAGENET_FILES["squeezenet1_0"]] = saved[0]
    with pytest.raises(InputError, match="'b66bff10' was expected"):
        load_weights(build_backbone("squeezenet1_0"), "imagenet", allow_download=True, base_url=site.address)
    assert left_in(home / "weights") == []


def test_weights_from_an_address_are_kept_by_their_hash(site, home, saved):
    content, state = saved
    digest = hashlib.sha256(content).hexdigest()
    site.files["mine.pt"] = content
    url = site.address + "mine.pt?token=secret"

    def start(**options):
        return initialise_backbone("squeezenet1_0", weights=url, seed=0, **options)

    for short in (None, digest[:8]):
        with pytest.raises(InputError, match=r"without their SHA-256\. Add sha256 with the 64 digits"):
            start(sha256=short, allow_download=True)
    with pytest.raises(InputError, match="not on this computer"):
        start(sha256=digest)
    backbone, report = start(sha256=digest.upper(), allow_download=True)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert (report.source, report.sha256) == (site.address + "mine.pt", digest)
    assert left_in(home / "weights") == [f"{digest}.pt"]
    asked = len(site.ranges)
    start(sha256=digest)
    assert len(site.ranges) == asked
    (home / "weights" / f"{digest}.pt").write_bytes(b"damaged")
    start(sha256=digest, allow_download=True)
    assert len(site.ranges) == asked + 1


def test_other_kinds_of_address_are_refused(home):
    for url in ("ftp://example.org/a.pth", "file:///etc/hostname"):
        with pytest.raises(InputError, match="is not http or https"):
            initialise_backbone("squeezenet1_0", weights=url, sha256=SHA256, seed=0, allow_download=True)
