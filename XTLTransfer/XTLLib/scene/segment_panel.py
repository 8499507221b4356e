"""What the XTL Segment panel does: Apply in the background, and everything that can be done with the result.

Widgets and timers are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..inference.lesions import Regions
from .adapt_section import AdaptSection, MakeProcess
from .advanced_section import AdvancedSection, around_of, options_of
from .apply_panel import ApplyPanel, Timer, Words
from .bundle_settings import BundleSettings
from .choices import missing_choice
from .lesion_section import LesionSection
from .longitudinal_section import LongitudinalSection
from .packages import ensure_packages
from .words import in_sentences
from .worker_run import OUTPUTS, BackgroundSegmentation


class SegmentPanel(ApplyPanel):
    """The panel's behaviour.

    Parameters
    ----------
    ui : the panel's widgets by name.
    scene : vtkMRMLScene.
    channels : channel -> the parameter that holds its volume.
    run_timer : repeating; its owner connects it with :meth:`tick`.
    drawn_timer : single shot, started anew by every stroke; its owner connects it with :meth:`take_in`.
    show_error : shows a failure to the user: what did not come about, the error, lines of detail.
    background : None takes one with a worker process of its own.
    make_adaptation : see AdaptSection.
    """

    def __init__(
        self,
        ui: Any,
        scene: Any,
        channels: Mapping[str, str],
        run_timer: Timer,
        drawn_timer: Timer,
        show_error: Callable[[str, BaseException, Sequence[str]], None],
        background: BackgroundSegmentation | None = None,
        make_adaptation: MakeProcess | None = None,
    ) -> None:
        from slicer.i18n import tr

        words = Words(
            "XTL Segment",
            tr("Segment the lesions"),
            tr("The lesions were not segmented."),
            tr("Nothing was segmented; the scene is as it was."),
        )
        background = background or BackgroundSegmentation()
        super().__init__(ui, scene, "segmentation", words, channels, run_timer, show_error, background)
        self._drawn_timer, self._settings = drawn_timer, BundleSettings()
        self.section = LesionSection(ui, drawn_timer.start, run_timer.start, self.say)
        self.advanced = AdvancedSection(ui)
        self.over_time = LongitudinalSection(ui, show_error)
        self._adapt = AdaptSection(ui, show_error, make_adaptation)

    def attach(self, parameters: Any) -> None:
        """Serve this parameter node; call :meth:`update` after each change of it."""
        self._bundles.forget()  # the folder may have changed while another module was shown
        self._settings.forget()
        self._parameters = parameters
        self.section.attach(parameters, self._scene)
        self.over_time.attach(parameters, self._scene)

    def leave(self) -> None:
        """Another module is shown: clicks are no longer ours, the Segment Editor is still followed."""
        self.section.stop_clicks()

    def release(self) -> None:
        """The scene is being closed: nothing of it may be touched any more."""
        self._drawn_timer.stop()
        self.cancel()
        self._message = ""
        self.section.release()
        self.advanced.release()
        self.over_time.release()
        self._parameters = None

    def close(self) -> None:
        """The panel goes: end the worker, whatever it does."""
        self._run_timer.stop()
        self.release()
        self._adapt.close()
        self.over_time.close()
        self._background.close()

    def update(self, by_user: bool = False) -> None:
        """What the parameters mean for the panel: what can be chosen, and whether Apply can run.

        Parameters
        ----------
        by_user : something was chosen: what was said of the last run is out of date.
        """
        parameters = self._parameters
        if parameters is not None:
            self.over_time.update()
        if self.run.is_running or parameters is None:
            return
        if by_user:
            self._message = ""
        bundle, problem = self._bundles.read(parameters.bundle)
        self._settings.follow(parameters, bundle)
        self.advanced.update(parameters)
        self.section.update(bundle)
        missing = problem or missing_choice(bundle, self._volumes())
        self._show_choice(bundle, missing)
        self._adapt.update(self._missing_to_adapt(missing))
        self._warm(bundle)

    def tick(self) -> None:
        """Take in what the worker reported, and notice its end."""
        self.section.work()  # first: what a result asks for is done at the next look
        super().tick()
        if self._adapt.is_running:
            self._adapt.tick()
            if not self._adapt.is_running:
                self.update()
        self.over_time.tick()
        own = self.run.is_running or self._background.is_active or self.section.is_working
        if not (own or self._adapt.is_running or self.over_time.is_running):
            self._run_timer.stop()

    def adapt(self) -> None:
        """Adapt the bundle to the case as it was corrected; while that runs, cancel it."""
        if self._adapt.is_running:
            self._adapt.cancel()
        elif self._parameters is not None:
            with self._errors_shown(self._tr("The model was not adapted.")):
                ensure_packages("XTL Segment", training=True)
                self.section.take_in()
                bundle, _ = self._bundles.read(self._parameters.bundle)
                self._adapt.start(bundle, self._volumes(), self._parameters.labelMap)
                self._run_timer.start()

    def use_adapted(self) -> None:
        """Choose the bundle that was adapted."""
        bundle = self._adapt.take_offer()
        if bundle is not None and self._parameters is not None:
            self._parameters.bundle = bundle

    def compare(self) -> None:
        """Compare the time points; while that runs, cancel it."""
        if self.over_time.compare():
            self._run_timer.start()

    def take_in(self) -> None:
        """Nothing was moved or drawn for a moment: follow what was."""
        if self.run.is_running:
            self._drawn_timer.start()  # later
        else:
            self.section.settle()

    def _missing_to_adapt(self, missing: str) -> str:
        if missing:
            return missing
        if not self.section.is_corrected:
            return self._tr("Correct the lesions first: add and remove some, or draw in the Segment Editor.")
        return ""

    def _start(self, parameters: Any) -> None:
        self.section.take_in()
        self._background.start(
            self._volumes(),
            parameters.bundle,
            {name: getattr(parameters, name) for name in OUTPUTS},
            around_of(parameters),
            **options_of(parameters),
        )

    def _take_result(self) -> str:
        self.section.end()
        finished = self._background.finish(self._scene)
        self._show(finished.nodes, finished.regions)
        return in_sentences(f"{self.section.summary}, {self._in_seconds()}", *finished.notes)

    def _show(self, nodes: Any, regions: Regions) -> None:
        parameters = self._parameters
        modifying = parameters.StartModify()
        parameters.segmentation, parameters.labelMap = nodes.segmentation, nodes.label
        parameters.probability, parameters.table = nodes.probability, nodes.table
        parameters.uncertainty = nodes.uncertainty
        parameters.EndModify(modifying)
        self.section.begin(regions)
        self.over_time.result_came(nodes.segmentation, parameters.flair)
