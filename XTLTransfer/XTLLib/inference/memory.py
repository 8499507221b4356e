"""How much memory there is to compute in."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_UNKNOWN = 4 * 2**30  # bytes assumed where the system does not say


def free_memory(device: torch.device) -> int:
    """Bytes that may be asked for on a device now: of a GPU, or of this machine within its container's limit."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_system_memory()


def free_system_memory() -> int:
    """Bytes that may be asked for on this machine now, within its container's limit."""
    return min(_free_of_machine(), _free_of_container())


def total_memory() -> int:
    """Bytes of memory that this machine has, within its container's limit; 0 where the system does not say."""
    if sys.platform == "win32":
        return _status_of_windows()[0]
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
    return min(total, _limit_of_container())


def _free_of_machine() -> int:
    if sys.platform == "linux":
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return _status_of_windows()[1] or _UNKNOWN
    try:  # macOS: what is installed, half of which is taken to be in use
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN


def _status_of_windows() -> tuple[int, int]:
    """Total and free; zeros where Windows does not say."""

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "total_page", "free_page", "total_virtual", "free_virtual", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    known = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return (int(status.total), int(status.free)) if known else (0, 0)


def _free_of_container() -> int:
    """What a control group (version 2, or 1) still allows; a very large number outside of one."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return sys.maxsize


def _limit_of_container() -> int:
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(limit).read_text())
        except (OSError, ValueError):
            continue
    return sys.maxsize
