"""Adaptation of a bundle to corrected cases: what is held out, what is refused, what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from corrected_cases import LESIONS, adapt, case, prepared, require_nothing, settings
from toy_bundles import write_toy_bundle
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.verify import verify_bundle
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.files import sha256_of
from XTLLib.networks.groups import layer_groups
from XTLLib.networks.peft import apply_peft
from XTLLib.training.adapt_cases import content_hash
from XTLLib.training.adapt_measure import PartPrediction, best_threshold
from XTLLib.training.adapt_outcome import AdaptationOutcome
from XTLLib.training.adapt_split import Part, split_cases
from XTLLib.training.adapt_task import AdaptTask
from XTLLib.training.policy import make_policy
from XTLLib.transfer.adaptation import Adaptation, AdaptationTraining
from XTLLib.transfer.provenance import ChainRecord
from XTLLib.transfer.summary import summarise_chain


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle"))


def state_of(path) -> dict[str, torch.Tensor]:
    return load_bundle(path).network().state_dict()


def files_of(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


# --- what is held out -------------------------------------------------------------------------------


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
    assert result.threshold == bundle.threshold  # the one of half a head is not that of the whole head
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


# --- what is not written ---------------------------------------------------------------------------


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
    forced = adapt(good, [case(seed=3)], tmp_path / "out", settings=ruinous)
    assert not forced.refused and forced.bundle.is_dir()
    assert any("by force" in note for note in forced.record.notes)


# --- a new scanner ----------------------------------------------------------------------------------

NEW = Grid((12, 20, 27), np.array([[-1.2, 0, 0, 0], [0, -1.2, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1]]))


def on_new_scanner(lesions, seed: int) -> Case:
    """The same cubes in voxels of 1.2 x 1.2 x 2 mm: less bright on FLAIR, bright instead of dark on T1, more noise."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.arange(n) * s for n, s in zip(NEW.shape, (2.0, 1.2, 1.2))), indexing="ij")
    mask = np.zeros(NEW.shape, bool)
    for at_k, at_j, at_i, side in lesions:
        near = [(x >= start - 0.5) & (x < start + side - 0.5) for x, start in ((k, at_k), (j, at_j), (i, at_i))]
        mask |= near[0] & near[1] & near[2]
    channels = {}
    for name, contrast in (("FLAIR", 4.0), ("T1", 4.0)):
        array = (20 + 1.5 * rng.standard_normal(NEW.shape) + contrast * mask).astype(np.float32)
        channels[name] = Volume(array, NEW, name)
    return Case("new", channels, "FLAIR", Volume(mask, NEW, "mask"))


def test_one_case_of_a_new_scanner_brings_back_half_of_the_loss_on_others(learned, tmp_path):
    from XTLLib.bundle.write import write_bundle
    from XTLLib.inference.segment import segment_case
    from XTLLib.metrics.overlap import dice

    trained = load_bundle(learned[0].bundle)
    spaced = Preparation(trained.channels, trained.reference, (1.0, 1.0, 1.0))
    post = {"threshold": trained.threshold, "minimum_volume_mm3": 0.0}
    old = load_bundle(
        write_bundle(
            tmp_path / "old", trained.network(), trained.spec, "segmentation", spaced, None, post, trained.provenance
        )
    )
    unseen = [((3, 12, 8, 5), (15, 5, 20, 5), (5, 3, 24, 4)), ((12, 3, 3, 5), (4, 16, 14, 5), (16, 16, 24, 4))]

    def mean_dice(model, cases) -> float:
        found = [segment_case(each, model, precision="float32").label.array > 0 for each in cases]
        return float(np.mean([dice(mask, each.mask.array) for mask, each in zip(found, cases)]))

    training = {"steps": 40, "batch_size": 2, "learning_rate": 1e-2, "l2sp": 1e-3}
    values = settings(training=training, refit=True)
    result = adapt(old, [on_new_scanner(LESIONS, 3)], tmp_path / "new", settings=values, force=False)
    ordinary = mean_dice(old, [case(lesions, seed=20 + n) for n, lesions in enumerate(unseen)])
    new = [on_new_scanner(lesions, 20 + n) for n, lesions in enumerate(unseen)]
    before, after = mean_dice(old, new), mean_dice(load_bundle(result.bundle), new)
    assert ordinary - before > 0.2
    assert after - before >= 0.5 * (ordinary - before)
    assert load_bundle(result.bundle).preparation.spacing_mm == (1.0, 1.0, 1.0)
