"""Devices, and what happens when their memory is full."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing

import numpy as np
import pytest
import torch

from napari_leukocls.device import resolve_device, side_by_side, with_less_memory
from napari_leukocls.errors import DeviceError
from napari_leukocls.progress import drain
from napari_leukocls.segmentation.compact import CompactSegmenter
from napari_leukocls.segmentation.compact_net import TILE
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, render_smear

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    MemoryError("Unable to allocate 4.00 GiB for an array"),
]


class Work:
    """Work that needs `need` units of memory a batch item; devices have what `room` says."""

    def __init__(self, error: BaseException, room: dict[str, int]) -> None:
        self.error, self.room = error, room
        self.tried: list[tuple[int, str]] = []

    def __call__(self, batch_size: int, device: str) -> str:
        self.tried.append((batch_size, device))
        if batch_size > self.room[device]:
            raise self.error
        return f"{batch_size} on {device}"


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:12])
def test_the_batch_is_halved_until_it_fits(error):
    said: list[str] = []
    work = Work(error, {"cuda": 5})
    assert with_less_memory(work, 32, "cuda", said.append) == "4 on cuda"
    assert work.tried == [(32, "cuda"), (16, "cuda"), (8, "cuda"), (4, "cuda")]
    assert said == [f"the memory of cuda is full: batch halved to {size}." for size in (16, 8, 4)]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:12])
def test_then_the_cpu_takes_over(error):
    said: list[str] = []
    work = Work(error, {"cuda": 0, "cpu": 100})
    assert with_less_memory(work, 4, "cuda", said.append) == "1 on cpu"
    assert len(said) == 3
    assert "CPU" in said[-1]
    assert "slower" in said[-1]


def test_a_full_cpu_ends_in_one_line():
    said: list[str] = []
    with pytest.raises(DeviceError, match="memory is full") as caught:
        with_less_memory(Work(FULL[-1], {"cpu": 0}), 2, "cpu", said.append)
    assert not isinstance(caught.value, RuntimeError)
    assert len(said) == 1


def test_other_faults_of_torch_become_device_errors():
    work = Work(
        RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"), {"cuda": 0}
    )
    with pytest.raises(DeviceError, match="device-side assert") as caught:
        with_less_memory(work, 4, "cuda", pytest.fail)
    assert "\n" not in str(caught.value)
    assert len(work.tried) == 1


def test_other_errors_pass_through():
    with pytest.raises(KeyError):
        with_less_memory(Work(KeyError("x"), {"cpu": 0}), 4, "cpu", pytest.fail)


def test_a_device_that_is_not_there_is_refused_and_auto_finds_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps"):
        with pytest.raises(DeviceError, match=f"no {name} device.*--device cpu"):
            resolve_device(name)
    assert resolve_device("auto") == "cpu"
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("mps") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"


def test_the_segmenter_goes_on_with_smaller_batches_and_says_so(monkeypatch):
    smear = render_smear(SmearRecipe(height=360, width=420, red_cells=RedCellRecipe(count=30)), seed=2)
    loaded = compact("cpu")
    expected = drain(loaded.segment(smear.pixels, 24.0))
    assert expected.warnings == ()
    net = loaded.net
    segmenter = CompactSegmenter(net, batch_size=4)
    seen: list[int] = []

    def little_memory(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        batch, _, height, width = inputs[0].shape
        seen.append(batch)
        if batch * height * width > TILE**2:
            raise FULL[0]

    hook = net.register_forward_pre_hook(little_memory)
    try:
        outlines = drain(segmenter.segment(smear.pixels, 24.0))
    finally:
        hook.remove()
    # One large tile, then smaller ones in smaller batches.
    assert seen[:3] == [1, 2, 1]
    assert max(seen[2:]) == 1
    assert outlines.warnings == tuple(f"the memory of cpu is full: batch halved to {n}." for n in (2, 1))
    assert abs(int(outlines.labels.max()) - int(expected.labels.max())) <= 1
    assert np.mean((outlines.labels > 0) != (expected.labels > 0)) < 0.01


def test_parts_are_computed_by_one_thread_each_and_come_in_order():
    threads = torch.get_num_threads()
    results = list(side_by_side(lambda part: (part, torch.get_num_threads()), range(20)))
    assert results == [(part, 1) for part in range(20)]
    assert torch.get_num_threads() == threads


def test_what_a_part_raises_is_raised_and_the_rest_is_dropped():
    begun, go_on = [], threading.Event()

    def work(part: int) -> int:
        begun.append(part)
        if part == 1:
            raise ValueError("no")
        if part > 1:
            go_on.wait(10)
        return part

    with closing(side_by_side(work, range(100))) as results, pytest.raises(ValueError, match="no"):
        list(results)
    go_on.set()
    assert len(begun) < 100


_FORKED = """
import multiprocessing, sys
import napari_leukocls
from napari_leukocls.paths import sample_smear
from napari_leukocls.io.images import read_image

def count(part):
    return len(napari_leukocls.analyze(part, device="cpu", pixel_size_um=0.1).cells)

if __name__ == "__main__":
    part = read_image(sample_smear()).pixels[:480, :640]
    own = count(part)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        other = pool.apply_async(count, (part,)).get(timeout=240)
    sys.exit(0 if own and abs(own - other) <= 1 else f"{own} cells, and {other} in the forked process")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
def test_a_process_that_is_forked_after_an_analysis_analyses(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(_FORKED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-500:]
