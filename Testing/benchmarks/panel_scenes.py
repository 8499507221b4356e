"""Panels in scenes of the usual size, for the benchmark ``panel-slots``: everything chosen, a result to work on."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import classification
import numpy as np
import rethreshold
from host import boot
from XTLLib.data.case import Case
from XTLLib.data.volume import Volume

HEAD, LESIONS = (181, 217, 181), 100
LESION_SHARE = 0.003  # of the voxels: 20 ml in a head of 1 mm
_CHANNELS = ("FLAIR", "T1", "T2")


@dataclass
class Prepared:
    """A scene that a panel can be opened in.

    Attributes
    ----------
    chosen : parameter -> value. paths : typed into path lines: none, wrong, right.
    home : what XTL_HOME is set to: the folder of the user's own models.
    opened : done with a panel when it was opened. restore : done whenever everything is chosen anew.
    is_busy : whether work goes on in the background that a user waits for. cancel : presses its Cancel, if any.
    states : further choices, parameter -> value, in which other widgets can be operated.
    extra : further things that a user does, by name: (panel) -> None. operated : widgets that these operate.
    for_apply : parameter -> value for the first, the second ... Apply.
    kept : parameters that are results: left alone.
    """

    chosen: dict[str, Any]
    paths: tuple[str, ...]
    home: Path
    opened: Callable[[boot.Panel], None] = lambda panel: None
    restore: Callable[[boot.Panel], None] = lambda panel: None
    is_busy: Callable[[boot.Panel], bool] = lambda panel: False
    cancel: Callable[[boot.Panel], None] = lambda panel: None
    states: tuple[dict[str, Any], ...] = ()
    extra: dict[str, Callable[[boot.Panel], None]] = field(default_factory=dict)
    operated: frozenset[str] = frozenset()
    for_apply: tuple[dict[str, Any], ...] = ({}, {})
    kept: frozenset[str] = frozenset()

    def choose(self, panel: boot.Panel, others: dict[str, Any] | None = None) -> None:
        """Choose everything in an opened panel, anew where it was changed; what is not in ``chosen`` as at first.

        Parameters
        ----------
        others : parameter -> value, where another one is wanted.
        """
        parameters, chosen = panel.widget.logic.getParameterNode(), {**self.chosen, **(others or {})}
        modifying = parameters.StartModify()
        for name, parameter in parameters.allParameters.items():
            if name not in self.kept:
                setattr(parameters, name, chosen.get(name, parameter.default))
        parameters.EndModify(modifying)
        self.restore(panel)


def head_case(shape: tuple[int, int, int], lesions: int) -> Case:
    """Three channels on one grid of 1 mm; the lesions are bright in all of them."""
    lesion = rethreshold.lesion_map(shape, lesions)
    rng = np.random.default_rng(1)
    noise = rng.normal(100, 10, shape).astype(np.float32)
    return Case("head", {n: Volume(noise + 100 * lesion.array, lesion.grid, n) for n in _CHANNELS}, "FLAIR")


def segment(folder: Path, shape: tuple[int, int, int] = HEAD, lesions: int = LESIONS) -> Prepared:
    """A brain with its lesions segmented, as after an Apply."""
    import slicer
    from XTLLib.bundle.load import load_bundle
    from XTLLib.inference.segment import segment_case
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.nodes import label_to_node
    from XTLLib.scene.segmentation import add_segmentation
    from XTLLib.scene.self_test import write_segmentation_bundle
    from XTLLib.scene.time_points import TimePointNodes, store_time_points
    from XTLLib.scene.views import add_slice_views

    bundle = write_segmentation_bundle(folder / "ms")
    case = head_case(shape, lesions)
    inputs = add_case(case, slicer.mrmlScene)
    add_slice_views(slicer.mrmlScene, inputs.reference)
    result = rethreshold.result_of(rethreshold.lesion_map(shape, lesions))
    result = replace(result, case=case, bundle_name=load_bundle(bundle).name)
    nodes = add_segmentation(result, slicer.mrmlScene, inputs.reference)

    chosen = {name.lower(): node for name, node in inputs.channels.items()}
    chosen |= {"segmentation": nodes.segmentation, "labelMap": nodes.label, "probability": nodes.probability}
    chosen |= {"table": nodes.table, "bundle": bundle, "useBundleSettings": False, "minimumVolume": 0.0}
    chosen |= {"registerTimePoints": False}
    tissue = label_to_node(tissue_of(result.label), "tissue", slicer.mrmlScene)
    earlier = label_to_node(result.label, "earlier lesions", slicer.mrmlScene)
    points = TimePointNodes(earlier, inputs.channels["T1"]), TimePointNodes(nodes.label, inputs.reference)

    centre = result.lesions[len(result.lesions) // 2].position_ras

    def press(button: str) -> Callable[[boot.Panel], None]:
        return lambda panel: getattr(panel.widget.ui, button).click()

    def turn_on(button: str) -> Callable[[boot.Panel], None]:
        return lambda panel: setattr(getattr(panel.widget.ui, button), "checked", True)

    def click(panel: boot.Panel) -> None:
        node = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton").GetActivePlaceNodeID()
        slicer.mrmlScene.GetNodeByID(node).AddControlPointWorld(*centre)

    def draw(panel: boot.Panel) -> None:
        segmentation = nodes.segmentation.GetSegmentation()
        segmentation.GetNthSegment(0).Modified()
        segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, segmentation.GetNthSegmentID(0))

    def opened(panel: boot.Panel) -> None:
        panel.widget._panel._adapt._make_process = Adapted

    def restore(panel: boot.Panel) -> None:
        store_time_points(points, panel.widget.logic.getParameterNode().parameterNode)

    def is_busy(panel: boot.Panel) -> bool:
        own, parameters = panel.widget._panel, panel.widget.logic.getParameterNode()
        is_locating = parameters.tissue is not None and panel.widget._drawnTimer.active
        return own.section.is_working or own._adapt.is_running or own.over_time.is_running or is_locating

    def choose(**values: Any) -> Callable[[boot.Panel], None]:
        def run(panel: boot.Panel) -> None:
            parameters = panel.widget.logic.getParameterNode()
            modifying = parameters.StartModify()
            for name, value in values.items():
                setattr(parameters, name, value)
            parameters.EndModify(modifying)

        return run

    extra = {
        "removeLesionButton: on": turn_on("removeLesionButton"),
        "click a lesion away": click,
        "undo": press("undoButton"),
        "redo": press("redoButton"),
        "addLesionButton: on": turn_on("addLesionButton"),
        "click the lesion back": click,
        "a stroke in the Segment Editor": draw,
        "  what follows it": lambda panel: panel.widget._drawnTimer.timeout.emit(),
        "adaptButton: click": press("adaptButton"),
        "useAdaptedButton: click": press("useAdaptedButton"),
        "the bundle of before": choose(bundle=bundle),
        "a tissue segmentation is chosen": choose(tissue=tissue),
        "the lesions in 3D": choose(show3d=True),
        "the threshold, with both": choose(threshold=0.4),
        "neither": choose(show3d=False, tissue=None, threshold=0.5),
    }
    # The untrained network finds something nearly everywhere: here, its most probable part of the usual lesion load.
    probability = segment_case(case, load_bundle(bundle)).probability.array
    threshold = float(np.quantile(probability[probability > 0], 1 - LESION_SHARE))
    usual = {"threshold": threshold, "minimumVolume": 150.0}
    return Prepared(
        chosen,
        ("", "/nowhere", str(bundle)),
        folder / "home",
        opened,
        restore,
        is_busy,
        lambda panel: panel.widget.ui.compareButton.click(),
        ({"bundle": Path()},),
        extra,
        frozenset({"undoButton", "redoButton", "adaptButton", "useAdaptedButton"}),
        (usual, {**usual, "tissue": tissue, "show3d": True}),
    )


def tissue_of(label: Volume) -> Volume:
    """A tissue segmentation in FreeSurfer's numbers on a label map's grid: shells around its middle, and a stem."""
    k, j, i = (2 * index / (n - 1) - 1 for index, n in zip(np.indices(label.grid.shape, sparse=True), label.grid.shape))
    radius = np.sqrt(k**2 + j**2 + i**2)
    values = np.select([radius < 0.25, radius < 0.85, radius < 1], [4, 2, 3]).astype(np.int16)
    values[(radius < 0.85) & (k < -0.5)] = 16
    return Volume(values, label.grid, "tissue")


class Adapted:
    """In place of an adaptation, which takes minutes: soon done, and better."""

    def __init__(self, bundle: Path, volumes: Any, mask: Path, out: Path) -> None:
        self._bundle, self._looks = bundle, 0

    @property
    def is_running(self) -> bool:
        return self._looks < 3

    def start(self) -> None:
        pass

    def poll(self) -> list:
        self._looks += 1
        return []

    def cancel(self) -> None:
        self._looks = 3

    def result(self) -> Any:
        return SimpleNamespace(bundle=self._bundle, refused=False)

    def close(self, patience_s: float = 0.0) -> None:
        pass


def classify(folder: Path, spacing_mm: float = 0.5) -> Prepared:
    """A prostate study with five rated findings."""
    import slicer
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.nodes import label_to_node, volume_from_node
    from XTLLib.scene.self_test import write_classification_bundle
    from XTLLib.scene.views import add_slice_views

    from XTLClassify import XTLClassifyLogic

    bundle = calibrated(write_classification_bundle(folder / "prostate"))
    case = classification.study(spacing_mm)
    inputs = add_case(case, slicer.mrmlScene)
    add_slice_views(slicer.mrmlScene, inputs.reference)
    findings = findings_to_node(case.findings, "findings", slicer.mrmlScene)
    nodes = XTLClassifyLogic().process(inputs.channels, findings, bundle)

    truth = folder / "truth.csv"
    rows = "".join(f"{one.identifier},{int(one.identifier) % 2}\n" for one in case.findings)
    truth.write_text(f"finding,significant\n{rows}")
    chosen = {name.lower(): node for name, node in inputs.channels.items()}
    chosen |= {"findings": findings, "table": nodes.table, "labelMap": nodes.label, "bundle": bundle, "truth": truth}
    marked = label_to_node(volume_from_node(nodes.label), "marked", slicer.mrmlScene)
    chosen |= {"lesions": marked, "zones": marked, "finding": findings.GetNthControlPointID(0)}

    numbers = itertools.count()

    def move(panel: boot.Panel) -> None:
        findings.SetNthControlPointPositionWorld(0, 3.0, 2.0, 1.0)

    extra = {
        "a finding is moved": move,
        "  what follows it": lambda panel: panel.widget._movedTimer.timeout.emit(),
        "a finding is placed": lambda panel: findings.AddControlPointWorld(1.0, 2.0, 3.0, f"new {next(numbers)}"),
        "  what follows that": lambda panel: panel.widget._movedTimer.timeout.emit(),
    }

    def is_busy(panel: boot.Panel) -> bool:
        return panel.widget._panel._due is not None

    states = ({"bundle": Path()},)
    return Prepared(chosen, ("", "/nowhere", str(bundle)), folder / "home", is_busy=is_busy, states=states, extra=extra)


def calibrated(bundle: Path) -> Path:
    """A bundle with operating points, of made up scores."""
    from XTLLib.bundle.calibration import fit_calibration

    rng, truth = np.random.default_rng(2), np.arange(60) % 2
    scores = np.clip(rng.normal(0.45 + 0.1 * truth, 0.1), 0.01, 0.99)
    calibration = fit_calibration("none", scores, truth, list(range(60)), "sixty made up scores")
    config = bundle / "configs" / "xtl.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "calibration": calibration.to_dict()}))
    return bundle


def transfer(folder: Path) -> Prepared:
    """A chain of all three stages, a library with a model, and a study that is finished; a small chain to train.

    A chart, and the folder of a model, stand for those of a training before.
    """
    import slicer
    from study_scores import classification as scores_of
    from study_scores import study_of
    from toy_study import write_toy_study
    from transfer_steps import FakeWindow, with_window
    from XTLLib.scene.self_test import write_segmentation_bundle, write_small_chain
    from XTLLib.study.report import write_study_report

    study = write_toy_study(_folder(folder / "toy"))
    chain, small = study.with_name("chain.yaml"), write_small_chain(_folder(folder / "small"))
    model = write_segmentation_bundle(folder / "untrained-ms")
    copytree(model, folder / "home" / "models" / "there-already")
    finished = _folder(folder / "finished")
    result = scores_of(study_of(sizes=(20, "all"), seeds=(0, 1), draws=200), {"TL": 2.0, "XTL": 0.8}, patients=30)
    write_study_report(result, finished)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "before")
    exports = (str(folder / f"export-{n}.zip") for n in itertools.count())

    class Window(FakeWindow):
        """Its user takes the model, and a new name for every export."""

        def ask_for_new_file(self, title: str, name: str, pattern: str) -> str:
            return next(exports)

    def start_and_cancel(panel: boot.Panel) -> None:
        panel.widget.ui.importFolderButton.click()
        panel.widget.ui.libraryCancelButton.click()

    def cancel(panel: boot.Panel) -> None:
        names = ("libraryCancelButton", "planButton", "studyPlanButton", "runStudyButton")
        for button in (getattr(panel.widget.ui, name) for name in names):
            if button.visible and button.enabled and button.text == "Cancel":
                button.click()

    def is_busy(panel: boot.Panel) -> bool:
        panel_ = panel.widget._panel
        return panel_.is_waiting or panel_._plan.is_running or panel_.study.is_running or panel_.library.is_running

    def restore(panel: boot.Panel) -> None:
        panel.widget.ui.resultLineEdit.text = str(model)

    own = {
        "trainingCurve": chart,
        "useChainSettings": False,
        "sourceBudget": 1,
        "targetBudget": 1,
        "learningRate": 0.001,
    }
    trainings = [{"chain": small, "outputFolder": folder / f"trained {n}", "useChainSettings": True} for n in range(2)]
    return Prepared(
        {"chain": chain, "outputFolder": folder / "run", "study": study, "studyFolder": finished} | own,
        ("", "/nowhere", str(chain)),
        folder / "home",
        opened=lambda panel: with_window(panel, Window(str(model))),
        restore=restore,
        is_busy=is_busy,
        states=({"studyFolder": folder / "study run"},),
        cancel=cancel,
        extra={"a model comes in, which is cancelled": start_and_cancel},
        operated=frozenset({"libraryCancelButton"}),
        for_apply=tuple(trainings),
        kept=frozenset({"studyTable", "studyChart"}),
    )


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@contextmanager
def opened(module: str, prepared: Prepared) -> Iterator[boot.Panel]:
    """The panel with everything chosen."""
    before = os.environ.get("XTL_HOME")
    os.environ["XTL_HOME"] = str(prepared.home)
    panel = boot.open_panel(module)
    try:
        prepared.opened(panel)
        prepared.choose(panel)
        yield panel
    finally:
        panel.close()
        if before is None:
            del os.environ["XTL_HOME"]
        else:
            os.environ["XTL_HOME"] = before


def clear() -> Any:
    """An empty scene."""
    import slicer

    boot.start()
    slicer.mrmlScene.Clear(0)
    return slicer.mrmlScene
