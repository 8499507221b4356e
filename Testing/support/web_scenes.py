"""Scenes for the web page, with models that were never trained beside them, and the command that shows them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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
def page_of(
    scene: Path,
    *options: str,
    home: Path | None = None,
    prelude: str = "",
    end: signal.Signals = signal.SIGTERM,
    code: int = 0,
) -> Iterator[str]:
    """``xtl view`` in a process of its own; yields the address that it says.

    At the end the process is sent ``end``, or it ends by itself with another ``code`` than 0; with it, all has to end
    that it has started, and all has to go that it has put aside.

    Parameters
    ----------
    home : model library. prelude : Python that the process does first.
    """
    # A shell starts what runs in its background without Ctrl+C.
    program = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
{prelude}
from XTLLib.cli import main
sys.exit(main(sys.argv[1:]))"""
    command = [sys.executable, "-c", program, "view", str(scene), "--no-browser", *options]
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "TMPDIR": temporary, **({} if home is None else {"XTL_HOME": str(home)})}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip
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
            started = children_of(process.pid)
            if process.poll() is None and not code:
                process.send_signal(end)
            ended_with = process.wait(60)
            reader.join(5)
            process.stdout.close()
            said += "".join(lines.queue)
        assert ended_with == code, f"exit code {ended_with}: {said}"
        assert code or not ("Traceback" in said or "ERR|" in said), said
        wait_until(lambda: not any(map(is_alive, started)))
        folders = [Path(temporary), Path("/dev/shm")]
        assert not [one for folder in folders for one in folder.glob(f"xtl-*-{process.pid}-*")]
        assert not list(Path(temporary).glob("xtl-*"))


def children_of(pid: int, command: str = "") -> list[int]:
    """Processes that a process has started, and those that they have; none where the system does not say.

    ``command`` : leave out those in whose command it is not.
    """
    try:
        own = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        found = [one for one in own if command.encode() in Path(f"/proc/{one}/cmdline").read_bytes()]
    except OSError:
        return []
    return found + [one for child in own for one in children_of(child, command)]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)
