"""The coded names of lesions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from XTLLib.scene.colors import LESION_COLOR
from XTLLib.scene.terminology import ALTERED_STRUCTURE, CONTEXT, LESION, MS_LESION, PROSTATE_LESION

slicer = pytest.importorskip("slicer")

FILE = Path(__file__).resolve().parents[2] / "Resources" / "Terminologies" / "XTL-lesions.term.json"


def test_the_terminology_file_says_what_the_segments_say():
    (category,) = json.loads(FILE.read_text())["SegmentationCodes"]["Category"]
    (kind,) = category["Type"]
    for code, entry in ((ALTERED_STRUCTURE, category), (LESION, kind)):
        found = (entry["CodingSchemeDesignator"], entry["CodeValue"], entry["CodeMeaning"])
        assert found == (code.scheme, code.value, code.meaning)
    assert [round(255 * part) for part in LESION_COLOR] == kind["recommendedDisplayRGBValue"]


def test_slicer_loads_the_file_and_knows_the_segments_entries():
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.LoadTerminologyFromFile(str(FILE)) == CONTEXT
    for text, region in ((MS_LESION, "Brain"), (PROSTATE_LESION, "Prostate")):
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(text, entry)
        assert entry.GetTypeObject().GetCodeMeaning() == "Lesion"
        assert entry.GetRegionObject().GetCodeMeaning() == region
