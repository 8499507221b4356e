"""Rules of the house that can be read from the sources: lists, imports, .ui files."""

from __future__ import annotations

import ast
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
LIBRARY = PROJECT / "XTLTransfer" / "XTLLib"
ROOMS = ("data", "metrics", "networks", "transfer", "bundle", "inference", "training", "study", "scene")
SHARED = ("errors", "progress", "files", "child", "failures")  # everybody's
HEAVY = {"torch", "monai", "SimpleITK", "sklearn", "matplotlib", "scipy", "pydicom", "yaml", "pydantic", "PIL"}
HEAVY |= {"skimage", "nibabel", "ignite", "tqdm", "vtk", "slicer", "safetensors", "highdicom"}
# Of slicer.<name>, what Slicer itself has; slicer-core also leaks the names of slicer.util into slicer.
IN_SLICER = {"cli", "util", "app", "mrmlScene", "modules", "packaging", "i18n", "ScriptedLoadableModule"}
IN_SLICER |= {"parameterNodeWrapper", "qMRMLWidget", "qMRMLNodeComboBox"}
SOURCES = sorted(LIBRARY.rglob("*.py"))
MODULE_FILES = [PROJECT / name / f"{name}.py" for name in MODULES]


def identify(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


# --- lists ------------------------------------------------------------------------------------------


def test_cmake_lists_every_file():
    done = subprocess.run(
        [sys.executable, PROJECT / "Testing" / "tools" / "list_scripts.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}Run: python Testing/tools/list_scripts.py --write"


def test_files_do_not_collide_in_the_flat_folder_of_an_installed_extension():
    installed = Counter()
    for module in MODULES:
        folder = PROJECT / module
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "CMakeLists.txt" and "__pycache__" not in path.parts:
                installed[path.relative_to(folder).as_posix().lower()] += 1
    for folder in ("Chains", "Studies", "Terminologies"):
        installed.update(
            f"resources/{folder}/{path.name}".lower() for path in (PROJECT / "Resources" / folder).iterdir()
        )
    assert [name for name, count in installed.items() if count > 1] == []


# --- imports ----------------------------------------------------------------------------------------


def imports_of(path: Path, only_at_load: bool = False) -> Iterator[tuple[str, int]]:
    """Absolute names of what a file imports, with the line; relative imports are resolved."""
    package = ["XTLLib", *path.relative_to(LIBRARY).parts[:-1]] if LIBRARY in path.parents else []
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), only_at_load):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{name}.{alias.name}", node.lineno) for alias in node.names)


def _nodes(tree: ast.AST, only_at_load: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if only_at_load and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if only_at_load and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _nodes(node, only_at_load)


def room_of(name: str) -> str | None:
    """The room of a dotted name below XTLLib: "data", "cli", or None for the shared files and other packages."""
    parts = name.split(".")
    if parts[0] != "XTLLib" or len(parts) < 2 or parts[1] in SHARED or parts[1] == "__version__":
        return None
    return parts[1]


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_imports_point_to_a_room_above(path):
    parts = path.relative_to(LIBRARY).parts
    own = parts[0].removesuffix(".py")
    order = (*ROOMS, *sorted(file.stem for file in LIBRARY.glob("cli_*.py")), "cli")
    wrong = []
    for name, line in imports_of(path):
        other = room_of(name)
        if other is None:
            continue
        if own in SHARED or own not in order or other not in order or order.index(other) > order.index(own):
            wrong.append(f"line {line}: {name}")
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_only_the_room_scene_knows_mrml_and_none_knows_the_application(path):
    in_scene = path.relative_to(LIBRARY).parts[0] == "scene"
    names = {name.split(".")[0]: line for name, line in imports_of(path)}
    assert not names.keys() & {"qt", "ctk", "PySide6", "PythonQt"}
    assert in_scene or not names.keys() & {"slicer", "vtk"}
    assert "slicer.app" not in {name for name, _ in attributes_of(path)}
    assert "slicer.app" not in {name for name, _ in imports_of(path)}


def _may_be_heavy(path: Path) -> bool:
    """Files that define torch modules or pydantic models, which only functions import."""
    parts = path.relative_to(LIBRARY).parts
    return parts[0] in ("networks", "training", "transfer", "study") and parts[-1] != "__init__.py"


LIGHT = [path for path in SOURCES if not _may_be_heavy(path)]


@pytest.mark.parametrize("path", [*LIGHT, *MODULE_FILES], ids=identify)
def test_nothing_heavy_is_imported_at_load(path):
    allowed = {"slicer", "vtk"} if path in MODULE_FILES else set()
    wrong = [f"line {n}: {name}" for name, n in imports_of(path, True) if name.split(".")[0] in HEAVY - allowed]
    assert wrong == []


def test_loading_the_library_s_light_files_loads_nothing_heavy():
    """Also not by way of another file of the library."""
    names = [".".join(("XTLLib", *path.relative_to(LIBRARY).with_suffix("").parts)) for path in LIGHT]
    names = [name.removesuffix(".__init__") for name in names]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        f"    new = sorted((set(sys.modules) - before) & {HEAVY!r})\n"
        "    if new:\n"
        "        print(name, *new)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def attributes_of(path: Path) -> Iterator[tuple[str, int]]:
    """``slicer.<name>`` as it stands in a file, by attribute or by ``from slicer import``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "slicer":
            yield f"slicer.{node.attr}", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "slicer" and not node.level:
            yield from ((f"slicer.{alias.name}", node.lineno) for alias in node.names)


@pytest.mark.parametrize("path", [*MODULE_FILES, *sorted((LIBRARY / "scene").glob("*.py"))], ids=identify)
def test_only_names_that_slicer_has_are_asked_of_slicer(path):
    """slicer-core leaks the names of slicer.util into slicer: slicer.loadVolume works there and fails in Slicer."""
    names = [(name.removeprefix("slicer."), line) for name, line in attributes_of(path)]
    assert [
        f"line {line}: {name}" for name, line in names if not name.startswith("vtk") and name not in IN_SLICER
    ] == []


# --- module files and their panels ------------------------------------------------------------------


def panel_of(module: str) -> ElementTree.Element:
    return ElementTree.parse(PROJECT / module / "Resources" / "UI" / f"{module}.ui").getroot()


def parameters_of(module: str) -> dict[str, str]:
    """Name -> type as written, of the module's parameter node class."""
    tree = ast.parse((PROJECT / module / f"{module}.py").read_text(encoding="utf-8"))
    (cls,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == f"{module}ParameterNode")
    return {n.target.id: ast.unparse(n.annotation) for n in cls.body if isinstance(n, ast.AnnAssign)}


# Widget class -> types for which Slicer has a connector.
CONNECTS = {
    "QCheckBox": {"bool"},
    "QSpinBox": {"int"},
    "QDoubleSpinBox": {"float"},
    "ctkSliderWidget": {"float"},
    "ctkPathLineEdit": {"Path"},
    "qMRMLNodeComboBox": {"node"},
    "QLineEdit": {"str"},
    "QComboBox": {"enum"},
}


# What the user did rather than chose: it is kept with the scene, and shown in other ways than by an input.
KEPT_WITHOUT_WIDGET = {
    "XTLSegment": {"edits", "lesion", "brainMethod"},
    "XTLClassify": {"finding", "evidence", "operatingPoint", "device"},
    "XTLTransfer": {"chainPreset", "weights", "backbone", "conversion", "device"},  # lists that code fills
}


def kind_of(annotation: str) -> str:
    bare = annotation.removeprefix("Annotated[").removeprefix("Union[").split(",")[0].strip()
    return "node" if bare.startswith("vtkMRML") else bare


@pytest.mark.parametrize("module", MODULES)
def test_every_input_of_the_panel_is_a_parameter_of_a_type_it_can_show(module):
    parameters, shown = parameters_of(module), []
    for widget in panel_of(module).iter("widget"):
        for element in widget.findall("property[@name='SlicerParameterName']"):
            name = element.findtext("string")
            assert element.get("stdset") == "0", f"{name}: SlicerParameterName has to be a dynamic property"
            assert name in parameters, f"{widget.get('name')} names the parameter {name}"
            assert kind_of(parameters[name]) in CONNECTS[widget.get("class")], f"{widget.get('name')}: {name}"
            if widget.get("class") == "ctkSliderWidget":
                assert "WithinRange" in parameters[name], f"{name}: a slider needs bounds"
            if kind_of(parameters[name]) == "node":
                types = [each.text for each in widget.findall("property[@name='nodeTypes']/stringlist/string")]
                union = parameters[name].removeprefix("Union[").removesuffix(", None]")  # Slicer asks for the None
                assert types == union.split(", ")
            shown.append(name)
    kept = KEPT_WITHOUT_WIDGET.get(module, set())
    assert sorted([*shown, *kept]) == sorted(parameters), "each parameter has one widget"


@pytest.mark.parametrize("module", MODULES)
def test_every_node_selector_gets_the_scene(module):
    root = panel_of(module)
    selectors = {w.get("name") for w in root.iter("widget") if w.get("class") == "qMRMLNodeComboBox"}
    connected = {
        connection.findtext("receiver")
        for connection in root.iter("connection")
        if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
        and connection.findtext("sender") == module
    }
    assert connected == selectors


@pytest.mark.parametrize("module", MODULES)
def test_every_widget_that_the_code_uses_is_in_the_panel(module):
    names = {widget.get("name") for widget in panel_of(module).iter("widget")}
    files = [PROJECT / module / f"{module}.py", LIBRARY / "scene" / "panel.py"]
    if module == "XTLSegment":
        files += [LIBRARY / "scene" / name for name in ("segment_panel.py", "lesion_section.py")]
        files += [LIBRARY / "scene" / name for name in ("advanced_section.py", "longitudinal_section.py")]
    used = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self.ui", "self._ui", "ui"):
                used[node.attr] = f"{path.name} line {node.lineno}"
    assert {name: where for name, where in used.items() if name not in names} == {}


@pytest.mark.parametrize("module", MODULES)
def test_every_input_has_a_tool_tip_and_classes_are_declared(module):
    root = panel_of(module)
    declared = {each.findtext("class") for each in root.iter("customwidget")}
    for widget in root.iter("widget"):
        if not widget.get("class").startswith("Q"):
            assert widget.get("class") in declared
        if widget.find("property[@name='SlicerParameterName']") is not None:
            assert widget.findtext("property[@name='toolTip']/string"), widget.get("name")


@pytest.mark.parametrize("module", MODULES)
def test_module_files_stay_thin(module):
    path = PROJECT / module / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert names == {module, *(f"{module}{part}" for part in ("ParameterNode", "Widget", "Logic", "Test"))}
    imported = {name.split(".")[0] for name, _ in imports_of(path)}
    assert not imported & {"numpy", "torch", "subprocess", "json", "csv", "threading", "multiprocessing"}
    logic = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == f"{module}Logic")
    text = ast.unparse(logic)
    assert "Display(" not in text, "dialogs belong to the panel"
    assert "self.ui" not in text
