"""The part of the XTL Transfer panel for the model library: list, import, export, verify, remove, use.

Every action is a process of its own (``xtl models ...``), because hashing and copying large weights takes its time.
Widgets are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from .button_run import ButtonRun
from .packages import ensure_packages
from .panel import Timer
from .window import Window
from .words import in_sentences

_TITLE = "XTL Transfer"
MODULES = {"segmentation": "XTLSegment", "classification": "XTLClassify"}
"""Task -> the module that applies its bundles."""


class LibrarySection:
    """The list of models, what is known of the chosen one, and the buttons below.

    Parameters
    ----------
    ui : the panel's widgets by name. window : what only the application can do.
    timer : repeating; its owner calls :meth:`tick`.
    """

    def __init__(self, ui: Any, window: Window, timer: Timer) -> None:
        from slicer.i18n import tr

        self._ui, self._window, self._timer, self._tr = ui, window, timer, tr
        self._run = ButtonRun(
            ui.libraryCancelButton,
            ui.libraryProgressBar,
            ui.libraryLabel,
            tr("Cancel"),
            tr("The model library was not changed."),
            window.show_error,
            self._ended,
            {"buttons": ui.libraryButtons},
        )
        self._models: list[Mapping[str, Any]] = []
        self._verified: dict[str, Mapping[str, Any]] = {}
        self._after: Callable[[], None] | None = None
        self._message = ""
        self.update()

    @property
    def is_running(self) -> bool:
        """Whether something is being done."""
        return self._run.is_running

    def refresh(self) -> None:
        """Read the list anew."""
        self._start(["list"], self._take_list)

    def opened(self, is_collapsed: bool) -> None:
        """The section was opened, or closed."""
        if not is_collapsed:
            self.refresh()

    def chosen(self, row: int) -> None:
        """Another row of the list was chosen."""
        self.update()

    def import_file(self) -> None:
        """Take in an archive."""
        self.import_from(self._window.ask_for_file(self._tr("Import a model"), self._tr("Models (*.zip)")))

    def import_folder(self) -> None:
        """Take in a bundle's folder."""
        self.import_from(self._window.ask_for_folder(self._tr("Import a model: its folder")))

    def import_from(self, source: str) -> None:
        """Take in a bundle, after a question where it names code or takes the place of a model.

        Parameters
        ----------
        source : archive or folder, "" for none: the user thought better of it.
        """
        if source:
            self._import(source, ())

    def export(self) -> None:
        """Write the chosen model as an archive."""
        model = self._model
        if model is None:
            return
        pattern = self._tr("Models (*.zip)")
        path = self._window.ask_for_new_file(self._tr("Export {name}").format(**model), f"{model['name']}.zip", pattern)
        if path:
            self._start(["export", model["name"], path, "--format", "zip"], self._take_export, packages=True)

    def verify(self) -> None:
        """Compute every hash of the chosen model again."""
        if self._model is not None:
            self._start(["verify", self._model["name"]], self._take_verification, packages=True)

    def remove(self) -> None:
        """Delete the chosen model, when the user agrees."""
        model = self._model
        question = self._tr("Delete the model {name} from the library? This cannot be undone.")
        if model is not None and self._window.confirm(question.format(name=model["name"])):
            self._start(["remove", model["name"]], self._take_removal)

    def use(self) -> None:
        """Choose the model in the module for its task, and show that."""
        model = self._model
        if model is not None and model["task"] in MODULES:
            self._window.use_bundle(MODULES[model["task"]], Path(model["path"]))

    def cancel(self) -> None:
        """Stop what is being done."""
        self._run.cancel()

    def tick(self) -> None:
        """Take in what the process reported, and notice its end."""
        self._run.tick()

    def close(self) -> None:
        """The panel goes."""
        self._run.close()

    def update(self) -> None:
        """Show what is known of the chosen model, and what can be done with it."""
        ui, model = self._ui, self._model
        ui.libraryDetailsLabel.text = "" if model is None else self._details(model)
        ui.libraryDetailsLabel.visible = model is not None
        can_use = model is not None and not model["problem"]
        ui.exportModelButton.enabled = ui.verifyModelButton.enabled = can_use
        ui.removeModelButton.enabled = model is not None
        ui.useModelButton.enabled = can_use
        titles = {"segmentation": self._tr("Use in XTL Segment"), "classification": self._tr("Use in XTL Classify")}
        ui.useModelButton.text = titles.get(model["task"] if model else "", self._tr("Use"))
        ui.libraryCancelButton.visible = ui.libraryProgressBar.visible = self._run.is_running
        if not self._run.is_running:
            ui.libraryLabel.text = self._message or self._run.message
            ui.libraryLabel.visible = bool(ui.libraryLabel.text)

    @property
    def _model(self) -> Mapping[str, Any] | None:
        row = self._ui.modelsList.currentRow
        return self._models[row] if 0 <= row < len(self._models) else None

    def _start(self, words: list[str], take: Callable[[Mapping[str, Any]], None], packages: bool = False) -> None:
        if self._run.is_running:
            return
        self._message = ""
        if self._run.start(lambda: _process(words, packages), take):
            self._ui.libraryCancelButton.visible = True
            self._timer.start()

    def _ended(self) -> None:
        after, self._after = self._after, None
        self.update()
        if after is not None:
            after()

    def _refresh_saying(self, message: str) -> None:
        """Read the list anew after an action, and go on saying what came of that."""

        def refresh() -> None:
            self.refresh()
            self._message = message

        self._after = refresh

    def _take_list(self, found: Mapping[str, Any]) -> None:
        chosen = self._model["name"] if self._model else ""
        self._models = found["models"]
        box = self._ui.modelsList
        box.clear()
        for model in self._models:
            what = self._tr("cannot be used") if model["problem"] else model["task"]
            box.addItem(f"{model['name']} ({what})")
        names = [model["name"] for model in self._models]
        box.currentRow = names.index(chosen) if chosen in names else (0 if names else -1)
        if not names and not self._message:
            self._message = self._tr("The library is empty. Import a model, or add one that you have trained.")

    def _import(self, source: str, consents: tuple[str, ...]) -> None:
        """``consents`` : "trust" and "replace", as far as the user has agreed."""
        words = ["import", source, *(f"--{each}" for each in consents)]
        self._start(words, lambda found: self._take_import(found, source, consents), packages=True)

    def _ask_and_import(self, found: Mapping[str, Any], source: str, consents: tuple[str, ...]) -> None:
        questions = {
            "trust": self._tr(
                "{source} names code that XTL did not write: {about}.\n\nXTL runs none of it; another program that "
                "is given this model may. Do you trust where it comes from, and import it?"
            ),
            "replace": self._tr(
                "The library already has a model named {about}. Replace it by the one in {source}? "
                "The model that is there now is deleted; this cannot be undone."
            ),
        }
        question = questions[found["needs"]].format(source=source, about=found["about"])
        if self._window.confirm(question):
            self._import(source, (*consents, found["needs"]))
        else:
            self._message = self._tr("Nothing was imported; the library is as it was.")
            self.update()

    def _take_import(self, found: Mapping[str, Any], source: str, consents: tuple[str, ...]) -> None:
        if "needs" in found:
            self._after = lambda: self._ask_and_import(found, source, consents)
            return
        said = self._tr("Imported as {name}").format(name=found["name"])
        self._refresh_saying(in_sentences(said, *found["notes"]))

    def _take_export(self, found: Mapping[str, Any]) -> None:
        self._message = self._tr("Written: {path}").format(path=found["path"])

    def _take_removal(self, found: Mapping[str, Any]) -> None:
        self._verified.pop(found["path"], None)
        self._refresh_saying(self._tr("Removed: {path}").format(path=found["path"]))

    def _take_verification(self, found: Mapping[str, Any]) -> None:
        self._verified.update(found["verified"])
        self.update()

    def _details(self, model: Mapping[str, Any]) -> str:
        if model["problem"]:
            return escape(self._tr("Cannot be used: {problem}").format(**model))
        verified = self._verified.get(model["path"])
        if verified is None:
            state = self._tr("not in this session")
        elif verified["agrees"]:
            state = self._tr("agrees with its records ({files} files)").format(**verified)
        else:
            state = self._tr("DOES NOT AGREE with its records: {problems}").format(
                problems="; ".join(verified["problems"][:3])
            )
        lines = [
            (self._tr("Chain"), model["chain"] or self._tr("not recorded")),
            (self._tr("Channels"), ", ".join(model["channels"])),
            (self._tr("From, licence"), "; ".join(model["licences"]) or self._tr("not recorded")),
            (self._tr("Verified"), state),
        ]
        return "<br>".join(f"<b>{escape(head)}:</b> {escape(text)}" for head, text in lines)


def _process(words: list[str], packages: bool) -> Any:
    """The command ``xtl models``, not started. ``packages`` : whether weights are read, which needs what trains."""
    from ..training.result_process import ResultProcess

    if packages:
        ensure_packages(_TITLE, training=True)
    return ResultProcess(["models", *words])
