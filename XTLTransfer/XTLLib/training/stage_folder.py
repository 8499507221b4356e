"""Where a stage leaves its results, and where finished stages are found again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..files import atomic_file, atomic_folder
from ..progress import Progress
from ..transfer.provenance import StageRecord
from .checkpoint import load_saved_weights, save_weights

_RECORD, _WEIGHTS, _LOG = "record.json", "weights.pt", "log.tsv"
_ASK_EVERY_S = 0.5


class StageFolder:
    """``out/stages/NN-kind``: ``checkpoint.pt``, ``log.tsv`` in training, then ``weights.pt``, ``record.json``.

    Parameters
    ----------
    path : the folder. key : identity of the stage; what belongs to another key is not taken.
    cache : folder of finished stages by key, shared between runs; None for none.
    """

    def __init__(self, path: Path, key: str, cache: Path | None = None) -> None:
        self.path, self._key = path, key
        self._cached = None if cache is None else Path(cache) / key
        path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self, progress: Progress) -> Iterator[None]:
        """Keep other processes with the same cache from this stage, so that one of them trains it.

        Waits while another one is at it. The system lifts the lock of a process that dies.
        Raises Cancelled as the progress says.
        """
        if self._cached is None or (self.path / _RECORD).is_file():
            yield
            return
        from filelock import FileLock, Timeout  # torch brings it

        self._cached.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._cached.with_suffix(".lock"))
        while not lock.is_locked:
            try:
                lock.acquire(timeout=_ASK_EVERY_S)
            except Timeout:
                progress.report("Waiting for a stage that another process trains", 0.0)
        try:
            yield
        finally:
            lock.release()

    def finished(self) -> StageRecord | None:
        """The stage's record when it is finished here, or in the cache, from where it is then copied."""
        if not (self.path / _RECORD).is_file() and self._cached is not None and (self._cached / _RECORD).is_file():
            for name in (_LOG, _WEIGHTS, _RECORD):  # the record comes last: it says that the rest is there
                if (self._cached / name).is_file():
                    with atomic_file(self.path / name) as draft:
                        shutil.copyfile(self._cached / name, draft)
        return self._read_record()

    def weights(self) -> dict[str, Tensor]:
        """The state dict of the finished stage."""
        return load_saved_weights(self.path / _WEIGHTS)

    def finish(self, record: StageRecord, state: dict[str, Tensor] | None) -> None:
        """Write weights and record, and put them into the cache. ``state`` None: nothing was trained."""
        if state is not None:
            save_weights(state, self.path / _WEIGHTS)
        with atomic_file(self.path / _RECORD) as draft:
            draft.write_text(json.dumps(record.to_dict(), indent=2), encoding="utf-8")
        if self._cached is not None and not self._cached.exists():
            with atomic_folder(self._cached) as draft:
                for name in (_LOG, _WEIGHTS, _RECORD):
                    if (self.path / name).is_file():
                        shutil.copyfile(self.path / name, draft / name)

    def _read_record(self) -> StageRecord | None:
        path = self.path / _RECORD
        if not path.is_file():
            return None
        try:
            record = StageRecord.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"the record {path} cannot be read ({error})", "Delete the stage's folder") from error
        return record if record.key == self._key else None
