"""Packages that XTL can do without: an error names the extra that has them, and it does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "XTLTransfer" / "XTLLib"
_NAMED = re.compile(r'MissingPackageError\.of\("[^"]+", "([^"]+)", "([^"]+)"\)')
NAMED = sorted({pair for path in LIBRARY.rglob("*.py") for pair in _NAMED.findall(path.read_text(encoding="utf-8"))})


def test_the_errors_were_found():
    assert {("matplotlib", "study"), ("matplotlib", "scene"), ("scikit-image", "study")} <= set(NAMED)


@pytest.mark.parametrize(("package", "extra"), NAMED)
def test_the_extra_that_an_error_names_has_the_package(package, extra):
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{extra} = [")]
    assert re.search(rf'"{re.escape(package)}[>=\[]', line)


def test_the_remedy_serves_a_terminal_and_slicer():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from XTLLib.inference.report import new_page\n"
        "try: new_page()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.startswith("MissingPackageError reports need the Python package matplotlib.")
    for way in ("python -m pip install matplotlib", 'pip install ".[scene]"', 'slicer.util.pip_install("matplotlib")'):
        assert way in done.stdout
