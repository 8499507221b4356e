"""Whether a bundle is still what its records say: files, weights and chain, with every hash computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..progress import Progress
from ..transfer.provenance import ChainRecord, hash_of_weights
from ..transfer.summary import plain
from . import layout
from .code import code_in
from .hashes import bundle_files, changed_files
from .load import Bundle, load_bundle
from .weights import read_weights


@dataclass(frozen=True)
class Verification:
    """What came out.

    Attributes
    ----------
    path : the bundle's folder.
    changed : files that are not as the bundle's hashes say, in words.
    problems : what else does not agree, one sentence each without its full stop.
    notes : what could not be checked, or is worth knowing.
    files, stages : how many of them were looked at.
    """

    path: Path
    changed: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    files: int
    stages: int

    @property
    def agrees(self) -> bool:
        return not (self.changed or self.problems)


def verify_bundle(path: Path, progress: Progress | None = None) -> Verification:
    """Compute every hash of a bundle again and compare it with what the bundle records.

    Checked are: each file against ``configs/hashes.json``; ``models/model.pt`` against ``configs/xtl.json``, and
    its tensors against the last stage's ``weights_out`` in ``configs/chain.json``; that each stage began with the
    weights that the one before left; that description and weights make a network.
    """
    path, progress = Path(path), progress or Progress()
    changed, problems, notes, stages = None, [], [], 0
    title = "Verifying" if path.name.startswith(".") else f"Verifying {path.name}"  # a draft has no name yet
    progress.report(f"{title}: files", 0.0)
    try:
        changed = changed_files(path)
    except InputError as error:
        problems.append(error.what)
    else:
        if changed is None:
            notes.append(f"{layout.HASHES} is missing: only weights and chain could be checked")
    progress.report(f"{title}: weights", 0.4)
    try:
        bundle = load_bundle(path)
    except InputError as error:
        problems.append(error.what)
    else:
        found, remarks, stages = _check_chain(bundle)
        problems, notes = problems + found, notes + remarks
    notes += [f"it names code that XTL did not write and never runs: {words}" for words in code_in(path)]
    progress.report(f"{title}: done", 1.0)
    return Verification(path, changed or (), tuple(problems), tuple(notes), len(bundle_files(path)), stages)


def _check_chain(bundle: Bundle) -> tuple[list[str], list[str], int]:
    """Problems, notes and the number of stages."""
    if not bundle.provenance.get("stages"):
        return [], [f"{layout.CHAIN} records no stages"], 0
    try:
        record = ChainRecord.from_dict(bundle.provenance)
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        return [f"{layout.CHAIN} is no record of a chain ({plain(error)})"], [], 0
    problems = [f"{layout.CHAIN}: {words}" for words in record.breaks]
    state: Mapping[str, Any] = read_weights(bundle.path / layout.WEIGHTS)
    if record.stages[-1].weights_out != hash_of_weights(state):
        problems.append(f"{layout.WEIGHTS} holds other weights than {layout.CHAIN} says")
    return problems, [], len(record.stages)
