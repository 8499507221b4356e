"""Malformed studies and tables of findings: each ends in the right result or in one error, never in a wrong table.

Every case damages a good study in one way, drawn with a seed, and reads findings and patches from what is left.
Where the damage does not touch the meaning, the result has to be that of the good study; otherwise there
has to be an InputError. Anything else, a changed patch, a lost finding, another exception, is a failure. Damage that
nobody can see (a digit changed to another) is left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series
from prostate_damage import CASES, ERROR, LINES, SAME, SHAPE
from XTLLib.data.findings import read_findings
from XTLLib.data.images import write_volume
from XTLLib.data.patches import PatchSource, PatchSpec
from XTLLib.data.prostate_study import read_prostate_study
from XTLLib.errors import InputError

CHANNELS = ("T2W", "ADC", "HBV")
SPEC = PatchSpec(CHANNELS, (3, 8, 8), dict.fromkeys(CHANNELS, (8.0, 8.0, 9.0)))


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """dicom/ (T2W, ADC and a diffusion series of b 50 and 800), picai/ (the same as .mha), findings.csv."""
    root = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    values = {name: rng.integers(200, 2000, SHAPE).astype(np.uint16) for name in ("T2W", "ADC", "50", "800")}
    diffusion, common = ["DERIVED", "PRIMARY", "DIFFUSION"], {"RescaleSlope": "1.000000", "PatientID": "SECRETID"}
    for number, (name, folder, array, extra) in enumerate(
        (
            ("t2_tse_tra", "t2", values["T2W"], {}),
            ("diff_ADC", "adc", values["ADC"], {"ImageType": [*diffusion, "ADC"]}),
            ("diff", "hbv", values["50"], {"ImageType": diffusion, "private_b": b"50", "number": 3}),
            ("diff", "hbv", values["800"], {"ImageType": diffusion, "private_b": b"800 ", "number": 3, "start": 20}),
        ),
        start=1,
    ):
        number = extra.pop("number", number)
        tags = {"SeriesDescription": name, "SeriesNumber": str(number), "SeriesInstanceUID": f"1.2.{number}"}
        write_series(root / "dicom" / folder, array, AcquisitionTime=f"1{number}0000", **tags, **common, **extra)
    (root / "findings.csv").write_text("\n".join(LINES) + "\n")
    (root / "picai").mkdir()
    for name, volume in read_prostate_study(root / "dicom").case.channels.items():
        write_volume(volume, root / "picai" / f"10000_1000000_{name.lower()}.mha")
    return root


def rated(root: Path, images: str) -> list[tuple]:
    """What a table would be made of: (finding, zone, truth, position, patch) of each finding."""
    findings = read_findings(root / "findings.csv", "P")
    study = read_prostate_study(root / images, findings=findings)
    source = PatchSource(study.case, SPEC)
    return [(one.identifier, one.zone, one.significant, one.position_ras, source.patch(one)) for one in findings]


def require_equal(result: list[tuple], expected: list[tuple]) -> None:
    assert [row[:3] for row in result] == [row[:3] for row in expected]
    for row, right in zip(result, expected):
        assert np.allclose(row[3], right[3], atol=1e-3)
        assert np.allclose(row[4], right[4], atol=1e-3)


def check(root: Path, images: str, expected: list[tuple], outcome: str) -> None:
    try:
        result = rated(root, images)
    except InputError as error:
        assert outcome != SAME, f"refused without need: {error}"
        assert error.what
        assert error.remedy
        assert "SECRET" not in str(error)
        return
    assert outcome != ERROR, "read as if nothing were wrong"
    require_equal(result, expected)


def test_the_good_study_is_the_same_from_dicom_and_from_metaimages(good):
    assert [row[:3] for row in rated(good, "dicom")] == [("1", "PZ", True), ("2", "TZ", False), ("2-2", "AS", False)]
    require_equal(rated(good, "picai"), rated(good, "dicom"))
    assert sum(draws for _, _, draws in CASES.values()) >= 100


@pytest.mark.parametrize("damage", CASES, ids=lambda damage: damage.__name__)
def test_damage_ends_in_the_right_result_or_in_one_error(good, tmp_path, damage):
    images, outcome, draws = CASES[damage]
    expected = rated(good, images or "picai")
    for draw in range(draws):
        root = tmp_path / str(draw)
        root.mkdir()
        shutil.copytree(good / (images or "picai"), root / (images or "picai"))
        shutil.copy(good / "findings.csv", root)
        damage(np.random.default_rng([draw, 17]), root / images)
        check(root, images or "picai", expected, outcome)
