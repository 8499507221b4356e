"""Chains of every kind of stage: what travels, what is carried on, conversions, controls, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toys import (
    write_patterned_mammograms,
    write_patterned_volumes,
    write_toy_mammograms,
    write_toy_patches,
    write_toy_volumes,
)
from XTLLib.bundle.load import load_bundle
from XTLLib.data.datalist import Datalist
from XTLLib.errors import Cancelled, InputError
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.native import native_backbone
from XTLLib.progress import Progress
from XTLLib.training.carried_decoder import carry_decoder
from XTLLib.training.run import run_chain
from XTLLib.training.run_folder import load_datalists
from XTLLib.training.stages import PreparedStage, prepare_stage
from XTLLib.transfer.chain import Chain, chain_from_dict, load_chain

CHAINS = Path(__file__).resolve().parents[2] / "Resources" / "Chains"
CONVERSIONS = ("inflate", "centre-slice", "acs", "soft-acs", "mean-acs", "slice-stack", "slice-encoder")


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
    films = Datalist.load(write_toy_mammograms(folder / "films", patients=12))
    three = {"0": "none", "1": "one", "2": "two"}
    classes = tuple(replace(entry, label=number % 3) for number, entry in enumerate(films.training))
    replace(films, name="three classes", labels=three, training=classes).save(folder / "classes.json")
    marked = replace(films, name="marked films", task="mammogram-segmentation", labels={"0": "no", "1": "yes"})
    marked.save(folder / "marked.json")
    return SimpleNamespace(
        volumes=write_toy_volumes(folder / "volumes", training=2, validation=1),
        films=folder / "films" / "mammograms.json",
        patches=write_toy_patches(folder / "patches"),
        classes=folder / "classes.json",
        marked=folder / "marked.json",
        bare_volumes=write_patterned_volumes(folder / "bare volumes", training=2, validation=2, size=16),
        bare_films=write_patterned_mammograms(folder / "bare films", training=4, validation=4),
    )


# --- stages -------------------------------------------------------------------------------------------


def start(weights: str = "random", **more) -> dict:
    return {"kind": "initialisation", "weights": weights, **more}


def self_supervised(data: Path, method: str, images: str, **training) -> dict:
    settings = {"steps": 3, "batch_size": 2, "encoder_rate": 1, "validations": 1, **training}
    stage = {"kind": "intermediate", "task": "self-supervised", "datalist": str(data), "method": method}
    return stage | {"images": images, "image_size": 32, "window": [16, 16, 16], "mask_size": 4, "training": settings}


def mammograms(data: Path, task: str = "mammogram-classification", **training) -> dict:
    settings = {"epochs": 1, "batch_size": 4, "validation": 0.5, "validations": 1, **training}
    return {"kind": "intermediate", "task": task, "datalist": str(data), "image_size": 32, "training": settings}


def segmentation(
    lists, kind: str = "target", channels: tuple[str, ...] = ("FLAIR", "T1"), decoder="new", **more
) -> dict:
    settings = {"steps": 2, "batch_size": 2, "encoder_rate": 1, "validations": 1, **more}
    stage = {"kind": kind, "task": "segmentation", "datalist": str(lists.volumes), "channels": list(channels)}
    return stage | {"window": [16, 16, 16], "decoder": decoder, "training": settings}


def classification(lists, kind: str = "target", **training) -> dict:
    settings = {"epochs": 1, "batch_size": 6, "validation": 0, **training}
    stage = {"kind": kind, "task": "classification", "datalist": str(lists.patches)}
    return stage | {"channels": ["T2W", "ADC", "HBV"], "training": settings}


def chain(*stages: dict, backbone: str = "squeezenet1_0", **changes) -> Chain:
    return chain_from_dict({"name": "xtl-toy", "seed": 1, "backbone": backbone, "stages": list(stages), **changes})


def every_stage(lists) -> Chain:
    return chain(
        start(),
        self_supervised(lists.bare_films, "contrastive", "mammograms"),
        mammograms(lists.films, epochs=3),
        mammograms(lists.marked, "mammogram-segmentation", epochs=3),
        self_supervised(lists.bare_volumes, "masked", "slices"),
        self_supervised(lists.bare_volumes, "contrastive", "slices"),
        self_supervised(lists.bare_volumes, "masked", "volumes"),
        segmentation(lists, "intermediate"),
        segmentation(lists, channels=("FLAIR",), decoder="carried"),
    )


def prepare(asked: Chain, index: int, backbone=None, decoder=None) -> PreparedStage:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = backbone or build_backbone(asked.backbone)
    stage = asked.stages[index]
    return prepare_stage(
        asked,
        stage,
        Datalist.load(stage.datalist),
        backbone,
        is_learned=False,
        seed=3,
        progress=Progress(),
        decoder=decoder,
    )


def weights_of(out: Path, stage: str) -> dict[str, torch.Tensor]:
    return torch.load(out / "stages" / stage / "weights.pt", weights_only=True)


def model_of(bundle: Path) -> dict[str, torch.Tensor]:
    return torch.load(bundle / "models" / "model.pt", weights_only=True)


# --- whole chains -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(lists, tmp_path_factory) -> SimpleNamespace:
    """A chain with every kind of stage, its cache and where it left its results."""
    folder = tmp_path_factory.mktemp("whole")
    result = run_chain(every_stage(lists), folder / "out", stage_cache=folder / "cache")
    return SimpleNamespace(out=folder / "out", cache=folder / "cache", result=result)


def test_weights_go_from_every_stage_to_the_next(whole):
    record = whole.result.record
    assert record.breaks == () and len(record.stages) == 9
    hashes = [stage.weights_out for stage in record.stages]
    assert len(set(hashes)) == len(hashes)
    assert load_bundle(whole.result.bundle).channels == ("FLAIR",)


def test_the_conversion_happens_once_at_the_first_volumetric_stage(whole):
    conversions = [stage.conversion for stage in whole.result.stages[1:]]
    assert [c["rule"] for c in conversions] == ["none"] * 5 + ["inflate"] * 3
    assert [c["source"] for c in conversions[5:]] == ["2D", "volumetric", "volumetric"]
    assert [c["in_channels"] for c in conversions] == [3, 3, 3, 3, 3, 2, 2, 1]
    assert all(c["max_relative_error"] < 1e-3 for c in conversions)


def test_every_validated_stage_has_a_figure_with_an_interval(whole):
    names = [
        "validation retrieval",
        "validation AUC",
        "validation Dice",
        "validation explained variance",
        "validation retrieval",
        "validation explained variance",
        "validation Dice",
        "validation Dice",
    ]
    for stage, name in zip(whole.result.stages[1:], names):
        figure = stage.metrics[name]
        assert figure.low <= figure.value <= figure.high and figure.resampled == "patient", stage.task
        assert figure.count >= 1 and np.isfinite(stage.metrics["validation loss"])


def test_stopped_in_every_stage_it_ends_in_the_same_weights(lists, whole, tmp_path):
    stops = ["Self-supervision on mammograms", "Mammogram classification", "Mammogram segmentation"]
    stops += ["Self-supervision on slices (masked)", "Self-supervision on slices (contrastive)"]
    stops += ["Self-supervision on volumes", "MS segmentation"]
    for number, stage in enumerate(stops):
        seen = []
        progress = Progress(seen.append, lambda: sum(stage in event.stage for event in seen) >= 2)  # noqa: B023
        with pytest.raises(Cancelled):
            run_chain(every_stage(lists), tmp_path / "out", resume=number > 0, progress=progress)
    resumed = run_chain(every_stage(lists), tmp_path / "out", resume=True)
    expected, found = model_of(whole.result.bundle), model_of(resumed.bundle)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [s.key for s in resumed.stages] == [s.key for s in whole.result.stages]


def test_finished_stages_are_shared_whatever_comes_after_them(lists, whole, tmp_path):
    begun = every_stage(lists)
    other = chain(*[stage.model_dump() for stage in begun.stages[:-1]], segmentation(lists, steps=1), name="other")
    events = []
    result = run_chain(other, tmp_path / "out", stage_cache=whole.cache, progress=Progress(events.append))
    assert [s.key for s in result.stages[:-1]] == [s.key for s in whole.result.stages[:-1]]
    trained = {event.stage for event in events if "training" in event.stage}
    assert trained == {"MS segmentation: training"}
    assert result.stages[-1].weights_in == whole.result.stages[-2].weights_out


# --- what is carried on -------------------------------------------------------------------------------


def test_a_carried_decoder_begins_as_the_stage_before_left_it(lists, tmp_path):
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "keep": "last"}
    asked = chain(
        start(),
        segmentation(lists, "intermediate"),
        segmentation(lists, decoder="carried", **still),
    )
    run_chain(asked, tmp_path / "out")
    before, after = weights_of(tmp_path / "out", "01-intermediate"), weights_of(tmp_path / "out", "02-target")
    learned = [n for n in before if n.startswith("decoder.") and before[n].ndim == 5]
    assert learned
    for name in learned:
        assert torch.allclose(before[name], after[name], atol=1e-8), name
    new = prepare(chain(start(), segmentation(lists)), 1).network.state_dict()
    assert not torch.allclose(before["decoder.blocks.0.0.weight"], new["decoder.blocks.0.0.weight"], atol=1e-2)


def test_a_carried_decoder_answers_alike_with_one_channel_for_two(lists):
    asked = chain(
        start(), segmentation(lists, "intermediate"), segmentation(lists, channels=("FLAIR",), decoder="carried")
    )
    two = prepare(asked, 1)
    with torch.no_grad():
        for parameter in two.network.decoder.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    one = prepare(asked, 2, two.network.backbone, two.network.decoder.state_dict())
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = two.network.eval()(image.expand(1, 2, 16, 16, 16))
        assert torch.allclose(one.network.eval()(image), both, atol=1e-3)


def test_a_decoder_of_another_network_is_refused(lists):
    network = prepare(chain(start(), segmentation(lists)), 1).network
    state = network.decoder.state_dict()
    state["output.weight"] = state["output.weight"].repeat(2, 1, 1, 1, 1)
    with pytest.raises(InputError, match=r"does not fit this stage \(output.weight\). Set decoder to new"):
        carry_decoder(network.decoder, state, "mean")


# --- examples -----------------------------------------------------------------------------------------


def test_the_example_chains_cover_all_sources_before_one_target(monkeypatch):
    monkeypatch.setenv("XTL_DATA", "/data")
    chains = [load_chain(path) for path in sorted(CHAINS.glob("ms-from-*.yaml"))]
    chains += [load_chain(CHAINS / f"{name}.yaml") for name in ("tl-ms", "xtl-ms")]
    sources = {getattr(one.stages[-2], "task", None) for one in chains}
    assert sources == {
        None,
        "mammogram-classification",
        "mammogram-segmentation",
        "self-supervised",
        "segmentation",
        "classification",
    }
    images = {stage.images for one in chains for stage in one.intermediates if stage.task == "self-supervised"}
    assert images == {"mammograms", "slices", "volumes"}
    fresh = [one.target.model_copy(update={"decoder": "new"}) for one in chains]
    assert all(Path(one.datalist).name == "open_ms.json" for one in fresh)
    assert len({one.model_dump_json(exclude={"datalist"}) for one in fresh}) == 1


# --- conversions and initialisations ------------------------------------------------------------------


@pytest.mark.parametrize("rule", CONVERSIONS)
def test_every_conversion_trains_and_its_bundle_predicts(lists, tmp_path, rule):
    asked = chain(start(), segmentation(lists, steps=1, validations=1), conversion=rule)
    result = run_chain(asked, tmp_path / "out")
    assert result.stages[1].conversion["rule"] == rule
    network = load_bundle(result.bundle).network("cpu")
    kept = weights_of(tmp_path / "out", "01-target")
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        logits = network(torch.randn(1, 2, 16, 16, 16))
    assert logits.shape == (1, 1, 16, 16, 16) and torch.isfinite(logits).all()


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_a_slice_encoder_pools_as_the_chain_says(lists, pooling):
    target = classification(lists) | {"patch": {"shape": [1, 32, 32]}}
    stage = prepare(chain(start(), target, conversion="slice-encoder", slice_pooling=pooling), 1)
    assert stage.spec.slice_pooling == pooling
    inputs, targets = stage.task.batch(0)
    assert torch.isfinite(stage.task.loss(stage.network(inputs), targets))


def test_weights_that_are_volumetric_from_the_start_are_not_converted(lists, tmp_path):
    torch.save(native_backbone("resnet18").state_dict(), tmp_path / "medical.pth")
    asked = chain(
        start(str(tmp_path / "medical.pth"), layout="medicalnet"),
        self_supervised(lists.bare_volumes, "masked", "volumes", steps=1),
        segmentation(lists, channels=("FLAIR",), steps=1),
        backbone="resnet18",
    )
    result = run_chain(asked, tmp_path / "out")
    assert [stage.conversion["rule"] for stage in result.stages[1:]] == ["native", "native"]
    assert result.record.breaks == () and load_bundle(result.bundle).spec.conversion == "native"


def test_the_frozen_random_control_keeps_its_encoder_and_sees_sane_activations(lists, tmp_path):
    asked = chain(start("frozen-random"), classification(lists, encoder_rate=1, epochs=2), backbone="mobilenet_v2")
    result = run_chain(asked, tmp_path / "out")
    kept, begun = weights_of(tmp_path / "out", "01-target"), prepare(asked, 1, _initial(asked)).network.backbone
    for name, parameter in begun.named_parameters():
        assert torch.equal(parameter, kept[f"backbone.{name}"]), name
    spreads = [value for name, value in kept.items() if name.startswith("backbone.") and name.endswith("running_var")]
    assert spreads and not any((value == 1).all() for value in spreads)  # all have seen images
    assert any("control" in note for note in result.stages[1].notes)


def _initial(asked: Chain):
    from XTLLib.networks.initialisation import initialise_backbone
    from XTLLib.training.seeds import derive

    seed = derive(asked.seed, "initialisation")
    return initialise_backbone(asked.backbone, weights=asked.initialisation.weights, seed=seed)[0]


@pytest.mark.parametrize("kind", ["ssf", "adapters", "linear-probe"])
def test_fine_tuning_of_few_parameters_goes_through_a_chain(lists, tmp_path, kind):
    asked = chain(
        start(),
        mammograms(lists.films, peft=kind),
        segmentation(lists, steps=1, peft=kind),
        backbone="mobilenet_v2",
    )
    result = run_chain(asked, tmp_path / "out")
    bundle = load_bundle(result.bundle)
    assert bundle.spec.adapters == (4 if kind == "adapters" else 0)
    names = bundle.network("cpu").state_dict().keys()
    assert any("adapter" in name for name in names) == (kind == "adapters")
    assert not any("parametrizations" in name for name in names)
    assert result.record.breaks == ()


# --- mammograms ---------------------------------------------------------------------------------------


def test_three_classes_have_three_logits_and_a_macro_auc(lists, tmp_path):
    stage = mammograms(lists.classes, epochs=2)
    result = run_chain(chain(start(), stage, classification(lists)), tmp_path / "out")
    assert result.stages[1].network["out_channels"] == 3
    assert weights_of(tmp_path / "out", "01-intermediate")["head.linear.weight"].shape[0] == 3
    _, targets = prepare(chain(start(), stage, classification(lists)), 1).task.batch(0)
    assert targets.shape == (4, 3) and torch.equal(targets.sum(1), torch.ones(4))
    blended = prepare(
        chain(start(), mammograms(lists.classes, mixup=0.4, class_balance="none"), classification(lists)), 1
    )
    assert torch.allclose(blended.task.batch(1)[1].sum(1), torch.ones(4))


def test_marks_on_mammograms_are_learned(lists, tmp_path):
    from XTLLib.training.engine import Engine

    stage = {**mammograms(lists.marked, "mammogram-segmentation", epochs=25, learning_rate=3e-3), "image_size": 64}
    stage["training"]["encoder_rate"] = 1
    prepared = prepare(chain(start(), stage, classification(lists)), 1)
    engine = Engine(
        prepared.network,
        prepared.task,
        prepared.training,
        seed=0,
        folder=tmp_path,
        key="",
        device=torch.device("cpu"),
        progress=Progress(),
        title="",
    )
    fit = engine.run(False)
    assert fit.best_metric > 0.5 and fit.last_loss < 0.7 * fit.first_loss


def test_a_region_of_a_marked_film_shows_the_mark_and_its_mask(lists):
    stage = {**mammograms(lists.marked, "mammogram-segmentation", augmentation=False), "image_size": 64, "region": 32}
    task = prepare(chain(start(), stage, classification(lists)), 1).task
    shown = [task.batch(number) for number in range(6)]
    images, masks = (torch.cat(parts) for parts in zip(*shown))
    assert images.shape[1:] == (3, 1, 32, 32) and masks.shape[1:] == (1, 1, 32, 32)
    assert 0.1 < (masks.flatten(1).any(1)).float().mean() < 0.9
    inside, outside = images[:, :1][masks > 0], images[:, :1][(masks == 0) & (images[:, :1] != 0)]
    assert inside.mean() > outside.mean() + 1  # the marks are brighter by some SD


# --- what is refused before anything runs -------------------------------------------------------------


def refused(asked: Chain, match: str, **more) -> None:
    with pytest.raises(InputError, match=match) as raised:
        load_datalists(asked, more.get("target"))
    assert "\n" not in str(raised.value)


def test_a_stage_and_a_datalist_that_do_not_fit(lists):
    target = segmentation(lists)
    refused(
        chain(start(), mammograms(lists.bare_films), target),
        r"stage 1 \(mammogram-classification\) of the chain xtl-toy learns from labels.*patterned mammograms has none",
    )
    refused(
        chain(start(), mammograms(lists.films, "mammogram-segmentation"), target),
        "is for mammogram-segmentation, its datalist toy mammograms is for mammogram-classification",
    )
    for images in ("slices", "volumes"):
        refused(
            chain(start(), self_supervised(lists.bare_films, "masked", images), target),
            f"learns from {images}, its datalist patterned mammograms has mammograms. Set images to mammograms",
        )
    refused(
        chain(start(), self_supervised(lists.bare_volumes, "masked", "mammograms"), target),
        "learns from mammograms, its datalist patterned volumes has volumes",
    )
    refused(
        chain(start(), self_supervised(lists.patches, "masked", "volumes"), target),
        "its datalist toy patches has patches in array files",
    )
    refused(
        chain(start(), self_supervised(lists.bare_volumes, "masked", "volumes") | {"channels": ["PD"]}, target),
        "stage 1 .*needs the channel PD, its datalist patterned volumes has FLAIR, T1",
    )
    refused(
        chain(start(), {**mammograms(lists.classes), "region": 32}, target),
        "has a region, its datalist three classes has 3 classes",
    )


def test_a_class_without_training_entries_is_refused(lists, tmp_path):
    films = Datalist.load(lists.films)
    one = replace(films, training=tuple(entry for entry in films.training if entry.label == 0))
    one.save(tmp_path / "one.json")
    refused(
        chain(start(), mammograms(tmp_path / "one.json"), segmentation(lists)),
        "the training part of its datalist toy mammograms has no entry of the class yes",
    )


@pytest.mark.parametrize("rule", ["acs", "soft-acs", "mean-acs", "slice-stack"])
def test_a_rule_for_depth_is_refused_where_there_is_none(lists, rule):
    refused(
        chain(start(), classification(lists), conversion=rule),
        f"the chain xtl-toy show no more than 1 slice for the conversion {rule}.*set the conversion to inflate",
    )


def test_volumes_without_depth_are_refused_where_the_rule_needs_it(lists, tmp_path):
    thin = write_patterned_volumes(tmp_path, training=2, validation=0, size=16, slices=2)
    stage = self_supervised(thin, "masked", "volumes", validation=0)
    with pytest.raises(InputError, match="patterned volumes have no more than 2 slices for the conversion acs"):
        prepare(chain(start(), stage, segmentation(lists), conversion="acs"), 1)
    assert prepare(chain(start(), stage, segmentation(lists)), 1).task.batch(0)[0].shape[2] == 2


def test_a_patient_cannot_move_to_a_part_that_is_held_back_more(lists):
    same = chain(start(), segmentation(lists, "intermediate"), segmentation(lists))
    volumes = Datalist.load(lists.volumes)
    load_datalists(same, None)  # the same parts in both stages
    fold = replace(volumes, training=volumes.training[:1], validation=(), test=volumes.training[1:])
    refused(same, "1 validation or test patient of stage 2 .* is a training patient of stage 1", target=fold)
    fold = replace(volumes, validation=(), test=volumes.validation)
    refused(same, "1 test patient of stage 2 .* is a validation patient of stage 1", target=fold)
    # Under another name a patient is known by the images.
    renamed = replace(
        volumes,
        name="other",
        training=volumes.validation,
        validation=(replace(volumes.training[0], patient="somebody", case="somebody"),),
    )
    refused(same, "1 validation or test patient of stage 2 .datalist other. is a training patient", target=renamed)


def test_patients_that_are_held_out_of_what_an_earlier_stage_saw_are_noted(lists, tmp_path):
    volumes = Datalist.load(lists.volumes)
    everybody = replace(volumes, training=volumes.training + volumes.validation, validation=())
    everybody.save(lists.volumes.with_name("all.json"))
    stage = {**segmentation(lists, validation=0.34), "datalist": str(lists.volumes.with_name("all.json"))}
    first = self_supervised(lists.volumes.with_name("all.json"), "masked", "volumes", steps=1, validation=0)
    result = run_chain(chain(start(), first, stage), tmp_path / "out")
    assert any("1 of the validation patients may have been seen" in note for note in result.stages[2].notes)


def test_the_conversion_of_a_begun_chain_cannot_change(lists, tmp_path):
    asked = chain(start(), segmentation(lists, steps=1))
    run_chain(asked, tmp_path / "out")
    with pytest.raises(InputError, match=r"another chain \(different: conversion\)"):
        run_chain(asked.model_copy(update={"conversion": "acs"}), tmp_path / "out", resume=True)
