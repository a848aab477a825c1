"""Pictures as cameras, scanners and other programs leave them: the same pixels as the plain 8-bit picture."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_leukocls.errors import InputError
from napari_leukocls.io.convert import array_to_smear
from napari_leukocls.io.images import read_image
from napari_leukocls.io.slides import is_slide, open_slide, read_smear

H, W = 60, 80


@pytest.fixture
def rgb() -> np.ndarray:
    """A small picture with glass, red cells and a nucleus, so to speak: bright, medium and dark."""
    picture = np.full((H, W, 3), (232, 228, 230), np.uint8)
    picture[10:30, 10:30] = (205, 150, 160)
    picture[35:50, 40:60] = (90, 50, 130)
    picture += np.random.default_rng(1).integers(0, 6, picture.shape, np.uint8)
    return picture


def _close(path: Path, rgb: np.ndarray, tolerance: float = 1.0) -> tuple[str, ...]:
    smear = read_image(path)
    assert smear.pixels.shape == rgb.shape
    difference = np.abs(smear.pixels.astype(int) - rgb)
    # A hot pixel itself may differ.
    assert np.percentile(difference, 99.9) <= tolerance, difference.max()
    return smear.notes


def test_one_hot_pixel_does_not_set_the_white_point(tmp_path: Path, rgb: np.ndarray) -> None:
    deep = rgb.astype(np.uint16) * 16
    deep[5, 5] = 65535
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    notes = _close(tmp_path / "a.tif", rgb, 2)
    assert any("3 values above the white point 4095" in note for note in notes)


@pytest.mark.parametrize("value", [1.00001, 1.3, 40.0])
def test_real_values_from_0_to_1_may_have_a_few_above(tmp_path: Path, rgb: np.ndarray, value: float) -> None:
    real = rgb.astype(np.float32) / 255
    real[5, 5, 0] = value
    tifffile.imwrite(tmp_path / "a.tif", real, photometric="rgb")
    assert any("1 value above the white point 1" in note for note in _close(tmp_path / "a.tif", rgb))


@given(bits=st.sampled_from([10, 12, 14]), hot=st.integers(0, 4), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_the_depth_is_found_whatever_single_pixels_hold(bits: int, hot: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    plain = random.integers(40, 250, (H, W, 3)).astype(np.uint8)
    plain[:20] = 250
    deep = (plain.astype(np.float64) * (2**bits - 1) / 255).round().astype(np.uint16)
    deep.reshape(-1)[random.choice(deep.size, hot, replace=False)] = 65535
    found = array_to_smear(deep).pixels.astype(int)
    assert (np.abs(found - plain) > 1).sum() <= hot


def test_an_offset_is_taken_off_and_said(rgb: np.ndarray) -> None:
    deep = rgb.astype(np.uint16) * 16 + 32768
    smear = array_to_smear(deep)
    assert any("with an offset" in note for note in smear.notes)
    nucleus, glass = smear.pixels[40, 50].astype(int), smear.pixels[2, 2].astype(int)
    assert (glass - nucleus > 80).all()


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_white_stored_as_zero_is_inverted_at_the_files_own_depth(
    tmp_path: Path, rgb: np.ndarray, bits: int
) -> None:
    grey = rgb[..., 1].astype(np.uint16)
    full = 2**bits - 1
    stored = (full - (grey * (full / 255)).round()).astype(np.uint8 if bits == 8 else np.uint16)
    extra = [] if bits == 8 else [(281, "H", 1, full, True)]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", extratags=extra)
    _close(tmp_path / "a.tif", np.repeat(rgb[..., 1:2], 3, axis=-1))


def test_ycbcr_without_jpeg_becomes_rgb(tmp_path: Path, rgb: np.ndarray) -> None:
    stored = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="ycbcr", subsampling=(1, 1), compression="zlib")
    assert "YCbCr colours, converted to RGB" in _close(tmp_path / "a.tif", rgb, 3)


def test_ycbcr_by_the_reference_values_of_video(tmp_path: Path, rgb: np.ndarray) -> None:
    full = np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(float)
    stored = np.stack(
        [full[..., 0] * 219 / 255 + 16, *((full[..., i] - 128) * 112 / 127 + 128 for i in (1, 2))], axis=-1
    )
    reference = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored.round().astype(np.uint8),
        photometric="ycbcr",
        subsampling=(1, 1),
        compression="zlib",
        extratags=[(532, "2I", 6, reference, True)],
    )
    _close(tmp_path / "a.tif", rgb, 4)


def test_jpeg_within_tiff_is_not_converted_twice(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    _close(tmp_path / "a.tif", rgb, 30)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_alpha_that_hides_everything_is_ignored(tmp_path: Path, rgb: np.ndarray, suffix: str) -> None:
    hidden = np.dstack([rgb, np.zeros((H, W), np.uint8)])
    if suffix == "tif":
        tifffile.imwrite(tmp_path / "a.tif", hidden, photometric="rgb", extrasamples=["unassalpha"])
    else:
        Image.fromarray(hidden).save(tmp_path / f"a.{suffix}")
    _close(tmp_path / f"a.{suffix}", rgb)


def test_premultiplied_alpha_is_divided_out(tmp_path: Path, rgb: np.ndarray) -> None:
    alpha = np.full((H, W, 1), 255, np.uint8)
    alpha[:20] = 128
    shade = alpha.astype(float) / 255
    stored = np.concatenate([(rgb * shade).round().astype(np.uint8), alpha], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    expected = (rgb * shade + 255 * (1 - shade)).round().astype(np.uint8)
    _close(tmp_path / "a.tif", expected, 2)


@pytest.mark.parametrize("where", ["page", "subifd"])
def test_the_full_picture_is_read_and_not_its_thumbnail(tmp_path: Path, rgb: np.ndarray, where: str) -> None:
    small = rgb[::4, ::4]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        more = {"subifds": 1} if where == "subifd" else {}
        file.write(small, photometric="rgb", subfiletype=1, metadata=None, **more)
        file.write(rgb, photometric="rgb", subfiletype=0, metadata=None)
    assert any("reduced copy" in note for note in _close(tmp_path / "a.tif", rgb, 0))


def test_a_last_strip_that_counts_too_much_is_read(tmp_path: Path, rgb: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, photometric="rgb", rowsperstrip=32, metadata=None)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[279]
        counts, end = list(tag.value), file.pages[0].dataoffsets[-1] + file.pages[0].databytecounts[-1]
    assert end == path.stat().st_size
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[279].overwrite([counts[0], counts[0]])
    _close(path, rgb, 0)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_image(path)


def _ome(path: Path, rgb: np.ndarray, size: str, unit: str, quote: str = '"') -> None:
    attributes = f'PhysicalSizeX="{size}" PhysicalSizeY="{size}" '
    attributes += f'PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"'
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{W}" SizeY="{H}" SizeC="3" SizeZ="1" '
        f'SizeT="1" {attributes.replace(chr(34), quote)}><Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData/>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, rgb, photometric="rgb", description=xml.encode(), metadata=None)


@pytest.mark.parametrize(
    ("size", "unit", "quote"),
    [
        ("0.08", "µm", '"'),
        ("0.08", "&#181;m", '"'),
        ("0.08", "&#xB5;m", '"'),
        ("0.08", "µm", "'"),
        ("800", "Å", '"'),
        ("80", "nm", '"'),
        ("0,08", "µm", '"'),
        ("8E-2", "µm", '"'),
    ],
)
def test_ome_metadata_is_read_as_xml(
    tmp_path: Path, rgb: np.ndarray, size: str, unit: str, quote: str
) -> None:
    _ome(tmp_path / "a.ome.tif", rgb, size, unit, quote)
    assert read_image(tmp_path / "a.ome.tif").um_per_px == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("size", "unit"), [("about a tenth", "µm"), ("0.08", "pixel"), ("0.08", "reference frame")]
)
def test_a_size_that_cannot_be_read_is_said(tmp_path: Path, rgb: np.ndarray, size: str, unit: str) -> None:
    _ome(tmp_path / "a.ome.tif", rgb, size, unit)
    smear = read_image(tmp_path / "a.ome.tif")
    assert smear.um_per_px is None and any("pixel size" in note for note in smear.notes)


@pytest.mark.parametrize("height", [61, 10_000, 2**32 - 1])
def test_a_height_that_lies_is_refused_at_once(tmp_path: Path, rgb: np.ndarray, height: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb", rowsperstrip=20, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags[257].overwrite(height)
    started = time.monotonic()
    with pytest.raises(InputError, match="3 of [0-9]+ strips|megapixels"):
        read_smear(tmp_path / "a.tif")
    assert time.monotonic() - started < 5


def test_separate_channels_on_a_dark_ground_are_no_smear(tmp_path: Path, rgb: np.ndarray) -> None:
    glow = np.moveaxis(255 - rgb, -1, 0).copy()
    glow[:, :8, :8] = 255
    tifffile.imwrite(tmp_path / "a.ome.tif", glow, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(InputError, match="on a dark ground, as fluorescence has"):
        read_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "names", [("DAPI", "FITC", "TRITC"), ("Hoechst 33342", "GFP", "Cy5"), ("405", "488", "647")]
)
def test_channels_named_after_dyes_are_no_smear(
    tmp_path: Path, rgb: np.ndarray, names: tuple[str, ...]
) -> None:
    about = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", np.moveaxis(rgb, -1, 0), photometric="minisblack", metadata=about
    )
    with pytest.raises(InputError, match="channels of fluorescence"):
        read_image(tmp_path / "a.ome.tif")


def test_the_preview_of_a_cameras_raw_file_is_not_analysed(tmp_path: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.NEF", rgb, photometric="rgb")
    with pytest.raises(InputError, match="raw NEF file, which is not read: export it as TIFF"):
        read_image(tmp_path / "a.NEF")


def test_the_sharpest_plane_is_found(tmp_path: Path, rgb: np.ndarray) -> None:
    blurred = [gaussian_filter(rgb, (s, s, 0)) for s in (3, 1)]
    stack = np.stack([blurred[0], blurred[1], rgb, blurred[1]])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb", metadata={"axes": "ZYXS"})
    smear = read_image(tmp_path / "a.tif", plane="sharpest")
    np.testing.assert_array_equal(smear.pixels, rgb)
    assert "4 pages, the sharpest one (number 3) was used" in smear.notes


def test_each_place_is_taken_from_the_plane_in_which_it_is_sharp(tmp_path: Path, rgb: np.ndarray) -> None:
    blurred, half = gaussian_filter(rgb, (3, 3, 0)), rgb.shape[1] // 2
    left, right = blurred.copy(), blurred.copy()
    left[:, :half], right[:, half:] = rgb[:, :half], rgb[:, half:]
    tifffile.imwrite(
        tmp_path / "a.tif", np.stack([left, blurred, right]), photometric="rgb", metadata={"axes": "ZYXS"}
    )
    smear = read_image(tmp_path / "a.tif", plane="focus")
    assert any("extended depth of field" in note for note in smear.notes)
    away = np.abs(np.arange(rgb.shape[1]) - half) > 16
    wrong = np.abs(smear.pixels.astype(int) - rgb)[:, away]
    assert wrong.mean() < 0.05 * np.abs(blurred.astype(int) - rgb)[:, away].mean()


def test_of_a_whole_slide_only_the_first_plane_is_read(tmp_path: Path) -> None:
    slide = np.zeros((3, 256, 256, 3), np.uint8)
    for number in range(3):
        slide[number] = 200 - 50 * number
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(slide, tile=(64, 64), photometric="rgb", subifds=1, metadata={"axes": "ZYXS"})
        file.write(slide[:, ::2, ::2], tile=(64, 64), photometric="rgb", subfiletype=1)
    assert is_slide(tmp_path / "a.ome.tif")
    with open_slide(tmp_path / "a.ome.tif") as opened:
        assert "3 planes, the first one was used" in opened.notes
        assert (opened.read(0, 9, 0, 9) == 200).all()
    with pytest.raises(InputError, match="only the first plane is read"):
        read_smear(tmp_path / "a.ome.tif", plane=2)


def test_a_gif_whose_size_lies_is_refused(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.gif")
    raw = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(raw[:6] + (20_000).to_bytes(2, "little") * 2 + raw[10:])
    with pytest.raises(InputError, match="fills only a part of 20000 x 20000 pixels"):
        read_image(tmp_path / "a.gif")


def test_a_jpeg_whose_height_lies_is_refused(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.jpg", quality=95)
    raw = (tmp_path / "a.jpg").read_bytes()
    at = raw.index(b"\xff\xc0\0\x11") + 5
    (tmp_path / "a.jpg").write_bytes(raw[:at] + (2000).to_bytes(2, "big") + raw[at + 2 :])
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_image(tmp_path / "a.jpg")


def test_pages_that_overlap_each_other_are_refused_at_once(tmp_path: Path) -> None:
    # Each page of six bytes begins within the one before.
    pages = b"".join(struct.pack("<HI", 200, 0) for _ in range(70_000))
    raw = bytearray(b"II*\0" + struct.pack("<I", 8) + pages)
    for number in range(150):
        at = 8 + 6 * number
        raw[at : at + 2] = struct.pack("<H", 200)
        end = at + 2 + 12 * 200
        raw[end : end + 4] = struct.pack("<I", at + 6)
    (tmp_path / "a.tif").write_bytes(bytes(raw[: 8 + 6 * 700]))
    started = time.monotonic()
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_smear(tmp_path / "a.tif")
    assert time.monotonic() - started < 5
