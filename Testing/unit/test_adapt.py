"""Adaptation of a bundle to corrected cases: what is held out, what is refused, what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_bundles import CLASSIFICATION, write_toy_bundle
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.verify import verify_bundle
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume, resample
from XTLLib.errors import Cancelled, InputError
from XTLLib.files import sha256_of
from XTLLib.networks.groups import layer_groups
from XTLLib.networks.peft import apply_peft
from XTLLib.progress import Progress
from XTLLib.training.adapt import adapt_bundle
from XTLLib.training.adapt_cases import CorrectedCase, content_hash, prepare_corrected
from XTLLib.training.adapt_measure import PartPrediction, best_threshold
from XTLLib.training.adapt_outcome import AdaptationOutcome
from XTLLib.training.adapt_split import Part, split_cases
from XTLLib.training.adapt_task import AdaptTask
from XTLLib.training.policy import make_policy
from XTLLib.transfer.adaptation import Adaptation, AdaptationTraining
from XTLLib.transfer.provenance import ChainRecord
from XTLLib.transfer.summary import summarise_chain

GRID = Grid((24, 24, 32), np.diag([-1.0, -1.0, 1.0, 1.0]))
PREPARATION = Preparation(("FLAIR", "T1"), "FLAIR")
# Corner and side (k, j, i) of cubes: two right of the middle (low i), three left of it.
LESIONS = ((4, 4, 4, 4), (14, 12, 6, 5), (4, 6, 22, 4), (12, 14, 24, 5), (16, 4, 21, 3))
QUICK = {"steps": 2, "batch_size": 2}


def case(lesions=LESIONS, patient: str = "p", seed: int = 0, contrast: float = 6.0) -> Case:
    """A head of noise with bright cubes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(GRID.shape, bool)
    for k, j, i, side in lesions:
        mask[k : k + side, j : j + side, i : i + side] = True
    channels = {}
    for name, sign in (("FLAIR", 1.0), ("T1", -0.5)):
        array = (10 + rng.standard_normal(GRID.shape) + sign * contrast * mask).astype(np.float32)
        channels[name] = Volume(array, GRID, name)
    return Case(patient, channels, "FLAIR", Volume(mask, GRID, "corrected.nii"))


def settings(**values) -> Adaptation:
    training = AdaptationTraining(**{**QUICK, **values.pop("training", {})})
    return Adaptation(**{"window": (16, 16, 16), "margin_mm": 6, "refit": False, "training": training, **values})


def adapt(bundle, cases, out, *, force=True, **values):
    return adapt_bundle(
        bundle, cases, out, device="cpu", settings=values.pop("settings", settings()), force=force, **values
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle"))


def state_of(path) -> dict[str, torch.Tensor]:
    return load_bundle(path).network().state_dict()


def files_of(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


# --- what is held out -------------------------------------------------------------------------------


def prepared(*cases: Case) -> list[CorrectedCase]:
    return prepare_corrected(cases, PREPARATION, Progress())


def test_of_one_case_the_hemisphere_with_fewer_lesions_is_held_out_beyond_a_margin():
    (corrected,) = prepared(case())
    split = split_cases([corrected], Adaptation(margin_mm=6))
    assert split.words == "the right part of the head"
    (learned,), (held_out,) = split.learned, split.held_out
    assert (held_out.lesions, learned.lesions) == (2, 3)
    (k, j, i), (other_k, other_j, other_i) = learned.box, held_out.box
    assert (k, j) == (other_k, other_j) == (slice(0, 24), slice(0, 24))
    assert i.start - other_i.stop >= 6  # mm, and voxels
    assert (other_i.start, i.stop) == (0, 32)
    assert corrected.source(learned.box).image.shape[-1] <= i.stop - i.start


def test_a_plane_goes_where_most_lesions_are_whole_on_both_sides():
    along_k = ((2, 10, 14, 4), (18, 10, 14, 4))  # one below the other: no hemisphere and no front would do
    split = split_cases(prepared(case(along_k)), Adaptation(margin_mm=4))
    assert split.words in ("the lower part of the head", "the upper part of the head")


def test_the_time_points_of_one_patient_are_cut_by_the_same_plane():
    cases = prepared(case(seed=1), case(seed=2))
    split = split_cases(cases, Adaptation(margin_mm=4))
    assert len({str(part.box) for part in split.learned}) == len({str(part.box) for part in split.held_out}) == 1
    assert len(split.learned) == len(split.held_out) == 2


def test_of_several_patients_whole_ones_are_held_out_with_all_their_cases():
    cases = prepared(*(case(patient=name, seed=n) for n, name in enumerate("aabbcc")))
    split = split_cases(cases, Adaptation(held_out=0.4))
    learned, held_out = ({part.case.patient for part in side} for side in (split.learned, split.held_out))
    assert len(held_out) == 1 and not learned & held_out and learned | held_out == set("abc")
    assert len(split.held_out) == 2
    assert all(part.box == part.case.whole for part in (*split.learned, *split.held_out))


def test_lesions_in_one_place_cannot_be_split():
    assert split_cases(prepared(case(LESIONS[:1])), Adaptation()) is None


def test_the_held_out_labels_have_no_part_in_the_measured_weights(bundle, tmp_path):
    """Other labels beyond the plane, within the same lesions' boxes: not one weight may differ."""
    ordinary, other = case(), case()
    other.mask.array[14:19, 12:17, 6:9] = False  # half of a held-out lesion
    states = []
    for number, corrected in enumerate((ordinary, other)):
        out = tmp_path / str(number)
        result = adapt(bundle, [corrected], out)
        assert result.held_out == "the right part of the head"
        states.append(state_of(out))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    with_refit = tmp_path / "refit"
    result = adapt(bundle, [other], with_refit, settings=settings(refit=True))
    assert any("learned from all corrected cases" in note for note in result.notes)
    final = state_of(with_refit)
    assert not all(torch.equal(value, final[name]) for name, value in states[0].items())


# --- what learns ------------------------------------------------------------------------------------


def test_by_default_the_decoder_and_the_encoder_s_batchnorm_learn_and_all_are_held_near_their_start():
    from XTLLib.networks.build import build_network
    from XTLLib.networks.spec import NetworkSpec

    network = build_network(NetworkSpec("segmentation", "resnet18", 2, "inflate", patch_shape=(16, 16, 16)))
    training = AdaptationTraining(l2sp=2.0)
    report = apply_peft(network, training.peft)
    norms = sum(
        m.weight.numel() + m.bias.numel() for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm3d)
    )
    decoder = sum(parameter.numel() for parameter in network.decoder.parameters())
    assert report.trainable == norms + decoder
    policy = make_policy(network, training, 10)
    assert sum(parameter.numel() for parameter in policy.trained) == norms + decoder
    assert policy.penalty().item() == 0
    with torch.no_grad():
        network.decoder.output.bias += 3.0
        network.backbone.bn1.bias += 1.0
    assert policy.penalty().item() == pytest.approx(2.0 / 2 * (9 + 64))
    assert all(group["weight_decay"] == 0 for group in policy.optimiser.param_groups)
    assert [group.name for group in layer_groups(network)][-1] == "head"


def test_batches_mix_corrected_and_source_windows_in_the_share_asked_for():
    (corrected,), (source,) = prepared(case(contrast=6.0)), prepared(case(seed=5))
    own, replayed = corrected.source(corrected.whole), source.source(source.whole)
    replayed.image.fill_(7.0)
    values = settings(replay=0.25, training={"batch_size": 8, "augmentation": False})
    images, masks = AdaptTask([own], [replayed], (16, 16, 16), values, 0).batch(3)
    assert images.shape == (10, 2, 16, 16, 16) and masks.shape == (10, 1, 16, 16, 16)
    assert [bool((image == 7).all()) for image in images] == [False] * 8 + [True] * 2
    again, _ = AdaptTask([own], [replayed], (16, 16, 16), values, 0).batch(3)
    assert torch.equal(images, again)
    alone, _ = AdaptTask([own], [], (16, 16, 16), values, 0).batch(3)
    assert len(alone) == 8 and not (alone == 7).all(dim=(1, 2, 3, 4)).any()


def test_an_adaptation_does_not_choose_its_checkpoint_on_the_held_out_part():
    with pytest.raises(ValueError, match="held-out part once"):
        AdaptationTraining(early_stopping=2)
    with pytest.raises(ValueError, match="held-out part once"):
        AdaptationTraining(schedule="plateau")


# --- thresholds -------------------------------------------------------------------------------------


def test_the_threshold_of_the_best_dice_is_taken_and_the_present_one_where_it_is_as_good():
    (corrected,) = prepared(case())
    part = Part(corrected, corrected.whole)
    confident = np.where(corrected.mask, 0.95, 0.05)  # any threshold is perfect
    assert best_threshold([PartPrediction(part, confident)], 0.37) == 0.37
    low = np.where(corrected.mask, 0.25, 0.15)  # only 0.2 is
    assert best_threshold([PartPrediction(part, low)], 0.5) == 0.2
    perfect = PartPrediction(part, low)
    assert perfect.dice(0.2) == perfect.lesion_f1(0.2, 3.0) == 1.0
    assert perfect.dice(0.5) == perfect.lesion_f1(0.5, 3.0) == 0.0


def test_lesions_below_the_smallest_volume_do_not_count():
    (corrected,) = prepared(case())
    noisy = np.where(corrected.mask, 0.9, 0.1)
    noisy[10, 0, ::4] = 0.9  # single voxels, 1 mm3 each
    prediction = PartPrediction(Part(corrected, corrected.whole), noisy)
    assert prediction.lesion_f1(0.5, 3.0) == 1.0
    assert prediction.lesion_f1(0.5, 0.0) < 0.9


# --- what is written --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(bundle, tmp_path_factory):
    """A random network that learns the bright cubes: (result, files of the incoming bundle before)."""
    before = files_of(bundle.path)
    training = {"steps": 50, "batch_size": 2, "learning_rate": 1e-2, "peft": "none", "l2sp": 0.0}
    out = tmp_path_factory.mktemp("adapted") / "bundle"
    return adapt(bundle, [case()], out, settings=settings(training=training, refit=True), force=False), before


def test_a_better_model_is_written_with_its_chain_and_verifies(bundle, learned):
    result, before = learned
    assert not result.refused
    assert float(result.after.dice) > float(result.before.dice) + 0.3
    assert (result.after.lesions, result.after.cases) == (2, 1)
    verification = verify_bundle(result.bundle)
    assert verification.agrees, verification
    assert files_of(bundle.path) == before
    adapted = load_bundle(result.bundle)
    assert adapted.name == "toy-adapted"
    assert adapted.preparation == bundle.preparation
    assert adapted.threshold == result.threshold
    chain, earlier = ChainRecord.from_dict(adapted.provenance), ChainRecord.from_dict(bundle.provenance)
    assert chain.stages[:-1] == earlier.stages and chain.breaks == earlier.breaks
    stage = chain.stages[-1]
    assert stage == result.record
    assert (stage.kind, stage.weights_in) == ("adaptation", earlier.stages[-1].weights_out)
    data = stage.datalist
    assert (data.patients, data.entries, data.training, data.validation) == (1, 1, 1, 1)
    assert data.content_hash == content_hash([case()], ("FLAIR", "T1"))
    assert float(stage.metrics["held-out Dice"]) == float(result.after.dice)
    assert float(stage.metrics["held-out Dice before"]) == float(result.before.dice)
    assert f"corrected cases adaptation, 1 patient, Dice {float(result.after.dice):.2f}" in summarise_chain(chain)
    assert "'p'" not in json.dumps(adapted.provenance)


def test_what_learned_finds_the_cubes_of_another_case(learned):
    from XTLLib.inference.segment import segment_case

    other = case(((3, 12, 8, 5), (15, 5, 20, 5)), seed=9)
    result = segment_case(other, load_bundle(learned[0].bundle), precision="float32")
    found, truth = result.label.array > 0, other.mask.array
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.6


def test_the_outcome_survives_json(learned):
    result, _ = learned
    again = AdaptationOutcome.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == AdaptationOutcome(
        **{name: getattr(result, name) for name in AdaptationOutcome.__dataclass_fields__}
    )


def test_an_adapted_model_can_be_adapted_again_in_its_own_place(learned, tmp_path):
    import shutil

    place = tmp_path / "bundle"
    shutil.copytree(learned[0].bundle, place)
    with pytest.raises(InputError, match="in use"):
        adapt(place, [case()], place)
    result = adapt(place, [case()], place, overwrite=True)
    adapted = load_bundle(result.bundle)
    assert adapted.name == "toy-adapted-2"
    assert [stage["kind"] for stage in adapted.provenance["stages"]][-2:] == ["adaptation", "adaptation"]
    assert verify_bundle(place).agrees


@pytest.mark.parametrize("peft", ["ssf", "lora", "adapters", "linear-probe"])
def test_every_kind_of_fine_tuning_leaves_a_bundle_that_verifies(bundle, tmp_path, peft):
    result = adapt(bundle, [case()], tmp_path / "out", settings=settings(training={"peft": peft}))
    assert verify_bundle(result.bundle).agrees
    assert load_bundle(result.bundle).spec.adapters == (4 if peft == "adapters" else 0)


def test_source_data_are_replayed_measured_and_recorded(bundle, tmp_path):
    from toys import write_toy_volumes
    from XTLLib.data.datalist import Datalist

    source = Datalist.load(write_toy_volumes(tmp_path / "source", training=2, validation=1))
    result = adapt(bundle, [case()], tmp_path / "out", replay=source)
    assert result.replay_before.cases == result.replay_after.cases == 1
    used = result.record.configuration["replay_data"]
    assert (used["training"], used["validation"]) == (2, 1)
    assert "source Dice" in result.record.metrics
    assert next(iter(result.record.metrics)) == "held-out Dice"
    with pytest.raises(InputError, match="lacks the channels T1"):
        adapt(bundle, [case()], tmp_path / "other", replay=replace(source, channels=("FLAIR",)))


def test_several_patients_give_an_interval(bundle, tmp_path):
    cases = [case(patient=name, seed=n) for n, name in enumerate("abcd")]
    result = adapt(bundle, cases, tmp_path / "out", settings=settings(held_out=0.5))
    assert result.after.cases == 2 and result.after.dice.count == 2 and result.after.dice.low is not None
    assert result.held_out == "2 of 4 corrected patients"


# --- what is refused --------------------------------------------------------------------------------


def require_nothing(folder) -> None:
    assert not folder.exists()
    assert not list(folder.parent.glob(f".{folder.name}*")), "a draft was left behind"


def test_a_better_model_is_not_replaced_by_a_worse_one_unless_it_is_told_to(learned, tmp_path):
    good = learned[0].bundle
    ruinous = settings(training={"learning_rate": 1.0, "peft": "none", "l2sp": 0.0})
    before = files_of(good)
    result = adapt(good, [case(seed=3)], tmp_path / "out", settings=ruinous, force=False)
    assert result.refused and result.bundle is None and result.record is None
    assert float(result.after.dice) < 0.5 < float(result.before.dice)
    require_nothing(tmp_path / "out")
    with pytest.raises(InputError, match="in use"):
        adapt(good, [case(seed=3)], good, settings=ruinous, force=False)
    assert adapt(good, [case(seed=3)], good, settings=ruinous, force=False, overwrite=True).refused
    assert files_of(good) == before
    assert not adapt(good, [case(seed=3)], tmp_path / "out", settings=ruinous).refused
    assert (tmp_path / "out").is_dir()


def test_lesions_in_one_place_need_a_second_case_or_force(bundle, tmp_path):
    with pytest.raises(InputError, match="nothing can be held out"):
        adapt(bundle, [case(LESIONS[:1])], tmp_path / "out", force=False)
    require_nothing(tmp_path / "out")
    result = adapt(bundle, [case(LESIONS[:1])], tmp_path / "out")
    assert result.before is None and result.after is None and not result.refused
    assert "held-out Dice" not in result.record.metrics
    assert verify_bundle(result.bundle).agrees


def with_mask(mask: Volume | None) -> Case:
    return replace(case(), mask=mask)


SHIFTED = Grid(GRID.shape, np.array([[-1, 0, 0, 500.0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))


@pytest.mark.parametrize(
    ("corrected", "words"),
    [
        (with_mask(Volume(np.zeros(GRID.shape, bool), GRID, "empty.nii")), "no corrected lesion.*empty.nii"),
        (with_mask(Volume(np.ones(GRID.shape, bool), GRID, "full.nii")), "full.nii marks 100% of the head"),
        (with_mask(replace(case().mask, grid=SHIFTED)), "only 0% of what corrected.nii marks lies in FLAIR"),
        (with_mask(None), "has no mask"),
        (replace(case(), channels={"FLAIR": case().channels["FLAIR"]}), "T1 is missing"),
    ],
)
def test_bad_cases_are_named(bundle, tmp_path, corrected, words):
    with pytest.raises(InputError, match=words):
        adapt(bundle, [corrected], tmp_path / "out")
    require_nothing(tmp_path / "out")


def test_a_mask_on_another_grid_is_brought_over_in_patient_space():
    ordinary = case()
    fine = Grid((48, 48, 64), GRID.with_spacing((0.5, 0.5, 0.5)).ijk_to_ras)
    turned = fine.along_lps()
    moved = resample(replace(ordinary.mask, array=ordinary.mask.array.astype(np.uint8)), turned, "nearest")
    (corrected,) = prepared(replace(ordinary, mask=Volume(moved.array > 0, turned, "fine.nii")))
    assert np.array_equal(corrected.mask, prepared(ordinary)[0].mask)


def test_a_mask_of_a_part_of_the_image_says_that_the_rest_has_no_lesion():
    ordinary = case()
    box = (slice(2, 22), slice(3, 22), slice(3, 30))
    cropped = Volume(ordinary.mask.array[box], GRID.crop(box), "cropped.nii")
    (corrected,) = prepared(replace(ordinary, mask=cropped))
    assert np.array_equal(corrected.mask, prepared(ordinary)[0].mask)


def test_no_case_another_task_and_a_place_in_use_are_refused(bundle, tmp_path):
    with pytest.raises(InputError, match="no corrected case"):
        adapt(bundle, [], tmp_path / "out")
    rating = write_toy_bundle(tmp_path / "rating", CLASSIFICATION)
    with pytest.raises(InputError, match="for classification"):
        adapt(rating, [case()], tmp_path / "out")
    require_nothing(tmp_path / "out")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "years.txt").write_text("of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="did not write"):
            adapt(bundle, [case()], tmp_path / "thesis", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["years.txt"]


def test_a_bundle_whose_weights_are_not_those_of_its_record_is_refused(tmp_path):
    path = write_toy_bundle(tmp_path / "bundle")
    chain = path / "configs" / "chain.json"
    record = json.loads(chain.read_text())
    record["stages"][-1]["weights_out"] = "0" * 64
    chain.write_text(json.dumps(record))
    with pytest.raises(InputError, match="other weights than its record"):
        adapt(path, [case()], tmp_path / "out")


def test_a_cancel_at_any_report_leaves_nothing(bundle, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    stages: list[str] = []
    adapt(bundle, [case()], tmp_path / "whole", progress=Progress(lambda event: stages.append(event.stage)))
    assert {"Preparing the corrected cases", "Adapting", "Writing the bundle", "Adapted"} <= set(stages)
    last = {stage: number for number, stage in enumerate(stages)}
    for stage, number in last.items():
        asked = iter(range(len(stages) + 1))
        progress = Progress(lambda event: None, lambda asked=asked, number=number: next(asked) >= number)
        out = tmp_path / f"cancelled-{number}"
        if stage == "Adapted":  # too late
            assert adapt(bundle, [case()], out, progress=progress).bundle == out
            continue
        with pytest.raises(Cancelled):
            adapt(bundle, [case()], out, progress=progress)
        require_nothing(out)
    assert not list((tmp_path / "temporary").glob("xtl-adapt-*"))
