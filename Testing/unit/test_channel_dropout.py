"""Channels left out in training, so that a bundle can do without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.images import write_volume
from XTLLib.data.phantoms.brain import brain_case
from XTLLib.progress import Progress
from XTLLib.training.channel_dropout import without_some_channels
from XTLLib.training.seeds import generator
from XTLLib.training.volumes import VolumeTask, preparation_of
from XTLLib.transfer.stages import SegmentationTarget

CHANNELS = ("T1", "FLAIR", "T2")


def stage(**training) -> SegmentationTarget:
    return SegmentationTarget(
        kind="target", task="segmentation", datalist="d.json", channels=CHANNELS, spacing_mm=(4.0, 4.0, 4.0),
        window=(16, 16, 16), training={"batch_size": 8, "augmentation": False, **training},
    )  # fmt: skip


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> Datalist:
    folder, case = tmp_path_factory.mktemp("case"), brain_case(1, "P")
    for name, volume in case.channels.items():
        write_volume(volume, folder / f"{name}.nii")
    write_volume(case.mask, folder / "mask.nii")
    images = {name: str(folder / f"{name}.nii") for name in case.channels}
    entry = Entry("P", "P", images, str(folder / "mask.nii"))
    return Datalist("one", "csv", "segmentation", tuple(images), "FLAIR", {"1": "lesion"}, training=(entry,))


def test_each_channel_but_the_reference_is_left_out_in_its_share_of_the_windows():
    images = torch.ones(4000, 3, 2, 2, 2)
    dropped = without_some_channels(images, 0.3, 1, np.random.default_rng(0))
    gone = (dropped == 0).flatten(2).all(dim=2)
    assert ((dropped == 0) | (dropped == 1)).all() and (dropped.flatten(2).std(dim=2) == 0).all()  # whole channels
    assert not gone[:, 1].any()
    shares = gone.float().mean(dim=0)
    assert torch.allclose(shares[[0, 2]], torch.tensor(0.3), atol=4 * (0.3 * 0.7 / 4000) ** 0.5)
    assert float((gone[:, 0] & gone[:, 2]).float().mean()) == pytest.approx(0.09, abs=0.02)  # independently
    assert torch.equal(without_some_channels(images, 0.0, 1, np.random.default_rng(0)), images)


def test_a_step_is_the_same_with_it_but_for_the_channels_left_out_and_can_be_repeated(datalist):
    def task(**training) -> VolumeTask:
        settings = stage(**training)
        dropout = settings.training.channel_dropout
        preparation = preparation_of(CHANNELS, settings.spacing_mm, datalist, channel_dropout=dropout)
        return VolumeTask(settings, preparation, datalist, 5, Progress())

    plain, dropping = task(), task(channel_dropout=0.5)
    for number in (0, 3):
        (images, masks), (less, same_masks) = plain.batch(number), dropping.batch(number)
        assert torch.equal(masks, same_masks) and torch.equal(less, dropping.batch(number)[0])
        gone = (less == 0).flatten(2).all(dim=2)
        assert gone[:, (0, 2)].any() and torch.equal(less[:, 1], images[:, 1])  # FLAIR is the reference
        assert torch.equal(less[~gone], images[~gone])
    expected = generator(5, "channel dropout", 3).random((8, 3)) < 0.5
    assert np.array_equal(gone[:, (0, 2)].numpy(), expected[:, (0, 2)])


def test_what_was_trained_with_it_can_do_without_all_but_the_reference(datalist):
    assert preparation_of(CHANNELS, None, datalist, channel_dropout=0.2).optional == ("T1", "T2")
    plain = preparation_of(CHANNELS, None, datalist)
    assert plain.optional == () and not plain.bias_correction
    assert preparation_of(CHANNELS, None, datalist, bias_correction=True).bias_correction


@pytest.mark.parametrize(("channels", "share"), [(("FLAIR",), 0.2), (CHANNELS, 1.0), (CHANNELS, -0.1)])
def test_a_share_that_makes_no_sense_is_refused(channels, share):
    with pytest.raises(ValidationError, match="channel_dropout"):
        SegmentationTarget(
            kind="target", task="segmentation", datalist="d", channels=channels, training={"channel_dropout": share}
        )
