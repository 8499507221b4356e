"""Scene files of strangers: what they try ends with one clear error or is passed over, and touches nothing else."""

from __future__ import annotations

import re
import socket
import stat
import tempfile
import zipfile

import numpy as np
import pytest
from scene_cases import ball, segmentation_result
from strange_scenes import FLAIR, MRML, ON, good_scene, members, repacked, swapped
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.scene import image_claims, open_scene, scene_description
from XTLLib.scene.inputs import add_case
from XTLLib.scene.nodes import volume_from_node
from XTLLib.scene.results_in_scene import results_in

slicer = pytest.importorskip("slicer")

SEGMENTS = "FLAIR MS lesions.seg.nrrd"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return good_scene(tmp_path_factory.mktemp("good") / "scene.mrb")


@pytest.fixture(autouse=True)
def left_behind(tmp_path, monkeypatch):
    """No test leaves a folder behind where temporary ones are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def refused(path) -> str:
    """The one line of the error that a scene is refused with."""
    with pytest.raises(InputError) as caught, open_scene.open_scene(path):
        pass
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_scene_opens_and_its_unpacked_files_are_gone_at_once(scene, left_behind):
    with open_scene.open_scene(scene) as session:
        assert not list(left_behind.iterdir())
        shown = volume_from_node(session.scene.GetFirstNodeByName("FLAIR"))
        np.testing.assert_allclose(shown.array, 100 * ball(ON), rtol=1e-6)
        assert [one.name for one in results_in(session.scene)] == ["FLAIR MS lesions", "T2W lesion table"]


# --- the archive -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "scene/../../out.txt", "/out.txt", "C:/out.txt", "C:out.txt", "scene\\..\\..\\out.txt",
     "//server/share/out.txt", "scene/nul", "scene/a:stream", "scene/./a", "a/b/c/d/e/f/g/h/i/j", "scene/bell\x07"],
)  # fmt: skip
def test_members_that_would_leave_the_folder_are_refused(tmp_path, scene, name):
    assert "written outside" in refused(repacked(scene, tmp_path / "a.mrb", {name: b"escaped"}))
    assert not list(tmp_path.rglob("out.txt"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, scene, kind):
    path = repacked(scene, tmp_path / "a.mrb", {})
    link = zipfile.ZipInfo("scene/Data/link")
    link.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "link, a device" in refused(path)


def test_two_names_of_one_file_are_refused(tmp_path, scene):
    assert "one file twice" in refused(repacked(scene, tmp_path / "a.mrb", {"SCENE/data/flair.NRRD": b"x"}))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(open_scene, "MOST_BYTES", 1 << 20)
    assert "unpacks to more" in refused(repacked(scene, tmp_path / "a.mrb", {"scene/zeros": bytes(2 << 20)}))
    monkeypatch.setattr(open_scene, "_MOST_FILES", 20)
    many = {f"scene/{number}": b"" for number in range(20)}
    assert "20 files" in refused(repacked(scene, tmp_path / "a.mrb", many))


def test_a_member_that_is_larger_than_it_says_is_refused(tmp_path, scene):
    size, less = (number.to_bytes(4, "little") for number in (1_234_567, 1_000))
    path = repacked(scene, tmp_path / "a.mrb", {"scene/zeros": bytes(1_234_567)})
    content = path.read_bytes()
    assert content.count(size) == 2  # in the local header and in the directory
    path.write_bytes(content.replace(size, less))
    assert "a.mrb" in refused(path)


def test_encrypted_cut_and_foreign_archives_are_refused(tmp_path, scene):
    whole = repacked(scene, tmp_path / "a.mrb", {}).read_bytes()
    locked = bytearray(whole)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = whole.find(mark)
        while at >= 0:
            locked[at + offset] |= 1
            at = whole.find(mark, at + 1)
    for content in (bytes(locked), whole[: len(whole) // 2], b"", b"MRML", whole[:-400]):
        (tmp_path / "a.mrb").write_bytes(content)
        assert "no whole scene file" in refused(tmp_path / "a.mrb")


def test_a_scene_within_a_scene_is_not_opened(tmp_path, scene):
    inner = repacked(scene, tmp_path / "inner.mrb", {"scene/inside": b"x"}).read_bytes()
    sequence = (
        '<Sequence id="vtkMRMLSequenceNode1" name="s" references="storage:vtkMRMLSequenceStorageNode1;"></Sequence>'
        '<SequenceStorage id="vtkMRMLSequenceStorageNode1" fileName="Data/s.seq.mrb"></SequenceStorage></MRML>'
    )
    path = repacked(
        scene, tmp_path / "a.mrb", {"scene/Data/s.seq.mrb": inner, MRML: swapped("</MRML>", sequence)}
    )  # fmt: skip
    with open_scene.open_scene(path) as session:
        assert session.scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0
        assert len(results_in(session.scene)) == 2
    assert "2 scenes" in refused(repacked(scene, tmp_path / "b.mrb", {"scene/second.mrml": b"<MRML/>"}))
    assert "0 scenes" in refused(repacked(scene, tmp_path / "c.mrb", {MRML: None}))


# --- the description -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    ["/etc/passwd", "../../../../../etc/passwd", "%2fetc%2fpasswd", "Data/%2e%2e/%2e%2e/x.nrrd", "file:///etc/passwd",
     "http://127.0.0.1:{port}/x.nrrd", "\\\\server\\share\\x.nrrd", "Data\\..\\..\\x.nrrd", "a&#0;b.nrrd", " /x.nrrd"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["fileName", "fileListMember1", "uri", "schemaFileName"])
def test_no_file_outside_of_the_scene_is_read(tmp_path, scene, named, key):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        word = f'{key}="{named.format(port=server.getsockname()[1])}" '
        old = 'fileName="Data/FLAIR.nrrd"'
        change = swapped(old, word if key == "fileName" else f"{word}{old}")
        said = refused(repacked(scene, tmp_path / "a.mrb", {MRML: change}))
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()
    assert "outside of itself" in said or ("damaged" in said and "&#0" in named)


def test_files_of_other_formats_are_not_opened(tmp_path, scene):
    """They could name further files: .mhd and .vtm do, and so does the HDF5 of a transform."""
    for ending in ("mhd", "vtm", "h5", "mrb", "nhdr"):
        change = swapped("Data/FLAIR.nrrd", f"Data/FLAIR.{ending}")
        path = repacked(scene, tmp_path / "a.mrb", {MRML: change, f"scene/Data/FLAIR.{ending}": b"x"})
        assert "not opened here" in refused(path)


def test_files_that_the_scene_does_not_name_are_not_taken_for_parts_of_a_series(tmp_path, scene):
    changes = {MRML: swapped("Data/FLAIR.nrrd", "Data/slice1.nrrd")}
    flair = next(data for name, data in members(scene).items() if name.endswith(FLAIR))
    changes |= {f"scene/Data/slice{number}.nrrd": flair for number in (1, 2, 3)}
    with open_scene.open_scene(repacked(scene, tmp_path / "a.mrb", changes)) as session:
        shape = session.scene.GetFirstNodeByName("FLAIR").GetImageData().GetDimensions()
    assert shape == ON.shape[::-1]


def test_entities_are_refused(tmp_path, scene):
    (tmp_path / "secret.txt").write_text("secret")
    laughs = '<!ENTITY a "ha">' + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij"))
    for inside in (f'[<!ENTITY x SYSTEM "file://{tmp_path}/secret.txt">]', f"[{laughs}]", f'SYSTEM "{tmp_path}/a.dtd"'):
        change = swapped("<MRML ", f'<!DOCTYPE MRML {inside}>\n<MRML title="&j;" ')
        assert "defines entities" in refused(repacked(scene, tmp_path / "a.mrb", {MRML: change}))


def test_a_description_that_is_none_is_refused(tmp_path, scene, monkeypatch):
    deep = swapped("</MRML>", "<Volume>" * 100_000 + "</Volume>" * 100_000 + "</MRML>")
    assert "deep" in refused(repacked(scene, tmp_path / "a.mrb", {MRML: deep}))
    for content in (b"", b"\x00\xff", b"<MRML>", b"{}", b'<?xml version="1.0" encoding="hugo"?><MRML/>'):
        assert "damaged" in refused(repacked(scene, tmp_path / "a.mrb", {MRML: content}))
    monkeypatch.setattr(scene_description, "_MOST_TEXT_BYTES", 1000)
    assert "larger than" in refused(scene)


def test_nodes_of_other_kinds_are_passed_over(tmp_path, scene):
    others = (
        '<Hugo id="vtkMRMLHugoNode1" fileName="/etc/passwd"><Volume fileName="/etc/passwd"></Volume></Hugo>'
        '<SceneView id="vtkMRMLSceneViewNode1"><Volume id="x" fileName="/etc/passwd"></Volume></SceneView>'
        '<ModelStorage id="vtkMRMLModelStorageNode1" fileName="/etc/passwd"></ModelStorage>'
        '<ScriptedModule id="vtkMRMLScriptedModuleNode1" ModuleName="x"></ScriptedModule></MRML>'
    )
    with open_scene.open_scene(repacked(scene, tmp_path / "a.mrb", {MRML: swapped("</MRML>", others)})) as session:
        assert len(results_in(session.scene)) == 2
        assert session.scene.GetNumberOfNodesByClass("vtkMRMLSceneViewNode") == 0
        assert session.scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == 0


def test_what_stands_under_a_linear_transform_stays_there_and_other_transforms_are_refused(tmp_path, scene):
    def under(transform: str) -> dict:
        def change(content: bytes) -> bytes:
            text = re.sub(
                r'(name="FLAIR".*?references=")', r"\1transform:vtkMRMLTransformNode7;", content.decode(), count=1
            )
            return text.replace("</MRML>", f"{transform}</MRML>").encode()

        return {MRML: change}

    storage = (
        '<TransformStorage id="vtkMRMLTransformStorageNode1" fileName="Data/t.h5"></TransformStorage>'
        '<{tag} id="vtkMRMLTransformNode7" name="t" references="storage:vtkMRMLTransformStorageNode1;" {more}></{tag}>'
    )
    moved = storage.format(tag="LinearTransform", more='matrixTransformToParent="1 0 0 5 0 1 0 0 0 0 1 0 0 0 0 1"')
    with open_scene.open_scene(repacked(scene, tmp_path / "a.mrb", under(moved))) as session:
        shown = volume_from_node(session.scene.GetFirstNodeByName("FLAIR"))
    np.testing.assert_allclose(shown.grid.ijk_to_ras[:3, 3] - ON.ijk_to_ras[:3, 3], [5, 0, 0], atol=1e-9)
    for tag, more in (
        ("Transform", ""),
        ("BSplineTransform", ""),
        ("LinearTransform", 'matrixTransformToParent="nan"'),
    ):
        path = repacked(scene, tmp_path / "a.mrb", under(storage.format(tag=tag, more=more)))
        assert "FLAIR in" in (said := refused(path)) and "not linear" in said


def test_a_saved_transform_can_be_read_from_the_description(tmp_path):
    """What reduce_description relies on: MRML writes the matrix beside the file."""
    import vtk
    from XTLLib.scene.export import save_scene
    from XTLLib.scene.session import new_scene

    case = segmentation_result(ON).case
    with new_scene() as scene:
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(2, 3, 7.5)
        transform.SetMatrixTransformToParent(matrix)
        add_case(case, scene).reference.SetAndObserveTransformNodeID(transform.GetID())
        save_scene(scene, tmp_path / "a.mrb")
    assert any(name.endswith(".h5") for name in members(tmp_path / "a.mrb"))
    with open_scene.open_scene(tmp_path / "a.mrb") as session:
        shown = volume_from_node(session.scene.GetFirstNodeByName("FLAIR"))
    np.testing.assert_allclose(shown.grid.ijk_to_ras[:3, 3] - ON.ijk_to_ras[:3, 3], [0, 0, 7.5], atol=1e-9)


# --- its images and texts ------------------------------------------------------------------------------------


def header(*lines: str, drop: str = "") -> object:
    """Changes the header of a NRRD file: lines in place of those of the same field."""

    def change(content: bytes) -> bytes:
        head, _, voxels = content.partition(b"\n\n")
        fields = tuple(line.partition(":")[0] for line in lines if ":" in line)
        kept = [one for one in head.decode().split("\n") if not one.startswith((*fields, drop or "\0"))]
        return "\n".join((*kept, *lines)).encode() + b"\n\n" + voxels

    return change


@pytest.mark.parametrize(
    "change",
    [
        header("sizes: 100000 100000 100000"),
        header("sizes: 100000 100000 100000", "encoding: raw"),
        header("sizes: 1000 1000 1000"),
        header("sizes: -44 40 24"),
        header("sizes: 44 40 nan"),
        header("sizes: "),
        header("type: block"),
        header("encoding: raw", "data file: /usr/bin/env"),
        header("encoding: raw", "datafile: ../../../../../etc/passwd"),
        header("encoding: raw", "Data File: LIST"),
        header("# one\rsizes: 1 1 1"),
        lambda content: content.replace(b"type:", b"type: uchar\ntype:"),
        lambda content: content[:300],
        lambda content: content[:-200],
        lambda content: b"",
        lambda content: b"ObjectType = Image\nElementDataFile = /etc/passwd\n",
        header("space directions: (nan,0,0) (0,1,0) (0,0,inf)"),
    ],
)  # fmt: skip
def test_an_image_that_claims_what_it_has_not_is_refused(tmp_path, scene, change):
    assert "scene" in refused(repacked(scene, tmp_path / "a.mrb", {FLAIR: change}))


def test_all_images_together_are_bounded(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(scene_description, "MOST_BYTES", 100_000)
    assert "of memory" in refused(scene)


@pytest.mark.parametrize(
    "change",
    [
        header("Segment0_Extent:=0 100000 0 100000 0 100000"),
        header("Segment0_Extent:=0 5 0 5 0 2147483647"),
        header("Segment0_Extent:=-3 5 0 5 0 5"),
        header("Segment0_Extent:=0 5 0"),
        header("Segmentation_ReferenceImageExtentOffset:=2147483600 0 0"),
        header("Segmentation_MasterRepresentation:=Closed surface"),
        header("Segmentation_ContainedRepresentationNames:=Binary labelmap|Fractional labelmap|"),
    ],
)
def test_segments_outside_of_their_image_are_refused(tmp_path, scene, change):
    """The first of them ends a process that reads it."""
    assert "is damaged" in refused(repacked(scene, tmp_path / "a.mrb", {SEGMENTS: change}))


def test_markups_nested_deeper_than_a_reader_can_follow_are_refused(tmp_path, scene):
    """Three million brackets end a process that reads them."""
    for content in (b"[" * 3_000_000, b"{", b"", b"\xff\xfe"):
        assert "JSON" in refused(repacked(scene, tmp_path / "a.mrb", {".mrk.json": content}))


def test_nifti_images_are_opened_and_cut_ones_refused(tmp_path, scene):
    from XTLLib.data.images import write_volume

    write_volume(Volume(100 * ball(ON), ON, "flair"), tmp_path / "flair.nii.gz")
    whole = (tmp_path / "flair.nii.gz").read_bytes()
    named = {MRML: swapped("Data/FLAIR.nrrd", "Data/FLAIR.nii.gz")}
    path = repacked(scene, tmp_path / "a.mrb", {**named, "scene/Data/FLAIR.nii.gz": whole})
    with open_scene.open_scene(path) as session:
        shown = volume_from_node(session.scene.GetFirstNodeByName("FLAIR"))
        assert shown.array.max() == pytest.approx(90)
    for content in (whole[:-50], whole[:40], b""):
        path = repacked(scene, tmp_path / "a.mrb", {**named, "scene/Data/FLAIR.nii.gz": content})
        assert "FLAIR.nii.gz" in refused(path)
    assert image_claims.claimed_bytes(tmp_path / "flair.nii.gz") == 4 * np.prod(ON.shape)
