"""Images of every kind, whole and broken, to 8-bit RGB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_leukocls.errors import InputError
from napari_leukocls.io.convert import MAX_PIXELS, array_to_smear
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear

H, W = 40, 60


@pytest.fixture
def rgb() -> np.ndarray:
    """A small picture in which no two axes or channels can be mistaken for each other."""
    y, x = np.mgrid[:H, :W]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def _noted(notes: tuple[str, ...], word: str) -> bool:
    return any(word in note for note in notes)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "ppm", "jp2"])
def test_rgb_is_read_exactly_and_without_a_note(tmp_path: Path, rgb: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"field.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"irreversible": False} if suffix == "jp2" else {}
    Image.fromarray(rgb).save(path, **options)
    smear = read_image(path)
    np.testing.assert_array_equal(smear.pixels, rgb)
    assert smear.pixels.dtype == np.uint8 and smear.pixels.flags.writeable and smear.pixels.flags.c_contiguous
    assert (smear.slide_id, smear.source, smear.um_per_px, smear.notes) == ("field", str(path), None, ())


def test_jpeg_is_read_nearly_exactly(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    smear = read_image(tmp_path / "a.jpg")
    assert np.abs(smear.pixels.astype(int) - rgb).mean() < 4
    assert smear.notes == ()


def test_grey_is_repeated_and_said(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb[..., 0]).save(tmp_path / "a.png")
    smear = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(smear.pixels, np.repeat(rgb[..., :1], 3, axis=-1))
    assert _noted(smear.notes, "grey")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_is_composited_on_white(tmp_path: Path, rgb: np.ndarray, suffix: str) -> None:
    alpha = np.full((H, W, 1), 255, np.uint8)
    alpha[: H // 2] = 0
    alpha[:, : W // 2] = 51
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.concatenate([rgb, alpha], axis=-1)).save(path)
    smear = read_image(path)
    wanted = 255 - (255 - rgb.astype(float)) * (alpha / 255)
    assert np.abs(smear.pixels - wanted).max() <= 0.51
    assert (smear.pixels[: H // 2, W // 2 :] == 255).all()
    assert _noted(smear.notes, "transparency")


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_converted(tmp_path: Path, suffix: str) -> None:
    colour = np.full((H, W, 3), (200, 80, 120), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colour).convert("CMYK").save(path)
    smear = read_image(path)
    assert np.abs(smear.pixels.astype(int) - colour).max() <= 6
    assert _noted(smear.notes, "CMYK")


@pytest.mark.parametrize("suffix", ["png", "gif", "tif"])
def test_palette_is_converted(tmp_path: Path, suffix: str) -> None:
    colour = np.full((H, W, 3), (200, 80, 120), np.uint8)
    colour[:10] = (10, 20, 30)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    smear = read_image(path)
    assert np.abs(smear.pixels.astype(int) - colour).max() <= 4
    # Pillow decodes a GIF's first frame to RGB by itself.
    assert suffix == "gif" or _noted(smear.notes, "palette")


def test_a_transparent_palette_is_composited_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (W, H), 1)
    image.putpixel((3, 2), 0)
    image.putpalette([10, 20, 30, 200, 80, 120])
    image.save(tmp_path / "a.png", transparency=1)
    pixels = read_image(tmp_path / "a.png").pixels
    assert tuple(pixels[2, 3]) == (10, 20, 30)
    pixels[2, 3] = 255
    assert (pixels == 255).all()


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_scaled_by_the_cameras_depth(tmp_path: Path, suffix: str, white: int) -> None:
    deep = np.linspace(0, white, H * W).reshape(H, W).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(deep).save(path)
    smear = read_image(path)
    assert np.abs(smear.pixels[..., 0] - deep * (255 / white)).max() <= 0.51
    assert _noted(smear.notes, "16-bit")


def test_16_bit_colour_png_keeps_its_low_bits(tmp_path: Path, rgb: np.ndarray) -> None:
    import imagecodecs

    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(rgb.astype(np.uint16) * 16))
    smear = read_image(tmp_path / "a.png")
    assert np.abs(smear.pixels - rgb.astype(int) * (16 * 255 / 4095)).max() <= 0.51


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (0, 4095), (-2, 3), (0, 1e6)])
def test_real_values_are_scaled_by_their_range(tmp_path: Path, low: float, high: float) -> None:
    real = np.linspace(low, high, H * W, dtype=np.float32).reshape(H, W)
    tifffile.imwrite(tmp_path / "a.tif", real)
    smear = read_image(tmp_path / "a.tif")
    assert smear.pixels.min() == 0 and smear.pixels.max() == 255
    assert np.abs(smear.pixels[..., 0] - (real - low) * (255 / (high - low))).max() <= 0.52
    assert _noted(smear.notes, "real values")


def test_values_that_are_not_finite_are_said_and_a_field_of_them_is_refused() -> None:
    real = np.full((H, W), 0.5)
    real[0, 0], real[0, 1] = np.nan, np.inf
    smear = array_to_smear(real)
    assert _noted(smear.notes, "2 values") and smear.pixels[5, 5, 0] == 128
    with pytest.raises(InputError, match="no finite value"):
        array_to_smear(np.full((H, W), np.nan))


@pytest.mark.parametrize("value", [0, 255])
def test_an_all_black_or_white_field_is_an_image(tmp_path: Path, value: int) -> None:
    Image.new("RGB", (W, H), (value,) * 3).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png").pixels == value).all()


@pytest.mark.parametrize("size", [(1, 1), (31, 400), (400, 31)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_too_small_to_hold_a_cell(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    Image.new("RGB", size).save(tmp_path / f"a.{suffix}")
    with pytest.raises(InputError, match="too small to hold a cell; give an image of at least 32 x 32"):
        read_image(tmp_path / f"a.{suffix}")


def _png_bomb(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png_bomb(50_000))
    with pytest.raises(InputError, match="megapixels that can be read at once; save it as smaller fields"):
        read_image(tmp_path / "a.png")
    side = int(MAX_PIXELS**0.5) + 200
    tifffile.imwrite(
        tmp_path / "a.tif", shape=(side, side, 3), dtype=np.uint8, photometric="rgb", bigtiff=True
    )
    with pytest.raises(InputError, match="megapixels"):
        read_image(tmp_path / "a.tif")


def test_pillows_own_limit_is_left_as_it_was(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(_png_bomb(50_000))
    with pytest.raises(InputError):
        read_image(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; copy it again"),
        (b"not a picture, but a text\n", "holds text, not an image; give PNG"),
        ("Zählung: 100 Zellen µm".encode() * 300, "holds text, not an image"),
        (bytes(range(256)) * 4, "is not an image of a kind that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "holds text"),
        (b"\x89PNG\r\n\x1a\n", "is damaged or incomplete|not an image"),
        (b"II*\0\x08\0\0\0", "is damaged or incomplete"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_image(tmp_path / "a.png")


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InputError, match="no image matches"):
        read_image(tmp_path / "*.png")
    with pytest.raises(InputError, match="is a folder that holds no image"):
        read_image(tmp_path)
    (tmp_path / "S1").mkdir()
    (tmp_path / "S1" / "a.png").touch()
    with pytest.raises(InputError, match="but its folders do: give these, for example '.*S1'"):
        read_image(tmp_path)
    (tmp_path / "a.PNG").touch()
    with pytest.raises(InputError, match="give one of its images"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif", "lzw.tif", "tiled.tif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    if suffix == "tiled.tif":
        tifffile.imwrite(path, noise, tile=(32, 32), photometric="rgb", compression="deflate")
    elif suffix == "lzw.tif":
        tifffile.imwrite(path, noise, rowsperstrip=16, photometric="rgb", compression="lzw")
    else:
        Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_image(path)


def test_a_jpeg_that_decoders_fill_up_is_said_to_be_damaged(tmp_path: Path) -> None:
    field = read_image(sample_smear()).pixels[:320, :400]
    path = tmp_path / "a.jpg"
    Image.fromarray(field).save(path, quality=90)
    assert read_image(path).notes == ()
    data = path.read_bytes()
    # A hole of zeros before the end, as a bad sector leaves it.
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2 - 2) + data[-2:])
    assert any("may be damaged" in note for note in read_image(path).notes)
    # A white or black bar is what programs put below a picture.
    for bar in (0, 255):
        field[250:] = bar
        Image.fromarray(field).save(path, quality=90)
        assert read_image(path).notes == ()


_SEEDS = ("png", "jpg", "gif", "webp", "tif")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from(_SEEDS))
def test_broken_bytes_give_an_image_or_one_line(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    gradient = np.linspace(0, 255, 48 * 48 * 3).reshape(48, 48, 3).astype(np.uint8)
    Image.fromarray(gradient).save(path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, min(len(raw), 400) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        smear = read_image(path)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert smear.pixels.ndim == 3 and smear.pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["=1+1.png", "Blutausstrich Ä µ 血液.png", "two words (1).png", "-dash.png"])
def test_odd_names(tmp_path: Path, rgb: np.ndarray, name: str) -> None:
    Image.fromarray(rgb).save(tmp_path / name)
    smear = read_image(tmp_path / name)
    assert smear.slide_id == Path(name).stem


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, rgb: np.ndarray, orientation: int, suffix: str) -> None:
    # What each value means, from the standard: row 0 and column 0 of the stored picture.
    inverse = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    stored = np.ascontiguousarray(inverse(rgb))
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(stored).save(path, exif=exif, **({"quality": 98} if suffix == "jpg" else {}))
    assert np.abs(read_image(path).pixels.astype(int) - rgb).mean() < 4


def test_pages_and_frames_give_the_first(tmp_path: Path, rgb: np.ndarray) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for shift in range(3):
            tiff.write(rgb + np.uint8(shift), photometric="rgb")
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    for name in ("a.tif", "a.webp"):
        smear = read_image(tmp_path / name)
        np.testing.assert_array_equal(smear.pixels, rgb)
        assert _noted(smear.notes, "the first one was used")


def test_planes_that_are_colours(tmp_path: Path, rgb: np.ndarray) -> None:
    planes = np.moveaxis(rgb, -1, 0)
    tifffile.imwrite(tmp_path / "planar.tif", planes, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, metadata={"axes": "CYX"}, photometric="minisblack")
    tifffile.imwrite(
        tmp_path / "ij.tif", planes, imagej=True, metadata={"axes": "CYX"}, photometric="minisblack"
    )
    for name in ("planar.tif", "a.ome.tif", "ij.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, rgb)


def test_channels_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        np.zeros((5, H, W), np.uint8),
        metadata={"axes": "CYX"},
        photometric="minisblack",
    )
    with pytest.raises(InputError, match="5 channels; give the stained smear as one RGB image"):
        read_image(tmp_path / "a.ome.tif")


def test_white_stored_as_zero_is_inverted(tmp_path: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", rgb[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels[..., 0], 255 - rgb[..., 0])


def _write_scaled(path: Path, rgb: np.ndarray, kind: str, um: float) -> None:
    if kind == "ome":
        meta = {"axes": "YXS", "PhysicalSizeX": um * 1000, "PhysicalSizeXUnit": "nm"}
        meta |= {"PhysicalSizeY": um, "PhysicalSizeYUnit": "µm"}
        tifffile.imwrite(path, rgb, photometric="rgb", ome=True, metadata=meta)
    elif kind == "imagej":
        tifffile.imwrite(path, rgb, imagej=True, resolution=(1 / um, 1 / um), metadata={"unit": "um"})
    elif kind == "tags_cm":
        tifffile.imwrite(
            path, rgb, photometric="rgb", resolution=(1e4 / um,) * 2, resolutionunit="CENTIMETER"
        )
    elif kind == "tags_inch":
        tifffile.imwrite(path, rgb, photometric="rgb", resolution=(25400 / um,) * 2, resolutionunit="INCH")
    elif kind == "aperio":
        description = f"Aperio Image Library v1\n60x40 |AppMag = 40|MPP = {um}"
        tifffile.imwrite(path, rgb, photometric="rgb", description=description, metadata=None)
    else:
        Image.fromarray(rgb).save(path, format="PNG", dpi=(25400 / um,) * 2)


@pytest.mark.parametrize("kind", ["ome", "imagej", "tags_cm", "tags_inch", "aperio", "png"])
def test_pixel_size_is_read_where_the_file_has_it(tmp_path: Path, rgb: np.ndarray, kind: str) -> None:
    _write_scaled(tmp_path / "a.tif", rgb, kind, 0.0725)
    assert read_image(tmp_path / "a.tif").um_per_px == pytest.approx(0.0725, rel=1e-3)


@pytest.mark.parametrize("kind", ["ome", "imagej", "tags_cm", "tags_inch", "aperio", "png"])
@pytest.mark.parametrize("dpi", [72, 96, 300, 1200])
def test_a_screens_or_printers_resolution_is_no_pixel_size(
    tmp_path: Path, rgb: np.ndarray, kind: str, dpi: int
) -> None:
    _write_scaled(tmp_path / "a.tif", rgb, kind, 25400 / dpi)
    assert read_image(tmp_path / "a.tif").um_per_px is None


def test_pixels_that_are_not_square_are_not_believed(tmp_path: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", rgb, photometric="rgb", resolution=(1e5, 2e5), resolutionunit="CENTIMETER"
    )
    smear = read_image(tmp_path / "a.tif")
    assert smear.um_per_px is None and _noted(smear.notes, "not square")


@pytest.mark.parametrize("shape", [(H, W), (H, W, 1), (H, W, 2), (H, W, 3), (H, W, 4), (3, H, W), (4, H, W)])
def test_arrays_of_all_layouts(shape: tuple[int, ...]) -> None:
    smear = array_to_smear(np.full(shape, 255, np.uint8), "mine", um_per_px=0.1)
    assert smear.pixels.shape == (H, W, 3) and (smear.pixels == 255).all()
    assert smear.slide_id == "mine" and smear.um_per_px == 0.1


@pytest.mark.parametrize("shape", [(H,), (H, W, 7), (2, 3, H, W)])
def test_arrays_that_are_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="give one image of"):
        array_to_smear(np.zeros(shape))


def test_text_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="save it as an 8-bit RGB image"):
        array_to_smear(np.full((H, W), "a"))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(
            [np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.float32, np.float64, np.bool_]
        ),
        st.tuples(st.integers(32, 40), st.integers(32, 40), st.integers(1, 4)),
        fill=st.just(0),
    )
)
def test_any_numbers_become_8_bit(array: np.ndarray) -> None:
    try:
        smear = array_to_smear(array)
    except InputError as error:
        assert "no finite value" in str(error)
        return
    assert smear.pixels.shape == (*array.shape[:2], 3) and smear.pixels.dtype == np.uint8
