"""How many threads there may be, and how they wait for each other; no torch here: it reads this when it is loaded."""

from __future__ import annotations

import os
from pathlib import Path

#: What tells OpenMP of GNU, Intel and LLVM how threads wait.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def share_processor() -> None:
    """Let threads that wait sleep; call it before torch is loaded.

    Threads of OpenMP wait for each other in a busy loop. If other programs use the same cores, the work that they
    wait for does not run meanwhile. What the user has set in the environment is kept.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["KMP_BLOCKTIME"] = "0"


def cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    int
        At least 1: those of the machine, or fewer if the process is bound to some of them or its control group (a
        container, a job of a cluster) has a quota of time.
    """
    try:
        there = len(os.sched_getaffinity(0))
    except AttributeError:
        # Windows and macOS bind no processes in this way.
        there = os.cpu_count() or 1
    quota = _quota()
    return max(1, there if quota is None else min(there, int(quota + 0.5)))


def _quota(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores' worth of time that the control group has, in either version; None if it has no limit."""
    limits = []
    try:
        lines = groups.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in ["0::/", "1:cpu:/", *lines]:
        _, kinds, path = (line.split(":", 2) + ["", ""])[:3]
        if kinds and "cpu" not in kinds.split(","):
            continue
        folder = root / ("cpu" if kinds else ".") / path.lstrip("/")
        top = root / ("cpu" if kinds else ".")
        while True:
            limit = _limit_v1(folder) if kinds else _limit_v2(folder)
            if limit is not None:
                limits.append(limit)
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent
    return min(limits, default=None)


def _limit_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _limit_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
