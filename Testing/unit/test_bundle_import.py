"""Bundles of somebody else: what comes in, what is refused, and that nothing is executed or left behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_bundles import CLASSIFICATION, SEGMENTATION, write_toy_bundle
from XTLLib.bundle import layout
from XTLLib.bundle.export import export_bundle
from XTLLib.bundle.hashes import write_hashes
from XTLLib.bundle.importing import import_bundle
from XTLLib.bundle.library import models_folder
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.members import checked_member, is_portable
from XTLLib.bundle.unpack import Limits
from XTLLib.errors import InputError
from XTLLib.files import sha256_of


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("toys") / "toy")


@pytest.fixture(scope="module")
def toy_zip(toy, tmp_path_factory) -> Path:
    return export_bundle(toy, tmp_path_factory.mktemp("zips") / "toy.zip", "zip").path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def copy(toy, tmp_path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "copy"))


def left_in_library() -> list[str]:
    return sorted(path.name for path in models_folder().iterdir()) if models_folder().is_dir() else []


def rewrite(archive: Path, out: Path, change) -> Path:
    """``archive`` with members changed: ``change(infos_and_data) -> infos_and_data``."""
    with zipfile.ZipFile(archive) as source:
        members = [(info, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(out, "w") as target:
        for info, data in change(members):
            target.writestr(info, data)
    return out


def with_member(
    archive: Path, out: Path, name: str, data: bytes = b"x", mode: int = 0, method=zipfile.ZIP_STORED
) -> Path:
    info = zipfile.ZipInfo(name)
    info.filename = info.orig_filename = name  # as it is, also what zipfile would put right
    info.external_attr, info.compress_type = mode << 16, method
    return rewrite(archive, out, lambda members: [*members, (info, data)])


# --- what comes in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SEGMENTATION, CLASSIFICATION], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_what_is_exported_comes_in_as_it_was(spec, form, tmp_path):
    toy = write_toy_bundle(tmp_path / "toy", spec)
    sent = export_bundle(toy, tmp_path / ("sent.zip" if form == "zip" else "sent"), form).path
    imported = import_bundle(sent, name="mine")
    assert imported.path == models_folder() / "mine" and imported.notes == ()
    for file in layout.WRITTEN:
        assert sha256_of(imported.path / file) == sha256_of(toy / file), file
    assert load_bundle(imported.path).spec == spec
    assert left_in_library() == ["mine"]


def test_a_bundle_at_the_root_of_an_archive_with_a_mac_s_litter_comes_in_under_its_own_name(toy_zip, tmp_path):
    def at_root(members):
        for info, _ in members:
            info.filename = info.filename.partition("/")[2]
        litter = [(zipfile.ZipInfo("__MACOSX/._x"), b""), (zipfile.ZipInfo(".DS_Store"), b"")]
        return [*members, *litter]

    imported = import_bundle(rewrite(toy_zip, tmp_path / "root.zip", at_root))
    assert imported.name == "toy" and not list(imported.path.rglob("*MACOSX*"))


def test_a_name_that_is_taken_asks_for_replace(toy_zip, tmp_path):
    import_bundle(toy_zip)
    before = sha256_of(models_folder() / "toy" / layout.WEIGHTS)
    other = write_toy_bundle(tmp_path / "other", seed=9)
    for name in (None, "toy"):
        with pytest.raises(InputError, match="--replace"):
            import_bundle(other, name=name)
    assert sha256_of(models_folder() / "toy" / layout.WEIGHTS) == before
    import_bundle(other, replace=True)
    assert sha256_of(models_folder() / "toy" / layout.WEIGHTS) != before and left_in_library() == ["toy"]


def test_an_import_that_fails_leaves_the_model_that_was_there(toy_zip, copy):
    import_bundle(toy_zip)
    with open(copy / layout.WEIGHTS, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(InputError, match=r"model.pt was changed"):
        import_bundle(copy, replace=True)
    load_bundle(models_folder() / "toy")
    assert left_in_library() == ["toy"]


# --- names and links --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "toy/../../evil.txt",
        "/tmp/evil.txt",
        "//host/share/evil.txt",
        "C:/evil.txt",
        "C:evil.txt",
        "..\\evil.txt",
        "toy\\..\\evil.txt",
        "toy/docs/CON",
        "toy/docs/nul.txt",
        "toy/docs/LPT1.md",
        "toy/docs/a.txt:stream",
        "toy/docs/evil.",
        "toy/docs/evil ",
        "toy/./evil",
        "toy//evil",
        "toy/docs/a\x00.md",
        "toy/docs/a\n.md",
        "a/" * 20 + "b",
        "toy/docs/" + "b" * 300,
    ],
)
def test_no_member_leaves_the_folder(toy_zip, tmp_path, name, home):
    with pytest.raises(InputError, match=r"evil|portable"):
        import_bundle(with_member(toy_zip, tmp_path / "evil.zip", name))
    assert left_in_library() == []
    assert not [path for path in tmp_path.rglob("*evil*") if path.name != "evil.zip"]


@given(st.text(max_size=40))
def test_a_checked_name_stays_below_its_folder_on_every_system(name):
    from pathlib import PurePosixPath, PureWindowsPath

    try:
        path = checked_member(name, "x")
    except InputError:
        return
    for kind, root in ((PurePosixPath, "/a/b"), (PureWindowsPath, "C:\\a\\b")):
        joined = kind(root) / kind(path)
        assert (
            joined.is_relative_to(kind(root)) and ".." not in joined.parts and len(joined.parts) > len(kind(root).parts)
        )
    if hasattr(PureWindowsPath, "is_reserved"):
        assert not PureWindowsPath(path).is_reserved()


def test_portable_names_are_not_refused():
    assert all(map(is_portable, ("model.pt", "README", "a b", "über.md", "console.txt", "com10", "1+1")))


def test_links_are_not_followed(toy, toy_zip, copy, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    link = with_member(toy_zip, tmp_path / "l.zip", "toy/docs/l.md", b"../../../secret.txt", stat.S_IFLNK | 0o777)
    with pytest.raises(InputError, match=r"a link or a device, toy/docs/l.md"):
        import_bundle(link)
    (copy / "docs" / "l.md").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InputError, match=r"a link or a device, docs/l.md"):
        import_bundle(copy)
    (copy / "docs" / "l.md").unlink()
    shutil.rmtree(copy / "docs")
    (copy / "docs").symlink_to(toy / "docs")
    with pytest.raises(InputError, match="a link or a device, docs"):
        import_bundle(copy)
    assert left_in_library() == []


@pytest.mark.parametrize("name", ["toy/configs/xtl.json", "toy/CONFIGS/XTL.json"])
def test_two_members_of_one_name_are_refused(toy_zip, tmp_path, name):
    with pytest.warns(UserWarning) if name.islower() else _nothing():
        twice = with_member(toy_zip, tmp_path / "twice.zip", name, b"{}")
    with pytest.raises(InputError, match="twice"):
        import_bundle(twice)


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_a_file_that_is_a_folder_too_is_refused(toy_zip, tmp_path):
    with pytest.raises(InputError, match="a file and a folder of one name"):
        import_bundle(with_member(toy_zip, tmp_path / "x.zip", "toy/docs/README.md/x.md"))


# --- sizes ------------------------------------------------------------------------------------------


def test_bombs_are_refused_before_they_go_off(toy_zip, tmp_path):
    bomb = with_member(toy_zip, tmp_path / "b.zip", "toy/docs/a.txt", bytes(3 << 20), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="100 times"):
        import_bundle(bomb)
    with pytest.raises(InputError, match="3 files"):
        import_bundle(toy_zip, limits=Limits(files=3))
    with pytest.raises(InputError, match=r"8 files of \d+ bytes"):
        import_bundle(toy_zip, limits=Limits(total_bytes=1 << 20))
    with pytest.raises(InputError, match=r"model.pt of"):
        import_bundle(toy_zip, limits=Limits(file_bytes=1 << 20))
    with pytest.raises(InputError, match=r"LICENSE of \d+ bytes"):
        import_bundle(toy_zip, limits=Limits(text_bytes=10))
    assert left_in_library() == []


def test_a_member_that_is_longer_than_it_says_is_refused(toy_zip, tmp_path):
    data = bytearray(toy_zip.read_bytes())
    with zipfile.ZipFile(toy_zip) as archive:
        info = archive.getinfo("toy/docs/README.md")
    place = data.rindex(b"toy/docs/README.md") - 46  # its record in the central directory
    assert data[place : place + 4] == b"PK\x01\x02"
    data[place + 24 : place + 28] = (info.file_size - 9).to_bytes(4, "little")
    (tmp_path / "lie.zip").write_bytes(data)
    with pytest.raises(InputError):
        import_bundle(tmp_path / "lie.zip")
    assert left_in_library() == []


def _put_weights(folder: Path, data: bytes) -> None:
    (folder / layout.WEIGHTS).write_bytes(data)
    described = json.loads((folder / layout.XTL).read_text())
    described["weights"]["sha256"] = sha256_of(folder / layout.WEIGHTS)
    (folder / layout.XTL).write_text(json.dumps(described))
    write_hashes(folder)


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_not_executed(copy, tmp_path):
    buffer = io.BytesIO()
    good = torch.load(copy / layout.WEIGHTS, weights_only=True)
    torch.save({**good, "x": _Touch(tmp_path / "executed")}, buffer)
    _put_weights(copy, buffer.getvalue())
    with pytest.raises(InputError, match="no plain state dict"):
        import_bundle(copy)
    with pytest.raises(InputError, match="no plain state dict"):
        import_bundle(copy, trust=True)
    assert not (tmp_path / "executed").exists() and left_in_library() == []


def test_weights_that_claim_more_than_they_hold_are_refused(copy):
    good = torch.load(copy / layout.WEIGHTS, weights_only=True)
    name = next(iter(good))
    buffer = io.BytesIO()
    torch.save({**good, name: torch.zeros(1).expand(10**12)}, buffer)  # four bytes that claim to be 4 TB
    _put_weights(copy, buffer.getvalue())
    with pytest.raises(InputError, match="1 of another shape"):
        import_bundle(copy)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/0", bytes(64 << 20))
    _put_weights(copy, packed.getvalue())
    with pytest.raises(InputError, match="would unpack to"):
        import_bundle(copy)


def test_a_description_of_a_network_that_no_memory_holds_is_refused(copy):
    described = json.loads((copy / layout.XTL).read_text())
    described["network"]["decoder_channels"] = [10**6] * 6
    (copy / layout.XTL).write_text(json.dumps(described))
    write_hashes(copy)
    with pytest.raises(InputError, match="describes a network of"):
        import_bundle(copy, trust=True)


# --- code -------------------------------------------------------------------------------------------


def _edit(folder: Path, file: str, change) -> None:
    values = json.loads((folder / file).read_text())
    change(values)
    (folder / file).write_text(json.dumps(values))
    write_hashes(folder)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (layout.INFERENCE, lambda v: v.update(run=["$__import__('os').system('true')"]), r"run\[0\]: \$__import__"),
        (layout.INFERENCE, lambda v: v["network_def"].update(_target_="os.system"), "network_def._target_: os.system"),
        (layout.INFERENCE, lambda v: v.update(extra={"_target_": "subprocess.run"}), "extra._target_: subprocess.run"),
        (layout.INFERENCE, lambda v: v.update(imports=["$import os"]), r"imports\[0\]: \$import os"),
        (layout.INFERENCE, lambda v: v.update(x="%other.json"), "x: %other.json"),
        (layout.INFERENCE, lambda v: v["postprocessing"].update(threshold=0.01), "differs from what XTL writes"),
        (layout.INFERENCE, lambda v: v["network_def"]["spec"].update(dropout=0.3), "differs from what XTL writes"),
        (layout.METADATA, lambda v: v.update(version="$print(1)"), r"metadata.json, version: \$print"),
    ],
)
def test_a_configuration_that_names_other_code_needs_trust(copy, file, change, words):
    _edit(copy, file, change)
    with pytest.raises(InputError, match=words) as caught:
        import_bundle(copy)
    assert "--trust" in str(caught.value) and left_in_library() == []
    assert (caught.value.needs, caught.value.about) == ("trust", caught.value.what.partition(" write: ")[2])
    imported = import_bundle(copy, trust=True)
    assert any("never runs" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("scripts/evil.py", "Python code"),
        ("models/model.ts", "a compiled network"),
        ("configs/logging.conf", "a configuration"),
        ("configs/train.json", "a configuration"),
        ("docs/run.sh", "a script"),
        ("data.pkl", "a pickle"),
    ],
)
def test_files_that_may_be_code_need_trust(copy, file, words):
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_text("x")
    write_hashes(copy)
    with pytest.raises(InputError, match=f"{file}.*{words}"):
        import_bundle(copy)
    assert (import_bundle(copy, trust=True).path / file).is_file()


def test_documents_need_no_trust(copy):
    (copy / "docs" / "figure.png").write_bytes(b"x")
    (copy / "NOTICE.txt").write_text("x")
    write_hashes(copy)
    assert (import_bundle(copy).path / "docs" / "figure.png").is_file()


@pytest.mark.parametrize(
    "channel", ["x' + __import__('os').getcwd() + '", "$a", "@device", "../x", "a/b", "", "a'b", "a\\b"]
)
def test_a_channel_s_name_cannot_smuggle_code_into_what_xtl_itself_would_write(copy, channel):
    """Then configs/inference.json would be what XTL writes for the description, and evil all the same."""

    def rename(values):
        values["preparation"]["channels"][0] = values["preparation"]["reference"] = channel

    _edit(copy, layout.XTL, rename)
    with pytest.raises(InputError, match=r"channel|MONAI would execute"):
        import_bundle(copy, trust=True)


def test_a_name_cannot_be_an_expression(copy, tmp_path):
    _edit(copy, layout.XTL, lambda v: v.update(name="$__import__('os').getcwd()"))
    with pytest.raises(InputError, match="MONAI would execute"):
        import_bundle(copy, name="x", trust=True)
    with pytest.raises(InputError, match="MONAI would execute"):
        write_toy_bundle(tmp_path / "new", name="$x")


def test_a_bundle_of_an_earlier_version_whose_network_has_fewer_keys_needs_no_trust(copy):
    def forget(values):
        spec = values["network_def"]["spec"]
        for key in ("input_scale", "input_mean", "dropout"):
            del spec[key]

    _edit(copy, layout.INFERENCE, forget)
    assert import_bundle(copy).notes == ()


def test_a_monai_bundle_that_is_not_xtl_s_is_named_as_such(tmp_path):
    folder = tmp_path / "unet"
    (folder / "configs").mkdir(parents=True)
    (folder / layout.METADATA).write_text("{}")
    (folder / layout.INFERENCE).write_text(json.dumps({"net": {"_target_": "monai.networks.nets.UNet"}}))
    with pytest.raises(InputError, match=r"net\._target_: monai.networks.nets.UNet"):
        import_bundle(folder)
    with pytest.raises(InputError, match=r"lacks configs/xtl.json"):
        import_bundle(folder, trust=True)


def test_broken_sources_are_named(tmp_path, toy_zip):
    (tmp_path / "not.zip").write_text("not a zip")
    (tmp_path / "cut.zip").write_bytes(toy_zip.read_bytes()[:5000])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    (tmp_path / "void").mkdir()
    for name in ("nothing.zip", "not.zip", "cut.zip", "empty.zip", "void"):
        with pytest.raises(InputError, match=name):
            import_bundle(tmp_path / name)
    assert left_in_library() == []


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "CON", "x.", "a" * 99, "C:x", "-x"])
def test_a_model_s_name_is_a_plain_folder_name(toy, name):
    with pytest.raises(InputError, match="cannot be the name of a model"):
        import_bundle(toy, name=name)
    assert left_in_library() == []
