"""``slicer.packaging``: requirements are checked against what is installed; nothing is ever installed.

Names and parameters are those of Slicer 5.12.3 (Base/Python/slicer/packaging.py); a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

installs: list[list[str]] = []
"""The arguments of every call of pip_install."""


class Pip:
    """What pip will do: the lines that it prints, its exit code, and what has happened by then."""

    lines: tuple[str, ...] = ("ERROR: Could not find a version that satisfies the requirement",)
    code: int = 1
    effect: Callable[[], None] | None = None
    is_busy = is_testing = False


def isPipInstallInProgress() -> bool:
    """Whether pip works in the background."""
    return Pip.is_busy


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements of a file, comments and pip options left out."""
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(req: Any, _seen: Any = None) -> bool:
    """Whether every requirement is met by what is installed."""
    for requirement in req if isinstance(req, list) else [req]:
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                return False
        except PackageNotFoundError:
            return False
    return True


def pip_install(
    requirements: Any,
    constraints: Any = None,
    no_deps_requirements: Any = None,
    skip_packages: Any = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    parent: Any = None,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> None:
    """What ``Pip`` says, told a moment later, as Slicer does with ``blocking=False``."""
    assert not blocking and not show_progress, "the stand-in knows no other way"
    from PySide6 import QtCore

    installs.append(list(requirements))
    if Pip.is_testing:  # Slicer then installs at once, and calls nobody
        Pip.effect()
        return
    Pip.is_busy = True

    def work() -> None:
        Pip.is_busy = False
        for line in Pip.lines:
            logCallback(line)
        if Pip.effect is not None:
            Pip.effect()
        completedCallback(Pip.code)

    QtCore.QTimer.singleShot(0, work)


def pip_ensure(
    requirements: Any,
    constraints: Any = None,
    skip_packages: Any = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    """Nothing that asks a second time may be called."""
    raise AssertionError("pip_ensure asks by itself")
