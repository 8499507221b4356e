"""Python packages inside Slicer: found to be lacking, asked for once, installed, and checked.

Slicer's own ways are used: ``PyTorchUtils`` of the extension PyTorch chooses the build of torch that fits the
computer, ``slicer.packaging`` (Slicer 5.12 and later) installs the rest; an older Slicer has
``slicer.util.pip_install``. The work itself runs in processes of its own, which see new packages at once: Slicer
has to be restarted only when a package that it has imported already was replaced by another version.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from subprocess import CalledProcessError
from typing import Any

from ..errors import MissingPackageError
from ..inference.probe import IMPORT_NAMES, import_problems
from .install_failures import installation_error
from .wanted_packages import MINIMUM_TORCH, WantedPackage, wanted_packages

_TICK_S = 0.02
_MB = 1e6


def ensure_packages(requester: str, training: bool = False) -> None:
    """Make sure that PyTorch, and for training the packages of XTLRequirements.txt, can be imported.

    Meant for a button that needs them. What lacks is found first; then one question says what and how large it is.

    Parameters
    ----------
    requester : the module's title, shown in the question.
    training : whether a chain is to be trained; applying a bundle needs PyTorch alone.

    Raises
    ------
    MissingPackageError : a package is missing and was not installed, or Slicer has to be restarted first.
    """
    from slicer.i18n import tr as _

    wanted = wanted_packages(training)
    if not wanted:
        return
    torch_logic = _installer_of_torch(wanted[0]) if wanted[0].name == "torch" else None
    _check_room(wanted)
    _ask(requester, wanted)
    before = _versions()
    with _Progress(requester) as progress:
        if torch_logic is not None:
            _install_torch(torch_logic, wanted[0], progress)
        rest = [package for package in wanted if package.name != "torch"]
        if rest:
            _install_rest(rest, progress)
        importlib.invalidate_caches()
        progress.say(_("Checking the new packages"))
        _check_installed(wanted, training, progress.tick)
    _check_replaced(before)


def _installer_of_torch(wanted: WantedPackage) -> Any:
    """The logic of PyTorchUtils, found before the user is asked anything."""
    if wanted.installed not in ("", "incomplete"):
        raise MissingPackageError(
            f"PyTorch {wanted.installed} is installed, XTL needs {MINIMUM_TORCH}",
            "Uninstall it in the module PyTorch Utils, restart Slicer and try again",
        )
    try:
        import PyTorchUtils
    except ImportError as error:
        raise MissingPackageError(
            "PyTorch is not installed, and the extension PyTorch that installs it is missing",
            "Install the extension PyTorch in the Extensions Manager, restart Slicer and try again",
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


def _check_room(wanted: Sequence[WantedPackage]) -> None:
    needed, free = sum(package.disk_mb for package in wanted), shutil.disk_usage(sys.prefix).free / _MB
    if free < needed:
        raise MissingPackageError(
            f"the packages need about {_size(needed)} of the disk that Slicer is on, and {_size(free)} are free",
            "Make room and try again",
        )


def _ask(requester: str, wanted: Sequence[WantedPackage]) -> None:
    import slicer
    from slicer.i18n import tr as _

    names = ", ".join(package.name for package in wanted)
    download, disk = sum(package.download_mb for package in wanted), sum(package.disk_mb for package in wanted)
    text = _(
        "{module} needs Python packages that Slicer does not have yet:\n\n{packages}\n\nAbout {download} are "
        "downloaded from the internet, and take about {disk} of the disk. Slicer need not be restarted."
        "\n\nInstall them now?"
    )
    lines = "\n".join(_line(package) for package in wanted)
    text = text.format(module=requester, packages=lines, download=_size(download), disk=_size(disk))
    title = _("{module}: install Python packages").format(module=requester)
    if not slicer.util.confirmOkCancelDisplay(text, title):
        raise MissingPackageError(f"packages are missing: {names}", "Try again and agree to their installation")


def _line(package: WantedPackage) -> str:
    build = f", the build {package.build}" if package.build else ""
    there = {"": "", "incomplete": ", whose installation was interrupted"}
    there = there.get(package.installed, f", {package.installed} is too old")
    return f"- {package.name} {package.specifier}{build}{there} (about {_size(package.download_mb)})"


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def _install_torch(logic: Any, wanted: WantedPackage, progress: _Progress) -> None:
    """PyTorchUtils installs without coming back in between; what it prints is its log."""
    from slicer.i18n import tr as _

    head = _("Installing PyTorch, the build {build}, about {size}\nSlicer reacts slowly until it is done.")
    progress.say(head.format(build=wanted.build, size=_size(wanted.download_mb)))
    try:
        with contextlib.redirect_stdout(_Lines(progress.note)):
            torch = logic.installTorch(askConfirmation=False, torchVersionRequirement=MINIMUM_TORCH)
    except (CalledProcessError, RuntimeError, OSError, ImportError) as error:
        raise installation_error("PyTorch", [*progress.log, str(error)]) from error
    if torch is None:
        raise installation_error("PyTorch", progress.log)


def _install_rest(packages: Sequence[WantedPackage], progress: _Progress) -> None:
    from slicer.i18n import tr as _

    names = ", ".join(package.name for package in packages)
    progress.say(_("Installing {packages}").format(packages=names))
    # What an interrupted installation left behind would count as installed for pip.
    broken = [package.requirement for package in packages if package.installed == "incomplete"]
    runs = [["--force-reinstall", "--no-deps", *broken]] if broken else []
    runs.append([package.requirement for package in packages])
    try:
        failed = any(_pip(arguments, progress) for arguments in runs)
    except (CalledProcessError, RuntimeError, OSError) as error:
        raise installation_error(names, [*progress.log, str(error)]) from error
    if failed:
        raise installation_error(names, progress.log)


def _pip(arguments: list[str], progress: _Progress) -> int:
    """Slicer's pip, in the background where this Slicer can do that; its exit code."""
    import slicer

    try:
        from slicer.packaging import isPipInstallInProgress, pip_install
    except ImportError:  # before Slicer 5.12
        with contextlib.redirect_stdout(_Lines(progress.note)):
            slicer.util.pip_install(arguments)
        return 0
    codes: list[int] = []
    pip_install(
        arguments, blocking=False, show_progress=False, logCallback=progress.note, completedCallback=codes.append
    )
    while not codes and isPipInstallInProgress():  # in its testing mode, Slicer has installed by now, or raised
        progress.tick()
        time.sleep(_TICK_S)
    return codes[0] if codes else 0


def _check_installed(wanted: Sequence[WantedPackage], training: bool, meanwhile: Callable[[], None]) -> None:
    """Look again, and import what is new in a process of its own: half a package does not count."""
    lacking = [package.name for package in wanted_packages(training)]
    problems = {} if lacking else import_problems([package.name for package in wanted], meanwhile)
    if lacking or problems:
        error = MissingPackageError(
            f"installed, but not usable: {', '.join(lacking or problems)}",
            "Try again; if it happens again, restart Slicer, and report it with the text of the self-check",
        )
        error.details = tuple(f"{name}: {problem}" for name, problem in problems.items())
        raise error


def _check_replaced(before: dict[str, str]) -> None:
    """Raise when Slicer itself has imported a package that is now there in another version."""
    for name, old in before.items():
        module = sys.modules.get(IMPORT_NAMES.get(name, name.replace("-", "_")))
        try:
            new = version(name)
        except PackageNotFoundError:
            new = ""
        if module is not None and new and new != old:
            raise MissingPackageError(
                f"the packages are installed, but {name} {old}, which Slicer has in use, was replaced by {new}",
                "Save your data, restart Slicer and try again",
            )


def _versions() -> dict[str, str]:
    return {each.metadata["Name"]: each.version for each in distributions() if each.metadata["Name"]}


class _Progress:
    """A window that says what is being installed, and for how long already; its log is kept."""

    def __init__(self, requester: str) -> None:
        self._requester, self._began = requester, time.monotonic()
        self._head = self._line = self._shown = ""
        self._ticks = 0
        self.log: list[str] = []

    def __enter__(self) -> _Progress:
        import slicer
        from slicer.i18n import tr as _

        title = _("{module}: installing Python packages").format(module=self._requester)
        # Without a cancel button: half an installation would be worse than none.
        self._window = slicer.util.createProgressDialog(
            maximum=0, windowTitle=title, modal=True, autoClose=False, autoReset=False
        )
        self._window.setCancelButton(None)
        self._window.show()
        return self

    def __exit__(self, *_: object) -> None:
        self._window.close()
        self._window.deleteLater()

    def say(self, head: str) -> None:
        """What is done now."""
        self._head, self._line = head, ""
        self.tick()

    def note(self, line: str) -> None:
        """Take a line of pip's."""
        if line.strip():
            self.log.append(line.rstrip())
            if line.startswith(("Collecting", "Downloading", "  Downloading", "Installing", "Using")):
                self._line = re.sub(r"(\S{30})\S{3,}", r"\1...", line.strip())[:80]  # names of files are long
        self.tick()

    def tick(self) -> None:
        """Show the time that has passed, and let the application react."""
        from slicer.i18n import tr as _

        seconds = round(time.monotonic() - self._began)
        text = _("{action}\n{line}\n{seconds} s").format(action=self._head, line=self._line, seconds=seconds)
        if text != self._shown:
            self._shown = self._window.labelText = text
        self._ticks += 1
        self._window.setValue(1 + self._ticks % 2)  # a new value of a modal progress window lets the application react


class _Lines(io.TextIOBase):
    """A stream that hands on whole lines."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take, self._rest = take, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)
