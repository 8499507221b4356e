"""What Slicer's start-up pays for XTL Segment: nothing heavy is imported, not even when the panel is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTING = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "monai", "SimpleITK", "sklearn", "scipy", "matplotlib", "pydicom", "highdicom", "pydantic", "yaml"}
SCRIPT = """
import json, sys
sys.path.insert(0, {testing!r})
import host.boot as boot
boot.start()
before = set(sys.modules)
boot.load_module("XTLSegment")
loaded = set(sys.modules) - before
panel = boot.open_panel("XTLSegment")
print(json.dumps([sorted(before), sorted(loaded), sorted(sys.modules)]))
panel.close()
"""


@pytest.fixture(scope="module")
def modules() -> list[set[str]]:
    """Names of modules before XTLSegment is loaded, those it brings, and all once its panel is open."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(testing=str(TESTING))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"},
    )
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_loading_the_module_brings_nothing_but_itself(modules):
    before, loaded, _ = modules
    assert not packages(before) & HEAVY, "else this test could not tell"
    assert "XTLSegment" in loaded
    assert packages(loaded) <= {"XTLSegment", "qt"} | set(sys.stdlib_module_names)
    assert not any(name.startswith("XTLLib") for name in loaded)


def test_an_open_panel_has_brought_nothing_heavy(modules):
    assert not packages(modules[2]) & HEAVY
