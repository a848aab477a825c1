"""A disk that is full: the error says so, what was there stays whole, and the run goes on once there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from napari_leukocls.batch import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.errors import OutputError, ReviewError
from napari_leukocls.io.atomic import replacing_folder
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.models.registry import find_model
from napari_leukocls.paths import sample_smear
from napari_leukocls.results.exports import FORMATS, write_exports
from tests.results import make_result

SIZE = 3_000_000
PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("needs Linux and the right to mount a small tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill a disk but for some bytes; the file that does."""
    filler = disk / "filler"
    with open(filler, "wb") as file:
        free = os.statvfs(disk)
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - leave)))
    return filler


def fields(folder: Path, count: int) -> Path:
    folder.mkdir()
    smear = Image.open(sample_smear())
    for number in range(count):
        smear.crop((200 * number, 0, 200 * number + 200, 200)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_batch_that_fills_the_disk_goes_on_once_there_is_room(
    disk: Path, tmp_path: Path, workers: int
) -> None:
    slides = expand_inputs([fields(tmp_path / "fields", 4)])
    config = make_config(pixel_size_um=0.16, device="cpu")
    run_batch(slides, tmp_path / "reference", config)
    one = sum(file.stat().st_size for file in (tmp_path / "reference" / "0").iterdir())
    filler = fill(disk, int(2.5 * one) + 60_000)
    with pytest.raises(OutputError, match="the disk is full"):
        run_batch(slides, disk / "out", config, workers=workers)
    whole = [path.name for path in (disk / "out").iterdir() if path.is_dir()]
    assert 1 <= len(whole) <= 3 and not any(name.startswith(".") for name in whole)
    for name in whole:
        for table in ("cells.csv", "counts.csv"):
            expected = (tmp_path / "reference" / name / table).read_bytes()
            assert (disk / "out" / name / table).read_bytes() == expected
    filler.unlink()
    outcomes = run_batch(slides, disk / "out", config, resume=True)
    assert [outcome.resumed for outcome in outcomes] == [str(n) in whole for n in range(4)]
    for slide in slides:
        place = Path(slide.slide_id) / "cells.csv"
        assert (disk / "out" / place).read_bytes() == (tmp_path / "reference" / place).read_bytes()


def test_a_whole_slide_that_fills_the_disk_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(sample_smear()))[:500, :600]
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tiff:
        for step in (1, 4):
            part = np.ascontiguousarray(pixels[::step, ::step])
            tiff.write(part, tile=(256, 256), photometric="rgb", metadata=None, subfiletype=int(step > 1))
    fill(disk, 100_000)
    with pytest.raises(OutputError, match="the disk is full"):
        run_batch(expand_inputs([tmp_path / "slide.tif"]), disk / "out", make_config(pixel_size_um=0.16))
    assert list((disk / "out").iterdir()) == []


def _summary(disk: Path) -> None:
    from napari_leukocls.results.summary import write_summary

    write_summary([{"slide_id": f"slide {n}", "status": "done"} for n in range(2000)], disk / "summary.csv")


def _failures(disk: Path) -> None:
    from napari_leukocls.results.summary import write_failures

    write_failures([{"slide_id": "a", "source": "b", "error": "c" * 9999}], disk / "failures.csv")


def _evaluation(disk: Path) -> None:
    from napari_leukocls.io.serialise import write_table

    write_table(pd.DataFrame({"file": ["a" * 9999]}), disk / "predictions.csv")


def _model(disk: Path) -> None:
    from napari_leukocls.models.install import install_folder

    install_folder(find_model("default").path, "mine", replace=True)


def _active(disk: Path) -> None:
    from napari_leukocls.models.registry import set_active_classifier

    set_active_classifier("default")


def _checkpoint(disk: Path) -> None:
    import torch

    from napari_leukocls.training.checkpoint import save_checkpoint

    net = torch.nn.Linear(100, 100)
    save_checkpoint(
        disk / "checkpoint.safetensors", {"net": net}, torch.optim.SGD(net.parameters()), {}, {"epoch": 1}
    )


def _model_export(disk: Path) -> None:
    from napari_leukocls.exchange.exporting import export_model

    export_model("default", disk / "mine.zip")


def _audit_export(disk: Path) -> None:
    from napari_leukocls.review import open_store
    from napari_leukocls.review.audit import export

    with open_store(disk.parent / "review.sqlite3") as store:
        store.add_slide(make_result())
        export(store, disk / "log.jsonl")


def _corrected_crops(disk: Path) -> None:
    from napari_leukocls.review import open_store

    with open_store(disk.parent / "review.sqlite3") as store:
        store.correct(store.add_slide(make_result()), 2, "blast", "Ada")
        store.crop_table().write(disk / "crops")


@pytest.mark.parametrize(
    "write",
    [
        *(_summary, _failures, _evaluation, _model, _active),
        *(_checkpoint, _model_export, _audit_export, _corrected_crops),
    ],
)
def test_each_kind_of_file_says_that_the_disk_is_full(
    disk: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("LEUKOCLS_DATA", str(disk / "data"))
    (disk / "data" / "models").mkdir(parents=True)
    (disk / "summary.csv").write_text("the older one")
    fill(disk)
    before = sorted(path for path in disk.rglob("*") if path.is_file())
    with pytest.raises(OutputError, match="the disk is full"):
        write(disk)
    assert sorted(path for path in disk.rglob("*") if path.is_file()) == before
    assert (disk / "summary.csv").read_text() == "the older one"


@pytest.mark.parametrize("half", [False, True], ids=["nothing left", "half left"])
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("corrected", "positions")])
def test_an_export_that_fills_the_disk_leaves_the_older_one(disk: Path, name: str, half: bool) -> None:
    result = make_result(shape=(480, 720))

    def write() -> None:
        with replacing_folder(disk / "field 1") as folder:
            (folder / "run.json").write_text("{}")
            write_exports(result, folder, [name])

    write()
    file = disk / "field 1" / FORMATS[name].file
    before = file.read_bytes()
    # What is left is counted in pages, and the first is of the file that is written before.
    fill(disk, PAGE * (1 + len(before) // 2 // PAGE) if half else 0)
    with pytest.raises(OutputError, match="the disk is full"):
        write()
    assert file.read_bytes() == before
    assert sorted(path.name for path in disk.iterdir()) == ["field 1", "filler"]


def test_a_correction_that_finds_no_room_is_not_acknowledged_and_harms_no_other(disk: Path) -> None:
    from napari_leukocls.review import open_store
    from napari_leukocls.review.audit import verify

    result = make_result(shape=(400, 400), every=1)
    with open_store(disk / "review.sqlite3") as store:
        slide = store.add_slide(result)
        filler = fill(disk, 60_000)
        acknowledged = {}
        with pytest.raises(ReviewError, match="the disk is full"):
            for cell in range(1, 101):
                store.correct(slide, cell, "blast", "Ada", "reason " * 40)
                acknowledged[cell] = "blast"
        assert acknowledged
    filler.unlink()
    with open_store(disk / "review.sqlite3") as store:
        store.add_slide(result)
        assert {cell: said.corrected_class for cell, said in store.corrections(slide).items()} == acknowledged
        assert verify(store).whole
        store.correct(slide, 100, "monocyte", "Ada")
        assert len(store.corrections(slide)) == len(acknowledged) + 1
