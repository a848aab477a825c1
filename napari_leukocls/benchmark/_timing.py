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
    """Return what takes the place of figures that were not measured.

    Parameters
    ----------
    reason : str

    Returns
    -------
    dict
    """
    return {"left_out": reason}


def seconds_of(work: Callable[[], object]) -> float:
    """Run a piece of work once, and measure its time.

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
    """Measure several pieces of work in turns: in every round, each runs once.

    Parameters
    ----------
    works : mapping of str to callable
    repeats : int
        Number of rounds.
    warm : bool
        Run each once before the first round.

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
    """Return the product of two float32 matrices, `MATMUL_GFLOP` operations, as work to time."""
    one, other = torch.randn(MATMUL_SIDE, MATMUL_SIDE), torch.randn(MATMUL_SIDE, MATMUL_SIDE)
    return lambda: torch.mm(one, other)


def share_of_matmul(gflop: float, seconds: float, matmul_seconds: float) -> float:
    """Compare the rate of a network with that of the matrix product, measured in the same turns.

    Parameters
    ----------
    gflop : float
        Operations of the network, 10^9.
    seconds : float
        Of the network.
    matmul_seconds : float
        Of the matrix product.

    Returns
    -------
    float
        Rate of the network as a share of the rate of the matrix product.
    """
    return (gflop / seconds) / (MATMUL_GFLOP / matmul_seconds)


def gflop_of(net: nn.Module, *inputs: Any) -> float:
    """Count the floating-point operations of one call; a multiplication with addition counts as two.

    Parameters
    ----------
    net : torch.nn.Module
    *inputs
        Of the call.

    Returns
    -------
    float
        10^9 operations.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    return counter.get_total_flops() / 1e9


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
    """Bytes that programs can still take; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    free = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * int(free[0]) if free else float("inf")
