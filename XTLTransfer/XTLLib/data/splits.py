"""Dividing patients into parts: every case of a patient goes the same way, strata are kept in proportion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ..errors import InputError


def draw_patients(strata: Mapping[str, int], count: int, seed: int, purpose: str) -> set[str]:
    """Draw ``count`` patients, from every stratum in proportion to its size (largest remainder).

    The draw depends on the patients' names, the seed and the purpose only: neither on the order in
    which files were found nor on the versions of any library.

    Parameters
    ----------
    strata : patient -> stratum (for example whether any lesion of the patient is significant).
    count : number of patients to draw.
    purpose : a word that makes draws with one seed independent of each other ("test", "validation").
    """
    if count > len(strata):
        raise InputError(f"{count} patients were asked for and {len(strata)} are there", "Ask for a smaller part")
    by_stratum: dict[int, list[str]] = {}
    for patient in _shuffled(strata, seed, purpose):
        by_stratum.setdefault(strata[patient], []).append(patient)
    shares = {stratum: count * len(members) / len(strata) for stratum, members in by_stratum.items()}
    quotas = {stratum: int(share) for stratum, share in shares.items()}
    by_remainder = sorted(shares, key=lambda stratum: (quotas[stratum] - shares[stratum], -stratum))
    for stratum in by_remainder[: count - sum(quotas.values())]:
        quotas[stratum] += 1
    return {patient for stratum, members in by_stratum.items() for patient in members[: quotas[stratum]]}


def deal_into_folds(strata: Mapping[str, int], k: int, seed: int) -> list[set[str]]:
    """Deal patients into ``k`` folds; patients a fold, and patients of a stratum a fold, differ by at most one.

    Raises InputError when there are fewer patients than folds, or fewer than two folds.
    """
    if k < 2 or k > len(strata):
        raise InputError(
            f"{k} folds were asked for with {len(strata)} patients",
            f"Choose between 2 and {len(strata)} folds" if len(strata) > 1 else "Add patients",
        )
    order = sorted(_shuffled(strata, seed, "folds"), key=lambda patient: -strata[patient])
    return [set(order[fold::k]) for fold in range(k)]


def part_size(patients: int, fraction: float, name: str) -> int:
    """How many of ``patients`` make the part ``name``: the rounded fraction, at least one unless it is 0."""
    if not 0 <= fraction < 1:
        raise InputError(f"the {name} part of a split is {fraction}", "Give a fraction from 0 to below 1")
    return max(1, round(patients * fraction)) if fraction > 0 else 0


def _shuffled(patients: Mapping[str, int], seed: int, purpose: str) -> list[str]:
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{purpose}:{seed}:{patient}".encode()).digest())
