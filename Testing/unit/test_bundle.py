"""A bundle as MONAI publishes it: its fields, its tools, its checks, and the same mask from either side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from XTLLib.bundle import layout
from XTLLib.bundle.library import list_models, models_folder
from XTLLib.bundle.load import load_bundle, read_bundle
from XTLLib.bundle.write import write_bundle
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_volume, write_volume
from XTLLib.data.patches import PatchSpec
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.classify import rate_patches
from XTLLib.inference.segment import segment_case
from XTLLib.networks.build import build_network
from XTLLib.networks.spec import NetworkSpec

# The fields that MONAI's bundle specification requires of metadata.json and of every tensor in it, and
# their JSON types (docs.monai.io, mb_specification; schema of 2024-07-25).
REQUIRED = {
    "schema": "string",
    "version": "string",
    "monai_version": "string",
    "pytorch_version": "string",
    "numpy_version": "string",
    "required_packages_version": "object",
    "task": "string",
    "description": "string",
    "authors": "string",
    "copyright": "string",
    "network_data_format": "object",
}
OPTIONAL = {"changelog": "object", "intended_use": "string", "references": "array", "name": "string"}
TENSOR = {
    "type": "string",
    "format": "string",
    "modality": "string",
    "num_channels": "integer",
    "spatial_shape": "array",
    "dtype": "string",
    "value_range": "array",
    "is_patch_data": "boolean",
    "channel_def": "object",
}

SPEC = NetworkSpec("segmentation", "squeezenet1_0", in_channels=2, conversion="inflate", patch_shape=(32, 32, 32))
PATCH_SPEC = NetworkSpec(
    "classification", "squeezenet1_0", in_channels=2, conversion="inflate", patch_shape=(1, 32, 32), input_scale=2.0
)
PATCHES = PatchSpec(("T2W", "ADC"), (1, 32, 32), {"T2W": (16, 16, 3), "ADC": (64, 64, 3)}, "rank", "T2W")
PROVENANCE = {
    "format": 1,
    "name": "XTL",
    "backbone": "squeezenet1_0",
    "stages": [
        {"kind": "initialisation", "source": {"source": "/home/someone/weights.pth", "licence": "BSD"}},
        {"kind": "intermediate", "datalist": {"name": "films", "layout": "mias", "licence": "research only"}},
        {"kind": "target", "datalist": {"name": "ms", "layout": "open-ms", "licence": "CC BY 4.0"}},
    ],
}


def _write(out: Path, threshold: float = 0.5, spec: NetworkSpec = SPEC) -> Path:
    torch.manual_seed(3)
    network = build_network(spec)
    if spec.kind == "segmentation":
        how = {"preparation": Preparation(("FLAIR", "T1"), "FLAIR"), "task": "segmentation"}
    else:
        how = {"patches": PATCHES, "task": "classification"}
    post = {"threshold": threshold, "minimum_volume_mm3": 20.0}
    return write_bundle(out, network, spec, **how, postprocessing=post, provenance=PROVENANCE, name="tiny")


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory) -> Path:
    return _write(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def damaged(bundle_path, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(bundle_path, tmp_path / "damaged"))


def _schema() -> dict:
    """A JSON schema of the published field list."""
    typed = {name: {"type": kind} for name, kind in TENSOR.items()}
    typed["spatial_shape"]["items"] = {"type": ["string", "integer"]}
    typed["value_range"]["items"] = {"type": "number"}
    tensors = {"additionalProperties": {"type": "object", "properties": typed, "required": list(TENSOR)}}
    properties = {name: {"type": kind} for name, kind in {**REQUIRED, **OPTIONAL}.items()}
    properties["network_data_format"] = {
        "type": "object",
        "properties": {"inputs": tensors, "outputs": tensors, "post_processed_outputs": tensors},
        "required": ["inputs", "outputs"],
    }
    return {"type": "object", "properties": properties, "required": list(REQUIRED)}


@pytest.mark.parametrize("spec", [SPEC, PATCH_SPEC], ids=["segmentation", "classification"])
def test_metadata_is_verified_by_monai(spec, tmp_path):
    pytest.importorskip("jsonschema")
    from monai.bundle import verify_metadata, verify_net_in_out

    path = _write(tmp_path / "bundle", spec=spec)
    # MONAI takes a schema that already lies at ``filepath`` instead of fetching it.
    (tmp_path / "schema.json").write_text(json.dumps(_schema()))
    verify_metadata(meta_file=str(path / layout.METADATA), filepath=str(tmp_path / "schema.json"))
    verify_net_in_out(
        net_id="network_def", meta_file=str(path / layout.METADATA), config_file=str(path / layout.INFERENCE)
    )
    broken = json.loads((path / layout.METADATA).read_text())
    del broken["network_data_format"]["inputs"]["image"]["num_channels"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="num_channels"):
        verify_metadata(meta_file=str(tmp_path / "broken.json"), filepath=str(tmp_path / "schema.json"))


@pytest.mark.parametrize("spec", [SPEC, PATCH_SPEC], ids=["segmentation", "classification"])
def test_a_bundle_comes_back_as_it_was_written(spec, tmp_path):
    path = _write(tmp_path / "bundle", 0.4, spec)
    bundle = load_bundle(path)
    assert (bundle.name, bundle.task, bundle.spec) == ("tiny", spec.kind, spec)
    assert (bundle.threshold, bundle.minimum_volume_mm3) == (0.4, 20.0)
    assert bundle.channels == (("FLAIR", "T1") if spec is SPEC else ("T2W", "ADC"))
    assert bundle.patch_spec == (None if spec is SPEC else PATCHES)
    assert bundle.preparation == (Preparation(("FLAIR", "T1"), "FLAIR") if spec is SPEC else None)
    torch.manual_seed(3)
    before, after = build_network(spec).eval(), bundle.network("cpu")
    assert not after.training
    x = torch.randn(1, 2, *(spec.patch_shape))
    with torch.no_grad():
        expected = before(x)
        assert float((after(x) - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_monais_field_list_is_covered_and_the_folder_is_as_specified(bundle_path):
    for file in ("LICENSE", "configs/metadata.json", "models/model.pt", "docs/README.md", "configs/inference.json"):
        assert (bundle_path / file).is_file()
    metadata = json.loads((bundle_path / layout.METADATA).read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["channel_def"] == {"0": "FLAIR", "1": "T1"}
    assert "not a medical device" in metadata["intended_use"]
    licence = (bundle_path / "LICENSE").read_text()
    assert "research only" in licence and "CC BY 4.0" in licence


def test_a_bundle_tells_nothing_about_the_machine_it_was_made_on(bundle_path):
    for file in bundle_path.rglob("*"):
        if file.suffix in (".json", ".md") or file.name == "LICENSE":
            text = file.read_text()
            assert "/home/someone" not in text and str(bundle_path.parent) not in text
    chain = json.loads((bundle_path / layout.CHAIN).read_text())
    assert chain["stages"][0]["source"]["source"] == "weights.pth"


def test_weights_are_a_plain_state_dict_in_the_default_layout(bundle_path):
    state = torch.load(bundle_path / layout.WEIGHTS, weights_only=True)
    assert all(isinstance(value, torch.Tensor) and value.is_contiguous() for value in state.values())


def test_loading_shifts_no_random_numbers(bundle_path):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_bundle(bundle_path)
    assert torch.rand(1) == expected


def _edit(path: Path, change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def _put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(values):
        for key in keys:
            values = values[key]
        values[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_put("format", 99), "format 99"),
        (_put("task", "astrology"), "astrology"),
        (_put("network", "backbone", "resnet99"), "resnet99"),
        (_put("network", "in_channels", 3), "3 channels"),
        (_put("network", "wings", 2), "wings"),
        (_put("preparation", "reference", "T2"), "T2"),
        (_put("preparation", None), "xtl.json"),
        (_put("postprocessing", "threshold", 7), "threshold of 7"),
        (_put("postprocessing", {}), "xtl.json"),
        (_put("weights", {}), "xtl.json"),
        (_put("network", "backbone", "resnet18"), "do not fit"),
        (_put("weights", "sha256", "0" * 64), "not those"),
    ],
)
def test_a_description_that_is_wrong_is_named(damaged, change, words):
    _edit(damaged / layout.XTL, change)
    with pytest.raises(InputError, match=words):
        load_bundle(damaged)


@pytest.mark.parametrize("file", layout.REQUIRED)
def test_a_missing_file_is_named(damaged, file):
    (damaged / file).unlink()
    with pytest.raises(InputError, match=file):
        load_bundle(damaged)


@pytest.mark.parametrize("file", [layout.METADATA, layout.INFERENCE, layout.CHAIN, layout.XTL])
def test_broken_json_is_named(damaged, file):
    text = (damaged / file).read_text()
    (damaged / file).write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=rf"{file} is broken JSON"):
        load_bundle(damaged)


def _use_weights(folder: Path, save) -> None:
    import hashlib

    save(folder / layout.WEIGHTS)
    digest = hashlib.sha256((folder / layout.WEIGHTS).read_bytes()).hexdigest()
    _edit(folder / layout.XTL, _put("weights", "sha256", digest))


class _Code:
    def __reduce__(self):
        return os.system, ("false",)


def test_weights_that_are_no_state_dict_are_refused(damaged):
    whole = (damaged / layout.WEIGHTS).read_bytes()
    good = torch.load(damaged / layout.WEIGHTS, weights_only=True)
    first = next(iter(good))
    for save, words in (
        (lambda path: path.write_bytes(whole[: len(whole) // 2]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_text("not weights"), "damaged"),
        (lambda path: torch.save(_Code(), path), "damaged or no plain"),
        (lambda path: torch.save([1, 2], path), "no plain state dict"),
        (lambda path: torch.save({"state_dict": good}, path), "no plain state dict"),
        (lambda path: torch.save({**good, first: torch.full_like(good[first], torch.nan)}, path), "NaN"),
        (lambda path: torch.save({**good, "extra": torch.zeros(1)}, path), "1 unexpected"),
    ):
        _use_weights(damaged, save)
        with pytest.raises(InputError, match=words):
            load_bundle(damaged)


def test_changed_weights_are_noticed(damaged):
    with open(damaged / layout.WEIGHTS, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(InputError, match="not those"):
        load_bundle(damaged)
    read_bundle(damaged)  # the description alone is fine


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        load_bundle(tmp_path / "nothing")
    with pytest.raises(InputError, match="lacks"):
        load_bundle(tmp_path)


def test_parts_that_do_not_belong_together_are_not_written(tmp_path):
    network = build_network(SPEC)
    preparation = Preparation(("FLAIR",), "FLAIR")
    with pytest.raises(InputError, match="2 channels"):
        write_bundle(tmp_path / "b", network, SPEC, "segmentation", preparation)
    with pytest.raises(InputError, match="segmentation"):
        write_bundle(tmp_path / "b", network, SPEC, "classification", preparation)
    with pytest.raises(InputError, match="threshold"):
        write_bundle(
            tmp_path / "b",
            network,
            SPEC,
            "segmentation",
            Preparation(("FLAIR", "T1"), "FLAIR"),
            postprocessing={"threshold": 0},
        )
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_dies_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("XTLLib.bundle.write.readme_text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _write(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_the_library_lists_bundles_and_says_what_is_wrong_with_others(tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path))
    assert list_models() == ()
    _write(models_folder() / "tiny")
    (models_folder() / "broken" / "configs").mkdir(parents=True)
    broken, good = list_models()
    assert good.name == "tiny" and good.task == "segmentation"
    assert good.chain == "weights.pth -> films intermediate -> ms target"
    assert "lacks" in broken.problem and "cannot be used" in str(broken)
    assert "tiny" in str(good)


def _case_files(folder: Path) -> Case:
    generator = np.random.default_rng(0)
    channels = {}
    for number, name in enumerate(("FLAIR", "T1")):
        affine = np.diag([-1.5, 1.5, 2.0 - 0.3 * number, 1.0])
        affine[:3, 3] = (20, -18, -16)
        shape = (18 + 2 * number, 26, 28)
        grid = Grid(shape, affine)
        points = grid.index_to_ras(np.moveaxis(np.indices(shape)[::-1], 0, -1))
        centre = grid.index_to_ras((np.array(shape[::-1]) - 1) / 2)
        head = np.linalg.norm(points - centre, axis=-1) < 15
        array = np.where(head, generator.normal(100, 20, shape), 0).astype(np.float32)
        write_volume(Volume(array, grid), folder / f"{name}.nii.gz")
        channels[name] = read_volume(folder / f"{name}.nii.gz")
    return Case("p", channels, "FLAIR")


def test_monai_bundle_run_gives_the_mask_of_segment_case(tmp_path):
    pytest.importorskip("fire")
    case = _case_files(tmp_path)
    path = _write(tmp_path / "first")
    values = segment_case(case, load_bundle(path), device="cpu").probability.array
    path = _write(tmp_path / "bundle", threshold=round(float(np.quantile(values[values > 0], 0.7)), 6))
    expected = segment_case(case, load_bundle(path), device="cpu")
    assert len(expected.lesions) > 0 and expected.label.array.any() and not expected.label.array.all()
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(path / layout.INFERENCE)]
    command += ["--bundle_root", str(path), "--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    label = read_volume(tmp_path / "out" / "labelmap.nii.gz")
    np.testing.assert_array_equal(label.array, expected.label.array)
    assert label.grid.matches(expected.label.grid, 1e-3)
    assert len((tmp_path / "out" / "lesions.tsv").read_text().splitlines()) == len(expected.lesions) + 1


def test_the_classification_configuration_runs_in_monais_workflow(tmp_path):
    from monai.bundle import ConfigWorkflow

    path = _write(tmp_path / "bundle", spec=PATCH_SPEC)
    case = _case_files(tmp_path)
    for name, source in (("T2W", "FLAIR"), ("ADC", "T1")):
        (tmp_path / f"{source}.nii.gz").rename(tmp_path / f"{name}.nii.gz")
    r, a, s = case.grid.index_to_ras((np.array(case.grid.shape[::-1]) - 1) / 2)
    (tmp_path / "findings.csv").write_text(f"finding,r,a,s\none,{r},{a},{s}\ntwo,{r + 4},{a},{s}\n")
    workflow = ConfigWorkflow(
        config_file=str(path / layout.INFERENCE),
        workflow_type="infer",
        bundle_root=str(path),
        dataset_dir=str(tmp_path),
        output_dir=str(tmp_path / "out"),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    rows = json.loads((tmp_path / "out" / "lesions.json").read_text())["rows"]
    assert [row["finding"] for row in rows] == ["one", "two"]
    assert all(0 < row["probability"] < 1 for row in rows)


def test_ratings_of_a_written_bundle_are_those_of_its_network(tmp_path):
    bundle = load_bundle(_write(tmp_path / "bundle", spec=PATCH_SPEC))
    patches = np.random.default_rng(0).random((3, 2, 1, 32, 32)).astype(np.float32)
    torch.manual_seed(3)
    with torch.no_grad():
        expected = torch.sigmoid(build_network(PATCH_SPEC).eval()(torch.from_numpy(patches)))[:, 0]
    np.testing.assert_allclose(rate_patches(bundle, patches, device="cpu"), expected.numpy(), atol=1e-5)
