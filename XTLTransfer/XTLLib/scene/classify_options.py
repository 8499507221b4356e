"""The Advanced part of the XTL Classify panel: what is asked of a rating beyond the usual.

Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..metrics.operating_points import YOUDEN

EVIDENCE: dict[str, tuple[str, ...]] = {
    "none": (),
    "grad-cam": ("grad-cam",),
    "occlusion": ("occlusion",),
    "both": ("grad-cam", "occlusion"),
}
"""What can be chosen -> the methods that it stands for."""


DEVICES = ("auto", "cpu", "cuda")


class ClassifyOptions:
    """Evidence maps, operating point and device; the number of views needs no help.

    Parameters
    ----------
    ui : has ``evidenceComboBox``, ``operatingPointComboBox``, ``deviceComboBox`` and ``operatingPointLabel``.
    """

    def __init__(self, ui: Any) -> None:
        from slicer.i18n import tr

        self._ui = ui
        self._parameters: Any = None
        self._choices: dict[str, tuple[str, ...]] = {}
        self._texts = {"none": tr("None"), "grad-cam": tr("Grad-CAM"), "occlusion": tr("Occlusion"), "both": tr("Both")}
        self._texts |= {"auto": tr("Automatic"), "cpu": tr("Processor (CPU)"), "cuda": tr("Graphics card (CUDA)")}

    def update(self, parameters: Any, bundle: Any) -> None:
        """Show what is chosen, the operating points of a bundle (or None), and what the chosen one gives."""
        self._parameters = None  # what is set here was not chosen by the user
        points = {point.rule: point for point in _points_of(bundle)}
        rule = operating_point_of(parameters, bundle)
        self._show("evidence", tuple(EVIDENCE), parameters.evidence)
        self._show("device", DEVICES, parameters.device)
        self._show("operatingPoint", tuple(points), rule)
        self._ui.operatingPointComboBox.enabled = bool(points)
        self._ui.operatingPointLabel.text = _in_words(bundle, points.get(rule))
        self._ui.operatingPointLabel.visible = bundle is not None
        self._parameters = parameters

    def release(self) -> None:
        """Let go of the scene."""
        self._parameters = None

    def chosen(self, name: str, index: int) -> None:
        """An entry of the list of "evidence", "operatingPoint" or "device" was chosen."""
        choices = self._choices.get(name, ())
        if self._parameters is not None and 0 <= index < len(choices):
            setattr(self._parameters, name, choices[index])

    def _show(self, name: str, choices: tuple[str, ...], chosen: str) -> None:
        box = getattr(self._ui, f"{name}ComboBox")
        choices += () if not chosen or chosen in choices else (chosen,)  # of a scene from elsewhere
        if choices != self._choices.get(name):
            self._choices[name] = choices
            box.clear()
            for choice in choices:
                box.addItem(self._texts.get(choice, choice))
        box.currentIndex = choices.index(chosen) if chosen else -1


def options_of(parameters: Any, bundle: Any) -> dict[str, Any]:
    """The options of inference.classify.classify_case that a parameter node asks for; usual ones are left out."""
    rule, evidence = operating_point_of(parameters, bundle), EVIDENCE.get(parameters.evidence, (parameters.evidence,))
    return asked_for(parameters.views, evidence, rule, parameters.device)


def asked_for(
    views: int = 1, evidence: Sequence[str] = (), operating_point: str | None = None, device: str = "auto"
) -> dict[str, Any]:
    """The options of inference.classify.classify_case; those that ask for nothing are left out."""
    return {
        **({"views": views} if views != 1 else {}),
        **({"evidence": list(evidence)} if evidence else {}),
        **({"operating_point": operating_point} if operating_point else {}),
        **({"device": device} if device != "auto" else {}),
    }


def operating_point_of(parameters: Any, bundle: Any) -> str:
    """The chosen rule where the bundle knows it, else Youden, else its last one; "" without any."""
    rules = [point.rule for point in _points_of(bundle)]
    for rule in (parameters.operatingPoint, YOUDEN.name):
        if rule in rules:
            return rule
    return rules[-1] if rules else ""


def _points_of(bundle: Any) -> tuple:
    return () if bundle is None or bundle.calibration is None else bundle.calibration.operating_points


def _in_words(bundle: Any, point: Any) -> str:
    from slicer.i18n import tr as _

    if bundle is None:
        return ""
    if point is None:
        return _("This model has no calibration: probabilities are the network's own, and no finding gets a class.")
    text = _(
        "Significant from a probability of {threshold:.2f}: sensitivity {sensitivity:.2f} ({low:.2f} to {high:.2f}), "
        "specificity {specificity:.2f} ({low2:.2f} to {high2:.2f}), on {findings} findings of {patients} patients."
    )
    return text.format(
        threshold=point.threshold,
        sensitivity=point.sensitivity,
        low=point.sensitivity_interval[0],
        high=point.sensitivity_interval[1],
        specificity=point.specificity,
        low2=point.specificity_interval[0],
        high2=point.specificity_interval[1],
        findings=bundle.calibration.findings,
        patients=bundle.calibration.patients,
    )
