"""Prepared cases that are kept: a finding that moves costs no second look at the volumes."""

from __future__ import annotations

import json
from collections import OrderedDict

from ..data.case import Case
from ..data.patches import PatchSource, PatchSpec
from ..data.volume import Volume

_KEPT = 8  # sources; those of one case share its volumes


class PatchSources:
    """The patch sources of the latest case, by the kind of its patches."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[dict[str, Volume], PatchSource]] = OrderedDict()

    def source(self, case: Case, spec: PatchSpec) -> PatchSource:
        """A source for a case; the kept one while the case has the very same volumes, whatever its findings are.

        Raises InputError as :class:`~XTLLib.data.patches.PatchSource`.
        """
        key = json.dumps(spec.to_dict(), sort_keys=True)
        volumes = dict(case.channels)
        known, source = self._kept.get(key, ({}, None))
        if source is None or known.keys() != volumes.keys() or any(known[name] is not volumes[name] for name in known):
            source = PatchSource(case, spec)
            # Sources of other volumes would keep those in memory.
            self._kept = OrderedDict((k, kept) for k, kept in self._kept.items() if _is_of(kept[0], volumes))
            self._kept[key] = (volumes, source)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return source


def _is_of(kept: dict[str, Volume], volumes: dict[str, Volume]) -> bool:
    return any(volume is volumes.get(name) for name, volume in kept.items())
