"""What the XTL Classify panel does: Apply in the background, and a new rating for every finding that is moved.

Widgets and timers are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import Cancelled, XTLError
from .apply_panel import ApplyPanel, Timer, Words
from .change import check_apart
from .choices import missing_choice
from .classify_options import ClassifyOptions, options_of
from .classify_run import OUTPUTS, BackgroundRating
from .finding_section import FindingSection
from .live_findings import DueFinding
from .table_view import fit_columns
from .words import in_sentences

_OPTIONS = "XTL.Options"  # attribute of the lesion table: what its ratings were asked for with
_KEPT_OPTIONS = ("views", "evidence", "operating_point")


class ClassifyPanel(ApplyPanel):
    """The panel's behaviour.

    Parameters
    ----------
    ui : the panel's widgets by name. scene : vtkMRMLScene.
    channels : channel -> the parameter that holds its volume.
    run_timer : repeating; its owner connects it with :meth:`tick`.
    moved_timer : single shot, started anew by every movement of a point; its owner connects it with :meth:`take_in`.
    show_error : shows a failure to the user: what did not come about, the error, lines of detail.
    background : None takes one with a worker process of its own.
    """

    def __init__(
        self,
        ui: Any,
        scene: Any,
        channels: Mapping[str, str],
        run_timer: Timer,
        moved_timer: Timer,
        show_error: Callable[[str, BaseException, Sequence[str]], None],
        background: BackgroundRating | None = None,
    ) -> None:
        from slicer.i18n import tr

        words = Words(
            "XTL Classify",
            tr("Rate the findings"),
            tr("The findings were not rated."),
            tr("Nothing was rated; the scene is as it was."),
        )
        background = background or BackgroundRating()
        super().__init__(ui, scene, "classification", words, channels, run_timer, show_error, background)
        self._moved_timer = moved_timer
        self.section = FindingSection(ui, self._changed, self.say)
        self.options = ClassifyOptions(ui)
        self._due: DueFinding | None = None  # the one that is being rated again
        self._options: dict[str, Any] = {}  # of the run under way

    def attach(self, parameters: Any) -> None:
        """Serve this parameter node; call :meth:`update` after each change of it."""
        self._bundles.forget()  # the folder may have changed while another module was shown
        self._parameters = parameters
        self.section.attach(parameters, self._scene)
        self._moved_timer.start()  # points may have moved while nobody looked

    def leave(self) -> None:
        """Another module is shown: clicks are no longer ours, the points are still followed."""
        self.section.stop_clicks()

    def release(self) -> None:
        """The scene is being closed: nothing of it may be touched any more."""
        self._moved_timer.stop()
        self.cancel()
        self._stop_rating()
        self._message = ""
        self.section.release()
        self.options.release()
        self._background.forget_case()
        self._parameters = None

    def close(self) -> None:
        """The panel goes: end the worker, whatever it does."""
        self._run_timer.stop()
        self.release()
        self._background.close()

    def update(self, by_user: bool = False) -> None:
        """What the parameters mean for the panel: what can be chosen, and whether Apply can run; see ApplyPanel."""
        parameters = self._parameters
        if parameters is None:
            return
        self.section.update(self.run.is_running)
        if self.run.is_running:
            return
        if by_user:
            self._message = ""
        bundle, problem = self._bundles.read(parameters.bundle)
        self.options.update(parameters, bundle)
        missing = problem or missing_choice(bundle, self._volumes()) or self.section.missing()
        self._show_choice(bundle, missing)
        self._ui.summaryLabel.text = self.section.summary
        self._warm(bundle)

    def tick(self) -> None:
        """Take in what the worker reported, and notice its end."""
        super().tick()
        if self._due is not None and not self._background.is_running:
            self._finish_rating()
        if not (self.run.is_running or self._background.is_active):
            self._run_timer.stop()

    def take_in(self) -> None:
        """Nothing was moved for a moment: follow what was, and rate it again."""
        if self.run.is_running or self._parameters is None:
            return  # the end of the run asks again
        bundle, _ = self._bundles.read(self._parameters.bundle)
        self.section.follow(None if bundle is None else bool(getattr(bundle.spec, "zones", False)))
        self.update()
        self._rate_next()

    def guess_zones(self) -> None:
        """Give the findings without a zone that of the chosen zonal mask."""
        if self._parameters is not None:
            self.section.guess_zones(self._parameters.t2w)

    def _changed(self) -> None:
        """Somebody did something to the points: what can be done may have changed; the rest waits for quiet."""
        self._moved_timer.start()
        if self._parameters is not None and not self.run.is_running:
            self.update()

    def _start(self, parameters: Any) -> None:
        self._stop_rating()
        bundle, _ = self._bundles.read(parameters.bundle)
        self._options = options_of(parameters, bundle)
        outputs = {name: getattr(parameters, name) for name in OUTPUTS}
        check_apart(outputs, (parameters.zones, parameters.lesions))
        self._background.start(self._volumes(), parameters.findings, parameters.bundle, outputs, **self._options)

    def _take_result(self) -> str:
        finished = self._background.finish(self._scene)
        parameters, nodes = self._parameters, finished.nodes
        kept = {key: self._options[key] for key in _KEPT_OPTIONS if key in self._options}
        nodes.table.SetAttribute(_OPTIONS, json.dumps(kept))
        bundle, _ = self._bundles.read(parameters.bundle)
        self.section.live.begin(bundle is not None and bool(getattr(bundle.spec, "zones", False)))
        modifying = parameters.StartModify()
        parameters.table, parameters.labelMap, parameters.findings = nodes.table, nodes.label, nodes.findings
        parameters.EndModify(modifying)
        fit_columns(self._ui.tableView)
        self._moved_timer.start()  # points may have moved while it ran
        return in_sentences(f"{self.section.summary}, {self._in_seconds()}", *finished.notes)

    def _rate_next(self) -> None:
        """Send the next finding that waits for a rating to the worker, where the model of the result is at hand."""
        if self._due is not None or self.run.is_running or self._parameters is None:
            return
        try:
            due = self.section.live.due()
        except XTLError:  # said when it was met first
            return
        if not due:
            return
        bundle, problem = self._bundles.read(self._parameters.bundle)
        if problem or bundle is None or bundle.name != self.section.live.bundle_name:
            self.say(self._tr("Press Apply: another model is chosen than the one that rated the other findings."))
            return
        if missing := missing_choice(bundle, self._volumes()):
            self.say(missing)
            return
        self._due, self._began = due[0], time.monotonic()
        try:
            findings = [self._due.finding]
            self._background.rate(self._volumes(), findings, self._parameters.bundle, **self._kept_options())
        except XTLError as error:
            self._refuse(error)
            return
        self.say(self._tr("Rating the finding {name} ...").format(name=self._due.finding.identifier))
        self._run_timer.start()

    def _finish_rating(self) -> None:
        try:
            result = self._background.rating()
            self.section.live.take(self._due, result)
            text = self._tr("Finding {name}: {probability:.2f}, {seconds}.")
            probability = result.findings[0].probability
            name = self._due.finding.identifier
            self.say(text.format(name=name, probability=probability, seconds=self._in_seconds()))
        except Cancelled:
            pass
        except XTLError as error:
            self._refuse(error)
        finally:
            self._due = None
            self._background.forget()
        self._ui.summaryLabel.text = self.section.summary
        self._moved_timer.start()  # another finding may wait, or this one have moved on

    def _refuse(self, error: XTLError) -> None:
        due, self._due = self._due, None
        self.section.live.refuse(due, self._tr("not rated: {why}").format(why=error.what))
        self.say(in_sentences(str(error)))
        self._moved_timer.start()

    def _stop_rating(self) -> None:
        """Let a finding that is being rated go; Apply rates all, or the scene is closed."""
        if self._due is not None:
            self._due = None
            self._background.cancel()

    def _kept_options(self) -> dict[str, Any]:
        """Those of the other rows of the table, on the device that is chosen now."""
        try:
            kept = json.loads(self._parameters.table.GetAttribute(_OPTIONS) or "{}")
        except ValueError:
            kept = {}
        kept = {key: kept[key] for key in _KEPT_OPTIONS if isinstance(kept, dict) and key in kept}
        device = self._parameters.device
        return {**kept, **({} if device == "auto" else {"device": device})}
