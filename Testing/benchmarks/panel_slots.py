"""How long each thing that a user can do in a panel keeps the interface waiting, and how long a panel takes to open.

python Testing/benchmarks/panel_slots.py [--quick] [--out FILE.json] [--rounds 5] [--module NAME ...]

XTLSegment   a head of 181x217x181 voxels, three channels, a result with 100 lesions, three slice views
XTLClassify  a prostate study of 384x384x19 voxels with five rated findings
XTLTransfer  a chain of three stages, a library with a model, a finished study; Apply trains a small chain

Every widget is operated, there and back; so is what happens in the views, the Segment Editor and the scene. Where that
makes work in the background, each look at it and the coming of its result are timed as well; what goes on for more than
some seconds is cancelled. The panel runs over the headless host of the tests, whose widgets are not Slicer's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
_TESTING = Path(__file__).resolve().parents[1]
for _folder in (_TESTING, _TESTING / "support", _TESTING / "modules"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

import panel_scenes  # noqa: E402
from host import boot, pythonqt  # noqa: E402
from panel_actions import Action, actions_of, timers_of  # noqa: E402
from results import Result, Row, table_of, write_results  # noqa: E402

NAME = "panel-slots"
ACTION_S, SETUP_S = 0.1, 0.5
SHARES = (0.34, 0.99, 0.67)  # which of the possible values is chosen: others in turn
SETUP = "set-up"
APPLY = "applyButton"  # timed by itself, as it changes the results
PATIENCE_S, QUICK_PATIENCE_S = 4.0, 0.3  # for work in the background, before it is cancelled
_LIMIT_S = 120.0


@dataclass(frozen=True)
class Timed:
    """One action: its name and, of each round, the seconds until the interface could go on, and those of the CPU."""

    name: str
    seconds: tuple[float, ...]
    cpu_s: tuple[float, ...]


class Stopwatch:
    """Times actions by name; what happens in the event loop right after an action belongs to it.

    Attributes
    ----------
    patience_s : how long work in the background may go on before it is cancelled.
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._taken: dict[str, list[tuple[float, float]]] = {}

    def time(self, name: str | Callable[[], str], work: Callable[[], object]) -> None:
        """``name`` : or a function that finds out afterwards what it was."""
        import slicer

        began, cpu = time.perf_counter(), time.thread_time()
        work()
        slicer.app.processEvents()
        taken = time.perf_counter() - began, time.thread_time() - cpu
        self._taken.setdefault(name if isinstance(name, str) else name(), []).append(taken)

    def results(self) -> list[Timed]:
        return [Timed(name, *map(tuple, zip(*taken))) for name, taken in self._taken.items()]


def reference_s() -> float:
    """Seconds of a fixed loop of Python and NumPy: 0.05 s where nothing else runs; says how loaded the machine is."""
    import numpy as np

    array = np.random.default_rng(0).normal(size=(400, 400))
    began = time.perf_counter()
    for _ in range(3):
        sum(number * number for number in range(100_000))
        np.sort(array, axis=0)
    return time.perf_counter() - began


def prepare(module: str, folder: Path, is_quick: bool = False) -> panel_scenes.Prepared:
    """The scene of a module."""
    panel_scenes.clear()
    if module == "XTLSegment":
        return panel_scenes.segment(folder, (64, 72, 64), 15) if is_quick else panel_scenes.segment(folder)
    if module == "XTLClassify":
        return panel_scenes.classify(folder, 2.0 if is_quick else 0.5)
    return panel_scenes.transfer(folder)


def time_module(module: str, rounds: int, is_quick: bool = False) -> tuple[list[Timed], set[str]]:
    """The actions of a panel, SETUP among them (the first imports it), and the widgets that were never operated.

    Only widgets to which something in Python is connected are asked for.
    """
    boot.start()
    watch, panels = Stopwatch(QUICK_PATIENCE_S if is_quick else PATIENCE_S), []
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(module, Path(folder), is_quick)
        for _ in range(rounds):
            watch.time(SETUP, lambda: panels.append(boot.open_panel(module)))
            panels.pop().close()
        with panel_scenes.opened(module, prepared) as panel:
            silent = _connected(panel) - {APPLY}
            for _ in range(rounds):
                silent -= _operate(panel, prepared, watch)
            _events(panel, watch)
            if not is_quick:
                _apply(panel, prepared, watch)
        panel_scenes.clear()
    return watch.results(), silent


def _connected(panel: boot.Panel) -> set[str]:
    """Names of the panel's widgets to which something in Python is connected."""
    import shiboken6
    from PySide6 import QtCore, QtWidgets

    addresses = {key[0] for key, relays in pythonqt._relays.items() if relays}
    objects = panel.parent._qobject.findChildren(QtCore.QObject)
    named = {shiboken6.getCppPointer(each)[0]: each.objectName() for each in objects}
    for view in panel.parent._qobject.findChildren(QtWidgets.QAbstractItemView):
        if view.selectionModel() is not None:
            named[shiboken6.getCppPointer(view.selectionModel())[0]] = view.objectName()
    return {name for address, name in named.items() if address in addresses and name}


def _operate(panel: boot.Panel, prepared: panel_scenes.Prepared, watch: Stopwatch) -> set[str]:
    """Every widget there and back, then what happens elsewhere; the names of the widgets that were operated."""
    operated: set[str] = set()
    for state in ({}, {}, *prepared.states):  # what one makes possible, the next does
        prepared.choose(panel, state)
        _wait(panel, prepared, watch, "all chosen")
        for action in actions_of(panel, prepared.paths, (APPLY, *operated)):
            if not action.widget.isEnabled():  # another action may have changed what can be done
                continue
            operated.add(action.widget.objectName())
            for share in SHARES[: 1 if _is_push_button(action) else None]:
                watch.time(action.name, lambda action=action, share=share: action.run(share))
                _wait(panel, prepared, watch, action.name, action)
            prepared.choose(panel, state)
            _wait(panel, prepared, watch, "all chosen")
    prepared.choose(panel)
    for name, run in prepared.extra.items():
        watch.time(name, lambda run=run: run(panel))
        _wait(panel, prepared, watch, name)
    for timer in timers_of(panel):
        if timer.isActive():
            watch.time("timer", timer.timeout.emit)
    prepared.choose(panel)
    _wait(panel, prepared, watch, "all chosen")
    return operated | prepared.operated


def _is_push_button(action: Action) -> bool:
    """Whether a click is all that can be done with it."""
    return action.widget.inherits("QAbstractButton") and not action.widget.property("checkable")


def _wait(
    panel: boot.Panel, prepared: panel_scenes.Prepared, watch: Stopwatch, after: str, action: Action | None = None
) -> None:
    """Each look at the work that an action has begun, as an action; what a button has begun is cancelled in the end."""
    began, is_cancelled = time.monotonic(), False
    while prepared.is_busy(panel):
        watch.time(f"  what follows {after}", lambda: None)
        time.sleep(0.005)
        waited = time.monotonic() - began
        assert waited < _LIMIT_S, f"what follows {after} took too long"
        if action is not None and _is_push_button(action) and not is_cancelled and waited > watch.patience_s:
            is_cancelled = True
            watch.time(f"{action.name}, cancelled", lambda: prepared.cancel(panel))


def _events(panel: boot.Panel, watch: Stopwatch) -> None:
    """What the panel is told by Slicer."""
    import slicer

    scene = slicer.mrmlScene
    nodes: list = []
    watch.time("exit", panel.exit)
    watch.time("enter", panel.enter)
    add = lambda: nodes.append(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "another"))  # noqa: E731
    watch.time("a volume is loaded", add)
    watch.time("a volume is removed", lambda: scene.RemoveNode(nodes.pop()))
    watch.time("a scene was opened", lambda: panel.widget.onSceneEndImport(scene, None))


def _apply(panel: boot.Panel, prepared: panel_scenes.Prepared, watch: Stopwatch) -> None:
    """Apply as often as the scene says; each look at the worker is one action, and the last one brings the result."""
    ui = panel.widget.ui
    for values in prepared.for_apply:
        prepared.choose(panel, values)
        _wait(panel, prepared, watch, "all chosen")
        assert ui.applyButton.enabled, ui.statusLabel.text
        watch.time("applyButton: click", lambda: ui.applyButton.click())
        deadline = time.monotonic() + _LIMIT_S
        while ui.progressBar.visible:
            name = lambda: "Apply, while it runs" if ui.progressBar.visible else "Apply, its result comes"  # noqa: E731
            watch.time(name, lambda: None)
            time.sleep(0.005)
            assert time.monotonic() < deadline, "Apply took too long"
        _wait(panel, prepared, watch, "Apply")


def measure(argv: Sequence[str] = ()) -> Result:
    """A row for each set-up and the slowest actions of each panel; ``--quick`` takes small scenes."""
    arguments = _parser().parse_args(argv)
    rounds = 1 if arguments.quick else arguments.rounds
    before = reference_s()
    rows, details = [], {"reference_s": [before]}
    for module in arguments.module or boot.MODULES:
        timed, silent = time_module(module, rounds, arguments.quick)
        (setup,) = (one for one in timed if one.name == SETUP)
        middle = median(setup.seconds)
        rows.append(Row(f"{module}: set-up", "s", middle, None, None, f"<= {SETUP_S} s", middle <= SETUP_S))
        slowest = sorted(timed, key=lambda one: max(one.seconds), reverse=True)
        for one in [each for each in slowest if each is not setup][: arguments.shown]:
            worst = max(one.seconds)
            rows.append(Row(f"  {one.name}", "s", worst, None, None, f"<= {ACTION_S} s", worst <= ACTION_S))
        details[module] = {
            "actions": {one.name: {"s": one.seconds, "cpu_s": one.cpu_s} for one in slowest},
            "not operated": sorted(silent),
        }
        details["reference_s"].append(reference_s())
    return Result(NAME, tuple(rows), details)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small scenes, one round, no Apply")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--module", nargs="+", choices=boot.MODULES)
    parser.add_argument("--shown", type=int, default=5, help="slowest actions of a panel that get a row (default: 5)")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser


if __name__ == "__main__":
    result = measure(sys.argv[1:])
    print(table_of(result.rows))
    out = _parser().parse_args(sys.argv[1:]).out
    if out is not None:
        write_results([result], out)
