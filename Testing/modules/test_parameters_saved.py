"""Every parameter of every panel, none listed by hand, is the same after the scene was saved and opened again."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from host.boot import Panel
from host.reload import save_and_reload

MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
FOLDER = '/data/Größe 1/it\'s "here"; a:b %20 & <c>'
WINDOWS = "C:\\Users\\Über Wald\\scene"


def _other(parameter: Any, number: int, scene: Any) -> Any:
    """A value of the parameter's type that is not its default."""
    kind, default = parameter.type, parameter.default
    if parameter.node_classes:
        return _node(parameter.node_classes[0].__name__, f'{parameter.name} "ä" & <b>', scene)
    if issubclass(kind, enum.Enum):
        return next(member for member in kind if member is not default)
    if kind is bool:
        return not default
    if kind is Path:
        return Path(FOLDER if number % 2 else WINDOWS) / parameter.name
    if kind is str:
        return f'it\'s "{parameter.name}"; a:b %20 & <ü>\n2'
    limits = next((each for each in parameter.annotations if hasattr(each, "maximum")), None)
    low, high = (limits.minimum, limits.maximum) if limits else (0, 100)
    return next(value for value in (kind(low + (high - low) * 0.7), kind(high), kind(low)) if value != default)


def _node(kind: str, name: str, scene: Any) -> Any:
    node = scene.AddNewNodeByClass(kind, name)
    if node.IsA("vtkMRMLVolumeNode"):
        slicer.util.updateVolumeFromArray(node, np.zeros((2, 3, 4), np.int16))
    elif node.IsA("vtkMRMLTableNode"):
        node.AddEmptyRow()
    return node


def _values(parameters: Any) -> dict[str, Any]:
    found = {name: getattr(parameters, name) for name in parameters.allParameters}
    return {name: value.GetName() if hasattr(value, "GetName") else value for name, value in found.items()}


@pytest.mark.parametrize("module", MODULES)
def test_every_parameter_is_saved_with_the_scene(module, open_panel, scene, tmp_path, messages):
    panel: Panel = open_panel(module)
    panel.exit()  # nobody follows what is set
    parameters = panel.widget.logic.getParameterNode()
    for number, (name, parameter) in enumerate(parameters.allParameters.items()):
        setattr(parameters, name, _other(parameter, number, scene))
    before = _values(parameters)
    assert len(before) >= 15
    assert all(before[name] != parameter.default for name, parameter in parameters.allParameters.items())
    save_and_reload(scene, tmp_path)
    assert _values(panel.widget.logic.getParameterNode()) == before
    assert messages == []


@pytest.mark.parametrize("module", MODULES)
def test_a_panel_that_opens_on_a_saved_scene_changes_none_of_the_choices(module, open_panel, scene, tmp_path, messages):
    """Paths lead nowhere on this computer: that is said, and the choice kept."""
    panel: Panel = open_panel(module)
    panel.exit()
    parameters = panel.widget.logic.getParameterNode()
    for number, (name, parameter) in enumerate(parameters.allParameters.items()):
        if parameter.type is Path or name.startswith("use") or parameter.node_classes:
            setattr(parameters, name, _other(parameter, number, scene))
    before = _values(parameters)
    panel.enter()
    for _ in range(20):
        slicer.app.processEvents()
    assert _values(parameters) == before
    assert messages == []
