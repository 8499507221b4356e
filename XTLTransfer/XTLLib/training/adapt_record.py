"""The record of an adaptation in a bundle's chain, and the adapted bundle on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..bundle.load import Bundle
from ..bundle.write import write_bundle
from ..data.case import Case
from ..errors import InputError
from ..networks.peft_adapters import adapter_rank
from ..transfer.adaptation import Adaptation
from ..transfer.figure import Figure
from ..transfer.provenance import (
    ADAPTATION,
    ChainRecord,
    DatalistRecord,
    StageRecord,
    device_words,
    hash_of,
    hash_of_weights,
    versions,
)
from .adapt_cases import content_hash
from .adapt_outcome import AdaptationOutcome
from .adapt_replay import Replay
from .adapt_split import Split
from .engine import Fit

if TYPE_CHECKING:
    import torch
    from torch import nn

_FORMAT = 1  # part of the stage's key: raise it when an adaptation's figures change
_LAYOUT = "corrected cases"


def chain_of(bundle: Bundle) -> ChainRecord:
    """The chain that a bundle's weights went through; one without stages where nothing is recorded.

    Raises InputError when the record cannot be read, or ends in other weights than the bundle holds.
    """
    if not bundle.provenance.get("stages"):
        return ChainRecord(bundle.name, 0, bundle.spec.backbone, ())
    try:
        chain = ChainRecord.from_dict(bundle.provenance)
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the record of the chain of the bundle {bundle.name} cannot be read ({error})",
            "Get the bundle again from where it came",
        ) from error
    if chain.stages[-1].weights_out != hash_of_weights(bundle.network().state_dict()):
        raise InputError(
            f"the bundle {bundle.name} holds other weights than its record says",
            "Get the bundle again from where it came; xtl models verify says more",
        )
    return chain


def data_record(
    cases: Sequence[Case], split: Split | None, channels: Sequence[str], name: str, licence: str
) -> DatalistRecord:
    """What is recorded of the corrected cases: counts and a content hash, nobody's name."""
    return DatalistRecord(
        _LAYOUT,
        name,
        licence,
        entries=len(cases),
        patients=len({case.patient for case in cases}),
        training=len(cases) if split is None else len(split.learned),
        validation=0 if split is None else len(split.held_out),
        content_hash=content_hash(cases, channels),
        task="segmentation",
        labels={"0": "background", "1": "lesion"},
    )


def stage_record(
    bundle: Bundle,
    network: nn.Module,
    settings: Adaptation,
    data: DatalistRecord,
    source: Replay | None,
    outcome: AdaptationOutcome,
    fit: Fit,
    device: torch.device,
    started: str,
) -> StageRecord:
    """The adaptation as a stage. ``fit`` is that of the weights that are written, ``started`` the day (UTC)."""
    weights_in = hash_of_weights(bundle.network().state_dict())
    configuration: dict[str, Any] = settings.model_dump(mode="json")
    if source is not None:
        used = source.datalist
        configuration["replay_data"] = {
            "name": used.name,
            "training": len(used.training),
            "validation": len(used.validation),
            "content_hash": used.content_hash(),
        }
    spec = replace(bundle.spec, adapters=adapter_rank(network.backbone))
    return StageRecord(
        ADAPTATION,
        "segmentation",
        hash_of([_FORMAT, configuration, data.content_hash, weights_in]),
        configuration,
        weights_in,
        hash_of_weights(network.state_dict()),
        data,
        metrics=_metrics(outcome, fit),
        notes=outcome.notes,
        seed=settings.seed,
        device=device_words(device),
        versions=versions(),
        seconds=outcome.seconds,
        started=started,
        network=spec.to_dict(),
    )


def write_adapted(
    bundle: Bundle, network: nn.Module, chain: ChainRecord, outcome: AdaptationOutcome, name: str | None
) -> None:
    """Write ``outcome.bundle``, whole or not at all; ``chain`` ends in the adaptation."""
    stage = chain.stages[-1]
    patients = stage.datalist.patients
    post = {"threshold": outcome.threshold, "minimum_volume_mm3": bundle.minimum_volume_mm3}
    write_bundle(
        outcome.bundle,
        network,
        replace(bundle.spec, adapters=adapter_rank(network.backbone)),
        "segmentation",
        preparation=bundle.preparation,
        postprocessing=post,
        provenance=chain.to_dict(),
        name=name or _adapted_name(bundle.name),
        description=f"{bundle.description}; adapted to {patients} corrected patient{'s' if patients != 1 else ''}",
    )


def _metrics(outcome: AdaptationOutcome, fit: Fit) -> dict[str, float | Figure]:
    """The figure after the adaptation comes first: it is the one that summaries show."""
    metrics: dict[str, float | Figure] = {}
    for title, after, before in (
        ("held-out", outcome.after, outcome.before),
        ("source", outcome.replay_after, outcome.replay_before),
    ):
        if after is not None and before is not None:
            metrics |= {f"{title} Dice": after.dice, f"{title} Dice before": before.dice}
            metrics |= {f"{title} lesion F1": after.lesion_f1, f"{title} lesion F1 before": before.lesion_f1}
    losses = {"first loss": fit.first_loss, "last loss": fit.last_loss}
    return {**metrics, "threshold": outcome.threshold, "steps": fit.steps, **losses}


def _adapted_name(name: str) -> str:
    """xtl-ms -> xtl-ms-adapted -> xtl-ms-adapted-2 -> xtl-ms-adapted-3."""
    base, mark, number = name.rpartition("-adapted")
    if not mark or not (number == "" or number[1:].isdigit()):
        return f"{name}-adapted"
    return f"{base}-adapted-{int(number[1:] or 1) + 1}"
