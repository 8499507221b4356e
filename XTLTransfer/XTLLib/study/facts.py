"""What a report says about the data and the arms: from the study file, where the study itself left nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..data.datalist import Datalist
from ..errors import XTLError
from ..transfer.chain import Chain
from ..transfer.provenance import DatalistRecord, configuration_of, hash_of
from ..transfer.summary import summarise_chain
from .config import Study
from .result import StudyResult

BASELINES: Mapping[str, tuple[str, ...]] = {
    "radiomics-lr": ("radiomics features of the patch", "logistic regression"),
    "svm": ("features of the patch", "support vector machine"),
    "adc-contrast": ("contrast of ADC, ring minus disc", "nothing is fitted"),
    "flair-threshold": ("FLAIR normalised to the head", "the threshold of largest mean Dice in the training part"),
}


def data_facts(result: StudyResult) -> dict[str, Any]:
    """Name, layout, licence, description, cases, patients, positives and content hash of the target datalist.

    A key is absent where it is not known: the datalist may have gone since.
    """
    facts: dict[str, Any] = {"name": "", "cases": len({score.case for score in result.scores})}
    facts["patients"] = len({score.patient for score in result.scores})
    if result.task == "classification":
        truth = {score.case: score.values.get("truth") for score in result.scores}
        facts["positives"] = sum(value == 1.0 for value in truth.values())
    try:
        datalist = Datalist.load(result.study.datalist)
    except XTLError as error:
        return {**facts, "note": error.what, **result.facts.get("datalist", {})}
    facts |= {key: getattr(datalist, key) for key in ("name", "layout", "licence", "description")}
    facts |= {"cases": len(datalist.entries), "patients": len(datalist.patients())}
    facts |= {"channels": list(datalist.channels), "reference": datalist.reference, "labels": dict(datalist.labels)}
    try:
        facts["hash"] = datalist.content_hash()
    except (XTLError, OSError):
        facts["note"] = "its files are no longer there, so that it has no content hash"
    return {**facts, **result.facts.get("datalist", {})}


def arm_facts(result: StudyResult, name: str) -> dict[str, Any]:
    """``stages`` (rows with kind, title, licence, hash), ``hash`` of the chain and ``seconds`` of an arm or baseline.

    ``note`` says why there are no stages, when the chain file has gone.
    """
    given = {**result.facts.get("arms", {}).get(name, {})}
    seconds = result.facts.get("seconds", {}).get(name)
    if seconds is not None:
        given.setdefault("seconds", seconds)
    if given.get("stages"):
        return given
    arm = result.study.arm(name)
    if arm is None:
        titles = BASELINES.get(name, (name,))
        return {"stages": [{"kind": "baseline", "title": title} for title in titles], **given}
    try:
        chain = arm.load()
    except XTLError as error:
        return {"stages": [], "note": error.what, **given}
    facts = {
        "stages": list(_stages(chain, result.study)),
        "hash": hash_of(chain.model_dump(mode="json")),
        "backbone": chain.backbone,
        "conversion": chain.conversion,
    }
    return {**facts, **given}


def _stages(chain: Chain, study: Study) -> Iterator[dict[str, Any]]:
    for stage in chain.stages:
        row: dict[str, Any] = {"kind": stage.kind, "task": getattr(stage, "task", None)}
        row["configuration"] = configuration_of(stage)
        row["hash"] = hash_of(row["configuration"])
        if stage.kind == "initialisation":
            row["licence"] = stage.licence or ""
        else:
            path = study.datalist if stage.kind == "target" else stage.datalist
            row |= _datalist_of(path)
        yield {**row, "title": summarise_chain({"stages": [row]})}


def _datalist_of(path: str) -> dict[str, Any]:
    try:
        datalist = Datalist.load(path)
    except XTLError as error:
        return {"note": error.what}
    record = asdict(DatalistRecord.of(datalist, ""))
    return {"datalist": record, "licence": datalist.licence, "parts": _part_words(datalist)}


def _part_words(datalist: Datalist) -> str:
    return f"{len(datalist.entries)} entries of {len(datalist.patients())} patients"
