"""The benchmark's instruments: what they say must be right before what they measure is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from napari_leukocls.benchmark._images import _WATCH
from napari_leukocls.benchmark._timing import gflop_of, parameters_of, take_turns


def test_operations_are_counted_in_convolutions_and_products():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1, bias=False),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 16 * 16, 10, bias=False),
    )
    multiplications = 16 * 16 * 9 * (3 * 8 + 8) + 8 * 16 * 16 * 10
    assert gflop_of(net, torch.zeros(1, 3, 16, 16)) == pytest.approx(2 * multiplications / 1e9)
    assert gflop_of(net, torch.zeros(5, 3, 16, 16)) == pytest.approx(10 * multiplications / 1e9)
    assert parameters_of(net) == 9 * 3 * 8 + 9 * 8 + 8 * 16 * 16 * 10


def test_what_is_compared_takes_turns():
    order: list[str] = []
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = take_turns(works, 3)
    assert "".join(order) == "ab" * 4
    assert times.keys() == works.keys()
    assert all(0 <= seconds < 1 for seconds in times.values())


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system does not tell a child's peak of memory")
def test_the_peak_is_the_commands_own_and_not_this_processs():
    ballast = bytearray(300_000_000)

    def peak(code: str) -> tuple[float, float, int]:
        command = [sys.executable, "-c", _WATCH, sys.executable, "-c", code]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    _, small, status = peak("pass")
    _, large, _ = peak("b'x' * 200_000_000")
    assert status == 0
    assert small < 100_000_000 < len(ballast)
    assert large - small == pytest.approx(200_000_000, rel=0.1)
    assert peak("raise SystemExit(3)")[2] == 3
