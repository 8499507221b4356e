"""Failures in a panel: three paragraphs in the box, details folded away, nothing of a patient in the log."""

from __future__ import annotations

import logging

import pytest
from XTLLib.errors import Cancelled, InputError, XTLError
from XTLLib.scene.error_display import failures_shown, last_failure, show_failure, shown

PLANTED = "ZEBRAFISH^JOHN"


def test_a_failure_says_what_why_and_what_to_do(scene, messages, caplog):
    error = XTLError(f"the volume {PLANTED} is empty", "Choose another one")
    with caplog.at_level(logging.INFO, logger="XTL"):
        show_failure("Nothing was segmented.", error, ("line of the worker",))
    (box,) = messages
    title, what, why, remedy = box.text.split("\n\n")
    assert title == "Nothing was segmented."
    assert what == f"The volume {PLANTED} is empty."
    assert why.startswith("Why: ")
    assert remedy == "What to do: Choose another one."
    assert box.detailedText == "line of the worker"
    ours = [record for record in caplog.records if record.name == "XTL"]
    assert len(ours) == 1
    assert PLANTED not in ours[0].getMessage()


def test_an_unexpected_failure_has_its_traceback_folded_away_only(scene, messages):
    with failures_shown("Nothing was done."):
        raise ZeroDivisionError(PLANTED)
    (box,) = messages
    assert "Traceback" not in box.text
    assert PLANTED not in box.text
    assert "ZeroDivisionError" in box.text
    assert "Traceback" in box.detailedText
    assert last_failure()[0].endswith("(unexpected)")
    assert last_failure()[1] == "ZeroDivisionError"
    assert PLANTED not in "\n".join(last_failure())


def test_a_cancel_needs_no_box(scene, messages):
    with failures_shown("Nothing was done."):
        raise Cancelled("x")
    assert messages == []


def test_a_slot_shows_what_its_action_raises(scene, messages):
    done = []
    shown(lambda: done.append(1))(True)
    assert done == [1]
    assert messages == []
    shown(lambda: done.append(1 / 0))(False)
    assert len(messages) == 1


@pytest.mark.parametrize("error", [InputError("the volume has no voxels", "Choose another"), RuntimeError("of all")])
def test_every_failure_of_apply_is_one_box_and_apply_comes_back(error, open_panel, messages, monkeypatch, tmp_path):
    """Whatever goes wrong at Apply: no exception leaves the slot, and the panel can be used again."""
    import numpy as np
    import slicer
    from XTLLib.scene import apply_panel
    from XTLLib.scene.self_test import write_segmentation_bundle

    def fail(*_, **__):
        raise error

    panel = open_panel("XTLSegment")
    volumes = [slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.float32), name=n) for n in ("FLAIR", "T1", "T2")]
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(write_segmentation_bundle(tmp_path / "bundle"))
    for name, volume in zip(("flair", "t1", "t2"), volumes):
        getattr(ui, f"{name}Selector").setCurrentNode(volume)
    assert ui.applyButton.enabled
    monkeypatch.setattr(apply_panel, "ensure_packages", fail)
    ui.applyButton.click()
    (box,) = messages
    assert box.text.count("\n\n") == 3
    assert ui.applyButton.text == "Apply"
    assert ui.applyButton.enabled
