"""Panels in scenes of the usual size, for the benchmark ``panel-slots``: everything chosen, a result to work on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
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
    extra : further things that a user does, by name: (panel) -> None.
    for_apply : parameter -> value, where Apply needs another one.
    """

    chosen: dict[str, Any]
    paths: tuple[str, ...]
    extra: dict[str, Callable[[boot.Panel], None]] = field(default_factory=dict)
    for_apply: dict[str, Any] = field(default_factory=dict)

    def choose(self, panel: boot.Panel) -> None:
        """Choose everything in an opened panel, anew where it was changed; what is not in ``chosen`` as at first."""
        parameters = panel.widget.logic.getParameterNode()
        modifying = parameters.StartModify()
        for name, parameter in parameters.allParameters.items():
            setattr(parameters, name, self.chosen.get(name, parameter.default))
        parameters.EndModify(modifying)


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
    from XTLLib.scene.segmentation import add_segmentation
    from XTLLib.scene.self_test import write_segmentation_bundle
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

    centre = result.lesions[len(result.lesions) // 2].position_ras

    def click(button: str, place: tuple[float, float, float]) -> Callable[[boot.Panel], None]:
        def run(panel: boot.Panel) -> None:
            getattr(panel.widget.ui, button).checked = True
            node = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton").GetActivePlaceNodeID()
            slicer.mrmlScene.GetNodeByID(node).AddControlPointWorld(*place)

        return run

    def draw(panel: boot.Panel) -> None:
        segmentation = nodes.segmentation.GetSegmentation()
        segmentation.GetNthSegment(0).Modified()
        segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, segmentation.GetNthSegmentID(0))

    extra = {
        "click a lesion away": click("removeLesionButton", centre),
        "undo": lambda panel: panel.widget.ui.undoButton.click(),
        "redo": lambda panel: panel.widget.ui.redoButton.click(),
        "click the lesion back": click("addLesionButton", centre),
        "a stroke in the Segment Editor": draw,
        "  what follows it": lambda panel: panel.widget._drawnTimer.timeout.emit(),
    }
    # The untrained network finds something nearly everywhere: here, its most probable part of the usual lesion load.
    probability = segment_case(case, load_bundle(bundle)).probability.array
    threshold = float(np.quantile(probability[probability > 0], 1 - LESION_SHARE))
    return Prepared(chosen, ("", "/nowhere", str(bundle)), extra, {"threshold": threshold, "minimumVolume": 150.0})


def classify(folder: Path, spacing_mm: float = 0.5) -> Prepared:
    """A prostate study with five rated findings."""
    import slicer
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.self_test import write_classification_bundle
    from XTLLib.scene.views import add_slice_views

    from XTLClassify import XTLClassifyLogic

    bundle = write_classification_bundle(folder / "prostate")
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
    chosen |= {"lesions": nodes.label, "zones": nodes.label, "finding": findings.GetNthControlPointID(0)}

    def move(panel: boot.Panel) -> None:
        findings.SetNthControlPointPositionWorld(0, 3.0, 2.0, 1.0)

    extra = {
        "a finding is moved": move,
        "  what follows it": lambda panel: panel.widget._movedTimer.timeout.emit(),
        "a finding is placed": lambda panel: findings.AddControlPointWorld(1.0, 2.0, 3.0, "new"),
        "  what follows that": lambda panel: panel.widget._movedTimer.timeout.emit(),
    }
    return Prepared(chosen, ("", "/nowhere", str(bundle)), extra)


def transfer(folder: Path) -> Prepared:
    """A chain that can be trained, and a folder for it."""
    from XTLLib.scene.self_test import write_small_chain

    chain = write_small_chain(folder)

    return Prepared({"chain": chain, "outputFolder": folder / "run"}, ("", "/nowhere", str(chain)))


@contextmanager
def opened(module: str, prepared: Prepared) -> Iterator[boot.Panel]:
    """The panel with everything chosen, and with a worker that is there already."""
    panel = boot.open_panel(module)
    try:
        prepared.choose(panel)
        yield panel
    finally:
        panel.close()


def clear() -> Any:
    """An empty scene."""
    import slicer

    boot.start()
    slicer.mrmlScene.Clear(0)
    return slicer.mrmlScene
