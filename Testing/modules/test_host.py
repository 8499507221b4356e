"""The headless host keeps Slicer's manners, so that what passes here is worth something."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import pytest
import slicer
from host import pythonqt
from host.parameter_node import Choice, WithinRange, parameterNodeWrapper
from slicer import vtkMRMLScalarVolumeNode


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@parameterNodeWrapper
class Parameters:
    number: Annotated[float, WithinRange(0, 10)] = 2.5
    count: int = 3
    flag: bool = True
    text: Annotated[str, Choice(["a", "b"])] = "a"
    path: Path
    colour: Colour = Colour.BLUE
    volume: vtkMRMLScalarVolumeNode


@pytest.fixture
def node(scene):
    return scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")


def test_parameters_are_stored_as_slicer_stores_them(scene, node):
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "v")
    parameters = Parameters(node)
    parameters.volume = volume
    stored = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert stored == {
        "number": "2.5",
        "count": "3",
        "flag": "True",
        "text": "a",
        "path": ".",
        "colour": "BLUE",
        "volume": "",
    }
    assert node.GetNodeReferenceID("volume") == volume.GetID()
    again = Parameters(node)
    assert (again.number, again.count, again.flag, again.path) == (2.5, 3, True, Path())
    assert again.colour is Colour.BLUE
    assert again.volume is volume


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("number", 11.0, ValueError),
        ("text", "c", ValueError),
        ("count", 1.5, TypeError),
        ("path", "a string", TypeError),
        ("number", None, TypeError),
    ],
)
def test_wrong_values_are_refused(node, name, value, error):
    parameters = Parameters(node)
    before = getattr(parameters, name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_a_removed_node_is_no_longer_a_parameter(scene, node):
    parameters = Parameters(node)
    parameters.volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "v")
    scene.RemoveNode(parameters.volume)
    assert parameters.volume is None


def test_qt_objects_have_properties_and_no_new_attributes():
    import qt

    button = qt.QPushButton("Press")
    assert button.text == "Press"
    button.text = "Again"
    button.toolTip = "tip"
    assert (button.text, button.toolTip, button.enabled) == ("Again", "tip", True)
    with pytest.raises(AttributeError):
        button.undefined = 1
    with pytest.raises(AttributeError):
        button.undefined  # noqa: B018
    with pytest.raises(ValueError, match="no signal"):
        button.connect("pressedHard(bool)", print)


def test_slots_take_as_many_arguments_as_they_have(slot_errors):
    import qt

    button, calls = qt.QPushButton(), []
    button.checkable = True
    slots = (lambda: calls.append("none"), lambda checked: calls.append(checked), lambda *a: calls.append(a))
    for slot in slots:
        button.connect("clicked(bool)", slot)
    button.click()
    assert calls == ["none", True, (True,)]
    for slot in slots:
        button.disconnect("clicked(bool)", slot)
    button.click()
    assert len(calls) == 3


def test_an_error_in_a_slot_is_kept(slot_errors):
    import qt

    timer = qt.QTimer()
    timer.connect("timeout()", lambda: 1 / 0)
    timer.timeout.emit()
    assert isinstance(slot_errors.pop(), ZeroDivisionError)
    assert pythonqt.slot_errors == []


def test_a_selector_without_a_scene_is_greyed_and_follows_the_scene(scene):
    selector = slicer.qMRMLNodeComboBox()
    assert not selector.enabled
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.setMRMLScene(scene)
    changes = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", changes.append)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "v")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "l")
    assert selector.nodeCount() == 1
    selector.setCurrentNode(volume)
    scene.RemoveNode(volume)
    assert changes == [volume, None]
    assert selector.currentNode() is None
    selector.release()


def test_messages_are_kept_and_errors_pass_on(messages):
    with pytest.raises(ZeroDivisionError), slicer.util.tryWithErrorDisplay("It failed."):
        1 / 0  # noqa: B018
    (message,) = messages
    assert message.text == "It failed.\n\ndivision by zero"
    assert "Traceback" in message.detailedText
