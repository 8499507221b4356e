"""Advisory columns of a study: how well each arm's backbone, before the target stage, separates the target's classes.

The scores are those of :mod:`..metrics.transferability`, with its caution. What they are computed on is a project
choice: the training part of the first fold, which no test patient is part of, with the first seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.datalist import Datalist
from ..errors import InputError, XTLError
from ..metrics.transferability import Transferability, transferability
from ..networks.initialisation import initialise_backbone
from ..progress import Progress
from ..training.checkpoint import load_saved_weights
from ..training.patches import INTENSITY_STATISTICS
from ..training.run_folder import RunFolder
from ..training.seeds import derive, generator
from ..training.stages import PreparedStage, prepare_stage
from ..training.travelling import Travelling, network_again
from ..transfer.provenance import StageRecord
from ..transfer.stages import MammogramClassification
from .config import Study
from .result import LEFT_OUT
from .run import task_of
from .runs import Deals, PlannedRun

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..networks.build import Network
    from ..transfer.chain import Chain

_WINDOW_BATCHES = 8
_MOST_CELLS = 500  # of the deepest stage, of each class
_LARGEST_VIEW = 128  # pixels to which a patch is enlarged for a source that tells mammograms apart
_BATCH = 16


def transferability_columns(
    study: Study, datalist: Datalist, out: Path, progress: Progress | None = None
) -> dict[str, dict[str, float | str | None]]:
    """Arm -> score -> value, for ``facts["transferability"]`` of a study whose runs are finished in ``out``.

    An arm whose run is missing, or whose first fold gives nothing to score, has its reason as the only entry,
    ``left_out``: the study's own results do not depend on it.
    """
    progress, deals = progress or Progress(), Deals(study, datalist)
    columns: dict[str, dict[str, float | str | None]] = {}
    for number, arm in enumerate(study.arms):
        progress.report(f"Transferability of {arm.name}", number / len(study.arms))
        run = PlannedRun(arm.name, study.seeds[0], 0, 0, study.training_sizes[-1])
        chain, fold = deals.chain(run), deals.fold(run)
        task = task_of(study, run, deals, Path(out).absolute())
        try:
            incoming, source = incoming_of(chain, task.folder / "chain", Path(out) / "cache")
            columns[arm.name] = asdict(score_source(chain, fold, incoming, source))
        except XTLError as error:
            columns[arm.name] = {LEFT_OUT: error.what}
    return columns


def incoming_of(chain: Chain, folder: Path, cache: Path) -> tuple[Travelling, Network | None]:
    """What reaches the target stage of a finished run, and the network of the stage before, None without one.

    Raises InputError when the run or its weights are not there.
    """
    if not chain.intermediates:
        first = chain.initialisation
        backbone, _ = initialise_backbone(
            chain.backbone,
            weights=first.weights,
            sha256=first.sha256,
            layout=first.layout,
            keys=first.keys,
            minimum_match=first.minimum_match,
            seed=derive(chain.seed, "initialisation"),
        )
        return Travelling(backbone, first.is_learned), None
    index = len(chain.intermediates)
    stage = chain.stages[index]
    path = RunFolder(folder).stage(index, stage.kind) / "record.json"
    try:
        record = StageRecord.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"the record {path} cannot be read ({error})", "Run the study first") from error
    weights = Path(cache) / record.key / "weights.pt"
    if not weights.is_file():
        raise InputError(f"the weights {weights} are gone", "Run the study again")
    network = network_again(record.network, load_saved_weights(weights), str(weights.parent))
    return Travelling.after(stage, network), network.eval()


def score_source(chain: Chain, fold: Datalist, incoming: Travelling, source: Network | None = None) -> Transferability:
    """Scores of a backbone on the training part of a fold, as the target stage would first see it.

    Of a classification an image is a finding's patch. Of a segmentation it is a cell of the deepest stage in training
    windows, its class whether a lesion voxel lies in it.

    Parameters
    ----------
    chain : whose target stage comes next. incoming : what reaches it.
    source : the network of the stage before; where it tells mammograms apart, its probabilities for the middle slice of
        the first channel give LEEP and NCE.

    Raises
    ------
    InputError : the training part has one class only.
    """
    import torch

    training = chain.target.training.model_copy(update={"augmentation": False, "validation": 0.0})
    stage = chain.target.model_copy(update={"training": training})
    prepared = prepare_stage(
        chain,
        stage,
        replace(fold, test=()),
        incoming.backbone,
        is_learned=incoming.is_learned,
        seed=derive(chain.seed, "target"),
        progress=Progress(),
        decoder=incoming.decoder,
    )
    prepared.network.eval()
    with torch.no_grad():
        if fold.task == "segmentation":
            return transferability(*_cells(prepared, chain.seed))
        from ..data.patches import load_patch

        patches = torch.from_numpy(np.stack([load_patch(entry, fold, prepared.patches) for entry in fold.training]))
        labels = np.array([entry.label for entry in fold.training])
        features = torch.cat([prepared.network.features(part.float()) for part in patches.split(_BATCH)]).numpy()
        before = chain.stages[-2]
        probabilities = None
        if source is not None and isinstance(before, MammogramClassification):
            mean, sd = INTENSITY_STATISTICS[prepared.patches.intensity]
            side = min(before.region or before.image_size, _LARGEST_VIEW)
            probabilities = _as_mammograms(source, (patches - mean) / sd, side)
        return transferability(features, labels, probabilities)


def _cells(prepared: PreparedStage, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) of cells of the deepest stage and whether a lesion lies in them; as many of either kind."""
    import torch.nn.functional as F

    features, labels = [], []
    for deepest, mask in _deepest(prepared):
        features.append(deepest.movedim(1, -1).flatten(0, -2).numpy())
        labels.append((F.adaptive_max_pool3d(mask.float(), deepest.shape[2:]) > 0).flatten().numpy())
    cells, classes = np.concatenate(features), np.concatenate(labels).astype(int)
    rng = generator(seed, "transferability")
    by_class = [rng.permutation(np.flatnonzero(classes == value)) for value in (0, 1)]
    count = min(_MOST_CELLS, *map(len, by_class))
    chosen = np.concatenate([members[:count] for members in by_class])
    return cells[chosen], classes[chosen]


def _deepest(prepared: PreparedStage) -> Iterator[tuple[Tensor, Tensor]]:
    """Output of the backbone's deepest stage and mask, of some training windows."""
    seen: list[torch.Tensor] = []
    hook = prepared.network.backbone.register_forward_hook(lambda _, __, stages: seen.append(stages[-1]))
    try:
        for number in range(min(_WINDOW_BATCHES, prepared.task.steps)):
            images, masks = prepared.task.batch(number)
            prepared.network(images)
            yield seen.pop(), masks.reshape(len(images), 1, *masks.shape[-3:])
    finally:
        hook.remove()


def _as_mammograms(network: nn.Module, patches: Tensor, side: int) -> np.ndarray:
    """Class probabilities (n, classes) that a network for mammograms gives the patches (n, C, K, J, I)."""
    import torch
    import torch.nn.functional as F

    grey = patches[:, :1, patches.shape[2] // 2].float()
    images = F.interpolate(grey, size=(side, side), mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)
    logits = torch.cat([network(part) for part in images.split(_BATCH)])
    if logits.shape[1] == 1:
        p = torch.sigmoid(logits)
        return torch.cat([1 - p, p], dim=1).double().numpy()
    return torch.softmax(logits.double(), dim=1).numpy()
