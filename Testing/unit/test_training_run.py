"""Whole chains on tiny images: bundle, resume, cache, what TL and XTL share, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toys import write_toy_mammograms, write_toy_patches, write_toy_volumes
from XTLLib.data.datalist import Datalist
from XTLLib.errors import Cancelled, InputError
from XTLLib.progress import Progress
from XTLLib.training.run import run_chain
from XTLLib.training.seeds import derive
from XTLLib.training.stages import calibrate, hold_out, make_network, prepare_stage
from XTLLib.transfer.chain import Chain, chain_from_dict


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lists(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("toys")
    return SimpleNamespace(
        volumes=write_toy_volumes(folder / "volumes"),
        mammograms=write_toy_mammograms(folder / "mammograms"),
        patches=write_toy_patches(folder / "patches"),
    )


def segmentation(lists, **training) -> dict:
    settings = {"steps": 12, "learning_rate": 3e-3, "encoder_rate": 1, **training}
    return {
        "kind": "target",
        "task": "segmentation",
        "datalist": str(lists.volumes),
        "channels": ["FLAIR", "T1"],
        "window": [16, 16, 16],
        "training": settings,
    }


def classification(lists, **training) -> dict:
    return {
        "kind": "target",
        "task": "classification",
        "datalist": str(lists.patches),
        "channels": ["T2W", "ADC", "HBV"],
        "training": {"epochs": 2, "batch_size": 6, "validation": 0, **training},
    }


def chain(lists, target: dict, backbone: str = "squeezenet1_0", **changes) -> Chain:
    stages = [
        {"kind": "initialisation", "weights": "random"},
        {
            "kind": "intermediate",
            "task": "mammogram-classification",
            "datalist": str(lists.mammograms),
            "image_size": 64,
            "training": {"epochs": 2, "batch_size": 4},
        },
        target,
    ]
    return chain_from_dict({"name": "xtl-toy", "seed": 1, "backbone": backbone, "stages": stages, **changes})


def model_of(bundle: Path) -> dict[str, torch.Tensor]:
    return torch.load(bundle / "models" / "model.pt", weights_only=True)


def stop_in(stage: str, reports: int) -> Progress:
    """Progress that is cancelled after some reports of the stage."""
    seen = []

    def is_cancelled() -> bool:
        return sum(stage in event.stage for event in seen) >= reports

    return Progress(seen.append, is_cancelled)


def test_a_segmentation_chain_learns_and_leaves_a_bundle(lists, tmp_path):
    events = []
    result = run_chain(
        chain(lists, segmentation(lists, steps=40)).without_intermediate(),
        tmp_path / "out",
        progress=Progress(events.append),
    )
    record = result.stages[-1]
    dice = record.metrics["validation Dice"]
    assert dice.low <= dice.value <= dice.high and dice.count == 1 and dice.value > 0.5
    assert record.metrics["last loss"] < 0.7 * record.metrics["first loss"]
    assert 0 < record.metrics["threshold"] < 1
    assert record.datalist.training == 2 and record.datalist.validation == 1
    assert record.conversion["rule"] == "inflate" and record.conversion["max_relative_error"] < 1e-3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bundle", "chain.json", "metrics.json", "stages"}
    files = {path.name for path in (tmp_path / "out" / "stages" / "01-target").iterdir()}
    assert files == {"checkpoint.pt", "weights.pt", "record.json", "log.tsv", "events"}
    provenance = json.loads((result.bundle / "configs" / "chain.json").read_text())
    assert provenance == json.loads(json.dumps(result.record.to_dict()))
    assert [event.fraction for event in events] == sorted(event.fraction for event in events)
    assert events[-1].fraction == 1.0


def test_the_bundle_segments_as_the_network_did(lists, tmp_path):
    from XTLLib.bundle.load import load_bundle

    result = run_chain(chain(lists, segmentation(lists)).without_intermediate(), tmp_path / "out")
    bundle = load_bundle(result.bundle)
    assert bundle.channels == ("FLAIR", "T1") and bundle.threshold == result.stages[-1].metrics["threshold"]
    assert bundle.minimum_volume_mm3 == 3.0
    kept = torch.load(tmp_path / "out" / "stages" / "01-target" / "weights.pt", weights_only=True)
    for name, value in bundle.network("cpu").state_dict().items():
        assert torch.equal(value, kept[name]), name


@pytest.mark.parametrize("stage", ["Mammogram classification", "MS segmentation"])
def test_interrupted_and_resumed_equals_uninterrupted(lists, tmp_path, stage):
    asked = chain(lists, segmentation(lists))
    whole = run_chain(asked, tmp_path / "whole")
    with pytest.raises(Cancelled):
        run_chain(asked, tmp_path / "parts", progress=stop_in(stage, 3))
    assert not (tmp_path / "parts" / "bundle").exists()
    assert list((tmp_path / "parts").glob("stages/*/checkpoint.pt"))
    resumed = run_chain(asked, tmp_path / "parts", resume=True)
    expected, found = model_of(whole.bundle), model_of(resumed.bundle)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for log in ("01-intermediate/log.tsv", "02-target/log.tsv"):
        assert (tmp_path / "whole/stages" / log).read_text() == (tmp_path / "parts/stages" / log).read_text()
    assert [s.weights_out for s in whole.stages] == [s.weights_out for s in resumed.stages]


def test_a_finished_chain_is_not_run_again(lists, tmp_path):
    asked = chain(lists, classification(lists))
    first = run_chain(asked, tmp_path / "out")
    events = []
    again = run_chain(asked, tmp_path / "out", resume=True, progress=Progress(events.append))
    assert again.record == first.record
    assert not any("training" in event.stage or "Preparing" in event.stage for event in events)


def test_weights_are_handed_on_from_stage_to_stage(lists, tmp_path):
    first, second, third = run_chain(chain(lists, classification(lists)), tmp_path / "out").stages
    assert first.weights_out == second.weights_in != second.weights_out == third.weights_in


def test_the_output_folder_must_be_new_or_hold_this_chain(lists, tmp_path):
    asked = chain(lists, classification(lists)).without_intermediate()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    with pytest.raises(InputError, match="holds files, but no chain"):
        run_chain(asked, tmp_path / "taken", resume=True)
    with pytest.raises(Cancelled):
        run_chain(asked, tmp_path / "out", progress=stop_in("Prostate", 1))
    with pytest.raises(InputError, match=r"holds a chain already.*--resume"):
        run_chain(asked, tmp_path / "out")
    with pytest.raises(InputError, match=r"another chain \(different: seed, stages\[1\]\.training\.epochs\)"):
        other = chain(lists, classification(lists, epochs=3), seed=2, name="tl-toy").without_intermediate()
        run_chain(other.model_copy(update={"name": asked.name}), tmp_path / "out", resume=True)


def test_a_finished_mammogram_stage_is_shared_through_the_cache(lists, tmp_path):
    cache = tmp_path / "cache"
    first = run_chain(chain(lists, classification(lists)), tmp_path / "a", stage_cache=cache)
    events = []
    second = run_chain(
        chain(lists, segmentation(lists, steps=2)), tmp_path / "b", stage_cache=cache, progress=Progress(events.append)
    )
    assert second.stages[1] == first.stages[1]
    assert not any("ammogram" in event.stage for event in events)
    other_seed = run_chain(chain(lists, classification(lists), seed=2), tmp_path / "c", stage_cache=cache)
    assert other_seed.stages[1].key != first.stages[1].key
    fresh = run_chain(chain(lists, classification(lists)), tmp_path / "d")
    assert model_of(fresh.bundle).keys() == model_of(first.bundle).keys()
    assert all(torch.equal(value, model_of(first.bundle)[name]) for name, value in model_of(fresh.bundle).items())


def test_tl_and_xtl_share_new_layers_and_draws(lists):
    from XTLLib.networks.backbones import build_backbone

    asked = chain(lists, segmentation(lists))
    datalist, seed = Datalist.load(lists.volumes), derive(asked.seed, "target")
    torch.manual_seed(0)
    stages = [
        prepare_stage(
            asked,
            asked.target,
            datalist,
            build_backbone(asked.backbone),
            is_learned=True,
            seed=seed,
            progress=Progress(),
        )
        for _ in range(2)
    ]
    first, second = (stage.network.state_dict() for stage in stages)
    decoder = [name for name in first if name.startswith("decoder")]
    assert decoder and all(torch.equal(first[name], second[name]) for name in decoder)
    assert not all(torch.equal(first[name], second[name]) for name in first)
    for step in (0, 7):
        assert all(torch.equal(a, b) for a, b in zip(stages[0].task.batch(step), stages[1].task.batch(step)))


def test_training_never_looks_at_the_test_part(lists, tmp_path):
    datalist = Datalist.load(lists.patches)
    (tmp_path / "garbage.npz").write_text("not an array")
    spoilt = tuple(
        replace(entry, images=dict.fromkeys(entry.images, str(tmp_path / "garbage.npz")))
        for entry in datalist.training[-4:]
    )
    fold = replace(datalist, training=datalist.training[:-4], test=spoilt)
    result = run_chain(
        chain(lists, classification(lists)).without_intermediate(), tmp_path / "out", target_datalist=fold
    )
    assert result.stages[-1].datalist.entries == len(datalist.training) - 4


def test_a_patient_of_an_earlier_stage_cannot_be_a_test_patient(lists, tmp_path):
    mammograms, patches = Datalist.load(lists.mammograms), Datalist.load(lists.patches)
    same = {"name": mammograms.name, "layout": mammograms.layout}
    test = tuple(replace(entry, patient="m3") for entry in patches.training[:1])
    target = replace(patches, **same, training=patches.training[1:], test=test)
    with pytest.raises(InputError, match="1 validation or test patient of stage 2"):
        run_chain(chain(lists, classification(lists)), tmp_path / "out", target_datalist=target)
    assert not (tmp_path / "out").exists()


def test_datalists_that_do_not_fit_are_refused_before_anything_is_written(lists, tmp_path):
    wrong_task = {**classification(lists), "datalist": str(lists.volumes)}
    with pytest.raises(InputError, match="is for classification, its datalist toy volumes is for segmentation"):
        run_chain(chain(lists, wrong_task), tmp_path / "out")
    with pytest.raises(InputError, match="needs the channel PD"):
        run_chain(chain(lists, {**segmentation(lists), "channels": ["FLAIR", "PD"]}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_patient_trains_without_validation_and_says_so(lists):
    datalist = Datalist.load(lists.volumes)
    single, note = hold_out(replace(datalist, training=datalist.training[:1], validation=()), 0.2, 0)
    assert not single.validation and "1 training patients are too few" in note
    _, note = hold_out(replace(datalist, validation=()), 0.0, 0)
    assert "validation is 0" in note
    held, note = hold_out(Datalist.load(lists.mammograms), 0.2, 0)
    assert len(held.validation) == 2 and note is None
    kept, note = hold_out(datalist, 0.5, 0)
    assert kept == datalist and note is None


def test_probabilities_speak_of_the_share_of_positives():
    from XTLLib.networks.backbones import build_backbone
    from XTLLib.networks.spec import NetworkSpec

    spec = NetworkSpec("mammogram-classification", "squeezenet1_0")
    network, _ = make_network(spec, build_backbone("squeezenet1_0"), 0)
    with torch.no_grad():
        network.head.linear.weight.zero_()
        network.head.linear.bias.zero_()  # the optimum of a balanced loss on features that say nothing
    threshold = calibrate(network, SimpleNamespace(class_weight=3.0))  # 1 positive in 4
    assert torch.sigmoid(network.eval()(torch.zeros(1, 3, 64, 64))).item() == pytest.approx(0.25)
    assert threshold == pytest.approx(0.25)


@pytest.mark.parametrize(("policy", "mean_moves"), [("frozen", False), ("train", True)])
def test_batchnorm_statistics_follow_the_images_unless_frozen(lists, policy, mean_moves):
    from XTLLib.networks.backbones import build_backbone
    from XTLLib.networks.normalisation import batchnorms

    target = classification(lists, batchnorm=policy)
    asked = chain(lists, target, backbone="mobilenet_v2")
    backbone = build_backbone("mobilenet_v2")
    stage = prepare_stage(
        asked, asked.target, Datalist.load(lists.patches), backbone, is_learned=True, seed=0, progress=Progress()
    )
    norm = batchnorms(stage.network.backbone)[0]
    before = norm.running_mean.clone()
    stage.network.train()(stage.task.batch(0)[0])
    assert torch.equal(before, norm.running_mean) != mean_moves
    assert any("folded" in note for note in stage.notes) == mean_moves


def test_regions_show_the_marked_abnormality_or_normal_breast(lists):
    from XTLLib.networks.backbones import build_backbone

    datalist = Datalist.load(lists.mammograms)
    unmarked = replace(datalist.training[1], attributes={})
    datalist = replace(datalist, training=(datalist.training[0], unmarked, *datalist.training[2:]))
    whole = chain(lists, segmentation(lists))
    asked = whole.intermediates[0].model_copy(update={"region": 32})
    training = asked.training.model_copy(update={"augmentation": False, "validation": 0.4})
    stage = prepare_stage(
        whole,
        asked.model_copy(update={"training": training}),
        datalist,
        build_backbone("squeezenet1_0"),
        is_learned=False,
        seed=0,
        progress=Progress(),
    )
    assert any("1 abnormal films without a mark were left out" in note for note in stage.notes)
    images, truth = stage.task.batch(0)
    assert images.shape[1:] == (3, 32, 32)
    middle = images[:, 0, 14:18, 14:18].mean((1, 2))
    assert (middle[truth[:, 0] == 1] > 2).all()  # the spot, in SD of the breast
    assert (middle[truth[:, 0] == 0] < 1).all()
    assert torch.equal(images, stage.task.batch(0)[0])
    bare = replace(datalist, training=tuple(replace(entry, attributes={}) for entry in datalist.training))
    with pytest.raises(InputError, match="no abnormality is marked"):
        prepare_stage(
            whole, asked, bare, build_backbone("squeezenet1_0"), is_learned=False, seed=0, progress=Progress()
        )


def test_regions_lie_on_masks_where_there_are_no_circles(lists, tmp_path):
    import SimpleITK
    from XTLLib.data.mammogram import read_mammogram
    from XTLLib.data.mammogram_entries import circles_of
    from XTLLib.training.mammograms import _marks

    entry = Datalist.load(lists.mammograms).training[1]
    film, (row, column, radius) = read_mammogram(entry.images["MG"]), circles_of(entry)[0]
    rows, columns = np.mgrid[: film.shape[0], : film.shape[1]]
    mask = (np.hypot(rows - row, columns - column) <= radius).astype(np.uint8) * 255
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask), str(tmp_path / "mask.png"))
    masked = replace(entry, attributes={}, further_masks=(str(tmp_path / "mask.png"),))
    assert _marks(masked, 64) == pytest.approx(_marks(entry, 64), abs=0.5)


def test_a_region_larger_than_its_image_is_refused(lists):
    values = chain(lists, segmentation(lists)).model_dump()
    values["stages"][1]["region"] = 96
    with pytest.raises(InputError, match="a region of 96 pixels in an image of 64"):
        chain_from_dict(values)


@pytest.mark.real
def test_real_weights_and_patches_go_through_a_step(lists, tmp_path, real_data):
    from XTLLib.data.layouts import read_layout

    datalist = read_layout("prostatex-patches", real_data / "prostate" / "prostatex_patches")
    few = replace(datalist, training=datalist.training[:24])
    stages = [
        {"kind": "initialisation", "weights": str(real_data / "weights" / "mobilenet_v2_imagenet_fp16.pth")},
        classification(lists, epochs=1, batch_size=12),
    ]
    asked = chain_from_dict({"name": "tl-prostate", "stages": stages})
    result = run_chain(asked, tmp_path / "out", target_datalist=few)
    assert result.stages[0].source["folded_batchnorm"] and result.stages[1].conversion["max_relative_error"] < 1e-3
    assert result.bundle.is_dir()
