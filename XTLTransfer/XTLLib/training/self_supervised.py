"""Stages without labels: hidden parts are filled in, or views of one image are recognised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..inference.device import inference_precision
from ..networks.layout import to_fast_layout
from .figures import mean_figure
from .losses import contrastive_loss, reconstruction_loss
from .masking import masked_example
from .seeds import generator
from .task import Validation

if TYPE_CHECKING:
    from ..transfer.figure import Figure
    from ..transfer.stages import SelfSupervised

_FEWEST_TO_TELL_APART = 4  # held-out images from which the share that is recognised says something


class ImageSource(Protocol):
    """Images without labels, as network inputs (N, C, D, H, W), float32.

    Attributes
    ----------
    channels, shape : C, and (D, H, W). held_out_patients : the patient of each held-out image.
    """

    channels: int
    shape: tuple[int, int, int]
    held_out_patients: tuple[str, ...]

    def draw(self, number: int, rng: np.random.Generator) -> Tensor:
        """The inputs of batch ``number``."""
        ...

    def views(self, number: int, rng: np.random.Generator) -> Tensor:
        """Two views of each image of batch ``number``, one after the other: (2 N, ...)."""
        ...

    def held_out(self) -> Tensor:
        """The held-out inputs, unchanged."""
        ...

    def held_out_views(self, rng: np.random.Generator) -> Tensor:
        """Two views of each held-out image, one after the other."""
        ...


class _SelfSupervisedTask(ABC):
    validations = 10

    def __init__(self, stage: SelfSupervised, images: ImageSource, seed: int) -> None:
        self._stage, self._images, self._seed = stage, images, seed
        self._batch_size = stage.training.batch_size
        self.steps = stage.training.steps

    @abstractmethod
    def figure(self, network: nn.Module) -> Figure:
        """The stage's figure on the validation patients, with its interval."""

    def _output(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """What a network in evaluation mode makes of inputs: float32, on the CPU."""
        device = next(network.parameters()).device
        with torch.inference_mode(), inference_precision(device):
            parts = [network(to_fast_layout(part.to(device))).float().cpu() for part in inputs.split(self._batch_size)]
        return torch.cat(parts)


class MaskedTask(_SelfSupervisedTask):
    """A training.task.Task that fills in hidden blocks.

    Metric: share of the variance of hidden tissue that is explained, for each patient 1 - SSE / SST over all
    that is hidden of the patient's held-out images, SST taken about its mean; then the mean over patients. 1 is
    perfect, 0 a guess of the mean.
    """

    metric = "validation explained variance"

    def __init__(self, stage: SelfSupervised, images: ImageSource, seed: int) -> None:
        super().__init__(stage, images, seed)
        self.can_validate = len(images.held_out_patients) > 0
        if self.can_validate:
            rng = generator(seed, "held-out blocks")
            self._held_out = self._with_blocks(images.held_out(), rng)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng = generator(self._seed, "images", number)
        return self._with_blocks(self._images.draw(number, rng), rng)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return reconstruction_loss(logits, targets)

    def validate(self, network: nn.Module) -> Validation:
        """Explained variance and loss on the held-out images."""
        output = self._output(network, self._held_out[0])
        explained, _ = self._explained(output)
        return Validation(float(np.mean(explained)), float(reconstruction_loss(output, self._held_out[1])))

    def figure(self, network: nn.Module) -> Figure:
        return mean_figure(*self._explained(self._output(network, self._held_out[0])))

    def _with_blocks(self, images: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return masked_example(images, self._stage.mask_size, self._stage.mask_share, rng)

    def _explained(self, output: Tensor) -> tuple[list[float], list[str]]:
        """(explained share, patient) of every held-out patient of whom some tissue is hidden."""
        truth, counts = self._held_out[1].chunk(2, dim=1)
        owners = np.array(self._images.held_out_patients)
        shares, patients = [], []
        for patient in dict.fromkeys(self._images.held_out_patients):
            own = torch.from_numpy(owners == patient)
            inside = counts[own] > 0
            values, guesses = truth[own][inside].double(), output[own][inside].double()
            if len(values) > 1 and (spread := float((values - values.mean()).square().sum())) > 0:
                shares.append(1 - float((values - guesses).square().sum()) / spread)
                patients.append(patient)
        return (shares, patients) if shares else ([0.0], [str(owners[0])])


class ContrastiveTask(_SelfSupervisedTask):
    """A training.task.Task that recognises a view of an image among views of other images.

    Metric: top-1 retrieval, the share of held-out images whose first view is more similar to its own second
    view than to that of any image of another patient. 1 is perfect; a guess finds one in as many as there are
    to choose from. Views are random changes whether or not the stage augments.
    """

    metric = "validation retrieval"

    def __init__(self, stage: SelfSupervised, images: ImageSource, seed: int) -> None:
        super().__init__(stage, images, seed)
        patients = images.held_out_patients
        self.can_validate = len(patients) >= _FEWEST_TO_TELL_APART and len(set(patients)) > 1
        if self.can_validate:
            self._held_out = images.held_out_views(generator(seed, "held-out views"))

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        views = self._images.views(number, generator(self._seed, "images", number))
        return views, _numbers_of(views)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return contrastive_loss(logits, targets, self._stage.temperature)

    def validate(self, network: nn.Module) -> Validation:
        """Retrieval and loss on the held-out images."""
        vectors = self._output(network, self._held_out)
        loss = contrastive_loss(vectors, _numbers_of(vectors), self._stage.temperature)
        return Validation(float(self._is_found(vectors).mean()), float(loss))

    def figure(self, network: nn.Module) -> Figure:
        found = self._is_found(self._output(network, self._held_out))
        return mean_figure(found, self._images.held_out_patients)

    def _is_found(self, vectors: Tensor) -> np.ndarray:
        """For each held-out image whether its second view is recognised: float (n,)."""
        unit = functional.normalize(vectors, dim=1)
        _, owners = np.unique(self._images.held_out_patients, return_inverse=True)
        owners = torch.from_numpy(owners)
        # Other images of a patient may show the same place.
        left_out = (owners[:, None] == owners[None, :]).fill_diagonal_(False)
        similarity = (unit[0::2] @ unit[1::2].T).masked_fill(left_out, -torch.inf)
        return (similarity.argmax(dim=1) == torch.arange(len(owners))).numpy().astype(float)


def _numbers_of(views: Tensor) -> Tensor:
    """The number of each view's image, counted within the batch: 0, 0, 1, 1, ..."""
    return torch.arange(len(views)) // 2
