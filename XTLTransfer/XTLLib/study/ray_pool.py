"""Runs of a study on a Ray cluster (an optional dependency): the same functions, on the cores of many machines.

All machines have to see the datalists, the images and the study's folder under the same paths, and have XTL
installed; a run that is lost with its machine is taken up by another one from its last checkpoint.
"""

from __future__ import annotations

import os
import time
from typing import Any

from ..child import ALLOCATOR
from ..errors import InputError, MissingPackageError
from .pool import RunReport
from .task import RunTask

RETRIES = 1  # of a run whose process or machine dies, by Ray itself
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class RayPool:
    """A pool.Pool on a Ray cluster.

    Parameters
    ----------
    address : of a cluster, as ``ray.init`` takes it ("auto", "ray://host:10001", "host:6379"); "local" begins one
        on this machine and ends it at the close.
    processes : runs at the same time; None for as many as the cluster has CPUs (and GPUs) for.
    threads : CPUs that each run takes. gpus : share of a GPU that each run takes; 0 computes on CPU.

    Raises
    ------
    MissingPackageError : Ray is not installed. InputError : no cluster answers at the address.
    """

    def __init__(self, address: str, processes: int | None, threads: int, gpus: float) -> None:
        ray = _import_ray()
        self._ray, self._is_own = ray, not ray.is_initialized()
        if self._is_own:
            own = {"include_dashboard": False} if address == "local" else {}
            if address == "local" and processes is not None:
                own["num_cpus"] = processes * threads
            try:
                ray.init(address=address, log_to_driver=False, **own)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"no Ray cluster answers at {address} ({str(error).splitlines()[0]})",
                    "Start one with ray start --head, or say --ray local",
                ) from error
        self._places = processes or _room(ray.cluster_resources(), threads, gpus)
        variables = {**ALLOCATOR, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        self._remote = ray.remote(_remote_run).options(
            num_cpus=threads, num_gpus=gpus, max_retries=RETRIES, runtime_env={"env_vars": variables}
        )
        self._device = "cuda" if gpus else "cpu"
        self._keys: dict[Any, str] = {}

    @property
    def places(self) -> int:
        return self._places

    @property
    def is_free(self) -> bool:
        return len(self._keys) < self._places

    def submit(self, task: RunTask) -> None:
        self._keys[self._remote.remote(task.to_dict(), self._device)] = task.key

    def poll(self, timeout_s: float) -> list[RunReport]:
        if not self._keys:
            time.sleep(timeout_s)
            return []
        done, _ = self._ray.wait(list(self._keys), timeout=timeout_s)
        return [self._report_of(reference) for reference in done]

    def close(self, patience_s: float) -> None:
        for reference in self._keys:
            self._ray.cancel(reference)  # raises KeyboardInterrupt in the run
        if self._keys:
            self._ray.wait(list(self._keys), num_returns=len(self._keys), timeout=patience_s)
        self._keys.clear()
        if self._is_own:
            self._ray.shutdown()

    def _report_of(self, reference: Any) -> RunReport:
        key = self._keys.pop(reference)
        try:
            message = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # its process or its machine died, once too often
            return RunReport(key, "failed", message=f"its process died {RETRIES + 1} times ({type(error).__name__})")
        return RunReport(key, "failed", message=message) if message else RunReport(key, "done")


def _remote_run(task: dict[str, Any], device: str) -> str:
    """Do a run -> why it failed, "" when it did not."""
    from XTLLib.study.execute import execute_run
    from XTLLib.study.run_process import words_of
    from XTLLib.study.task import RunTask

    try:
        execute_run(RunTask.from_dict(task), device)
    except Exception as error:
        return words_of(error)
    return ""


def _room(resources: dict[str, float], threads: int, gpus: float) -> int:
    """How many runs a cluster takes at a time."""
    by_cpu = int(resources.get("CPU", 0)) // threads
    by_gpu = int(resources.get("GPU", 0) / gpus) if gpus else by_cpu
    if min(by_cpu, by_gpu) < 1:
        raise InputError(
            f"the Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs, "
            f"too few for a run with {threads} CPUs and {gpus:g} GPUs",
            "Ask for less with --threads and --gpus, or add machines",
        )
    return min(by_cpu, by_gpu)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError.of("studies with --ray", "ray", "ray") from error
    return ray
