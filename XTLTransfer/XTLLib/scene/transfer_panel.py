"""What the XTL Transfer panel does: shows a chain and its data, plans it, trains it in another process, and more.

Widgets and timers are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import Cancelled
from .button_run import ButtonRun
from .chain_picture import boxes_of, figures_of, finished_stages, picture_of
from .chain_presets import chain_presets
from .chain_settings import WEIGHTS, ChainSettings, choice_of
from .choice_box import ChoiceBox
from .library_section import LibrarySection
from .packages import ensure_packages
from .panel import PanelRun, Timer
from .plan_words import chain_plan_text, data_text
from .previewer import ChainChoice, Previewer
from .study_section import StudySection
from .when_known import WhenKnown
from .window import Window
from .words import in_sentences, plain, shortened

BACKBONES = ("mobilenet_v2", "squeezenet1_0", "resnet18", "resnet50", "densenet121", "vgg16_bn")
CONVERSIONS = ("inflate", "centre-slice", "acs", "soft-acs", "mean-acs", "slice-stack", "slice-encoder")
DEVICES = ("auto", "cpu", "cuda")
_TITLE = "XTL Transfer"
_SECTIONS = ("inputsCollapsibleButton", "advancedCollapsibleButton", "outputsCollapsibleButton", "planButton")
_LOOK_EVERY_S = 1.0  # at the log of a training


class TransferPanel:
    """The panel's behaviour.

    Parameters
    ----------
    ui : the panel's widgets by name. scene : vtkMRMLScene.
    logic : of the module: start, poll, cancel, result, close and showTraining of a training.
    timer : repeating; its owner connects it with :meth:`tick`.
    window : what only the application can do.
    """

    def __init__(self, ui: Any, scene: Any, logic: Any, timer: Timer, window: Window) -> None:
        from slicer.i18n import tr

        self._ui, self._scene, self._logic, self._timer, self._window, self._tr = ui, scene, logic, timer, window, tr
        self._run = PanelRun(ui, _SECTIONS, lambda: None, self._ended)
        self._plan = ButtonRun(
            ui.planButton,
            ui.planProgressBar,
            ui.planLabel,
            tr("Plan"),
            tr("The chain was not planned."),
            window.show_error,
            self.update,
        )
        self.study = StudySection(ui, scene, window, timer)
        self.library = LibrarySection(ui, window, timer)
        self._previewer, self._settings = Previewer(), ChainSettings()
        self._when_known = WhenKnown(self._previewer, self.update)
        texts = {"": tr("Chain file of my own"), "auto": tr("Automatic"), "cpu": tr("Processor (CPU)")}
        weights = {"": tr("As in the chain"), "imagenet": tr("ImageNet (downloaded)"), "random": tr("Random")}
        texts |= {"cuda": tr("Graphics card (CUDA)")}
        self.boxes = {
            "chainPreset": ChoiceBox(ui.chainPresetComboBox, "chainPreset", ("", *chain_presets()), texts),
            "weights": ChoiceBox(ui.weightsComboBox, "weights", WEIGHTS, weights),
            "backbone": ChoiceBox(ui.backboneComboBox, "backbone", BACKBONES),
            "conversion": ChoiceBox(ui.conversionComboBox, "conversion", CONVERSIONS),
            "device": ChoiceBox(ui.deviceComboBox, "device", DEVICES, texts),
        }
        self._words = {
            "initialisation": tr("Initialisation"),
            "intermediate": tr("Intermediate"),
            "target": tr("Target"),
            "waiting": tr("waiting"),
            "running": tr("running"),
            "stopped": tr("stopped"),
            "done": tr("done"),
            "kept": tr("kept from before"),
            "epochs": tr("epochs"),
            "steps": tr("steps"),
        }
        self._parameters: Any = None
        self._message = self._plan_text = ""
        self._planned: ChainChoice | None = None
        self._kept: frozenset[str] = frozenset()
        self._looked = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a training is under way."""
        return self._run.is_running

    @property
    def is_waiting(self) -> bool:
        """Whether the choices are still being looked at."""
        return self._previewer.is_waiting

    def attach(self, parameters: Any) -> None:
        """Serve this parameter node; call :meth:`update` after each change of it."""
        self._parameters = parameters
        self._settings.forget()
        self._previewer.forget()  # files may have changed while another module was shown
        self.study.attach(parameters)

    def leave(self) -> None:
        """Another module is shown: nobody looks at previews, and their process holds memory."""
        self._previewer.close()

    def release(self) -> None:
        """The scene is being closed: nothing of it may be touched any more. A training goes on."""
        for box in self.boxes.values():
            box.release()
        self.study.release()
        self._when_known.forget()
        self._parameters = None
        self._message = ""

    def close(self) -> None:
        """The panel goes: end every process."""
        self._timer.stop()
        self.release()
        self._previewer.close()
        self._plan.close()
        self.study.close()
        self.library.close()
        self._logic.close()

    def update(self, by_user: bool = False) -> None:
        """What the parameters mean for the panel, and whether Apply can run.

        Parameters
        ----------
        by_user : something was chosen: what was said of the last run is out of date.
        """
        parameters = self._parameters
        if parameters is None:
            return
        for box in self.boxes.values():
            box.update(parameters)
        self.study.update()
        if self._run.is_running:
            return
        if by_user:
            self._message = ""
        if not self._plan.is_running:  # it says what was chosen when it began
            self._ask()
        self._show_chain()
        self._show_enablement()

    def apply(self) -> None:
        """Start, or go on with what was begun; while it runs, cancel."""
        if self._run.is_running:
            self._run.cancel()
            self._logic.cancel()
            return
        if self._parameters is None or self._previewer.choice is None:
            return
        if self._has_packages(self._tr("The training was not started."), self._tr("Nothing was trained.")):
            self._message = ""
            self._when_known.do(self._train)

    def plan(self) -> None:
        """Find out what the chain needs, in a process of its own; while that runs, cancel."""
        if self._plan.is_running:
            self._plan.cancel()
            return
        if self._parameters is None or self._previewer.choice is None:
            return
        if self._has_packages(self._tr("The chain was not planned."), self._message):
            self._when_known.do(self._begin_plan)

    def tick(self) -> None:
        """Take in what the processes reported, and notice their ends."""
        if self._previewer.poll():
            self.update()
        self._when_known.go_on()
        self._plan.tick()
        self.study.tick()
        self.library.tick()
        if self._run.is_running:
            self._tick_training()
        busy = (self._run, self._plan, self.study, self.library)
        if not (self._previewer.is_waiting or any(each.is_running for each in busy)):
            self._timer.stop()

    def show_curve(self) -> None:
        """Show the training's chart in a plot view."""
        if self._parameters is not None and self._parameters.trainingCurve is not None:
            self._window.show_chart(self._parameters.trainingCurve)

    def add_to_library(self) -> None:
        """Take the trained bundle into the model library."""
        self.library.import_from(self._ui.resultLineEdit.text)

    def _has_packages(self, failed: str, message: str) -> bool:
        """Whether what trains is there, or was installed now; ``failed`` and ``message`` are said where not."""
        try:
            ensure_packages(_TITLE, training=True)
        except Exception as error:
            self._message = message
            self._window.show_error(failed, error)
            self.update()
            return False
        return True

    # --- the chain and its data -----------------------------------------------------------------

    @property
    def _answer(self) -> Mapping[str, Any]:
        return self._previewer.answer or {}

    @property
    def _folder(self) -> str:
        return self._answer.get("folder", "")

    def _chain_file(self) -> str:
        parameters = self._parameters
        if parameters.chainPreset:
            return str(chain_presets().get(parameters.chainPreset, parameters.chainPreset))
        return "" if parameters.chain == Path() else str(parameters.chain)

    def _ask(self) -> None:
        """Let the chosen chain be looked at, and its values be shown."""
        path = self._chain_file()
        if not path:
            self._previewer.ask(None)
            return
        is_known = self._previewer.choice is not None and self._previewer.choice.path == path
        own = self._answer.get("own") if is_known else None
        self._settings.follow(self._parameters, own)
        self._previewer.ask(choice_of(self._parameters, path, own))
        if self._previewer.is_waiting:
            self._timer.start()

    def _missing(self) -> str:
        """What the user has to do before the chain can be trained; "" when nothing is missing."""
        if self._previewer.choice is None:
            return self._tr("Choose a chain: a preset, or a chain file of your own.")
        if self._previewer.is_waiting:
            return self._tr("Looking at the chain ...")
        if problem := self._answer.get("problem"):
            return in_sentences(problem)
        if not self._previewer.choice.out:
            return self._tr("Choose an output folder.")
        if not Path(self._previewer.choice.out).is_absolute():  # it would lie wherever Slicer was started
            return self._tr("{folder} is no whole path. Choose a folder, or type its whole path.").format(
                folder=shortened(self._previewer.choice.out)
            )
        if self._folder == "finished":
            return self._tr("This chain is trained in this folder already. Choose another folder to train it again.")
        return ""

    def _unseen(self) -> str:
        """Why the chosen chain is not shown; "" where it is."""
        if self._previewer.can_answer:
            return ""
        return self._tr(
            "Apply and Plan offer to install the Python packages that are lacking; then the chain is shown."
        )

    def _show_chain(self) -> None:
        ui, answer = self._ui, self._answer
        stages = answer.get("stages") or (answer.get("own") or {}).get("stages") or ()
        out = Path(self._previewer.choice.out) if self._previewer.choice and self._previewer.choice.out else None
        self._show_picture(out if self._folder in ("begun", "finished") else None)
        ui.dataLabel.text = data_text(stages[1:], answer.get("data", ()), self._words)
        ui.dataLabel.visible = bool(ui.dataLabel.text)
        if self._folder == "finished" and out is not None:
            bundle = str(out / "bundle")
            ui.resultLineEdit.text = bundle
            ui.resultLabel.text = figures_of(out)
        ui.resultLabel.visible = bool(ui.resultLabel.text)

    def _show_picture(self, out: Path | None) -> None:
        ui, stages = self._ui, self._answer.get("stages", ())
        ui.chainLabel.visible = bool(stages)
        if stages:
            boxes = boxes_of(stages, out, self._run.is_running, self._kept)
            ui.chainLabel.text = picture_of(boxes, self._words)
            tip = self._tr("{name}: {backbone}, made volumetric by {conversion}")
            tip = tip.format(**{key: self._answer[key] for key in ("name", "backbone", "conversion")})
            ui.chainLabel.toolTip = plain(tip)

    def _show_enablement(self) -> None:
        ui, parameters, missing = self._ui, self._parameters, self._missing()
        own = self._answer.get("own")
        has_source = own is not None and len(own["stages"]) > 2
        ui.chainPathLineEdit.enabled = not parameters.chainPreset
        ui.sourcePathLineEdit.enabled = own is None or has_source
        ui.sourceBudgetSpinBox.enabled = has_source
        for name in ("backboneComboBox", "conversionComboBox", "targetBudgetSpinBox", "learningRateSpinBox"):
            getattr(ui, name).enabled = own is not None
        ui.seedSpinBox.enabled = own is not None
        if own is not None:
            units = [f" {self._words[stage['unit']]}" if stage["unit"] else "" for stage in own["stages"]]
            ui.targetBudgetSpinBox.suffix = units[-1]
            ui.sourceBudgetSpinBox.suffix = units[1] if has_source else ""
        is_resumed = self._folder == "begun"
        ui.applyButton.text = self._tr("Resume") if is_resumed else self._tr("Apply")
        ui.applyButton.enabled = not missing and not self._plan.is_running
        doing = self._tr("Go on where the training was stopped") if is_resumed else self._tr("Train the chain")
        ui.applyButton.toolTip = plain(missing) or doing
        ui.statusLabel.text = self._message or missing or self._unseen()
        ui.showCurveButton.enabled = parameters.trainingCurve is not None
        ui.addToLibraryButton.enabled = bool(ui.resultLineEdit.text) and not self.library.is_running
        if self._plan.is_running:
            return
        can_plan = ui.planButton.enabled = self._can_plan()
        ui.planButton.toolTip = (
            self._tr("Time and memory of every stage, from three steps on a sample of the data (seconds to a minute)")
            if can_plan
            else plain(missing)
        )
        is_planned = self._planned is None or self._previewer.choice == self._planned
        ui.planLabel.text = (self._plan_text if is_planned else "") or self._plan.message
        ui.planLabel.visible = bool(ui.planLabel.text)

    def _take_plan(self, found: Mapping[str, Any]) -> None:
        self._plan_text = chain_plan_text(found["plan"])

    def _begin_plan(self) -> None:
        from ..training.result_process import ResultProcess

        choice = self._previewer.choice
        if self._parameters is None or not self._can_plan():
            return
        words = [word for change in choice.words for word in ("--set", change)]
        command = ["train", choice.path, "--dry-run", "--device", self._parameters.device, *words]
        self._planned, self._plan_text = choice, ""
        if self._plan.start(lambda: ResultProcess(command), self._take_plan):
            self._timer.start()
        self.update()

    def _can_plan(self) -> bool:
        if not self._previewer.can_answer:  # the packages will be asked for
            return self._previewer.choice is not None
        return not self._previewer.is_waiting and bool(self._answer.get("stages")) and not self._answer.get("problem")

    # --- the training ---------------------------------------------------------------------------

    def _train(self) -> None:
        choice = self._previewer.choice
        if self._parameters is None or choice is None or self._missing():
            return
        try:
            self._kept = finished_stages(Path(choice.out))
            self._logic.start(choice.path, choice.out, self._folder == "begun", choice.words, self._parameters.device)
        except Exception as error:
            self._message = self._tr("Nothing was trained.")
            self._window.show_error(self._tr("The training was not started."), error)
            self.update()
            return
        self._previewer.close()  # its memory is of use to the training
        for name in ("chain", "source", "target", "output"):
            getattr(self._ui, f"{name}PathLineEdit").addCurrentPathToHistory()
        self._ui.resultLineEdit.text = ""
        self._run.begin()
        self._ui.statusLabel.text = self._tr("Starting ...")
        self._timer.start()

    def _tick_training(self) -> None:
        is_running = self._logic.isRunning
        for event in self._logic.poll():
            self._run.show(event)
        now = time.monotonic()
        if self._parameters is not None and (now - self._looked > _LOOK_EVERY_S or not is_running):
            self._looked = now
            self._logic.showTraining(self._parameters)
            self._show_picture(self._logic.outputFolder)
            self._ui.showCurveButton.enabled = self._parameters.trainingCurve is not None
        if not is_running:
            self._finish()

    def _finish(self) -> None:
        """Tell how the training ended."""
        ui = self._ui
        self._message = self._tr("Not trained to the end.")
        try:
            ui.resultLineEdit.text = str(self._logic.result())
            ui.resultLabel.text = figures_of(self._logic.outputFolder)
            self._message = self._tr("Trained. The bundle is ready for XTL Segment or XTL Classify.")
        except Cancelled:
            self._message = self._tr("Cancelled; a checkpoint was kept. Press Resume to go on from there.")
        except Exception as error:
            self._window.show_error(self._tr("The chain was not trained."), error)
        finally:
            self._logic.close()
            self._run.end()

    def _ended(self) -> None:
        self._previewer.forget()  # the output folder holds something now
        self.update()
