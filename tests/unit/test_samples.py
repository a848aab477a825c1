"""Counts of the analyser: typed, from tables and from HL7; recognised or refused, never silently wrong."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.batch.samples import samples_of_slides
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.measurement.sample_files import read_samples
from napari_leukocls.measurement.samples import (
    WBC_LIMITS,
    SampleValues,
    make_sample,
    parse_age,
    parse_concentration,
    sample_of,
    with_sample,
)
from napari_leukocls.results.reader import read_result
from napari_leukocls.results.writer import write_result
from tests.results import make_result


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7.5", 7.5),
        ("7,5", 7.5),
        (" 0.4 ", 0.4),
        ("7500 /uL", 7.5),
        ("7500/µL", 7.5),
        ("7500 cells/uL", 7.5),
        ("7500 /mm3", 7.5),
        ("7500 /mm^3", 7.5),
        ("7.5 x10^3/uL", 7.5),
        ("7.5 10*3/uL", 7.5),
        ("7.5 K/uL", 7.5),
        ("7.5 x 10⁹/L", 7.5),
        ("7.5 10*9/L", 7.5),
        ("7.5e9/L", 7.5),
        ("7.5 G/L", 7.5),
        ("7.5 Gpt/L", 7.5),
        ("7.5 /nL", 7.5),
        ("7.5 10^6/mL", 7.5),
        ("300 10^9/L", 300),
        ("300 /uL", 0.3),
        ("٧٫٥ G/L", 7.5),
    ],
)
def test_a_wbc_is_read_in_any_unit(text: str, value: float) -> None:
    assert make_sample(wbc=text).wbc == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "a WBC of 0 is not possible"),
        ("-3", "a WBC of -3 is not possible"),
        ("many", "'many' is no number"),
        ("7500", "has no unit, and may be cells per microlitre: write '7500 /uL'"),
        ("250", "has no unit"),
        ("7500 10^9/L", "is not possible .* check the number and its unit"),
        ("7.5 mg/dL", "the unit 'mg/dL' is not known"),
        ("7.5 10^9", "the unit '10.9' is not known"),
        ("7 500", "the unit '500' is not known"),
        ("1.234.567 /uL", "sign between thousands"),
        ("7,500 /uL", "may be"),
        ("nan", "is no number"),
        ("inf", "is no number"),
        ("1e999 /uL", "too large"),
        ("<0.5", "is no number"),
    ],
)
def test_what_is_not_clear_is_asked_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as error:
        parse_concentration(text)
    assert "\n" not in str(error.value)


def test_red_cells_have_units_of_their_own() -> None:
    for text in ("4.6", "4.6 10^12/L", "4.6 M/uL", "4.6 T/L", "4600000 /uL", "4.6 10*6/uL"):
        assert make_sample(rbc=text).rbc == pytest.approx(4.6)
    with pytest.raises(ArgumentError, match="a RBC of 4.6 10\\^9/L is not possible"):
        make_sample(rbc="4.6 10^9/L")


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = parse_concentration(text)
    except ArgumentError as error:
        assert "\n" not in str(error)
    else:
        assert WBC_LIMITS[0] * 0.999 <= value <= WBC_LIMITS[1] * 1.001


@pytest.mark.parametrize(
    ("text", "years"), [("40", 40), ("6 m", 0.5), ("7d", 7 / 365.25), ("2 weeks", 14 / 365.25)]
)
def test_ages(text: str, years: float) -> None:
    assert parse_age(text) == pytest.approx(years)


@pytest.mark.parametrize("text", ["-1", "200", "old"])
def test_no_ages(text: str) -> None:
    with pytest.raises(ArgumentError, match="age"):
        parse_age(text)


def test_the_values_stay_with_the_result(tmp_path: Path) -> None:
    sample = make_sample("7.5", "4.6", "40", "f", identifier="S1", patient="P9")
    made = make_result()
    result = with_sample(replace(made, run={**made.run, "scale": asdict(made.segmentation.scale)}), sample)
    folder = write_result(result, tmp_path)["folder"]
    assert sample_of(read_result(folder, image=result.image)) == sample
    assert sample_of(with_sample(result, None)) == SampleValues()


# files


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "wbc.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_gives_the_values_by_sample(tmp_path: Path) -> None:
    found = read_samples(
        table(
            tmp_path, "slide_id;patient;WBC;RBC;age;sex\nA1;P1;7,5;4,6;40;f\nB2;P2;12 000 /uL;;;\nC3;;0;;;\n"
        )
    )
    assert found.of("a1") == SampleValues("A1", "P1", 7.5, rbc=4.6, age=40, sex="female", source="wbc.csv")
    assert found.of("nobody") is None
    assert found.of("B2").wbc is None, "the rest of the row is kept"  # type: ignore[union-attr]
    assert found.of("B2").patient == "P2"  # type: ignore[union-attr]
    assert len(found.problems) == 2
    assert "row 2 (B2): WBC: the unit '000 /uL' is not known" in found.problems[0]
    assert "row 3 (C3): a WBC of 0 is not possible" in found.problems[1]


@pytest.mark.parametrize(
    "head", ["sample,WBC (/uL)", "sample,wbc [/µL]", "Sample ID,leukocytes /uL", "specimen,WBC /mm3"]
)
def test_the_unit_may_stand_in_the_name_of_the_column(tmp_path: Path, head: str) -> None:
    found = read_samples(table(tmp_path, f"{head}\nA,7500\n"))
    assert found.problems == ()
    assert found.of("A").wbc == pytest.approx(7.5)  # type: ignore[union-attr]


def test_a_unit_may_have_a_column(tmp_path: Path) -> None:
    found = read_samples(table(tmp_path, "sample,wbc,wbc_unit\nA,7500,/uL\nB,7.5,10^9/L\nC,7.5,stones\n"))
    assert [found.of(name).wbc for name in "AB"] == pytest.approx([7.5, 7.5])  # type: ignore[union-attr]
    assert "unit 'stones' is not known" in found.problems[0]


def test_an_identifier_that_stands_twice_is_used_only_where_it_is_clear(tmp_path: Path) -> None:
    found = read_samples(table(tmp_path, "sample,wbc\nA,7.5\nB,3.1\nA,8.5\nB,3.1\n"))
    assert found.of("A") is None
    assert found.of("B").wbc == 3.1  # type: ignore[union-attr]
    assert found.problems == (
        "wbc.csv: 'A' stands in row 1 and in row 3 with different values: none of them is used.",
    )


def test_a_table_without_samples_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column that names samples: call one slide_id, or sample"):
        read_samples(table(tmp_path, "wbc,age\n7.5,3\n"))
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path / "nothing.csv")


HL7 = (
    "MSH|^~\\&|XN|LAB|LIS|LAB|20261130120000||ORU^R01^ORU_R01|1|P|2.5.1\r"
    "PID|1||P-77^^^LAB||Doe^Jane||19861130|F\r"
    "OBR|1||S-1^XN|CBC\r"
    "OBX|1|NM|6690-2^Leukocytes^LN||7.5|10*3/uL|||||F\r"
    "OBX|2|NM|789-8^Erythrocytes^LN||4.6|10*6/uL|||||F\r"
    "OBX|3|NM|718-7^Haemoglobin^LN||14|g/dL|||||F\r"
)


def message(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "xn.hl7"
    path.write_bytes(text.encode())
    return path


def test_a_message_gives_the_values_and_no_name(tmp_path: Path) -> None:
    found = read_samples(message(tmp_path, HL7))
    sample = found.of("S-1")
    assert sample is not None
    assert (sample.wbc, sample.rbc, sample.patient, sample.sex) == (7.5, 4.6, "P-77", "female")
    assert sample.age == pytest.approx(40, abs=0.01)
    assert "Doe" not in repr(found)


@pytest.mark.parametrize(
    ("old", "new", "wbc"),
    [
        ("7.5|10*3/uL", "7500|/uL", 7.5),
        ("7.5|10*3/uL", "7.5|10\\S\\3/uL", 7.5),
        ("7.5|10*3/uL", "7.5|10^3/uL", 7.5),
        ("6690-2^Leukocytes^LN", "WBC^Leukocytes^99LAB", 7.5),
        ("6690-2^Leukocytes^LN", "1^Own^99LAB^26464-8^Leukocytes^LN", 7.5),
        ("S-1^XN|CBC\r", "X|CBC\rSPM|1|S-1&LAB\r", 7.5),
        ("7.5|10*3/uL|||||F", "7.5|10*3/uL|||||X", None),
        ("7.5|10*3/uL|||||F\r", "7.5|10*3/uL|||||F\rOBX|9|NM|6690-2^L^LN||8.5|10*3/uL|||||C\r", 8.5),
        ("7.5|10*3/uL", "7500|10*3/uL", None),
        ("7.5|10*3/uL", "7500|", None),
        ("7.5|10*3/uL", "++++|10*3/uL", None),
        ("7.5|10*3/uL|||||F\r", "7.5|10*3/uL|||||F\rOBX|9|NM|6690-2^L^LN||8.5|10*3/uL|||||F\r", None),
    ],
)
def test_messages_as_analysers_write_them(tmp_path: Path, old: str, new: str, wbc: float | None) -> None:
    assert old in HL7
    found = read_samples(message(tmp_path, HL7.replace(old, new)))
    sample = found.of("S-1")
    assert sample is not None, "the red cells are kept"
    assert sample.wbc == (None if wbc is None else pytest.approx(wbc))
    assert len(found.problems) == (wbc is None and "|X" not in new)


def test_two_messages_of_a_sample_that_differ_are_not_used(tmp_path: Path) -> None:
    found = read_samples(message(tmp_path, HL7 + HL7.replace("7.5", "9.5") + HL7.replace("S-1", "S-2")))
    assert found.of("S-1") is None
    assert found.of("S-2") is not None
    assert "'S-1' stands in message 1 and in message 2 with different values" in found.problems[0]


@given(st.text(st.sampled_from("MSHOBXPIDR|^~\\&\r\n0123456789.-2"), max_size=200))
def test_no_message_ends_the_reading(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("hl7") / "x.hl7"
    path.write_bytes(("MSH|^~\\&|" + text).encode())
    assert all("\n" not in problem for problem in read_samples(path).problems)


# slides of a batch


def test_each_slide_of_a_batch_gets_its_values(tmp_path: Path) -> None:
    file = read_samples(table(tmp_path, "slide_id,wbc\na,7.5\nb,7500\nA2,3\nA2,4\n"))
    found = samples_of_slides(["a", "b", "c", "a2"], file)
    assert found.values["a"].wbc == 7.5
    assert found.values["b"].wbc is None
    assert "a" not in found.notes
    assert "wbc.csv, row 2 (b): WBC 7500 has no unit" in found.notes["b"][0]
    assert found.notes["c"] == ("the table of samples has no row for c: there are no counts per litre.",)
    assert "a2" not in found.values
    assert "with different values: none of them is used" in found.notes["a2"][0]


def test_typed_values_are_of_one_slide_and_go_before_the_file(tmp_path: Path) -> None:
    file = read_samples(table(tmp_path, "sample,wbc,patient\nS-1,7.5,P1\n"))
    typed = make_sample(wbc="8.1", identifier="S-1")
    found = samples_of_slides(["field"], file, typed).values["field"]
    assert (found.wbc, found.patient, found.identifier) == (8.1, "P1", "S-1")
    assert samples_of_slides(["field"], None, typed).values["field"] == typed
    with pytest.raises(ArgumentError, match="cannot be those of 2 slides"):
        samples_of_slides(["a", "b"], file, typed)
