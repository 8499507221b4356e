"""What XTL reads in a stranger's scene: nodes, attributes and ratings that make no sense end with one clear error."""

from __future__ import annotations

import gzip
import json
import math
import os
import re

import numpy as np
import pytest
from strange_scenes import FLAIR, MRML, ON, attribute, good_scene, repacked
from XTLLib.data.case import Finding
from XTLLib.errors import InputError
from XTLLib.inference.edits import edits_from_json
from XTLLib.inference.results import RatedFinding
from XTLLib.scene.offscreen_views import draw_off_screen
from XTLLib.scene.open_scene import open_scene
from XTLLib.scene.rated_points import RatedPoint, rated_from_json, rated_to_json
from XTLLib.scene.results_in_scene import results_in
from XTLLib.scene.scene_model import SceneModel
from XTLLib.scene.viewed_scene import ViewedScene

slicer = pytest.importorskip("slicer")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return good_scene(tmp_path_factory.mktemp("good") / "scene.mrb")


def opened(path) -> list[str]:
    """Names of the results of a scene."""
    with open_scene(path) as session:
        return [one.name for one in results_in(session.scene)]


def viewed(path, folder):
    """What a page would show: results, rows and settings of each, why the model cannot run, and a picture."""
    draw_off_screen()
    with open_scene(path) as session:
        page = ViewedScene(session, folder)
        try:
            seen = []
            for index in range(len(page.results)):
                page.choose_result(index)
                seen.append((page.result.name, len(page.table().rows), page.summary, page.model.missing()))
            assert page.slices["Red"].picture(64, 64) and page.surfaces.picture(64, 64)
            page.set_settings(0.6, 0.0) if page.is_segmentation else None
            return seen
        finally:
            page.close()


def test_a_good_scene_is_viewed(tmp_path, scene):
    (brain, prostate) = viewed(scene, tmp_path)
    assert brain[:2] == ("FLAIR MS lesions", 1) and prostate[:2] == ("T2W lesion table", 2)
    assert prostate[2] == "2 findings rated, highest probability 0.70"


@pytest.mark.parametrize("key", ["XTL.Threshold", "XTL.MinimumVolume"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "", "hugo", "1e999"])
def test_settings_that_are_none_make_no_result(tmp_path, scene, key, value):
    assert opened(repacked(scene, tmp_path / "a.mrb", attribute("FLAIR MS lesions", key, value))) == [
        "T2W lesion table"
    ]


def missing(path, folder) -> str:
    """Why the model of a scene's first result cannot be run."""
    with open_scene(path) as session:
        model = SceneModel(session.scene, folder)
        model.result = results_in(session.scene)[0]
        return model.missing()


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc", "C:evil", "evil\\..", "http%3A//x/y", "%2e%2e", ".", "a" * 5000]
)
def test_a_model_is_looked_for_by_a_plain_name_only(tmp_path, scene, name):
    (tmp_path / "evil").mkdir()
    (tmp_path / "deep" / "bundles").mkdir(parents=True)
    path = repacked(scene, tmp_path / "a.mrb", attribute("FLAIR MS lesions", "XTL.Bundle", name))
    said = missing(path, tmp_path / "deep")
    assert said and str(tmp_path / "evil") not in said


def test_a_model_beside_the_scene_that_is_none_is_said_and_not_run(tmp_path, scene):
    folder = tmp_path / "bundles" / "a bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").write_bytes(b"no weights")
    for content in ("[" * 100_000, "{", "[]", '{"_meta_": 1}', "\x00"):
        for name in ("metadata", "inference", "chain", "xtl"):
            (folder / "configs" / f"{name}.json").write_text(content)
        assert str(folder) in missing(scene, tmp_path)


RATED = ("T2W lesion table", "XTL.Rated")
EDITS = ("FLAIR MS lesions", "XTL.Edits")
GARBAGE = (
    "hugo",
    "[" * 20_000,
    "{}",
    "[1]",
    "null",
    "NaN",
    "[[]]",
    '[{"point": 1}]',
    '{"version": 1, "shape": [1e999, 1, 1], "ijk_to_ras": [], "done": [], "undone": []}',
    '{"version": 1, "shape": [100000, 100000, 100000], "ijk_to_ras": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], '
    '[0, 0, 0, 1]], "done": [], "undone": []}',
)


@pytest.mark.parametrize("which", [RATED, EDITS], ids=["ratings", "edits"])
def test_ratings_and_edits_that_cannot_be_read_are_one_clear_error(tmp_path, scene, which):
    with pytest.raises(InputError, match="cannot be read"):
        viewed(repacked(scene, tmp_path / "a.mrb", attribute(*which, "hugo")), tmp_path)
    for text in GARBAGE:
        with pytest.raises(InputError, match="cannot be read"):
            rated_from_json(text) if which is RATED else edits_from_json(text, ON)


FAR = {"identifier": "1", "position_ras": [math.inf, 0, 0], "zone": "", "significant": None}


@pytest.mark.parametrize(
    "change",
    [{"probability": 7.0}, {"probability": -1.0}, {"probability": math.inf}, {"row": -5}, {"row": 1 << 40},
     {"row": True}, {"finding": FAR}],
    ids=str,
)  # fmt: skip
def test_ratings_outside_of_all_measure_are_refused(change):
    finding = Finding("1", (1.0, 2.0, 3.0), "PZ")
    rated = rated_to_json([RatedPoint("1", RatedFinding(1, finding, 0.5))])
    assert rated_from_json(rated)[0].rated.finding == finding
    with pytest.raises(InputError, match="cannot be read"):
        rated_from_json(json.dumps([json.loads(rated)[0] | change]))


def test_a_scene_without_volumes_or_with_empty_ones_is_one_clear_error(tmp_path, scene):
    def bare(content: bytes) -> bytes:
        return re.sub(rb"<(Volume|LabelMapVolume)\s.*?</\1>", b"", content, flags=re.DOTALL)

    with pytest.raises(InputError, match="no volume"):
        viewed(repacked(scene, tmp_path / "a.mrb", {MRML: bare}), tmp_path)

    def empty(content: bytes) -> bytes:
        return re.sub(rb"storage:vtkMRMLVolumeArchetypeStorageNode\d+;", b"", content)

    with pytest.raises(InputError):
        viewed(repacked(scene, tmp_path / "a.mrb", {MRML: empty}), tmp_path)


def test_views_with_numbers_that_are_none_show_the_image_all_the_same(tmp_path, scene):
    def wild(content: bytes) -> bytes:
        text = re.sub(r'sliceToRAS="[^"]*"', 'sliceToRAS="nan inf -nan 0 0 0 0 0 0 0 0 0 0 0 0 0"', content.decode())
        text = re.sub(r'fieldOfView="[^"]*"', 'fieldOfView="0 nan -1"', text)
        text = re.sub(r' dimensions="[^"]*"', ' dimensions="1000000000 1000000000 1"', text)
        text = re.sub(r'layoutGrid(Rows|Columns)="1"', r'layoutGrid\1="100000"', text)
        text = re.sub(r'(window|level|opacity|visibility)="[^"]*"', r'\1="nan"', text)
        return re.sub(r'numcolors="\d+"', 'numcolors="2000000000"', text).encode()

    assert len(viewed(repacked(scene, tmp_path / "a.mrb", {MRML: wild}), tmp_path)) == 2


def test_an_image_of_nothing_but_nan_is_shown_as_such(tmp_path, scene):
    nothing = gzip.compress(np.full(ON.shape, np.nan, np.float32).tobytes())
    path = repacked(
        scene, tmp_path / "a.mrb", {FLAIR: lambda content: content.partition(b"\n\n")[0] + b"\n\n" + nothing}
    )
    assert len(viewed(path, tmp_path)) == 2


def test_the_scene_file_is_never_written_to(tmp_path, scene):
    before, changed = scene.read_bytes(), os.stat(scene).st_mtime_ns
    assert viewed(scene, tmp_path)
    assert scene.read_bytes() == before and os.stat(scene).st_mtime_ns == changed
    assert [one.name for one in scene.parent.iterdir()] == ["scene.mrb"]
