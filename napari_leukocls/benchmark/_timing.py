"""Timing: medians, things that are compared taking turns, and counted operations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from torch import nn

MATMUL_SIDE = 2048

MATMUL_GFLOP = 2 * MATMUL_SIDE**3 / 1e9


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


def matmul() -> Callable[[], object]:
    """Return the product of two float32 matrices, `MATMUL_GFLOP` operations, as work to time."""
    one, other = torch.randn(MATMUL_SIDE, MATMUL_SIDE), torch.randn(MATMUL_SIDE, MATMUL_SIDE)
    return lambda: torch.mm(one, other)


def share_of_matmul(gflop: float, seconds: float, matmul_seconds: float) -> float:
    """How much of the matrix product's rate, measured in the same turns, a network reaches."""
    return (gflop / seconds) / (MATMUL_GFLOP / matmul_seconds)


def gflop_of(net: nn.Module, *inputs: Any) -> float:
    """Floating-point operations (10^9, two a multiplication with addition) of one call."""
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
