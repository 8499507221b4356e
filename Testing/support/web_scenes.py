"""Scenes for the web page, with models that were never trained beside them, and the command that shows them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue

import pytest
from XTLLib.data.case import Case
from XTLLib.inference.results import ClassificationResult, SegmentationResult
from XTLLib.scene.classification import add_classification
from XTLLib.scene.export import save_scene
from XTLLib.scene.inputs import add_case
from XTLLib.scene.segmentation import add_segmentation
from XTLLib.scene.session import new_scene
from XTLLib.scene.views import add_slice_views

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_TRAME = pytest.mark.skipif(find_spec("trame") is None, reason="trame is not installed (pip install .[web])")
NEEDS_BROWSER = pytest.mark.skipif(
    find_spec("playwright") is None or CHROMIUM is None, reason="playwright or chromium is not installed"
)


def save_results(path: Path, *results: SegmentationResult | ClassificationResult) -> Path:
    """An MRB file with results as Apply leaves them, each with its case under a study of its own."""
    with new_scene() as scene:
        references = []
        for number, result in enumerate(results):
            references.append(add_case(result.case, scene, f"study {number}").reference)
            add = add_segmentation if isinstance(result, SegmentationResult) else add_classification
            add(result, scene, references[-1])
        add_slice_views(scene, references[0])
        save_scene(scene, path)
    return path


def save_images(path: Path, case: Case) -> Path:
    """An MRB file with a case's channels and nothing else."""
    with new_scene() as scene:
        add_case(case, scene)
        save_scene(scene, path)
    return path


@contextmanager
def page_of(scene: Path, *options: str, home: Path | None = None) -> Iterator[str]:
    """``xtl view`` in a process of its own; yields the address that it says."""
    command = [sys.executable, "-m", "XTLLib.cli", "view", str(scene), "--no-browser", *options]
    environment = {**os.environ, **({} if home is None else {"XTL_HOME": str(home)})}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, env=environment
    )
    lines: Queue[str] = Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()
    said = ""
    try:
        while not (found := re.search(r"http://\S+", said)):
            assert process.poll() is None, said
            try:
                said += lines.get(timeout=60)
            except Empty as nothing:
                raise AssertionError(f"no address within 60 s: {said}") from nothing
        yield found.group()
    finally:
        process.terminate()
        code = process.wait(20)
        reader.join(5)
        process.stdout.close()
    assert code == 0, f"exit code {code}: {said}"


def refusal(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of an ``xtl view`` that does not start."""
    command = [sys.executable, "-m", "XTLLib.cli", "view", *arguments, "--no-browser"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr
