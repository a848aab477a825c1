"""Inputs made to do harm: refused, or made harmless."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_leukocls.batch import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.errors import LeukoclsError, ModelError, OutputError
from napari_leukocls.io.inputs import SlideInput, expand_inputs, group_as_slide
from napari_leukocls.models.registry import find_model
from napari_leukocls.paths import sample_smear

ROOT = Path(__file__).resolve().parents[2]
EVIL = '../../=<script>alert("x")</script>'


@pytest.fixture
def field(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "field.png"
    path.parent.mkdir()
    Image.open(sample_smear()).crop((0, 0, 160, 160)).save(path)
    return path


def test_a_name_of_a_slide_cannot_lead_out_of_the_folder(field: Path, tmp_path: Path) -> None:
    slide = group_as_slide(expand_inputs([field]), "../../../outside")
    (outcome,) = run_batch([slide], tmp_path / "a" / "out", make_config(pixel_size_um=0.16))
    assert outcome.status == "done"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "a"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"out"}
    with pytest.raises(OutputError, match="cannot name a folder"):
        run_batch([SlideInput((field,), "../evil")], tmp_path / "a" / "out", make_config(pixel_size_um=0.16))


def test_what_a_card_says_is_shown_and_not_run(field: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(find_model("default").path, tmp_path / "models" / "evil"))
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "name": EVIL, "licence": EVIL}))
    config = make_config(classifier=str(model), pixel_size_um=0.16)
    (outcome,) = run_batch(expand_inputs([field]), tmp_path / "out", config)
    assert outcome.status == "done", outcome.error
    assert "<script>alert" not in (tmp_path / "out" / "field" / "report.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "models", "out"}


def test_a_link_in_the_place_of_a_result_is_not_followed(field: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "field").symlink_to(mine)
    (outcome,) = run_batch(expand_inputs([field]), tmp_path / "out", make_config(pixel_size_um=0.16))
    assert outcome.status == "failed" and "choose another output folder" in str(outcome.error)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_a_zip_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_leukocls.exchange import importing

    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", "{}")
        archive.writestr("weights.safetensors", bytes(50_000_000))
    assert file.stat().st_size < 100_000
    monkeypatch.setattr(importing, "_MOST", 10_000_000)
    with pytest.raises(ModelError, match="unpacks to more"):
        importing.import_model(file)


def test_weights_whose_header_lies_are_refused(tmp_path: Path) -> None:
    from napari_leukocls.classification.loading import load_classifier

    model = Path(shutil.copytree(find_model("default").path, tmp_path / "liar"))
    for header in (b"\xff" * 8, (10**9).to_bytes(8, "little"), (2).to_bytes(8, "little") + b"{}"):
        (model / "weights.safetensors").write_bytes(header)
        with pytest.raises(ModelError):
            load_classifier(model, "cpu")


READ = """
import resource, sys
import napari_leukocls.io.images, napari_leukocls.io.slides as slides
import imagecodecs, tifffile, numpy
from napari_leukocls.errors import LeukoclsError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    if slides.is_slide(sys.argv[1]):
        with slides.open_slide(sys.argv[1]) as slide:
            slide.read(0, 64, 0, 64)
    else:
        napari_leukocls.io.images.read_image(sys.argv[1])
except LeukoclsError as error:
    print("refused", error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("levels", [1, 2], ids=["field", "slide"])
@pytest.mark.parametrize("compression", ["zlib", "lzma", "packbits"])
def test_a_tile_that_unpacks_without_end_takes_little_memory(
    tmp_path: Path, compression: str, levels: int
) -> None:
    import lzma

    path = tmp_path / "bomb.tif"
    bomb = {
        "zlib": lambda: zlib.compress(bytes(4 * 10**8), 9),
        "lzma": lambda: lzma.compress(bytes(4 * 10**8), preset=0),
        "packbits": lambda: b"\x81\x00" * 3_000_000,
    }[compression]()
    with tifffile.TiffWriter(path) as tiff:
        for _ in range(levels):
            tiff.write(
                iter([bomb]),
                shape=(64, 64, 3),
                dtype=np.uint8,
                tile=(64, 64),
                photometric="rgb",
                compression=compression,
                metadata=None,
                subfiletype=1 if _ else 0,
            )
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 200, done.stdout


def test_a_gif_of_many_frames_and_a_huge_canvas_is_refused(tmp_path: Path) -> None:
    from napari_leukocls.io.images import read_image

    header = b"GIF89a" + (65_535).to_bytes(2, "little") * 2 + b"\x80\0\0" + bytes(6)
    frame = b"," + bytes(4) + (65_535).to_bytes(2, "little") * 2 + b"\0\x02\x02\x44\x01\0"
    (tmp_path / "a.gif").write_bytes(header + frame * 50 + b";")
    with pytest.raises(LeukoclsError, match="megapixels"):
        read_image(tmp_path / "a.gif")


def test_tiles_of_an_impossible_size_do_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    picture = np.full((128, 128, 3), 200, np.uint8)
    tifffile.imwrite(
        path, picture, tile=(64, 64), photometric="rgb", description="Aperio Image", metadata=None
    )
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags[323].overwrite(2**31 - 1, dtype="I")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0 and "refused" in done.stdout, done.stderr
