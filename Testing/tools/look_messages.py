"""The messages that ``look.py`` takes pictures of: drawn as Qt's message box, which Slicer's own derives from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import host.ctk_widgets as ctk_widgets
import slicer
from lent_worker import wait
from PySide6 import QtWidgets

_TORCH = "torch", ">=2.3", "", 200.0, 800.0, "for the processor"
_PIP = ("Collecting monai>=1.4", "  Downloading monai-1.6.1-202611050922-py3-none-any.whl (1.5 MB)")


def keep_messages(album: Any, folder: Path) -> None:
    """Errors of every kind, questions, and the window of an installation."""
    shown = _Boxes(album)
    _keep_errors(shown, folder)
    _keep_questions(shown)
    _keep_installation(album)
    shown.close()


def keep_import_questions(album: Any, panel: Any, source: Path) -> None:
    """The questions before a model that brings code, and whose name is taken, is imported into the library."""
    (source / "scripts").mkdir(exist_ok=True)
    (source / "scripts" / "own.py").write_text("print(1)")
    own, shown = panel.widget._panel.library, _Boxes(album)
    own._window._file_dialog = type("Files", (), {"getExistingDirectory": lambda *_: str(source)})
    shown.name = "question-trust"
    panel.widget.ui.importFolderButton.click()
    wait(lambda: shown.count == 1)
    shown.name = "question-replace"
    wait(lambda: shown.count == 2 and not own.is_running)
    album.keep_panel(panel, "38-library-replaced")
    shown.close()


class _Boxes:
    """Takes a picture of each message box, instead of waiting for a click."""

    def __init__(self, album: Any) -> None:
        self.album, self.name, self.count = album, "", 0
        self._usual = ctk_widgets.ctkMessageBox.exec_
        ctk_widgets.ctkMessageBox.exec_ = lambda message: self._keep(message)

    def close(self) -> None:
        ctk_widgets.ctkMessageBox.exec_ = self._usual

    def _keep(self, message: ctk_widgets.ctkMessageBox) -> Any:
        box = QtWidgets.QMessageBox()
        box.setText(message.text)
        box.setWindowTitle(message.windowTitle)
        box.setIcon(message.icon)
        box.setStandardButtons(message.standardButtons)
        if message.detailedText:
            box.setDetailedText(message.detailedText)
        self._picture(box, self.name)
        if message.detailedText:
            (fold,) = (each for each in box.buttons() if box.buttonRole(each) == QtWidgets.QMessageBox.ActionRole)
            fold.click()
            self._picture(box, f"{self.name}-unfolded")
        self.album.note(f"{self.name}: {message.windowTitle.strip()}", message.text)
        box.deleteLater()
        self.count += 1
        return QtWidgets.QMessageBox.Ok

    def _picture(self, box: QtWidgets.QMessageBox, name: str) -> None:
        box.show()
        QtWidgets.QApplication.processEvents()
        self.album.keep_window(box, f"message-{name}")


def _keep_errors(shown: _Boxes, folder: Path) -> None:
    from XTLLib.errors import InputError, MissingPackageError, XTLError
    from XTLLib.scene.error_display import show_failure
    from XTLLib.scene.install_failures import installation_error

    bundle = folder / "models of the hospital" / "ms-lesions-of-the-first-scanner-2026" / "bundle"
    offline = installation_error("monai, pydantic", ["Collecting monai", "NewConnectionError: no route"] * 6)
    errors = {
        "input": InputError(f"{bundle}/configs/metadata.json is not valid JSON (line 3)", "Choose another bundle"),
        "offline": offline,
        "refused": MissingPackageError("packages are missing: torch", "Press Apply again and agree"),
        "memory": MemoryError("of the processor"),
        "disk": OSError(28, "No space left on device"),
        "permission": PermissionError(13, "Permission denied", str(bundle)),
        "failed": XTLError("the process ended with code 1 and no message", "Run again"),
    }
    for name, error in errors.items():
        shown.name = f"error-{name}"
        show_failure("The lesions were not segmented.", error, [f"worker: line {n} of its log" for n in range(3)])
    shown.name = "error-unexpected"
    try:
        {}["nothing"]
    except KeyError as error:
        show_failure("That did not work.", error)


def _keep_questions(shown: _Boxes) -> None:
    from XTLLib.scene import packages
    from XTLLib.scene.wanted_packages import WantedPackage

    torch = WantedPackage(*_TORCH)
    rest = [WantedPackage("monai", ">=1.4", "", 2.0, 20.0, ""), WantedPackage("pydantic", ">=2.7", "1.10.2", 3, 9, "")]
    rest.append(WantedPackage("PyYAML", ">=6", "incomplete", 1.0, 3.0, ""))
    for name, wanted in {"install": [torch], "install-all": [torch, *rest]}.items():
        shown.name = f"question-{name}"
        packages._ask("XTL Segment" if len(wanted) == 1 else "XTL Transfer", wanted)
    shown.name = "question-remove"
    slicer.util.confirmOkCancelDisplay(
        "Delete the model ms-lesions-of-the-first-scanner-2026 from the library? This cannot be undone."
    )


def _keep_installation(album: Any) -> None:
    from XTLLib.scene import packages

    with packages._Progress("XTL Segment") as progress:
        window = progress._window._qobject
        for name, lines in {"torch": (), "rest": _PIP}.items():
            head = (
                "Installing PyTorch, the build for the processor, about 200 MB\nSlicer reacts slowly until it is done."
            )
            progress.say(head if name == "torch" else "Installing monai, pydantic, PyYAML, scikit-learn, tqdm")
            for line in lines:
                progress.note(line)
            QtWidgets.QApplication.processEvents()
            album.keep_window(window, f"message-installing-{name}")
