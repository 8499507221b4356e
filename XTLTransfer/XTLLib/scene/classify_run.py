"""From marked findings to their ratings: read the scene, rate in the background, change the scene at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.case import Case, Finding
from ..inference.results import ClassificationResult
from ..progress import Progress
from .background import BackgroundRun, WorkerLike, scene_notes
from .choices import bundle_for, optional_channels
from .classification import ClassificationNodes, add_classification
from .findings import findings_from_node
from .nodes import case_from_nodes

OUTPUTS = ("table", "labelMap")


@dataclass(frozen=True)
class RatedCase:
    """What an Apply has brought: the results in the scene, and sentences for the user."""

    nodes: ClassificationNodes
    result: ClassificationResult
    notes: tuple[str, ...]


def finding_case(bundle: Any, channels: Mapping[str, Any]) -> tuple[Case, dict[str, Any]]:
    """The case without findings that a bundle takes, and the volume nodes that it is made of, by channel.

    Raises InputError naming the node that is missing or cannot be used.
    """
    used = {name: channels.get(name) for name in bundle.channels}
    case = case_from_nodes(used, bundle.reference, optional=optional_channels(bundle))
    return case, {name: node for name, node in used.items() if node is not None}


def classify_now(
    channels: Mapping[str, Any],
    findings: Any,
    bundle: str | os.PathLike,
    scene: Any,
    outputs: Mapping[str, Any],
    progress: Progress | None = None,
    **options: Any,
) -> ClassificationNodes:
    """What the panel does in the background, here and now: for the console and for scripts.

    Parameters
    ----------
    channels : see :func:`finding_case`. findings : a point list node.
    outputs : table, labelMap -> node; None or absent makes a new one.
    options : of inference.classify.classify_case.

    Raises
    ------
    InputError : names the node or file that is wrong; the scene is as it was.
    """
    from ..inference.classify import classify_case

    progress = progress or Progress()
    model = bundle_for("classification", bundle)
    case, used = finding_case(model, channels)
    case = replace(case, findings=findings_from_node(findings))
    result = classify_case(case, model, progress=progress.part(0.0, 0.95), **options)
    progress.report("Adding the results to the scene", 0.95)
    reference = used[model.reference]
    return add_classification(result, scene, reference, findings, outputs.get("labelMap"), outputs.get("table"))


class BackgroundRating(BackgroundRun):
    """One case, or one finding of it, at a time, in a worker process."""

    def __init__(self, worker: WorkerLike | None = None) -> None:
        super().__init__(worker)
        self._case: tuple[tuple, Case, dict[str, Any]] | None = None  # kept while its volumes stay as they are
        self._bundle = ""
        self._findings_node: Any = None
        self._outputs: dict[str, Any] = {}

    def start(
        self,
        channels: Mapping[str, Any],
        findings: Any,
        bundle: str | os.PathLike,
        outputs: Mapping[str, Any],
        **options: Any,
    ) -> None:
        """Read volumes and findings from the scene and send them to the worker; see :func:`classify_now`.

        Raises XTLError for a node that cannot be used; the scene is as it was.
        """
        self._findings_node = findings
        self._outputs = {name: node for name in OUTPUTS if (node := outputs.get(name)) is not None}
        self.rate(channels, findings_from_node(findings), bundle, **options)

    def rate(
        self, channels: Mapping[str, Any], findings: Sequence[Finding], bundle: str | os.PathLike, **options: Any
    ) -> None:
        """Send these findings to the worker; :meth:`rating` then has what became of them."""
        case = replace(self._read_case(channels, bundle), findings=tuple(findings))
        key = repr(self._case[0])  # while it stays the same, the worker has the images, prepared
        self._begin(lambda worker: worker.classify(case, Path(bundle), case_key=key, **options), bundle)

    def rating(self) -> ClassificationResult:
        """The result of :meth:`rate`. Raises Cancelled or XTLError as :meth:`finish`."""
        return self._result()

    def finish(self, scene: Any) -> RatedCase:
        """Put the result into the scene: into the outputs of :meth:`start` that are still there, else into new nodes.

        A point list that was removed meanwhile is made anew, so that no rating is lost.

        Raises
        ------
        Cancelled : it was stopped, also when the result was there already.
        XTLError : it failed; :attr:`details` then has what the worker said. The scene is as it was.
        """
        result = self._result()
        _, case, nodes = self._case
        outputs = {role: node for role, node in self._outputs.items() if node.GetScene() is scene}
        gone = [node.GetName() for node in (*nodes.values(), self._findings_node) if node.GetScene() is not scene]
        reference, findings = (
            node if node is not None and node.GetScene() is scene else None
            for node in (nodes.get(case.reference), self._findings_node)
        )
        put = add_classification(result, scene, reference, findings, outputs.get("labelMap"), outputs.get("table"))
        notes = (*result.notes, *scene_notes(gone, len(self._outputs) - len(outputs)))
        return RatedCase(put, result, notes)

    def forget_case(self) -> None:
        """Let go of the volumes: the scene is being closed."""
        self._case = None

    def forget(self) -> None:
        """Let go of the nodes of the last run; the volumes are kept for the next finding that is moved."""
        super().forget()
        self._findings_node, self._outputs = None, {}

    def close(self) -> None:
        """End the worker and remove its files, whatever it does."""
        super().close()
        self.forget_case()

    def _read_case(self, channels: Mapping[str, Any], bundle: str | os.PathLike) -> Case:
        key = (str(bundle), *((name, *_state(node)) for name, node in channels.items() if node is not None))
        if self._case is None or self._case[0] != key:
            case, nodes = finding_case(bundle_for("classification", bundle), channels)
            self._case = (key, case, nodes)
        return self._case[1]


def _state(node: Any) -> tuple:
    """Tells one state of a volume node from another: its voxels, its place, and the transforms above it."""
    image = node.GetImageData()
    scalars = None if image is None else image.GetPointData().GetScalars()
    parent, above = node.GetParentTransformNode(), []
    while parent is not None:
        above.append((parent.GetID(), parent.GetTransformToWorldMTime()))
        parent = parent.GetParentTransformNode()
    times = (node.GetMTime(), 0 if scalars is None else scalars.GetMTime())
    return (node.GetID(), *times, *above)
