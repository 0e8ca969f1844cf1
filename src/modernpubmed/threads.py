"""How many threads computing is worth: what the container may use, not what the machine has.

A container's quota is not visible in ``os.cpu_count()``: on 64 cores with a quota of 2, a thread
a core means 62 threads waiting for their turn. See the kernel's documentation of control groups,
version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_threads(mount: Path = _MOUNT, own: Path = _OWN) -> int:
    """Threads that can run at a time: the process's cores or its group's quota, the fewer.

    A quota of one and a half cores counts as two: a thread that sometimes waits beats half a core
    left idle.

    Args:
        mount: Where control groups are mounted.
        own: The file that says which group this process is in.

    Returns:
        1 or more.

    >>> 1 <= usable_threads() <= os.cpu_count()
    True
    """
    quotas = [quota for folder in _groups(mount, own) if (quota := _quota(folder)) is not None]
    return max(1, min([usable_cores(), *map(math.ceil, quotas)]))


def usable_cores() -> int:
    """Cores that this process may run on, whatever share of them it gets."""
    if hasattr(os, "sched_getaffinity"):  # Linux: what taskset and the scheduler allow
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(mount: Path, own: Path) -> Iterator[Path]:
    """The folders whose limits hold: each group's own and those of all above it."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / "cpu" if controllers else mount
        folder = top / group.lstrip("/")
        # In a container the path may be the host's, which is not mounted here: its top is.
        yield from (folder, *(above for above in folder.parents if above.is_relative_to(top)))


def _quota(folder: Path) -> float | None:
    """Cores that a group may use; None without a limit."""
    try:
        if (file := folder / "cpu.max").is_file():
            quota, period = file.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
