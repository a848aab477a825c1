"""Files as they come and as they should not: a right answer or one clear line, never half a folder."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_leukocls.batch import SlideOutcome, run_batch
from napari_leukocls.config import make_config
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.paths import sample_smear

Maker = Callable[[Path], None]
FILES: dict[str, Maker] = {}


def field() -> np.ndarray:
    return read_image(sample_smear()).pixels[:120, :140]


def bad(name: str) -> Callable[[Maker], Maker]:
    """Enter a maker of a file under its name."""

    def enter(maker: Maker) -> Maker:
        FILES[name] = maker
        return maker

    return enter


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(field()).save(buffer, kind, **options)
    return buffer.getvalue()


def content(name: str, data: bytes | Callable[[], bytes]) -> None:
    FILES[name] = lambda path: path.write_bytes(data() if callable(data) else data) and None


def cut(kind: str, share: float) -> Callable[[], bytes]:
    return lambda: (lambda data: data[: int(len(data) * share)])(encoded(kind))


def flipped(kind: str) -> Callable[[], bytes]:
    def make() -> bytes:
        data = bytearray(encoded(kind))
        for place in range(len(data) // 3, len(data), 97):
            data[place] ^= 0x5A
        return bytes(data)

    return make


KINDS = {
    "png": "PNG",
    "jpg": "JPEG",
    "tif": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "webp": "WEBP",
    "jp2": "JPEG2000",
}
for _suffix, _kind in KINDS.items():
    content(f"cut_{_suffix}.{_suffix}", cut(_kind, 0.4))
    content(f"almost_{_suffix}.{_suffix}", cut(_kind, 0.97))
    content(f"head_{_suffix}.{_suffix}", cut(_kind, 0.01))
    content(f"flipped_{_suffix}.{_suffix}", flipped(_kind))
    content(f"wrong_suffix_{_suffix}.{'png' if _suffix != 'png' else 'jpg'}", lambda k=_kind: encoded(k))

content("empty.png", b"")
content("byte.png", b"\x89")
content("text.png", b"slide;cells\n1;2\n")
content("html.jpg", b"<html><script>alert(1)</script></html>")
content("pdf.tif", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
content("eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\nshowpage\n")
content("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg' width='99' height='99'/>")
content("pickle.png", pickle.dumps({"a": 1}))
content("elf.png", b"\x7fELF" + bytes(500))
content("noise.png", np.random.default_rng(0).bytes(5000))
content("zeros.tif", bytes(5000))
content("text.svs", b"no slide")
content("text.ndpi", b"no slide")
content("lonely.mrxs", b"\xff\xd8\xff\xe0" + bytes(100))
content("plain_tiff.svs", lambda: encoded("TIFF"))
content("plain_tiff.scn", lambda: encoded("TIFF"))


@bad("zip.png")
def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10**6))


def png(width: int, height: int, data: bytes, *, extra: bytes = b"", depth: int = 8) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


content("bomb_sides.png", lambda: png(100_000, 100_000, zlib.compress(bytes(1000))))
content("bomb_data.png", lambda: png(64, 64, zlib.compress(bytes(200_000_000))))
content("no_width.png", lambda: png(0, 64, zlib.compress(b"")))
content("little_data.png", lambda: png(640, 480, zlib.compress(bytes(1000))))
content("no_stream.png", lambda: png(64, 64, b"not deflate"))
content("depth_3.png", lambda: png(64, 64, zlib.compress(bytes(64 * 200)), depth=3))
content("dot.png", lambda: png(1, 1, zlib.compress(bytes(4))))


@bad("text_bomb.png")
def _text_bomb(path: Path) -> None:
    body = b"Comment\0\0" + zlib.compress(bytes(100_000_000))
    text = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    path.write_bytes(png(64, 64, zlib.compress(bytes(64 * 193)), extra=text))


def tiff(**options: object) -> Maker:
    def make(path: Path) -> None:
        data = options.pop("data", None)
        tifffile.imwrite(path, field() if data is None else data, **options)

    return make


FILES["float_nan.tif"] = tiff(data=np.full((90, 90), np.nan, np.float32))
FILES["float_inf.tif"] = tiff(data=np.where(np.eye(90) > 0, np.inf, 1).astype(np.float32))
FILES["complex.tif"] = tiff(data=np.ones((90, 90), np.complex64))
FILES["int64.tif"] = tiff(data=np.arange(8100, dtype=np.int64).reshape(90, 90))
FILES["seven_channels.tif"] = tiff(data=np.zeros((90, 90, 7), np.uint8), photometric="minisblack")
FILES["stack.tif"] = tiff(data=np.zeros((5, 90, 90, 3), np.uint8), photometric="rgb")
FILES["thin.tif"] = tiff(data=np.zeros((2, 9000, 3), np.uint8), photometric="rgb")
FILES["ome_nonsense.ome.tif"] = tiff(description="<OME><Image><Pixels PhysicalSizeX='x'", metadata=None)
FILES["aperio_nonsense.tif"] = tiff(description="Aperio |MPP = ...|", metadata=None)
FILES["no_resolution.tif"] = tiff(resolution=(0, 0), metadata=None)


def patched(path: Path, code: int, value: int) -> None:
    """A TIFF with another value of one tag of its first page."""
    tifffile.imwrite(path, field(), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[code].overwrite(value)


for _name, _code, _value in (
    ("huge_width.tif", 256, 2**31),
    ("bomb_height.tif", 257, 10**7),
    ("no_height.tif", 257, 0),
    ("compression.tif", 259, 34_712),
    ("unknown_compression.tif", 259, 65_000),
    ("photometric.tif", 262, 32_845),
    ("offset.tif", 273, 2**31),
    ("samples.tif", 277, 200),
    ("rows.tif", 278, 0),
    ("bytes.tif", 279, 2**31),
    ("planar.tif", 284, 9),
):
    FILES[_name] = lambda path, code=_code, value=_value: patched(path, code, value)


@bad("loop.tif")
def _loop(path: Path) -> None:
    """A directory of pages that leads back to itself."""
    tifffile.imwrite(path, field(), metadata=None, byteorder="<")
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    path.write_bytes(data)


@bad("no_tiles.tif")
def _no_tiles(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), tile=(16, 16), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[322].overwrite(0)


@bad("empty.zarr")
def _empty_zarr(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("")


@bad("nonsense.zarr")
def _nonsense_zarr(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 99, "node_type": "cake"}))


@bad("no_image.zarr")
def _no_image(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))


@bad("lost_level.zarr")
def _lost_level(path: Path) -> None:
    scales = [{"axes": ["c", "y", "x"], "datasets": [{"path": "../../../etc"}]}]
    path.mkdir()
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"multiscales": scales}}}
    (path / "zarr.json").write_text(json.dumps(group))


@bad("float.zarr")
def _float_zarr(path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra `wsi`")
    zarr.create_array(str(path), shape=(64, 64), chunks=(64, 64), dtype="float32")


@bad("folder.png")
def _folder(path: Path) -> None:
    path.mkdir()


@bad("nowhere.png")
def _nowhere(path: Path) -> None:
    path.symlink_to("does not exist")


@bad("circle.png")
def _circle(path: Path) -> None:
    path.symlink_to(path)


@bad("pipe.png")
def _pipe(path: Path) -> None:
    os.mkfifo(path)


@bad("device.png")
def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD_NAMES = (
    "=cmd|' calc'!A0.png",
    "<img src=x onerror=alert(1)>.png",
    "a\nb.png",
    "-rf.png",
    "..png",
    "x" * 240 + ".png",
    "血 🩸 \u202egnp.png",
    "con.png",
    "summary.csv.png",
    "a'; DROP TABLE cells; --.png",
    os.fsdecode(b"\xff\xfe.png"),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, SlideOutcome], Path]:
    """Everything in one run, with good fields of odd names and a plain one at the end."""
    folder = tmp_path_factory.mktemp("bad")
    for name, maker in FILES.items():
        maker(folder / name)
    for name in (*ODD_NAMES, "good.png"):
        (folder / name).write_bytes(encoded("PNG"))
    names = [*FILES, *ODD_NAMES, "missing.png", "good.png"]
    slides = expand_inputs([folder / name for name in names])
    out = tmp_path_factory.mktemp("ran") / "out"
    outcomes = run_batch(slides, out, make_config(pixel_size_um=0.16, device="cpu"))
    found = {Path(s.fields[0]).name: outcome for s, outcome in zip(slides, outcomes, strict=True)}
    assert set(found) == set(names)
    return found, out


def test_there_are_many_kinds_of_bad_files() -> None:
    assert len(FILES) >= 60


def test_each_gives_an_answer_or_one_clear_line(ran: tuple[dict[str, SlideOutcome], Path]) -> None:
    found, _ = ran
    for name, outcome in found.items():
        if outcome.status == "done":
            continue
        assert outcome.error and "\n" not in outcome.error, name
        assert "fault of the program" not in outcome.error, (name, outcome.error)
        assert "unexpected" not in outcome.error, (name, outcome.error)


def test_what_cannot_be_read_is_refused(ran: tuple[dict[str, SlideOutcome], Path]) -> None:
    found, _ = ran
    refused = {name for name, outcome in found.items() if outcome.status == "failed"}
    for name in FILES:
        if name.startswith(
            ("cut_", "head_", "bomb_sides", "huge", "empty", "text.", "pipe", "device", "circle")
        ):
            assert name in refused, name


def test_odd_names_are_analysed(ran: tuple[dict[str, SlideOutcome], Path]) -> None:
    found, out = ran
    for name in (*ODD_NAMES, "good.png"):
        assert found[name].status == "done", (name, found[name].error)
        folder = out / found[name].slide_id
        assert folder.parent == out and (folder / "run.json").is_file()


def test_nothing_is_half_done_and_nothing_left_over(ran: tuple[dict[str, SlideOutcome], Path]) -> None:
    found, out = ran
    done = {outcome.slide_id for outcome in found.values() if outcome.status == "done"}
    assert {path.name for path in out.iterdir()} == done | {"summary.csv", "manifest.json"}
    for slide in done:
        names = {path.name for path in (out / slide).iterdir()}
        assert names >= {"cells.csv", "counts.csv", "labels.tif", "overlay.png", "report.html", "run.json"}


def test_names_do_no_harm_in_tables_and_reports(ran: tuple[dict[str, SlideOutcome], Path]) -> None:
    found, out = ran
    with open(out / "summary.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        for row in csv.reader(file):
            assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in row if cell), row
    report = (out / found["<img src=x onerror=alert(1)>.png"].slide_id / "report.html").read_text("utf-8")
    assert "<img src=x" not in report and "onerror=alert" in report
