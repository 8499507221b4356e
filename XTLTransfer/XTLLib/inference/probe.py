"""Whether packages can be imported, and a network computed, found out in a process of its own.

A package that is installed in part, or built for another machine, may end the process that imports it:
therefore the parent does not import it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..child import Child, python_command

IMPORT_NAMES = {"PyYAML": "yaml", "scikit-learn": "sklearn", "scikit-image": "skimage"}
"""Distribution -> module, where they differ."""
_POLL_S = 0.02


class Probe:
    """The parent's side. The owner calls :meth:`poll` until :attr:`is_done`; nothing here blocks.

    Parameters
    ----------
    packages : names of distributions. compute : also say which devices there are, and compute on them.
    limit_s : after which the process is ended.

    Attributes
    ----------
    found : dictionaries of :func:`main`, in order.
    """

    def __init__(self, packages: Sequence[str], compute: bool = False, limit_s: float = 120.0) -> None:
        command = python_command("XTLLib.inference.probe", [*packages, *(["--compute"] if compute else [])])
        self._child, self._limit_s, self._began = Child(command, "the self-check"), limit_s, 0.0
        self.found: list[dict[str, Any]] = []
        self.is_done = False

    def start(self) -> None:
        """Raises XTLError when the system refuses."""
        self._began = time.monotonic()
        self._child.start()

    def poll(self) -> None:
        """Take in what was found."""
        self.found += self._child.messages()
        if not self.is_done and (not self._child.is_running or time.monotonic() - self._began > self._limit_s):
            self.is_done = True
            self.close()

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start, and call ``meanwhile`` again and again until everything is found."""
        try:
            self.start()
            while not self.is_done:
                self.poll()
                meanwhile()
                time.sleep(_POLL_S)
        finally:
            self.close()

    def problem_of(self, package: str) -> str:
        """Why a package cannot be imported; "" where it can."""
        for fact in self.found:
            if fact.get("package") == package:
                return fact["problem"]
        return "the process that imported it ended"


def main(argv: Sequence[str] | None = None) -> int:
    """Print one JSON object a line.

    ``{"package", "version", "problem", "seconds"}`` for each package (version null: not installed; problem "": can be
    imported), ``{"device", "name", "memory", "problem", "seconds"}`` for each device (memory in bytes or null).
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--compute", action="store_true")
    arguments = parser.parse_args(argv)
    for name in arguments.packages:
        _say(_import(name))
    if arguments.compute and "torch" in sys.modules:
        for device, words, memory in _devices():
            _say(_compute(device) | {"device": device, "name": words, "memory": memory})
    return 0


def _say(fact: dict[str, Any]) -> None:
    print(json.dumps(fact), flush=True)


def _import(name: str) -> dict[str, Any]:
    began, problem = time.perf_counter(), ""
    try:
        installed = version(name)
    except PackageNotFoundError:
        installed = None
    try:
        import_module(IMPORT_NAMES.get(name, name))
    except ModuleNotFoundError as error:
        problem = f"{error.name} is missing"
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return {"package": name, "version": installed, "problem": problem, "seconds": time.perf_counter() - began}


def _devices() -> list[tuple[str, str, int | None]]:
    import torch

    devices: list[tuple[str, str, int | None]] = [("cpu", f"{torch.get_num_threads()} threads", None)]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append((f"cuda:{index}", properties.name, properties.total_memory))
    if torch.backends.mps.is_available():
        devices.append(("mps", "Apple GPU, which XTL does not use", None))
    return devices


def _compute(device: str) -> dict[str, Any]:
    """A step of a tiny network whose answer is known: a 3x3x3 kernel of ones over ones gives 27 inside."""
    import torch

    began, problem = time.perf_counter(), ""
    try:
        kernel = torch.ones(1, 1, 3, 3, 3, device=device, requires_grad=True)
        answer = torch.nn.functional.conv3d(torch.ones(1, 1, 16, 16, 16, device=device), kernel)
        answer.mean().backward()
        if answer.detach().sub(27).abs().max().item() > 0.1 or kernel.grad.sub(1).abs().max().item() > 0.01:
            problem = "the result is wrong"
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return {"problem": problem, "seconds": time.perf_counter() - began}


def import_problems(packages: Sequence[str], meanwhile: Callable[[], None] = lambda: None) -> dict[str, str]:
    """Package -> why it cannot be imported, for those that cannot. Raises XTLError when no process can be started."""
    probe = Probe(packages)
    probe.wait(meanwhile)
    return {name: problem for name in packages if (problem := probe.problem_of(name))}


if __name__ == "__main__":
    sys.exit(main())
