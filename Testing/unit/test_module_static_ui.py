"""The .ui files and the code behind them agree, and each panel can be used by mouse, keyboard and screen reader."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LIBRARY = PROJECT / "XTLTransfer" / "XTLLib"
MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
PANELS = {name: PROJECT / name / "Resources" / "UI" / f"{name}.ui" for name in MODULES}
# Parts that several panels load below their own.
PARTS = {path.stem: path for path in sorted(PROJECT.glob("XTL*/Resources/UI/*.ui")) if path.stem not in MODULES}
FILES = [*MODULES, *PARTS]
SHARED = PROJECT / "XTLTransfer" / "Resources" / "UI" / "XTLAbout.ui"  # stands at the end of each panel
OPERABLE = {"QPushButton", "QToolButton", "QCheckBox", "QRadioButton", "QComboBox", "QSpinBox", "QDoubleSpinBox"}
OPERABLE |= {"QLineEdit", "QSlider", "QListWidget", "QTreeWidget", "QPlainTextEdit", "ctkSliderWidget"}
OPERABLE |= {"ctkPathLineEdit", "ctkCheckableComboBox", "qMRMLNodeComboBox", "qMRMLTableView", "QTableView"}
TITLED = {"QPushButton", "QToolButton", "QCheckBox", "QRadioButton"}  # say themselves what they are
TAKES_UI = re.compile(r"(self\.)?_?ui")


@cache
def root_of(module: str) -> ElementTree.Element:
    return ElementTree.parse((PANELS | PARTS)[module]).getroot()


def property_of(widget: ElementTree.Element, name: str) -> str:
    """The text of a property of a widget; "" without one."""
    element = widget.find(f"property[@name='{name}']")
    return "" if element is None else "".join(element.itertext()).strip()


@cache
def code_of(module: str) -> dict[Path, ast.Module]:
    """The module and the files of the room ``scene`` that it comes to by imports."""
    waiting, trees = [PROJECT / module / f"{module}.py"], {}
    while waiting:
        path = waiting.pop()
        if path in trees or not path.is_file():
            continue
        trees[path] = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(trees[path]):
            if isinstance(node, ast.ImportFrom) and (
                node.level == 1 or (node.module or "").startswith("XTLLib.scene.")
            ):
                waiting.append(LIBRARY / "scene" / f"{(node.module or '').removeprefix('XTLLib.scene.')}.py")
    return trees


@pytest.mark.parametrize("module", FILES)
def test_names_are_unique_and_nothing_is_hidden_from_translators(module):
    text = (PANELS | PARTS)[module].read_bytes().decode("utf-8")
    names = Counter(widget.get("name") for widget in root_of(module).iter("widget"))
    assert [name for name, count in names.items() if count > 1] == []
    assert "\t" not in text
    for element in root_of(module).iter("property"):
        if element.find("string[@notr='true']") is not None:
            assert element.get("name") in ("SlicerParameterName", "settingKey", "objectName"), ElementTree.tostring(
                element
            )


@pytest.mark.parametrize("module", MODULES)
def test_every_widget_that_the_code_names_is_in_the_panel(module):
    """``ui.X``, and names that are put together: ``getattr(ui, f"{name}Button")`` for each name in reach."""
    names = {widget.get("name") for file in (module, *PARTS) for widget in root_of(file).iter("widget")}
    missing = []
    for path, tree in code_of(module).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and TAKES_UI.fullmatch(ast.unparse(node.value)):
                if node.attr not in names:
                    missing.append(f"{path.name} line {node.lineno}: {node.attr}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and len(node.args) > 1:
                if not TAKES_UI.fullmatch(ast.unparse(node.args[0])) or not isinstance(node.args[1], ast.JoinedStr):
                    continue
                parts = node.args[1].values
                pattern = "".join(re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+" for p in parts)
                if not any(re.fullmatch(pattern, name) for name in names):
                    missing.append(f"{path.name} line {node.lineno}: {ast.unparse(node.args[1])}")
    assert missing == []


@pytest.mark.parametrize("module", MODULES)
def test_no_button_is_left_unconnected(module):
    """A button that nothing names does nothing."""
    code = "".join(ast.unparse(tree) for tree in code_of(module).values())
    for widget in [widget for file in (module, *PARTS) for widget in root_of(file).iter("widget")]:
        name = widget.get("name")
        if widget.get("class") in ("QPushButton", "QToolButton"):
            stem = name.removesuffix("Button")
            assert name in code or re.search(rf"'{stem}'", code), f"{name} is not in the code"


@pytest.mark.parametrize("module", MODULES)
def test_every_widget_that_can_be_operated_has_a_tool_tip(module):
    widgets = [w for w in root_of(module).iter("widget") if w.get("class") in OPERABLE]
    assert len(widgets) > 5
    code = "".join(ast.unparse(tree) for tree in code_of(module).values())
    bare = [w.get("name") for w in widgets if not property_of(w, "toolTip")]
    assert [name for name in bare if f"{name}.toolTip = " not in code] == []


@pytest.mark.parametrize("module", FILES)
def test_every_field_has_a_label_that_points_to_it(module):
    """A screen reader reads the label of the buddy, or the accessible name; see Testing/tools/link_labels.py."""
    root = root_of(module)
    widgets = {w.get("name"): w for w in root.iter("widget")}
    buddies = [property_of(w, "buddy") for w in widgets.values() if property_of(w, "buddy")]
    assert [name for name in buddies if name not in widgets] == []
    assert [name for name, count in Counter(buddies).items() if count > 1] == []
    fields = [w for w in widgets.values() if w.get("class") in OPERABLE - TITLED]
    nameless = [w.get("name") for w in fields if w.get("name") not in buddies and not property_of(w, "accessibleName")]
    assert nameless == []


@pytest.mark.parametrize("module", FILES)
def test_tab_stops_name_widgets_of_the_panel(module):
    names = {widget.get("name") for widget in root_of(module).iter("widget")}
    stops = [stop.text for stop in root_of(module).iter("tabstop")]
    assert set(stops) <= names
    assert len(stops) == len(set(stops))


@pytest.mark.parametrize("module", MODULES)
def test_nothing_points_to_the_machine_it_was_written_on(module):
    texts = {PANELS[module]: PANELS[module].read_text(encoding="utf-8")}
    texts |= {path: path.read_text(encoding="utf-8") for path in code_of(module)}
    for path, text in texts.items():
        assert not re.search(r"/(home|Users|root|work|tmp)/|[A-Z]:\\\\", text), path
    for element in root_of(module).iter("iconset"):
        assert element.text is None or element.text.startswith(":"), "icons come from Slicer's own resources"


def test_slicer_core_leaks_names_and_none_of_them_is_used():
    """slicer.loadVolume works over slicer-core and fails in Slicer, where it is slicer.util.loadVolume."""
    import slicer

    leaked = {n for n, v in vars(slicer.util).items() if not n.startswith("_") and getattr(slicer, n, None) is v}
    leaked -= {name for name in leaked if name.startswith("vtk")} | {"slicer", "util"}
    assert {"loadVolume", "getNode", "arrayFromVolume"} <= leaked, "what this test knows of slicer-core has changed"
    used = []
    for path in {path for module in MODULES for path in code_of(module)} | set((LIBRARY / "scene").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in leaked
                and ast.unparse(node.value)
                in (
                    "slicer",
                    "import_slicer()",
                )
            ):
                used.append(f"{path.name} line {node.lineno}: {ast.unparse(node)}")
    assert used == []
