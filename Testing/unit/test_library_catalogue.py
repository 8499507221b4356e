"""The catalogue of models and its downloads, from a server on this computer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from toy_bundles import CHANNELS, write_toy_bundle
from XTLLib.bundle.catalogue import CatalogueEntry, find_entry, read_catalogue
from XTLLib.bundle.export import export_bundle
from XTLLib.bundle.fetch import download_model
from XTLLib.bundle.library import downloads_folder, list_models, models_folder
from XTLLib.cli import main
from XTLLib.errors import Cancelled, InputError
from XTLLib.files import sha256_of
from XTLLib.progress import Progress

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path -> bytes), ranges too; ``cut`` is the number of bytes after which it hangs up once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.ranges: list[str | None] = []

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(data[first:] if cut is None else data[first : first + cut])

    def log_message(self, *_):
        pass


@contextmanager
def _serving():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server():
    with _serving() as server:
        yield server


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    return export_bundle(write_toy_bundle(folder / "toy"), folder / "toy.zip", "zip").path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))


def entry_values(**changes) -> dict:
    values = {
        "name": "toy",
        "version": "1.0.0",
        "description": "An untrained network",
        "task": "segmentation",
        "channels": list(CHANNELS),
        "licence": "CC BY 4.0",
        "chain": "random -> MS segmentation",
        "url": "https://example.org/toy.zip",
        "sha256": "0" * 64,
        "size": 10,
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def entry_of(server: Server, archive: Path, **changes) -> CatalogueEntry:
    server.files["/toy.zip"] = archive.read_bytes()
    facts = {"url": server.address("/toy.zip"), "sha256": sha256_of(archive), "size": archive.stat().st_size}
    values = entry_values(**{**facts, **changes})
    return CatalogueEntry(**{**values, "channels": tuple(values["channels"])})


# --- the catalogue ----------------------------------------------------------------------------------


def test_the_catalogue_that_comes_with_xtl_follows_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((RESOURCES / "Models.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((RESOURCES / "Models.json").read_text()), schema)
    assert len(read_catalogue()) == len(json.loads((RESOURCES / "Models.json").read_text())["models"])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"version": None}, "version"),
        ({"colour": "red"}, "colour"),
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"task": "astrology"}, "task"),
        ({"channels": []}, "channels"),
        ({"channels": ["A", "A"]}, "channels"),
        ({"channels": "FLAIR"}, "channels"),
        ({"licence": " "}, "licence"),
        ({"chain": "a\x1b[2J"}, "chain"),
        ({"url": "ftp://example.org/a.zip"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"sha256": "abc"}, "sha256"),
        ({"sha256": "G" * 64}, "sha256"),
        ({"size": 0}, "size"),
        ({"size": "10"}, "size"),
        ({"size": 1.5}, "size"),
    ],
)
def test_reader_and_schema_refuse_the_same_entries(tmp_path, changes, word):
    jsonschema = pytest.importorskip("jsonschema")
    values = {"format": 1, "models": [entry_values(**changes)]}
    validator = jsonschema.Draft202012Validator(json.loads((RESOURCES / "Models.schema.json").read_text()))
    (tmp_path / "c.json").write_text(json.dumps(values))
    if word is None:
        validator.validate(values)
        (entry,) = read_catalogue(tmp_path / "c.json")
        assert entry.channels == CHANNELS and find_entry("toy", (entry,)) is entry
        return
    assert not validator.is_valid(values)
    with pytest.raises(InputError, match=word):
        read_catalogue(tmp_path / "c.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2, "models": []}', '{"format": 1, "models": {}}', "[" * 9999]
)
def test_what_is_no_catalogue_is_named(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c\.json"):
        read_catalogue(tmp_path / "c.json")
    with pytest.raises(InputError, match=r"missing\.json"):
        read_catalogue(tmp_path / "missing.json")


def test_two_models_of_one_name_are_refused(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"format": 1, "models": [entry_values(), entry_values(name="Toy")]}))
    with pytest.raises(InputError, match="toy twice"):
        read_catalogue(tmp_path / "c.json")


def test_a_catalogue_is_read_from_an_address(server):
    server.files["/c.json"] = json.dumps({"format": 1, "models": [entry_values()]}).encode()
    assert [entry.name for entry in read_catalogue(server.address("/c.json"))] == ["toy"]
    server.files["/big.json"] = b" " * ((4 << 20) + 1)
    server.files["/bytes.json"] = b"\xff\xfe\x00"
    for path, words in (("/none.json", "404"), ("/big.json", "larger"), ("/bytes.json", "UTF-8")):
        with pytest.raises(InputError, match=words):
            read_catalogue(server.address(path))
    for address in ("file:///etc/hostname", "http://example.org/c.json"):
        with pytest.raises(InputError, match="http"):
            read_catalogue(address)


# --- downloads --------------------------------------------------------------------------------------


def test_a_model_is_fetched_checked_imported_and_kept(server, archive):
    entry = entry_of(server, archive)
    imported = download_model(entry)
    assert imported.name == "toy" and [model.name for model in list_models()] == ["toy"]
    assert server.ranges == [None]
    download_model(entry, replace=True)
    assert server.ranges == [None]  # from what was kept
    with pytest.raises(InputError, match="--replace"):
        download_model(entry)


def test_a_transfer_that_was_cut_goes_on_where_it_broke(server, archive):
    server.cut = 100_000
    download_model(entry_of(server, archive))
    assert server.ranges == [None, "bytes=100000-"]


def test_a_transfer_that_was_cancelled_goes_on_in_a_later_call(server, archive):
    asked = iter([False] * 5 + [True] * 99)
    with pytest.raises(Cancelled):
        download_model(entry_of(server, archive), progress=Progress(None, lambda: next(asked)))
    assert list_models() == ()
    download_model(entry_of(server, archive))
    first, second = server.ranges
    assert first is None and second.startswith("bytes=") and second != "bytes=0-"


@pytest.mark.parametrize("changes", [{"sha256": "1" * 64}, {"size": 17}])
def test_an_archive_of_another_hash_or_size_is_refused(server, archive, changes):
    with pytest.raises(InputError, match=r"expected|bytes|larger"):
        download_model(entry_of(server, archive, **changes))
    assert list_models() == () and not list(downloads_folder("toy").glob("*.zip"))


def test_an_archive_with_the_right_hash_is_checked_as_any_other(server, tmp_path, archive):
    import shutil
    import zipfile

    evil = Path(shutil.copyfile(archive, tmp_path / "evil.zip"))
    with zipfile.ZipFile(evil, "a") as stream:
        stream.writestr("../../escaped.txt", "x")
    with pytest.raises(InputError, match=r"escaped\.txt"):
        download_model(entry_of(server, evil))
    coded = Path(shutil.copyfile(archive, tmp_path / "coded.zip"))
    with zipfile.ZipFile(coded, "a") as stream:
        stream.writestr("toy/scripts/x.py", "x")
    with pytest.raises(InputError, match="Python code"):
        download_model(entry_of(server, coded))
    assert not list(tmp_path.rglob("escaped.txt")) and list(models_folder().iterdir()) == []


@pytest.mark.parametrize("changes", [{"task": "classification"}, {"channels": ["T1", "FLAIR"]}])
def test_a_model_that_is_not_what_the_catalogue_says_is_refused(server, archive, changes):
    with pytest.raises(InputError, match="the catalogue says"):
        download_model(entry_of(server, archive, **changes))
    assert list_models() == ()


def test_available_and_download_from_the_command_line(server, archive, tmp_path, capsys):
    entry = entry_of(server, archive)
    values = entry_values(url=entry.url, sha256=entry.sha256, size=entry.size)
    (tmp_path / "c.json").write_text(json.dumps({"format": 1, "models": [values]}))
    catalogue = ["--catalogue", str(tmp_path / "c.json")]
    assert main(["models", "available", *catalogue]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert line.startswith("toy") and "CC BY 4.0" in line and header.index("chain") == line.index("random ->")
    assert main(["models", "download", "toy", "--progress", "none", "--name", "mine", *catalogue]) == 0
    assert "CC BY 4.0" in capsys.readouterr().out and [model.name for model in list_models()] == ["mine"]
    assert main(["models", "download", "none", *catalogue]) == 2
    assert "Choose one of toy" in capsys.readouterr().err
