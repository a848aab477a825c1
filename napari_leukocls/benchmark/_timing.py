"""Timing: medians of functions that are called in turns, and counts of operations."""

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

#: Rows and columns of the matrices of the product that machines are compared by.
MATMUL_SIDE = 2048
#: Floating-point operations (10^9) of this product.
MATMUL_GFLOP = 2 * MATMUL_SIDE**3 / 1e9


def left_out(reason: str) -> dict[str, Any]:
    """Stand in for figures that were not measured.

    Parameters
    ----------
    reason : str

    Returns
    -------
    dict
    """
    return {"left_out": reason}


def seconds_of(work: Callable[[], object]) -> float:
    """Time one call of a function.

    Parameters
    ----------
    work : callable

    Returns
    -------
    float
        Seconds.
    """
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def take_turns(
    works: Mapping[str, Callable[[], object]], repeats: int, warm: bool = True
) -> dict[str, float]:
    """Time functions that are called in turns, once each in every round.

    Parameters
    ----------
    works : mapping of str to callable
    repeats : int
        Rounds.
    warm : bool
        Whether each function is called once before.

    Returns
    -------
    dict of str to float
        Median seconds of each.
    """
    for work in works.values() if warm else ():
        work()
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            rounds[name].append(seconds_of(work))
    return {name: statistics.median(times) for name, times in rounds.items()}


def matmul() -> Callable[[], object]:
    """Return a function that multiplies two float32 matrices, which takes `MATMUL_GFLOP` operations."""
    one, other = torch.randn(MATMUL_SIDE, MATMUL_SIDE), torch.randn(MATMUL_SIDE, MATMUL_SIDE)
    return lambda: torch.mm(one, other)


def share_of_matmul(gflop: float, seconds: float, matmul_seconds: float) -> float:
    """Compute the speed of a network divided by the speed of the matrix product in the same run.

    Parameters
    ----------
    gflop : float
        Operations (10^9) of the network.
    seconds, matmul_seconds : float
        Of the network, and of `matmul`.

    Returns
    -------
    float
    """
    return (gflop / seconds) / (MATMUL_GFLOP / matmul_seconds)


def gflop_of(net: nn.Module, *inputs: Any) -> float:
    """Count the floating-point operations of one call; a multiplication with addition counts as two.

    Parameters
    ----------
    net : torch.nn.Module
    *inputs
        Of the network.

    Returns
    -------
    float
        10^9 operations.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    return float(counter.get_total_flops()) / 1e9


def parameters_of(net: nn.Module) -> int:
    """Count the parameters of a network.

    Parameters
    ----------
    net : torch.nn.Module

    Returns
    -------
    int
    """
    return sum(parameter.numel() for parameter in net.parameters())


def free_memory() -> float:
    """Return the memory that programs can still allocate, bytes; infinite if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    free = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * int(free[0]) if free else float("inf")
