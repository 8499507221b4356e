"""A result in the scene that follows sliders, clicks and what is drawn in it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scene_cases import GRIDS, ball, node_ids, rotation, segment_mask, segmentation_result
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.lesions import find_lesions, regions_of
from XTLLib.scene.arrays import mrml_array, oriented_image, vtk_matrix
from XTLLib.scene.export import save_scene
from XTLLib.scene.inputs import add_case
from XTLLib.scene.interactive import InteractiveLesions
from XTLLib.scene.nodes import volume_from_node
from XTLLib.scene.segmentation import SEGMENT_ID, add_segmentation

slicer = pytest.importorskip("slicer")

FAINT = (2.0, 4.0, 10.0)


class Live:
    """A result in a scene with a stand-in for the parameter node."""

    def __init__(self, scene, on, threshold: float = 0.5) -> None:
        self.scene, self.drawn = scene, 0
        far = np.where(ball(on, FAINT, 4.0) > 0.5, 0.3, 0)
        middle = np.where(ball(on, (22.0, -14.0, 14.0), 3.0) > 0.5, 0.6, 0)
        self.map = np.maximum(np.maximum(ball(on), far), middle).astype(np.float32)
        result = segmentation_result(on, self.map)
        self.reference = add_case(result.case, scene).reference
        self.nodes = add_segmentation(result, scene, self.reference)
        self.parameters = SimpleNamespace(threshold=threshold, minimumVolume=0.0, edits="", lesion=0, tissue=None)
        self.parameters.uncertainty = None
        self.bind(self.nodes)
        self.lesions = InteractiveLesions(self._count)
        self.lesions.attach(self.parameters)

    def bind(self, nodes) -> None:
        self.parameters.segmentation, self.parameters.labelMap = nodes.segmentation, nodes.label
        self.parameters.probability, self.parameters.table = nodes.probability, nodes.table

    def _count(self) -> None:
        self.drawn += 1

    def mask(self) -> np.ndarray:
        return segment_mask(self.parameters.segmentation, SEGMENT_ID, self.parameters.probability)

    def label(self) -> np.ndarray:
        return slicer.util.arrayFromVolume(self.parameters.labelMap)

    def volumes(self) -> list[float]:
        return list(slicer.util.arrayFromTableColumn(self.parameters.table, "volume"))

    def assert_consistent(self) -> None:
        """Label map, segment and table show the same lesions, measured as find_lesions measures them."""
        np.testing.assert_array_equal(self.mask(), self.label() > 0)
        grid = volume_from_node(self.parameters.labelMap).grid
        _, lesions = find_lesions(Volume((self.label() > 0).astype(np.float32), grid), 0.5)
        assert self.volumes() == pytest.approx([lesion.volume_mm3 for lesion in lesions])
        assert [lesion.volume_mm3 for lesion in self.lesions.lesions] == pytest.approx(self.volumes())
        R = slicer.util.arrayFromTableColumn(self.parameters.table, "R")
        assert list(R) == pytest.approx([lesion.position_ras[0] for lesion in lesions], rel=1e-4)  # files are rounded

    def draw(self, mask: np.ndarray) -> None:
        """Draw in the segment as the Segment Editor does."""
        on = volume_from_node(self.parameters.probability).grid
        image = oriented_image(mrml_array(mask.astype(np.uint8), "stroke"), on)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        assert logic.SetBinaryLabelmapToSegment(
            image, self.parameters.segmentation, SEGMENT_ID, logic.MODE_REPLACE, image.GetExtent()
        )


@pytest.fixture(params=["LPS", "oblique", "left-handed oblique"])
def live(scene, request) -> Live:
    return Live(scene, GRIDS[request.param])


def test_sliders_show_what_find_lesions_finds(live):
    for threshold, minimum in ((0.2, 0.0), (0.7, 0.0), (0.2, 150.0), (1.0, 0.0), (0.5, 0.0), (0.05, 0.0)):
        live.parameters.threshold, live.parameters.minimumVolume = threshold, minimum
        assert live.lesions.refresh()
        label, lesions = find_lesions(volume_from_node(live.parameters.probability), threshold, minimum)
        np.testing.assert_array_equal(live.label(), label.array)
        np.testing.assert_array_equal(live.mask(), label.array > 0)
        assert live.volumes() == [lesion.volume_mm3 for lesion in lesions]
        names = [live.nodes.colors.GetColorName(n) for n in range(1, live.parameters.table.GetNumberOfRows() + 1)]
        assert names == [f"lesion {lesion.identifier}" for lesion in lesions]
        assert not live.lesions.refresh(), "nothing has changed"


def test_a_slider_adds_no_node_and_keeps_other_segments(live):
    before = node_ids(live.scene)
    own = slicer.vtkSegment()
    own.DeepCopy(live.nodes.segmentation.GetSegmentation().GetSegment(SEGMENT_ID))
    live.nodes.segmentation.GetSegmentation().AddSegment(own, "mine")
    mine = segment_mask(live.nodes.segmentation, "mine", live.nodes.label)
    for threshold in (0.2, 0.7):
        live.parameters.threshold = threshold
        live.lesions.refresh()
    np.testing.assert_array_equal(segment_mask(live.nodes.segmentation, "mine", live.nodes.label), mine)
    assert node_ids(live.scene) == before


def test_a_surface_that_is_shown_follows(live):
    node = live.nodes.segmentation
    assert node.CreateClosedSurfaceRepresentation()
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()

    def points() -> int:
        return node.GetSegmentation().GetSegment(SEGMENT_ID).GetRepresentation(surface).GetNumberOfPoints()

    before = points()
    live.parameters.threshold = 0.7
    live.lesions.refresh()
    assert 0 < points() < before


def test_a_label_map_that_somebody_wrote_into_is_written_anew(live):
    live.parameters.threshold = 0.2
    live.lesions.refresh()
    live.label()[:] = 9
    slicer.util.arrayFromVolumeModified(live.parameters.labelMap)
    live.parameters.threshold = 0.7
    live.lesions.refresh()
    live.assert_consistent()


def test_clicks_add_and_remove_and_can_be_undone(live):
    before = live.volumes()
    live.lesions.add_at(FAINT)
    live.assert_consistent()
    assert len(live.volumes()) == len(before) + 1
    live.lesions.remove_at((22.0, -14.0, 14.0))
    live.assert_consistent()
    after = live.volumes()
    assert len(after) == len(before)
    assert live.lesions.can_undo and not live.lesions.can_redo
    live.lesions.undo()
    live.lesions.undo()
    assert live.volumes() == before and not live.lesions.can_undo
    live.lesions.redo()
    live.lesions.redo()
    assert live.volumes() == after
    live.assert_consistent()


def test_edits_stay_while_the_threshold_moves(live):
    live.lesions.add_at(FAINT)
    live.lesions.remove_at((22.0, -14.0, 14.0))
    edited = live.volumes()
    live.parameters.threshold = 0.7
    live.lesions.refresh()
    live.assert_consistent()
    live.parameters.threshold = 0.5
    live.lesions.refresh()
    assert live.volumes() == edited


def test_what_is_drawn_is_followed_and_stays_while_the_threshold_moves(live):
    drawn = live.mask()
    drawn[1:4, 1:5, 1:6] = True
    drawn[live.label() == 2] = False
    live.drawn = 0
    live.draw(drawn)
    assert live.drawn > 0
    assert live.lesions.take_in()
    live.assert_consistent()
    np.testing.assert_array_equal(live.mask(), drawn)
    assert not live.lesions.take_in(), "there is nothing new"
    live.parameters.threshold = 0.2
    live.lesions.refresh()
    live.assert_consistent()
    assert live.mask()[1:4, 1:5, 1:6].all()
    assert live.mask().sum() > drawn.sum(), "the faint lesion has come as well"
    live.lesions.undo()
    assert not live.mask()[1:4, 1:5, 1:6].any()


def test_strokes_in_a_row_are_one_edit_between_clicks(live):
    start = live.mask()
    first, second = start.copy(), start.copy()
    first[0, :3, :3] = True
    second[0, :6, :6] = True
    for mask in (first, second):
        live.draw(mask)
        live.lesions.take_in()
    live.lesions.undo()
    np.testing.assert_array_equal(live.mask(), start)


def test_the_undo_of_the_segment_editor_is_followed(live):
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(live.nodes.segmentation.GetSegmentation())
    start, before = live.mask(), live.volumes()
    history.SaveState()
    drawn = start.copy()
    drawn[0, :6, :6] = True
    live.draw(drawn)
    live.lesions.take_in()
    assert live.volumes() != before
    live.drawn = 0
    history.RestorePreviousState()
    assert live.drawn > 0
    live.lesions.take_in()
    assert live.volumes() == before and not live.lesions.can_undo
    live.assert_consistent()


def test_a_stroke_that_nobody_took_in_is_not_lost_when_a_slider_moves(live):
    drawn = live.mask()
    drawn[0, :6, :6] = True
    live.draw(drawn)
    live.parameters.threshold = 0.7
    live.lesions.refresh()
    assert live.mask()[0, :6, :6].all()
    live.assert_consistent()


def test_a_segment_on_a_finer_geometry_is_taken_over(live):
    on = volume_from_node(live.parameters.probability).grid
    fine = on.with_spacing(tuple(step / 2 for step in on.spacing_mm))
    stroke = np.zeros(fine.shape, np.uint8)
    stroke[8:24, 8:24, 8:24] = 1
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = live.parameters.segmentation.GetSegmentation().GetSegment(SEGMENT_ID)
    segment.RemoveAllRepresentations()
    segment.AddRepresentation("Binary labelmap", oriented_image(stroke, fine))
    assert live.lesions.take_in()
    voxels = 16**3 * fine.voxel_volume_mm3
    assert sum(live.volumes()) == pytest.approx(voxels, rel=0.25)
    assert logic is not None
    np.testing.assert_array_equal(live.mask(), live.label() > 0)


def test_everything_survives_saving_and_loading(live, tmp_path):
    import zipfile

    live.lesions.add_at(FAINT)
    drawn = live.mask()
    drawn[0, :6, :6] = True
    live.draw(drawn)
    live.lesions.take_in()
    roles = ("segmentation", "labelMap", "probability", "table")
    names = {role: getattr(live.parameters, role).GetName() for role in roles}
    volumes, edits = live.volumes(), live.parameters.edits
    save_scene(live.scene, tmp_path / "saved.mrb")
    live.lesions.release()
    with zipfile.ZipFile(tmp_path / "saved.mrb") as archive:
        archive.extractall(tmp_path)
    (file,) = tmp_path.rglob("*.mrml")
    live.scene.Clear(0)
    live.scene.SetURL(str(file))
    assert live.scene.Import()
    for role, name in names.items():
        setattr(live.parameters, role, live.scene.GetFirstNodeByName(name))
    live.parameters.edits = edits
    live.lesions.attach(live.parameters)
    assert live.lesions.is_live
    assert not live.lesions.take_in(), "the scene is as it was saved"
    live.assert_consistent()
    assert live.volumes() == pytest.approx(volumes)
    live.parameters.threshold = 0.7
    live.lesions.refresh()
    live.parameters.threshold = 0.5
    live.lesions.refresh()
    live.assert_consistent()
    assert live.volumes() == pytest.approx(volumes)
    live.lesions.undo()
    live.lesions.undo()
    assert len(live.volumes()) == 2


def test_another_result_brings_its_own_edits(live):
    live.lesions.add_at(FAINT)
    first, edits = live.nodes, live.parameters.edits
    live.bind(add_segmentation(segmentation_result(GRIDS["LPS"]), live.scene))
    assert live.lesions.is_live
    live.parameters.edits = ""
    live.lesions.refresh()
    count = len(live.volumes())
    live.bind(first)
    assert live.lesions.is_live
    assert live.parameters.edits == edits
    assert len(live.volumes()) > count


def test_a_new_result_sets_edits_aside_for_redo(live):
    live.lesions.add_at(FAINT)
    edited = live.volumes()
    result = segmentation_result(live.lesions._nodes.grid, live.map)
    nodes = live.nodes
    add_segmentation(
        result, live.scene, live.reference, nodes.label, nodes.segmentation, nodes.probability, nodes.table
    )
    live.lesions.begin(regions_of(result.label, result.lesions))
    assert len(live.volumes()) == len(edited) - 1 and not live.lesions.can_undo and live.lesions.can_redo
    live.lesions.redo()
    assert live.volumes() == edited


def test_a_result_under_a_transform_moves_with_it(live):
    to_world = np.eye(4)
    to_world[:3, :3], to_world[:3, 3] = rotation(20, 5, -35), (13, 2, -40)
    transform = live.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtk_matrix(to_world))
    for node in (live.nodes.segmentation, live.nodes.label, live.nodes.probability):
        node.SetAndObserveTransformNodeID(transform.GetID())
    place = (to_world @ (*FAINT, 1))[:3]
    live.lesions.add_at(place)
    positions = [lesion.position_ras for lesion in live.lesions.lesions]
    assert min(np.linalg.norm(np.array(position) - place) for position in positions) < 1.5
    live.assert_consistent()


def test_without_the_map_nothing_answers_and_nothing_breaks(live):
    live.scene.RemoveNode(live.nodes.probability)
    live.parameters.probability = None
    live.parameters.threshold = 0.7
    assert not live.lesions.is_live and not live.lesions.refresh() and not live.lesions.take_in()
    live.lesions.add_at(FAINT)
    live.lesions.choose(1)
    assert live.lesions.lesions == () and not live.lesions.can_undo


def test_nodes_of_different_results_do_not_answer(live):
    other = add_segmentation(segmentation_result(GRIDS["LPS"]), live.scene)
    live.parameters.table = other.table
    assert not live.lesions.is_live


def test_unreadable_edits_are_said(live):
    live.parameters.edits = "nonsense"
    with pytest.raises(InputError, match="cannot be read"):
        live.lesions.refresh()


def test_choosing_a_lesion_centres_the_views_and_outlines_it(live):
    from XTLLib.scene.views import add_slice_views

    add_slice_views(live.scene, live.reference)
    before = node_ids(live.scene)
    live.lesions.choose(2)
    lesion = live.lesions.lesions[1]
    for name in ("Red", "Yellow", "Green"):
        to_ras = live.scene.GetNodeByID(f"vtkMRMLSliceNode{name}").GetSliceToRAS()
        middle = [to_ras.GetElement(row, 3) for row in range(3)]
        assert middle == pytest.approx(lesion.position_ras, abs=1e-4)
    outline = live.scene.GetFirstNodeByName("XTL chosen lesion")
    mask = segment_mask(outline, "chosen", live.nodes.label)
    np.testing.assert_array_equal(mask, live.label() == 2)
    assert outline.GetHideFromEditors() and not outline.GetSaveWithScene() and live.parameters.lesion == 2
    # Under another threshold it is another number, but the same lesion.
    live.parameters.threshold = 0.2
    live.lesions.refresh()
    chosen = live.parameters.lesion
    assert chosen == 3
    np.testing.assert_array_equal(segment_mask(outline, "chosen", live.nodes.label), live.label() == chosen)
    live.parameters.threshold = 0.7
    live.lesions.refresh()
    assert live.parameters.lesion == 0, "the lesion is gone"
    assert node_ids(live.scene) == before


def test_released_it_hears_nothing(live):
    live.lesions.release()
    live.drawn = 0
    live.draw(np.zeros_like(live.mask()))
    assert live.drawn == 0
