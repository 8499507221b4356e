"""A thousand things that a user may do, in any order, to each panel: nothing fails, and nothing is left behind.

The order is drawn from a seed, which a failure names together with the last actions. What is said to the user may be
anything but a traceback. The worker is a real process with an untrained network.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import host.boot as boot
import pytest
import slicer
from host import pythonqt
from host.ctk_widgets import ctkMessageBox
from host.reload import save_and_reload
from lent_worker import Lent, wait
from panel_actions import actions_of, timers_of
from XTLLib.errors import XTLError

ACTIONS, LONG_ACTIONS = 1000, 10000
TRAINS = ("adaptButton",)  # of XTL Segment; only the long variant has the time
SHARES = {"widget": 0.78, "scene": 0.12, "panel": 0.05, "apply": 0.05}
POINT_MM = 25.0  # how far from the origin points are placed
VOLUME = "vtkMRMLScalarVolumeNode"
POINTS = "vtkMRMLMarkupsFiducialNode"
SEGMENTATION = "vtkMRMLSegmentationNode"
REFERENCE = "referenceImageGeometryRef"  # of a segmentation: without it there is nothing to draw on


@pytest.fixture(scope="module")
def lent_worker() -> Iterator:
    from XTLLib.inference.client import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    from XTLLib.scene.self_test import write_classification_bundle, write_segmentation_bundle, write_small_chain

    folder = tmp_path_factory.mktemp("monkey")
    return {
        "XTLSegment": write_segmentation_bundle(folder / "ms"),
        "XTLClassify": write_classification_bundle(folder / "prostate"),
        "XTLTransfer": write_small_chain(folder),
    }


def observers() -> int:
    """VTK observers on the scene and on the nodes that outlive it: what a panel has to take back."""
    kept = [slicer.mrmlScene]
    for name in ("vtkMRMLSelectionNodeSingleton", "vtkMRMLInteractionNodeSingleton"):
        node = slicer.mrmlScene.GetNodeByID(name)
        kept += [] if node is None else [node]
    return sum(str(each).count("vtkObserver (") for each in kept)


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.add(int(entry.parent.name))
    return found


class Monkey:
    """Draws actions from a seed, and does them."""

    def __init__(self, module: str, bundle: Path, folder: Path, seed: int, without: tuple[str, ...]) -> None:
        self._module, self._bundle, self._folder, self._without = module, bundle, folder, without
        self._random = random.Random(seed)
        self._last: deque[str] = deque(maxlen=25)
        self._has_entered = True
        self._count = 0
        self.done: dict[str, int] = {}
        self.results = 0  # of Apply, that added something to the scene
        wrong = folder / "wrong.yaml"
        wrong.write_text("name: [\n")
        self._paths = ("", str(bundle), str(bundle), str(bundle), "/nowhere/at all", str(wrong), str(folder / "out"))
        self.panel = boot.open_panel(module)
        self.fill()

    def fill(self) -> None:
        """Put a small case into the scene, as a user would load one."""
        from XTLLib.scene.findings import findings_to_node
        from XTLLib.scene.inputs import add_case
        from XTLLib.scene.self_test import small_brain, small_prostate

        case = small_prostate() if self._module == "XTLClassify" else small_brain()
        add_case(case, slicer.mrmlScene)
        if case.findings:
            findings_to_node(case.findings, "findings", slicer.mrmlScene)

    def act(self) -> None:
        """Do one thing."""
        kind = self._random.choices(list(SHARES), list(SHARES.values()))[0]
        share = self._random.random()
        name, run = getattr(self, f"_{kind}")(share)
        self._last.append(name)
        self._count += 1
        self.done[name.partition(":")[0]] = self.done.get(name.partition(":")[0], 0) + 1
        try:
            run()
            slicer.app.processEvents()
            self._check()
        except BaseException:
            print("the last actions:", *self._last, sep="\n  ", file=sys.stderr)
            raise

    def close(self) -> None:
        """End the session as Slicer does."""
        self.panel.close()
        slicer.mrmlScene.Clear(0)
        slicer.app.processEvents()

    def _check(self) -> None:
        # slicer.util.tryWithErrorDisplay lets an error go on after it was shown.
        told = [error for error in pythonqt.slot_errors if isinstance(error, XTLError) and ctkMessageBox.shown]
        assert pythonqt.slot_errors == told, f"after {self._last[-1]}: {pythonqt.slot_errors}"
        pythonqt.slot_errors.clear()
        for message in ctkMessageBox.shown:
            assert "Traceback" not in f"{message.text}{message.detailedText}", f"after {self._last[-1]}: {message.text}"
        ctkMessageBox.shown.clear()

    # --- what can be done; each gives a name and the doing ---------------------------------------------------

    def _widget(self, share: float) -> tuple[str, Callable[[], None]]:
        if not self._has_entered:  # another module is shown
            return self._panel(0.0)
        action = self._random.choice(actions_of(self.panel, self._paths, ("applyButton", *self._without)))
        return action.name, lambda: action.run(share)

    def _apply(self, share: float) -> tuple[str, Callable[[], None]]:
        if not self._has_entered:
            return "enter", self._enter
        if share < 0.5:
            return "choose well and apply", self._choose_well
        if share < 0.75:
            return "apply: without waiting", lambda: self.panel.widget.ui.applyButton.click()
        return "apply: until it ends", self._apply_and_wait

    def _choose_well(self) -> None:
        """A new case, and everything that Apply needs."""
        slicer.mrmlScene.Clear(0)
        self.fill()
        ui = self.panel.widget.ui
        self._wait_for_the_end()
        for name, path in (("bundle", self._bundle), ("chain", self._bundle), ("output", self._folder / "run")):
            line = getattr(ui, f"{name}PathLineEdit", None)
            if line is not None:
                line.currentPath = str(path)
        for channel in ("FLAIR", "T1", "T2", "T2W", "ADC", "HBV"):
            selector = getattr(ui, f"{channel.lower()}Selector", None)
            if selector is not None:
                selector.setCurrentNode(slicer.util.getNode(channel))
        if hasattr(ui, "findingsSelector"):
            ui.findingsSelector.setCurrentNode(slicer.util.getNode("findings"))
        if hasattr(ui, "deviceComboBox"):
            ui.deviceComboBox.currentIndex = 0
        self._apply_and_wait()

    def _wait_for_the_end(self) -> None:
        wait(lambda: not self.panel.widget.ui.progressBar.visible, 120.0)

    def _apply_and_wait(self) -> None:
        nodes = slicer.mrmlScene.GetNumberOfNodes()
        self.panel.widget.ui.applyButton.click()
        self._wait_for_the_end()
        self.results += slicer.mrmlScene.GetNumberOfNodes() > nodes

    def _scene(self, share: float) -> tuple[str, Callable[[], None]]:
        things = {
            "add volume": lambda: slicer.mrmlScene.AddNewNodeByClass(VOLUME, "empty"),
            "add points": lambda: slicer.mrmlScene.AddNewNodeByClass(POINTS, "points"),
            "load case": self._load_case,
            "remove node": self._remove_node,
            "place point": self._place_point,
            "move point": self._move_point,
            "delete point": self._delete_point,
            "rename node": self._rename_node,
            "draw": self._draw,
            "close scene": lambda: slicer.mrmlScene.Clear(0),
            "save and load": self._save_and_load,
        }
        weights = {"close scene": 0.3, "save and load": 0.3, "place point": 3, "move point": 3, "draw": 3}
        name = self._random.choices(list(things), [weights.get(each, 1) for each in things])[0]
        return name, things[name]

    def _panel(self, share: float) -> tuple[str, Callable[[], None]]:
        if not self._has_entered:
            return "enter", self._enter
        if share < 0.3:
            return "exit", self._exit
        if share < 0.4:
            return "reload module", self._reload
        return "timers", lambda: [timer.timeout.emit() for timer in timers_of(self.panel) if timer.isActive()]

    def _enter(self) -> None:
        self._has_entered = True
        self.panel.enter()

    def _exit(self) -> None:
        self._has_entered = False
        self.panel.exit()

    def _reload(self) -> None:
        self.panel.close()
        self.panel = boot.open_panel(self._module)

    def _load_case(self) -> None:
        if slicer.mrmlScene.GetNumberOfNodesByClass(VOLUME) < 12:
            self.fill()

    def _nodes(self, class_name: str = "vtkMRMLDisplayableNode") -> list:
        return slicer.util.getNodesByClass(class_name)

    def _remove_node(self) -> None:
        nodes = self._nodes() + self._nodes("vtkMRMLTableNode")
        if nodes:
            slicer.mrmlScene.RemoveNode(self._random.choice(nodes))

    def _rename_node(self) -> None:
        nodes = self._nodes()
        if nodes:
            self._random.choice(nodes).SetName(self._random.choice(("", "a", "Ä <b>", "x" * 300)))

    def _points(self) -> list:
        """The point lists, among them the one that takes clicks in the views."""
        return self._nodes(POINTS)

    def _place(self) -> tuple[float, float, float]:
        return tuple(self._random.uniform(-POINT_MM, POINT_MM) for _ in range(3))

    def _place_point(self) -> None:
        lists = self._points()
        if lists:
            self._random.choice(lists).AddControlPointWorld(*self._place())

    def _point(self) -> tuple:
        lists = [each for each in self._points() if each.GetNumberOfControlPoints()]
        if not lists:
            return None, 0
        chosen = self._random.choice(lists)
        return chosen, self._random.randrange(chosen.GetNumberOfControlPoints())

    def _move_point(self) -> None:
        points, index = self._point()
        if points is not None:
            points.SetNthControlPointPositionWorld(index, *self._place())

    def _delete_point(self) -> None:
        points, index = self._point()
        if points is not None:
            points.RemoveNthControlPoint(index)

    def _draw(self) -> None:
        """A stroke in the Segment Editor, as a segmentation tells of it."""
        for node in self._nodes(SEGMENTATION):
            segmentation = node.GetSegmentation()
            if not segmentation.GetNumberOfSegments() or node.GetNodeReference(REFERENCE) is None:
                continue
            name = segmentation.GetNthSegmentID(0)
            array = slicer.util.arrayFromSegmentBinaryLabelmap(node, name)
            if array is not None and array.size:
                array = array.copy()
                array.reshape(-1)[: max(1, array.size // 50)] ^= 1
                slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, name)

    def _save_and_load(self) -> None:
        folder = self._folder / f"saved-{self._count}"
        folder.mkdir()
        save_and_reload(slicer.mrmlScene, folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("module", boot.MODULES)
@pytest.mark.parametrize(
    "count", [ACTIONS, pytest.param(LONG_ACTIONS, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_a_thousand_actions(module, count, scene, messages, slot_errors, bundles, lent_worker, tmp_path, monkeypatch):
    monkeypatch.setattr("XTLLib.inference.client.InferenceWorker", lambda: Lent(lent_worker))
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    boot.start()
    boot.qt_warnings.clear()
    watched, running = observers(), children()
    seed = int(os.environ.get("XTL_MONKEY_SEED", 7))
    monkey = Monkey(module, bundles[module], tmp_path, seed, TRAINS if count == ACTIONS else ())
    try:
        for _ in range(count):
            monkey.act()
    finally:
        monkey.close()
    if module != "XTLTransfer":  # whose results come after a training
        assert monkey.results >= 3, "Apply has hardly ever led to a result, so that little of the panel was seen"
    assert len(monkey.done) > 25, f"too few kinds of actions: {monkey.done}"
    assert boot.qt_warnings == []
    assert observers() == watched, "observers are left on the scene"
    assert children() - running <= {lent_worker.pid}, "processes are left"
