"""Limits on how long something may take, that hold on a slow and on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

# CPU seconds of _work on the machine on which the limits of the tests were chosen.
_WORK_S = 0.006


def cpu_seconds(action: Callable[[], object], times: int = 1) -> float:
    """The fewest CPU seconds of this process of a few times: what else runs on the machine does not count."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        action()
        taken.append(time.process_time() - began)
    return min(taken)


def slowness() -> float:
    """How many times slower this machine is now than that of the limits; 1 for a quicker one."""
    return max(1.0, cpu_seconds(_work, 5) / _WORK_S)


def _work() -> int:
    return sum(number * number for number in range(200_000))
