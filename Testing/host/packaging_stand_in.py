"""``slicer.packaging``: requirements are checked against what is installed; nothing is ever installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

ensured: list[tuple[str | None, list[str]]] = []
"""Every call of pip_ensure: who asked, and for what."""


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements of a file, comments and pip options left out."""
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(requirements: Requirement | list[Requirement]) -> bool:
    """Whether every requirement is met by what is installed."""
    for requirement in requirements if isinstance(requirements, list) else [requirements]:
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                return False
        except PackageNotFoundError:
            return False
    return True


def pip_ensure(requirements: list[Requirement], requester: str | None = None, **_: object) -> None:
    """As when a user declines the installation: RuntimeError where something is missing."""
    ensured.append((requester, [str(requirement) for requirement in requirements]))
    missing = [str(requirement) for requirement in requirements if not pip_check(requirement)]
    if missing:
        raise RuntimeError(f"User declined package installation ({', '.join(missing)})")
