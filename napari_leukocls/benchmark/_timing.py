"""Timing: medians, things that are compared taking turns, and counted operations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def left_out(reason: str) -> dict[str, Any]:
    """Stand in for figures that were not measured."""
    return {"left_out": reason}


def seconds_of(work: Callable[[], object]) -> float:
    """Run work once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def take_turns(
    works: Mapping[str, Callable[[], object]], repeats: int, warm: bool = True
) -> dict[str, float]:
    """Median seconds of each work; in every round each runs once."""
    for work in works.values() if warm else ():
        work()
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            rounds[name].append(seconds_of(work))
    return {name: statistics.median(times) for name, times in rounds.items()}


def matmul_rate(repeats: int) -> float:
    """GFLOP/s of a product of two 2048 x 2048 float32 matrices."""
    import torch

    side = 2048
    one, other = torch.randn(side, side), torch.randn(side, side)
    seconds = take_turns({"mm": lambda: torch.mm(one, other)}, repeats)["mm"]
    return 2 * side**3 / seconds / 1e9


def gflop_of(net: nn.Module, *inputs: Any) -> float:
    """Floating-point operations (10^9, two a multiplication with addition) of one call."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    return counter.get_total_flops() / 1e9


def parameters_of(net: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(parameter.numel() for parameter in net.parameters())


def free_memory() -> float:
    """Bytes that programs can still take; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    free = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * int(free[0]) if free else float("inf")
