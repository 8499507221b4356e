"""A bundle's calibration and its ensemble: what comes back from disk, and what is refused of a stranger."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.bundle import layout
from XTLLib.bundle.calibration import Calibration, fit_calibration
from XTLLib.bundle.code import code_in
from XTLLib.bundle.export import export_bundle
from XTLLib.bundle.hashes import write_hashes
from XTLLib.bundle.importing import import_bundle
from XTLLib.bundle.load import load_bundle, read_bundle
from XTLLib.bundle.verify import verify_bundle
from XTLLib.bundle.write import write_bundle
from XTLLib.data.case import Case
from XTLLib.data.findings import read_findings_csv
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_image, write_volume
from XTLLib.data.patches import PatchSpec
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.files import sha256_of
from XTLLib.inference.classify import classify_case
from XTLLib.metrics.operating_points import OperatingPoint
from XTLLib.metrics.recalibration import Isotonic, Temperature
from XTLLib.networks.build import build_network
from XTLLib.networks.spec import NetworkSpec

SPEC = NetworkSpec(
    "classification", "squeezenet1_0", in_channels=2, conversion="inflate", patch_shape=(1, 32, 32), input_scale=2.0
)
PATCHES = PatchSpec(("T2W", "ADC"), (1, 32, 32), {"T2W": (16, 16, 3), "ADC": (64, 64, 3)}, "rank", "T2W")
POINT = OperatingPoint(
    "Youden", 0.3, 0.9, 0.8, 0.5, math.nan, (0.8, 1.0), (0.7, 0.9), (0.4, 0.6), (math.nan,) * 2, 0.95, 9
)
TEMPERATURE = Calibration("temperature", Temperature(2.0), (POINT,), 10, 4, 6, "out-of-fold scores of 3 networks")
ISOTONIC = Calibration("isotonic", Isotonic(np.array([0.1, 0.5]), np.array([0.0, 0.25])), (), 10, 4, 6, "validation")
NONE = Calibration("none", None, (POINT,), 10, 4, 6, "validation")


def _networks(count: int) -> list:
    torch.manual_seed(3)
    return [build_network(SPEC).eval() for _ in range(count)]


def _write(out: Path, members: int = 2, calibration: Calibration | None = TEMPERATURE) -> Path:
    first, *others = _networks(1 + members)
    return write_bundle(
        out, first, SPEC, "classification", patches=PATCHES, name="ratings", members=others, calibration=calibration
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return _write(tmp_path_factory.mktemp("bundles") / "ratings")


@pytest.fixture
def changed(written, tmp_path):
    """A copy of the bundle whose description was changed, with hashes that agree."""
    import shutil

    def change(edit) -> Path:
        path = Path(shutil.copytree(written, tmp_path / "changed"))
        values = json.loads((path / layout.XTL).read_text())
        edit(values)
        (path / layout.XTL).write_text(json.dumps(values))
        write_hashes(path)
        return path

    return change


@pytest.mark.parametrize("calibration", [TEMPERATURE, ISOTONIC, NONE], ids=lambda c: c.method)
def test_a_calibration_comes_back_through_json_with_the_same_values(calibration):
    text = json.dumps(calibration.to_dict(), allow_nan=False)
    back = Calibration.from_dict(json.loads(text))
    x = np.linspace(0, 1, 11)
    assert np.array_equal(back(x), calibration(x))
    assert json.dumps(back.to_dict()) == text
    assert (back.findings, back.positives, back.patients, back.source) == (10, 4, 6, calibration.source)


def test_the_maps_are_those_of_their_definitions():
    p = np.array([[0.5, 0.8, 0.0], [1.0, 0.2, 0.3]])
    odds = np.sqrt(p[0, 1] / (1 - p[0, 1]))  # a temperature of 2 takes the root of the odds
    assert TEMPERATURE(p)[0, 1] == pytest.approx(odds / (1 + odds)) and TEMPERATURE(p).shape == p.shape
    assert ISOTONIC(np.array([0.0, 0.3, 0.9])) == pytest.approx([0.0, 0.125, 0.25])
    assert np.array_equal(NONE(p), p)


def test_an_operating_point_is_found_by_the_name_of_its_rule():
    assert TEMPERATURE.point("Youden").threshold == 0.3
    with pytest.raises(InputError, match="Choose one of Youden"):
        TEMPERATURE.point("sensitivity 0.5")


def test_a_known_miscalibration_is_recovered_and_points_stand_on_calibrated_probabilities():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    truth = rng.random(logits.size) < 1 / (1 + np.exp(-logits))
    overconfident = 1 / (1 + np.exp(-3 * logits))
    patients = np.arange(logits.size) // 2
    fitted = fit_calibration("temperature", overconfident[:2000], truth[:2000], patients[:2000], "made up")
    assert fitted.map.temperature == pytest.approx(3.0, rel=0.1)
    assert (fitted.findings, fitted.positives, fitted.patients) == (2000, truth[:2000].sum(), 1000)
    assert [point.rule for point in fitted.operating_points] == ["sensitivity 0.90", "sensitivity 0.95", "Youden"]
    found = fitted.point("sensitivity 0.90")
    # Of calibrated probabilities, what is above the threshold has the mean probability as its share of positives.
    called = fitted(overconfident[:2000]) >= found.threshold
    assert truth[:2000][called].mean() == pytest.approx(found.ppv)
    assert fitted(overconfident[:2000])[called].mean() == pytest.approx(found.ppv, abs=0.03)


def _set(*path_and_value):
    *path, value = path_and_value

    def edit(values):
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("base", "edit"),
    [
        (TEMPERATURE, _set("map", "temperature", math.nan)),
        (TEMPERATURE, _set("map", "temperature", math.inf)),
        (TEMPERATURE, _set("map", "temperature", 0)),
        (TEMPERATURE, _set("map", "temperature", -1.0)),
        (TEMPERATURE, _set("map", "temperature", True)),
        (TEMPERATURE, _set("map", "temperature", "2")),
        (TEMPERATURE, _set("map", "temperature", 10**400)),
        (TEMPERATURE, _set("map", None)),
        (TEMPERATURE, _set("method", "isotonic")),
        (TEMPERATURE, _set("method", ["none"])),
        (TEMPERATURE, _set("source", "x" * 2000)),
        (TEMPERATURE, _set("source", "a\x1b[31m")),
        (TEMPERATURE, _set("findings", 2)),
        (TEMPERATURE, _set("findings", 10.0)),
        (TEMPERATURE, _set("positives", -1)),
        (TEMPERATURE, _set("more", 1)),
        (TEMPERATURE, _set("operating_points", [{}] * 100_000)),
        (TEMPERATURE, _set("operating_points", 0, "threshold", 1.5)),
        (TEMPERATURE, _set("operating_points", 0, "threshold", None)),
        (TEMPERATURE, _set("operating_points", 0, "threshold", math.nan)),
        (TEMPERATURE, _set("operating_points", 0, "sensitivity", -0.1)),
        (TEMPERATURE, _set("operating_points", 0, "sensitivity_interval", [0.9, 0.1])),
        (TEMPERATURE, _set("operating_points", 0, "sensitivity_interval", [0.9])),
        (TEMPERATURE, _set("operating_points", 0, "rule", 3)),
        (ISOTONIC, _set("map", "scores", [0.5, 0.1])),
        (ISOTONIC, _set("map", "scores", [0.1, 0.1])),
        (ISOTONIC, _set("map", "probabilities", [0.5, 0.1])),
        (ISOTONIC, _set("map", "probabilities", [0.5, 1.1])),
        (ISOTONIC, _set("map", "probabilities", [math.nan, 0.5])),
        (ISOTONIC, _set("map", "probabilities", [0.1, 0.2, 0.3])),
        (ISOTONIC, _set("map", "scores", [])),
        (ISOTONIC, _set("map", "scores", list(range(100_001)))),
        (NONE, _set("map", {"temperature": 1.0})),
    ],
)
def test_hostile_values_are_refused(base, edit):
    values = json.loads(json.dumps(base.to_dict()))
    edit(values)
    with pytest.raises(InputError):
        Calibration.from_dict(values)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["method", "map", "operating_points", "findings", "positives", "patients", "source"]),
)
def test_any_json_in_any_place_is_read_or_refused_with_one_kind_of_error(junk, key):
    try:
        back = Calibration.from_dict({**json.loads(json.dumps(TEMPERATURE.to_dict())), key: junk})
    except InputError:
        return
    assert np.isfinite(back(np.array([0.0, 0.5, 1.0]))).all()


def test_an_ensemble_comes_back_in_its_order_and_agrees_with_its_records(written):
    bundle = load_bundle(written)
    assert bundle.calibration.point("Youden").threshold == 0.3
    networks, expected = bundle.networks(), _networks(3)
    assert len(networks) == 3 and bundle.network() is networks[0]
    x = torch.rand(2, 2, 1, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(networks, expected):
            assert not ours.training
            assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert not torch.allclose(networks[0](x), networks[1](x))
    verified = verify_bundle(written)
    assert verified.agrees and not verified.notes[1:]
    readme = (written / layout.README).read_text()
    assert "3 networks" in readme and "temperature" in readme


def test_a_bundle_without_either_is_written_as_before(tmp_path):
    path = _write(tmp_path / "single", members=0, calibration=None)
    described = json.loads((path / layout.XTL).read_text())
    assert "calibration" not in described and set(described["weights"]) == {"file", "sha256"}
    bundle = load_bundle(path)
    assert bundle.calibration is None and bundle.members == () and len(bundle.networks()) == 1


@pytest.mark.parametrize(
    "calibration", [TEMPERATURE, ISOTONIC, NONE, None], ids=["temperature", "isotonic", "none", "-"]
)
def test_monai_s_workflow_gives_the_probabilities_of_xtl_classify(calibration, tmp_path):
    from monai.bundle import ConfigWorkflow

    spec = replace(SPEC, zones=True)
    torch.manual_seed(3)
    first, *others = (build_network(spec).eval() for _ in range(3))
    how = {"patches": PATCHES, "members": others, "calibration": calibration}
    path = write_bundle(tmp_path / "bundle", first, spec, "classification", **how)
    grid = Grid((9, 80, 80), np.diag([-1.0, -1.0, 3.0, 1.0]))
    rng = np.random.default_rng(0)
    for channel in PATCHES.channels:
        write_volume(Volume(rng.random(grid.shape).astype(np.float32), grid, channel), tmp_path / f"{channel}.nii.gz")
    lines = ["finding,r,a,s,zone", "1,-40,-40,12,PZ", "2,-37,-42,9,TZ", "3,-44,-36,15,"]
    (tmp_path / "findings.csv").write_text("\n".join(lines) + "\n")
    files = {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path / "out"), "bundle_root": str(path)}
    workflow = ConfigWorkflow(config_file=str(path / layout.INFERENCE), workflow_type="infer", **files)
    workflow.initialize()
    workflow.run()
    rows = json.loads((tmp_path / "out" / "lesions.json").read_text())["rows"]

    findings = tuple(finding for _, finding in read_findings_csv(tmp_path / "findings.csv"))
    channels = {name: read_image(tmp_path / f"{name}.nii.gz") for name in PATCHES.channels}
    rated = classify_case(Case("p", channels, "T2W", findings=findings), load_bundle(path), device="cpu").findings
    expected = [one.probability for one in rated]
    assert [row["probability"] for row in rows] == pytest.approx(expected, abs=2e-4)
    if calibration in (TEMPERATURE, ISOTONIC):
        assert expected != pytest.approx([one.raw_probability for one in rated], abs=2e-3)


def test_a_configuration_of_before_which_ran_the_first_network_alone_is_still_trusted(written, tmp_path):
    import shutil

    path = Path(shutil.copytree(written, tmp_path / "earlier"))
    config = json.loads((path / layout.INFERENCE).read_text())
    assert len(config["inferer"]["members"]) == 2 and "calibration" in config["inferer"]
    config["inferer"] = {key: config["inferer"][key] for key in ("_target_", "batch")}
    (path / layout.INFERENCE).write_text(json.dumps(config))
    write_hashes(path)
    assert code_in(path) == ()
    config["inferer"]["members"] = ["$__import__('os').getcwd()"]
    (path / layout.INFERENCE).write_text(json.dumps(config))
    assert "getcwd" in str(code_in(path))


def test_an_ensemble_goes_through_export_and_import(written, tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    export_bundle(written, tmp_path / "out.zip", "zip")
    imported = import_bundle(tmp_path / "out.zip", name="again")
    bundle = load_bundle(imported.path)
    assert len(bundle.networks()) == 3 and bundle.calibration.method == "temperature"
    assert code_in(imported.path) == ()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_set("weights", "members", 0, "file", "../member-2.pt"), "said to be in"),
        (_set("weights", "members", 0, "file", "/etc/passwd"), "said to be in"),
        (_set("weights", "members", 0, "file", layout.WEIGHTS), "said to be in"),
        (_set("weights", "members", 1, "file", "models/member-2.pt"), "said to be in"),
        (_set("weights", "members", 0, "file", ["models/member-2.pt"]), "said to be in"),
        (_set("weights", "members", 0, "sha256", None), "no hash"),
        (_set("weights", "members", 0, "sha256", "0" * 64), "not those that the bundle was written with"),
        (_set("weights", "members", 0, {}), "not as XTL writes it"),
        (_set("weights", "members", "models/member-2.pt"), "no list"),
        (_set("weights", "members", [{"file": "models/member-2.pt", "sha256": ""}] * 1000), "no list"),
        (_set("calibration", "map", "temperature", -2), "a temperature of"),
        (_set("calibration", []), "no set of keys"),
        (_set("calibration", "source", "$import os"), "MONAI would execute"),
    ],
)
def test_a_hostile_description_of_an_ensemble_is_refused(changed, edit, words):
    path = changed(edit)
    with pytest.raises(InputError, match=words):
        load_bundle(path)
    assert not verify_bundle(path).agrees


def test_a_member_that_is_gone_changed_or_not_listed_is_told(changed):
    path = changed(lambda values: values["weights"]["members"].pop())
    # Nobody reads the third network now: it is a file whose purpose nobody knows.
    assert any("member-3.pt" in words for words in code_in(path))
    (path / "models" / "member-2.pt").unlink()
    with pytest.raises(InputError, match=r"member-2\.pt is missing"):
        read_bundle(path)


def test_a_member_of_another_network_or_with_nan_is_refused(changed, tmp_path):
    state = _networks(1)[0].state_dict()
    state["head.linear.bias"] = state["head.linear.bias"] * math.nan
    torch.save(state, tmp_path / "member.pt")
    path = changed(_set("weights", "members", 0, "sha256", sha256_of(tmp_path / "member.pt")))
    (path / "models" / "member-2.pt").write_bytes((tmp_path / "member.pt").read_bytes())
    with pytest.raises(InputError, match="NaN"):
        load_bundle(path)


def test_what_would_not_be_read_is_not_written(tmp_path):
    network, other = _networks(1)[0], build_network(NetworkSpec(**{**SPEC.to_dict(), "backbone": "resnet18"}))
    with pytest.raises(InputError, match="differs from the first"):
        write_bundle(tmp_path / "a", network, SPEC, "classification", patches=PATCHES, members=[other])
    with pytest.raises(InputError, match="at most 20"):
        write_bundle(tmp_path / "a", network, SPEC, "classification", patches=PATCHES, members=[network] * 20)
    wrong = Calibration("temperature", Temperature(math.nan), (), 1, 1, 1, "")
    with pytest.raises(InputError, match="temperature"):
        write_bundle(tmp_path / "a", network, SPEC, "classification", patches=PATCHES, calibration=wrong)
    assert not (tmp_path / "a").exists()
