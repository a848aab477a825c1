"""Names on the command line to slides with ids that are unique and safe."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.errors import InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import SlideInput, expand_inputs, group_as_slide, safe_id
from napari_leukocls.io.serialise import safe_text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as people have them, which is also the current one."""
    for name in ("f10.png", "f2.PNG", "F1.jpg", "notes.txt", ".hidden.png", "table.csv"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "f2.tif").touch()
    (tmp_path / "deeper.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _ids(slides: list[SlideInput]) -> list[str]:
    return [slide.slide_id for slide in slides]


def test_a_folder_gives_its_images_in_natural_order(folder: Path) -> None:
    assert _ids(expand_inputs([str(folder)])) == ["F1", "f2", "f10"]


@pytest.mark.parametrize(
    ("name", "library", "words"),
    [
        ("IMG_0412.HEIC", "pillow_heif", r"is an HEIC picture: to read it, run pip install .*\[heic\]'"),
        ("smear 3.czi", "pylibCZIrw", r"is a Zeiss CZI file: to read it, run pip install .*\[czi\]'"),
        ("field7.nd2", "nd2", r"\[nd2\]', or export it as TIFF in NIS-Elements"),
        ("a.lif", "liffile", r"\[lif\]', or export it as TIFF in LAS X"),
        ("b.vsi", "slideio", r"\[vsi\]', or export it as TIFF in OlyVIA or cellSens"),
        ("c.dcm", "pydicom", r"\[dicom\]', or export it as TIFF"),
        ("d.cr2", "", "a camera's raw CR2 file, which is not read: export it as TIFF"),
    ],
)
def test_pictures_of_other_formats_in_a_folder_fail_by_name(
    folder: Path, name: str, library: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [one for one in sys.modules if one.startswith("napari_leukocls.io.formats.")]:
        if not module.endswith(".base"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    (folder / name).write_bytes(b"\0\1\2\3" * 100)
    (slide,) = [one for one in expand_inputs([folder]) if one.fields[0].name == name]
    with pytest.raises(InputError, match=words):
        read_image(slide.fields[0])


def test_a_file_without_a_suffix_is_known_by_its_first_bytes(folder: Path) -> None:
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(100))
    (folder / "1.2.840").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "README").write_text("not a picture")
    assert {"IM0001", "1.2.840"} <= set(_ids(expand_inputs([folder])))
    assert "README" not in _ids(expand_inputs([folder]))


def test_results_of_an_earlier_analysis_are_no_slides(folder: Path) -> None:
    (folder / "labels.tif").touch()
    assert "labels" in _ids(expand_inputs([folder]))
    for name in ("run.json", "overlay.png"):
        (folder / name).touch()
    assert _ids(expand_inputs([folder])) == ["F1", "f2", "f10"]


def test_a_link_that_leads_nowhere_is_told_and_not_passed_over(folder: Path) -> None:
    (folder / "f3.png").symlink_to(folder / "gone.png")
    slides = expand_inputs([str(folder)])
    assert _ids(slides) == ["F1", "f2", "f3", "f10"]
    with pytest.raises(InputError, match="there is no file"):
        read_image(slides[2].fields[0])


def test_no_slide_takes_the_name_of_a_table_of_the_run() -> None:
    assert safe_id("manifest.json") == "manifest.json_"


def test_a_glob_is_expanded_here_where_the_shell_did_not(folder: Path) -> None:
    assert _ids(expand_inputs(["f1*.p*"])) == ["f10"]
    assert _ids(expand_inputs(["?1*"])) == ["F1", "f10"]
    assert _ids(expand_inputs(["**/*.tif"])) == ["f2"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder: Path) -> None:
    (folder / "a[1].png").touch()
    assert expand_inputs(["a[1].png"])[0].fields == (Path("a[1].png"),)


def test_what_leads_to_nothing_fails_on_reading_and_leaves_the_others(folder: Path) -> None:
    (folder / "empty").mkdir()
    slides = expand_inputs(["f10.png", "missing.png", "*.bmp", "empty"])
    assert len(slides) == 4
    for slide, words in zip(
        slides[1:], ("there is no file", "no image matches", "holds no image"), strict=True
    ):
        with pytest.raises(InputError, match=words):
            read_image(slide.fields[0])


def test_an_image_named_twice_is_taken_once(folder: Path) -> None:
    assert len(expand_inputs(["f10.png", str(folder), "./f10.png"])) == 3


def test_two_of_one_stem_get_ids_of_their_own(folder: Path) -> None:
    (folder / "f2_2.png").touch()
    slides = expand_inputs(["f2.PNG", "deeper/f2.tif", "f2_2.png", "F1.jpg"])
    assert _ids(slides) == ["f2", "f2_3", "f2_2", "F1"]


def test_ids_differ_also_where_case_does_not_count() -> None:
    slides = expand_inputs(["a/Slide.png", "b/slide.png", "c/SLIDE.png"])
    assert len({slide.slide_id.casefold() for slide in slides}) == 3


def test_fields_of_one_slide(folder: Path) -> None:
    slide = group_as_slide(expand_inputs([str(folder)]), "S 12/3")
    assert slide.slide_id == "S 12_3"
    assert [field.name for field in slide.fields] == ["F1.jpg", "f2.PNG", "f10.png"]
    assert slide.source == str(folder)


def test_expanding_twice_changes_nothing(folder: Path) -> None:
    slides = expand_inputs([str(folder), "deeper"])
    assert expand_inputs(slides) == slides


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("=1+1", "=1+1"),
        ("Blut µ 血液", "Blut µ 血液"),
        ("a/b\\c:d", "a_b_c_d"),
        ("..", "slide"),
        ("con", "con_"),
        ("COM1.old", "COM1_.old"),
        ("nul .x", "nul_.x"),
        ("lpt\u00b9", "lpt\u00b9_"),
        ("summary.csv", "summary.csv_"),
        ("line\nbreak", "line_break"),
        ("bad\udcff", "bad_"),
        (" name. ", "name"),
    ],
)
def test_ids_are_safe_names(name: str, wanted: str) -> None:
    assert safe_id(name) == wanted


@given(st.text(st.characters(), max_size=300))
def test_any_id_is_a_folder_that_can_be_made_and_written_to_a_table(name: str) -> None:
    made = safe_id(name)
    assert made and made not in (".", "..") and os.path.basename(made) == made
    assert len(made.encode()) <= 125 and made == safe_id(made)
    assert made.isprintable() or not any(ord(sign) < 32 for sign in made)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_formulas_are_made_harmless(text: str) -> None:
    assert safe_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "slide 1", "a=b", "'quoted"])
def test_other_text_stays(text: str) -> None:
    assert safe_text(text) == text
