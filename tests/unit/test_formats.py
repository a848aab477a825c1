"""Files of microscopes, phones and hospitals, written by their own libraries (LIF by hand), and read again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_leukocls._reader import get_reader
from napari_leukocls.errors import InputError
from napari_leukocls.io import slides
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.io.slides import formats, is_slide, open_slide, read_smear
from tests.corpus import GREY, OTHER, RGB, STACK, UM, H, W

czi = pytest.importorskip("pylibCZIrw.czi")
pillow_heif = pytest.importorskip("pillow_heif")
pydicom = pytest.importorskip("pydicom")
pytest.importorskip("wsidicom")
pytest.importorskip("liffile")

DEEP = RGB.astype(np.uint16) * 16


def _close(path: Path, expected: np.ndarray, tolerance: float = 0, **options: Any) -> str:
    smear, scanned = read_smear(path, **options)
    assert not scanned and smear.pixels.shape == expected.shape
    assert np.percentile(np.abs(smear.pixels.astype(int) - expected), 99) <= tolerance
    return " | ".join(smear.notes)


def _um(path: Path) -> float | None:
    return read_smear(path)[0].um_per_px


def write_czi(
    path: Path, planes: list[tuple[dict[str, int], np.ndarray]], um: float = UM, **names: Any
) -> None:
    """Colours go in as blue, green, red."""
    with czi.create_czi(str(path)) as document:
        for plane, pixels in planes:
            stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels[..., None]
            document.write(np.ascontiguousarray(stored), location=(100, 50), plane=plane)
        document.write_metadata("smear", scale_x=um * 1e-6, scale_y=um * 1e-6, **names)


def test_czi_gives_its_colours_and_its_pixel_size(tmp_path: Path) -> None:
    write_czi(tmp_path / "a.czi", [({"C": 0, "Z": 0, "T": 0}, RGB)])
    assert _close(tmp_path / "a.czi", RGB) == ""
    assert _um(tmp_path / "a.czi") == pytest.approx(UM)


def test_a_depth_of_a_czi_is_chosen(tmp_path: Path) -> None:
    write_czi(tmp_path / "a.czi", [({"C": 0, "Z": z, "T": 0}, plane) for z, plane in enumerate(STACK)])
    assert "3 planes, the first one was used" in _close(tmp_path / "a.czi", RGB)
    assert "number 2 was used" in _close(tmp_path / "a.czi", OTHER, plane=2)
    assert "their minimum" in _close(tmp_path / "a.czi", STACK.min(axis=0), plane="min")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_channels_of_a_czi_are_ordered_by_their_names(tmp_path: Path, order: tuple[int, ...]) -> None:
    names = {place: ("Red", "Green", "Blue")[colour] for place, colour in enumerate(order)}
    planes = [({"C": place, "Z": 0, "T": 0}, DEEP[..., colour]) for place, colour in enumerate(order)]
    write_czi(tmp_path / "a.czi", planes, channel_names=names)
    assert "0-4095" in _close(tmp_path / "a.czi", RGB, 2)


def test_fluorescence_in_a_czi_is_refused(tmp_path: Path) -> None:
    planes = [({"C": c, "Z": 0, "T": 0}, DEEP[..., c]) for c in range(3)]
    write_czi(tmp_path / "a.czi", planes, channel_names={0: "DAPI", 1: "FITC", 2: "Cy5"})
    with pytest.raises(InputError, match="fluorescence .DAPI, FITC, Cy5."):
        read_smear(tmp_path / "a.czi")
    write_czi(tmp_path / "b.czi", planes[:2])
    with pytest.raises(InputError, match="2 channels"):
        read_smear(tmp_path / "b.czi")


def test_a_large_czi_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_czi(tmp_path / "a.czi", [({"C": 0, "Z": 0, "T": 0}, RGB)])
    monkeypatch.setattr(formats, "FIELD_PIXELS", 1000)
    assert is_slide(tmp_path / "a.czi")
    with open_slide(tmp_path / "a.czi") as slide:
        assert slide.shape == RGB.shape and slide.um_per_px == pytest.approx(UM)
        np.testing.assert_array_equal(slide.read(10, 60, 20, 90), RGB[10:60, 20:90])


def test_the_levels_of_a_czi_show_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_leukocls.io.formats import czi as module

    monkeypatch.setattr(module, "_COARSEST_PX", 60)
    monkeypatch.setattr(formats, "FIELD_PIXELS", 1000)
    write_czi(tmp_path / "a.czi", [({"C": 0, "Z": 0, "T": 0}, RGB)])
    with open_slide(tmp_path / "a.czi") as slide:
        coarse = slide.read(0, 1000, 0, 1000, 1)
        assert len(slide.levels) == 2 and coarse.shape == (H // 4, W // 4, 3)
    small = RGB.reshape(H // 4, 4, W // 4, 4, 3).mean(axis=(1, 3))
    assert np.median(np.abs(coarse - small)) < 6


@pytest.mark.parametrize("suffix", ["heic", "HEIC", "jpg"])
def test_heic_by_its_bytes_and_not_by_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"IMG_0412.{suffix}"
    with open(path, "wb") as stream:
        pillow_heif.from_pillow(Image.fromarray(RGB)).save(stream, quality=100, chroma=444)
    _close(path, RGB, 4)


def test_a_deep_heic_keeps_its_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    pillow_heif.encode("RGB;16", (W, H), (RGB.astype(np.uint16) * 257).tobytes(), str(path), quality=-1)
    _close(path, RGB, 6)


def test_avif(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    _close(tmp_path / "a.avif", RGB, 5)


def write_dicom(path: Path, pixels: np.ndarray, meaning: str, stored: int | None = None, **more: Any) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = more.pop("sop_class", SecondaryCaptureImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    colour = pixels.shape[-1] == 3
    frame = pixels.shape[-3:] if colour else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3 if colour else 1), meaning
    data.Rows, data.Columns = frame[:2]
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = stored or data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    if colour:
        data.PlanarConfiguration = 0
    if pixels.ndim > len(frame):
        data.NumberOfFrames = len(pixels)
    data.PixelSpacing = [UM / 1000, UM / 1000]
    for name, value in more.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return data


def _ycc() -> np.ndarray:
    return np.asarray(Image.fromarray(RGB).convert("YCbCr"))


@pytest.mark.parametrize(
    ("make", "expected", "words", "tolerance"),
    [
        (lambda p: write_dicom(p, RGB, "RGB"), RGB, "", 0),
        (lambda p: write_dicom(p, _ycc(), "YBR_FULL"), RGB, "", 3),
        (lambda p: write_dicom(p, RGB[..., 1], "MONOCHROME2"), GREY, "grey", 0),
        (lambda p: write_dicom(p, 255 - RGB[..., 1], "MONOCHROME1"), GREY, "inverted", 0),
        (lambda p: write_dicom(p, DEEP[..., 1], "MONOCHROME2", 12), GREY, "0-4095", 2),
        (lambda p: write_dicom(p, 4095 - DEEP[..., 1], "MONOCHROME1", 12), GREY, "inverted", 2),
        (lambda p: write_dicom(p, np.stack([RGB, OTHER]), "RGB"), RGB, "2 planes, the first one", 0),
    ],
)
def test_dicom_of_cameras(
    tmp_path: Path, make: Callable[[Path], Any], expected: np.ndarray, words: str, tolerance: float
) -> None:
    for name in ("a.dcm", "IM0001"):
        make(tmp_path / name)
        assert words in _close(tmp_path / name, expected, tolerance)
        assert _um(tmp_path / name) == pytest.approx(UM)
    assert len(expand_inputs([tmp_path])) == 2


def test_dicom_with_run_lengths(tmp_path: Path) -> None:
    from pydicom.uid import RLELossless

    data = write_dicom(tmp_path / "a.dcm", RGB, "RGB")
    data.compress(RLELossless)
    data.save_as(tmp_path / "a.dcm")
    _close(tmp_path / "a.dcm", RGB)


def test_dicom_without_a_picture_is_refused(tmp_path: Path) -> None:
    data = write_dicom(tmp_path / "a.dcm", RGB, "RGB")
    del data.PixelData, data.Rows
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="a DICOM file without a picture"):
        read_smear(tmp_path / "a.dcm")


SIDE = 64


def write_dicom_slide(folder: Path, picture: np.ndarray, series: str) -> None:
    """A scanned slide: one file for each of two levels, in full tiles."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence
    from pydicom.uid import VLWholeSlideMicroscopyImageStorage, generate_uid

    frame_of_reference, study = generate_uid(), generate_uid()
    for number, step in enumerate((1, 2)):
        level = np.ascontiguousarray(picture[::step, ::step])
        high, wide = level.shape[:2]
        tiles = []
        for y in range(0, high, SIDE):
            for x in range(0, wide, SIDE):
                tile = np.full((SIDE, SIDE, 3), 255, np.uint8)
                part = level[y : y + SIDE, x : x + SIDE]
                tile[: part.shape[0], : part.shape[1]] = part
                tiles.append(tile)
        measures, groups, optical, code = Dataset(), Dataset(), Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = [UM * step / 1000] * 2, 0.001
        measures.SpacingBetweenSlices = 0.001
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE" if step == 1 else "RESAMPLED"]
        groups.PixelMeasuresSequence = Sequence([measures])
        groups.WholeSlideMicroscopyImageFrameTypeSequence = Sequence([kind])
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
            "111744",
            "DCM",
            "Brightfield illumination",
        )
        optical.OpticalPathIdentifier, optical.IlluminationTypeCodeSequence = "0", Sequence([code])
        optical.IlluminationColorCodeSequence = Sequence([code])
        write_dicom(
            folder / f"level{number}.dcm",
            np.stack(tiles),
            "RGB",
            sop_class=VLWholeSlideMicroscopyImageStorage,
            Modality="SM",
            ImageType=["ORIGINAL" if step == 1 else "DERIVED", "PRIMARY", "VOLUME", kind.FrameType[3]],
            SeriesInstanceUID=series,
            StudyInstanceUID=study,
            FrameOfReferenceUID=frame_of_reference,
            TotalPixelMatrixColumns=wide,
            TotalPixelMatrixRows=high,
            TotalPixelMatrixFocalPlanes=1,
            ImagedVolumeWidth=wide * step * UM / 1000,
            ImagedVolumeHeight=high * step * UM / 1000,
            ImagedVolumeDepth=0.001,
            NumberOfOpticalPaths=1,
            DimensionOrganizationType="TILED_FULL",
            FocusMethod="AUTO",
            ExtendedDepthOfField="NO",
            InstanceNumber=number + 1,
            SharedFunctionalGroupsSequence=Sequence([groups]),
            OpticalPathSequence=Sequence([optical]),
        )


def test_a_dicom_slide_is_one_slide_of_several_files(tmp_path: Path) -> None:
    write_dicom_slide(tmp_path, RGB, "1.2.3.4")
    (slide_input,) = expand_inputs([tmp_path])
    path = slide_input.fields[0]
    assert is_slide(path)
    with open_slide(path) as slide:
        assert slide.shape == RGB.shape and len(slide.levels) == 2 and slide.um_per_px == pytest.approx(UM)
        np.testing.assert_array_equal(slide.read(20, 130, 30, 150), RGB[20:130, 30:150])
        np.testing.assert_array_equal(slide.read(0, 70, 0, 90, 1), RGB[::2, ::2])


def write_lif(
    path: Path, pixels: np.ndarray, tags: tuple[int, ...] = (1, 2, 3), bits: int = 8, **more: Any
) -> None:
    """A LIF of version 2 with one image: (H, W, 3), or (Z, H, W, 3), colours together."""
    size, names = pixels.dtype.itemsize, more.get("names", ("Red", "Green", "Blue"))
    separate = more.get("separate", False)
    stored = np.moveaxis(pixels, -1, -3) if separate else pixels
    step = size if separate else 3 * size
    plane = H * W * size if separate else size
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{tag}" Resolution="{bits}" NameOfMeasuredQuantity="" Min="0" '
        f'Max="1" Unit="" LUTName="{name}" IsLUTInverted="0" BytesInc="{place * plane}" BitInc="0"/>'
        for place, (tag, name) in enumerate(zip(tags, names, strict=True))
    )
    axes = [(1, W, step, (W - 1) * UM * 1e-6), (2, H, step * W, (H - 1) * UM * 1e-6)]
    if pixels.ndim == 4:
        axes.append((3, len(pixels), H * W * 3 * size, 1e-6))
    dimensions = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{n}" Origin="0" Length="{length}" Unit="m" '
        f'BytesInc="{inc}" BitInc="0"/>'
        for number, n, inc, length in axes
    )
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="smears" Visibility="1" CopyOption="1" UniqueID="0">'
        f'<Data/><Memory Size="0" MemoryBlockID="MemBlock_0"/><Children><Element Name="field 1" UniqueID="1"><Data>'
        f"<Image><ImageDescription><Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
        f'</ImageDescription></Image></Data><Memory Size="{stored.nbytes}" MemoryBlockID="MemBlock_1"/></Element>'
        "</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    name, empty = "MemBlock_1".encode("utf-16-le"), "MemBlock_0".encode("utf-16-le")
    path.write_bytes(
        struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2)
        + xml
        + struct.pack("<IIBQBI", 0x70, 0, 0x2A, 0, 0x2A, len(empty) // 2)
        + empty
        + struct.pack("<IIBQBI", 0x70, 0, 0x2A, stored.nbytes, 0x2A, len(name) // 2)
        + name
        + np.ascontiguousarray(stored).tobytes()
    )


def test_lif_gives_its_colours_and_its_pixel_size(tmp_path: Path) -> None:
    write_lif(tmp_path / "a.lif", RGB)
    _close(tmp_path / "a.lif", RGB)
    assert _um(tmp_path / "a.lif") == pytest.approx(UM)
    write_lif(tmp_path / "b.lif", RGB[..., ::-1].copy(), (3, 2, 1), names=("Blue", "Green", "Red"))
    _close(tmp_path / "b.lif", RGB)


def test_channels_and_depths_of_a_lif(tmp_path: Path) -> None:
    write_lif(tmp_path / "a.lif", DEEP, (0, 0, 0), 12, separate=True)
    assert "0-4095" in _close(tmp_path / "a.lif", RGB, 2)
    write_lif(tmp_path / "b.lif", STACK)
    assert "3 planes" in _close(tmp_path / "b.lif", OTHER, plane=2)
    write_lif(tmp_path / "c.lif", DEEP, (0, 0, 0), 12, separate=True, names=("DAPI", "Green", "Cy5"))
    with pytest.raises(InputError, match="fluorescence"):
        read_smear(tmp_path / "c.lif")


def _variant(values: dict[str, Any]) -> str:
    """Metadata of ND2 as XML."""
    parts = []
    for name, value in values.items():
        if isinstance(value, dict):
            parts.append(f'<{name} runtype="CLxListVariant">{_variant(value)}</{name}>')
        else:
            kind = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}[type(value)]
            parts.append(
                f'<{name} runtype="{kind}" value="{str(value).lower() if kind == "bool" else value}"/>'
            )
    return "".join(parts)


def write_nd2(path: Path, pixels: np.ndarray, um: float | None = UM) -> None:
    """An ND2 of one frame, (H, W, 3), in the order in which its colours are stored."""
    attributes = {
        "uiWidth": W,
        "uiHeight": H,
        "uiWidthBytes": pixels[0].nbytes,
        "uiComp": 3,
        "uiBpcInMemory": 8 * pixels.dtype.itemsize,
        "uiBpcSignificant": 8 * pixels.dtype.itemsize,
        "uiSequenceCount": 1,
        "eCompression": 2,
    }
    probe = {"m_sName": ""}
    plane = {
        "uiCompCount": 3,
        "sDescription": "",
        "uiModalityMask": 0,
        "uiColor": 0,
        "pFluorescentProbe": probe,
    }
    metadata = {
        "sPicturePlanes": {"uiCount": 1, "uiCompCount": 3, "sPlaneNew": {"a0": plane}},
        "dCalibration": um or 1.0,
        "bCalibrated": um is not None,
        "dZ": 0.0,
    }
    chunks = {
        b"ImageAttributesLV!": f"<variant>{_variant(attributes)}</variant>".encode(),
        b"ImageMetadataSeqLV|0!": f"<variant>{_variant(metadata)}</variant>".encode(),
        b"ImageDataSeq|0!": bytes(8) + pixels.tobytes(),
    }
    out = bytearray(struct.pack("<IIQ", 0x0ABECEDA, 32, 64) + b"ND2 FILE SIGNATURE CHUNK NAME01!")
    out += b"Ver3.0".ljust(64, b"\0")
    table = b""
    for name, data in chunks.items():
        table += name + struct.pack("<QQ", len(out), len(data))
        # Frames begin at a whole page of memory.
        padded = name.ljust(4072, b"\0") if name.startswith(b"ImageDataSeq") else name
        out += struct.pack("<IIQ", 0x0ABECEDA, len(padded), len(data)) + padded + data
    at, table = len(out), table + b"ND2 CHUNK MAP SIGNATURE 0000001!"
    out += struct.pack("<IIQ", 0x0ABECEDA, 32, len(table)) + b"ND2 FILEMAP SIGNATURE NAME 0001!" + table
    path.write_bytes(out + b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", at))


def test_nd2_gives_its_colours_and_its_pixel_size(tmp_path: Path) -> None:
    pytest.importorskip("nd2")
    write_nd2(tmp_path / "a.nd2", RGB[..., ::-1].copy())
    assert "stored as blue, green and red" in _close(tmp_path / "a.nd2", RGB)
    assert _um(tmp_path / "a.nd2") == pytest.approx(UM)
    raw = (tmp_path / "a.nd2").read_bytes()
    (tmp_path / "cut.nd2").write_bytes(raw.replace(b"ImageDataSeq|0!", b"ImageDataSeq|7!"))
    with pytest.raises(InputError, match="frame is missing"):
        read_smear(tmp_path / "cut.nd2")
    # A file that was not calibrated states 1 um, which would be a wrong scale.
    write_nd2(tmp_path / "b.nd2", RGB[..., ::-1].copy(), None)
    assert _um(tmp_path / "b.nd2") is None


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.czi", b"ZISRAWFILE"),
        ("a.nd2", b"\xda\xce\xbe\x0a"),
        ("a.lif", b"\x70\0\0\0\xff\0\0\0\x2a"),
        ("a.vsi", b"II*\0"),
        ("a.zvi", b"\xd0\xcf\x11\xe0"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("a.dcm", bytes(128) + b"DICM"),
        ("empty head.dcm", bytes(140)),
    ],
)
def test_a_damaged_file_gives_one_line(tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(head + bytes(5000))
    with pytest.raises(InputError, match="damaged|without a picture|together with the folder") as caught:
        read_smear(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_preview_of_a_vsi_is_not_taken_for_the_slide(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.vsi", RGB, photometric="rgb")
    with pytest.raises(InputError, match="copy it together with the folder '_a_'"):
        read_smear(tmp_path / "a.vsi")


def test_the_window_opens_them(tmp_path: Path) -> None:
    write_czi(tmp_path / "a.czi", [({"C": 0, "Z": z, "T": 0}, plane) for z, plane in enumerate(STACK)])
    write_dicom(tmp_path / "a.dcm", RGB, "RGB")
    for name, expected in (("a.czi", STACK), ("a.dcm", RGB)):
        reader = get_reader(str(tmp_path / name))
        assert reader is not None
        ((data, settings, kind),) = reader(str(tmp_path / name))
        np.testing.assert_array_equal(np.asarray(data), expected)
        assert kind == "image" and settings["scale"][-2:] == pytest.approx((UM, UM))


def test_all_suffixes_are_searched_for_and_opened_by_the_window() -> None:
    manifest = (Path(slides.__file__).parents[2] / "napari.yaml").read_text(encoding="utf-8")
    from napari_leukocls.io.formats import FORMAT_SUFFIXES
    from napari_leukocls.io.images import IMAGE_SUFFIXES

    assert set(FORMAT_SUFFIXES) <= IMAGE_SUFFIXES
    assert all(f'"*{suffix}"' in manifest for suffix in FORMAT_SUFFIXES)
