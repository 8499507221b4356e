"""A self-check: what is installed and whether it works, in a text that a user can paste into a forum post.

Nothing in the text names a patient, a node, a file, the user or the computer: paths are left out or begin
with "~", and of the last error only its fixed words are told (failures.anonymous_lines).
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..inference.memory import free_system_memory, total_memory
from ..inference.probe import Probe
from ..progress import Progress

PACKAGES = ("numpy", "scipy", "SimpleITK", "pydicom", "torch", "torchvision", "monai", "pydantic", "PyYAML")
PACKAGES += ("scikit-learn", "tqdm", "highdicom", "openvino", "safetensors")
_NEEDED = ("numpy", "scipy", "torch")  # to apply a bundle; the others are for training, DICOM and speed
_GB = 1e9
_EXPECTED_S = 15.0  # for the progress bar only


@dataclass(frozen=True)
class SelfCheckReport:
    """What was found.

    Attributes
    ----------
    text : some 30 lines, fit for the public. works : a bundle can be applied on this computer.
    """

    text: str
    works: bool


class SelfCheck:
    """A self-check under way. The owner calls :meth:`poll` now and then; nothing here blocks for long."""

    def __init__(self) -> None:
        self._probe = Probe(PACKAGES, compute=True)

    def start(self) -> None:
        """Raises XTLError when no process can be started."""
        self._probe.start()

    def poll(self) -> SelfCheckReport | None:
        """The report once it is there."""
        self._probe.poll()
        return make_report(self._probe.found) if self._probe.is_done else None

    def close(self) -> None:
        """Stop."""
        self._probe.close()


def report() -> str:
    """The text of a self-check; for the Python console, where it takes some seconds."""
    return run_self_check().text


def run_self_check(progress: Progress | None = None, meanwhile: Callable[[], None] = lambda: None) -> SelfCheckReport:
    """Do a self-check here and now. Raises Cancelled, and XTLError when no process can be started."""
    progress, began, check = progress or Progress(), time.monotonic(), SelfCheck()
    check.start()
    try:
        while (found := check.poll()) is None:
            progress.report("Self-check", min(0.95, (time.monotonic() - began) / _EXPECTED_S))
            meanwhile()
            time.sleep(0.05)
    finally:
        check.close()
    return found


def make_report(found: list[dict[str, Any]]) -> SelfCheckReport:
    """Put what a probe found, and what this process knows, into a text."""
    packages = {fact["package"]: fact for fact in found if "package" in fact}
    devices = [fact for fact in found if "device" in fact]
    works = all(name in packages and not packages[name]["problem"] for name in _NEEDED)
    works = works and bool(devices) and not any(fact["problem"] for fact in devices)
    lines = [
        f"XTL {__version__} self-check: {'works' if works else 'does not work yet'}",
        f"Slicer: {_slicer()}",
        f"System: {platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors",
        f"Python: {platform.python_version()}",
        "Packages:",
        *(_package_line(name, packages.get(name)) for name in PACKAGES),
        "Computation (a tiny network with a known answer):",
        *([_device_line(fact) for fact in devices] or ["  none: torch cannot be imported"]),
        *_resources(),
        *_last_error(),
    ]
    return SelfCheckReport(without_names("\n".join(lines)) + "\n", works)


def without_names(text: str) -> str:
    """A text with the home folder as "~", and without the names of user and computer."""
    home, computer = Path.home(), platform.node()
    for written in (str(home), home.as_posix()):
        text = re.sub(rf"{re.escape(written)}(?!\w)", "~", text, flags=re.IGNORECASE)
    # The folder may have another name than its user, and a computer is also known without its domain.
    names = {_user(): "<user>", home.name: "<user>", computer: "<computer>", computer.partition(".")[0]: "<computer>"}
    for name in sorted(names, key=len, reverse=True):
        if len(name) > 2:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", names[name], text, flags=re.IGNORECASE)
    return text


def _problem(fact: dict[str, Any]) -> str:
    """What is wrong, of a path its last part alone; a path may have blanks, so all between two of its marks goes."""
    return re.sub(r"(~|\b[A-Za-z]:)?[\\/].*[\\/]", ".../", fact["problem"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such account, as in some containers
        return ""


def _slicer() -> str:
    application = getattr(sys.modules.get("slicer"), "app", None)
    if application is None:
        return "not running (command line)"
    revision = getattr(application, "revision", "")
    return f"{application.applicationVersion}{f' (revision {revision})' if revision else ''}"


def _package_line(name: str, fact: dict[str, Any] | None) -> str:
    if fact is None:
        return f"  {name}: ended the process that imported it, or one before it did"
    if fact["version"] is None and fact["problem"]:
        return f"  {name}: not installed"
    state = f"CANNOT BE IMPORTED ({_problem(fact)})" if fact["problem"] else "works"
    return f"  {name} {fact['version'] or '(version unknown)'}: {state}"


def _device_line(fact: dict[str, Any]) -> str:
    memory = f", {fact['memory'] / _GB:.1f} GB" if fact["memory"] else ""
    state = f"FAILED ({_problem(fact)})" if fact["problem"] else f"right, {fact['seconds']:.2f} s"
    return f"  {fact['device']} ({fact['name']}{memory}): {state}"


def _resources() -> list[str]:
    from ..bundle.library import list_models, xtl_home

    home = xtl_home()
    place = home
    while not place.exists():
        place = place.parent
    models = list_models()
    damaged = sum(bool(model.problem) for model in models)
    where = "set by XTL_HOME" if os.environ.get("XTL_HOME") else "the usual place"
    return [
        f"Memory: {total_memory() / _GB:.1f} GB, {free_system_memory() / _GB:.1f} GB free",
        f"Disk: {shutil.disk_usage(place).free / _GB:.1f} GB free for XTL's folder, "
        f"{shutil.disk_usage(tempfile.gettempdir()).free / _GB:.1f} GB for temporary files",
        f"XTL's folder ({where}): {'can' if os.access(place, os.W_OK) else 'CANNOT'} be written to",
        f"Models in the library: {len(models)}{f', {damaged} cannot be used' if damaged else ''}",
    ]


def _last_error() -> list[str]:
    from .error_display import last_failure

    if getattr(sys.modules.get("slicer"), "app", None) is None:  # a command that failed said why itself
        return []
    return ["Last error in this session:", *([f"  {line}" for line in last_failure()] or ["  none"])]
