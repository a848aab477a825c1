"""Numbers with a point or a comma."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.cli.analyze import analyze
from napari_leukocls.decimals import parse_decimal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.16", 0.16),
        ("0,16", 0.16),
        (" ,5 ", 0.5),
        ("5,", 5),
        ("1e-3", 0.001),
        ("1,5E-3", 0.0015),
        ("-2,5", -2.5),
        ("\u22122.5", -2.5),
        ("+7", 7),
        ("1.234", 1.234),
        ("0,123", 0.123),
        ("1,2345", 1.2345),
        ("1234,567", 1234.567),
        ("\uff10\uff0e\uff11\uff16", 0.16),
        ("\u0660\u066b\u0661\u0666", 0.16),
    ],
)
def test_a_point_and_a_comma_are_decimal_signs(text: str, value: float) -> None:
    assert parse_decimal(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["1,234.5", "1.234,5", "1 234", "1\u00a0234,5", "1'234", "1,234,567", "1_000"]
)
def test_signs_between_thousands_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="between thousands"):
        parse_decimal(text)


@pytest.mark.parametrize("text", ["1,234", "-12,345", "999,000"])
def test_a_comma_before_three_digits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write one of these"):
        parse_decimal(text)


def test_the_limits_may_say_what_a_comma_is() -> None:
    assert parse_decimal("1,234", most=1.5) == 1.234
    assert parse_decimal("12,345", 5, 2000) == 12.345
    with pytest.raises(ValueError, match="1.234 or 1234"):
        parse_decimal("1,234", 5, 2000)


@pytest.mark.parametrize(
    "text", ["", ".", ",", "abc", "nan", "inf", "0x10", "1e999", "1,5 um", "--1", "½", "²"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number|large"):
        parse_decimal(text)


@given(st.text(max_size=12))
def test_any_text_is_a_finite_number_or_refused(text: str) -> None:
    try:
        value = parse_decimal(text)
    except ValueError:
        return
    assert abs(value) < float("inf")


@given(st.floats(-1e6, 1e6), st.sampled_from(".,"))
def test_a_number_comes_back_with_either_sign(value: float, sign: str) -> None:
    text = f"{value:.5f}"
    assert parse_decimal(text.replace(".", sign)) == pytest.approx(float(text))


def test_options_of_the_command_line_take_both() -> None:
    for text, says in (
        ("1,234", "write one of these"),
        ("1 000,5", "between thousands"),
        ("0,x", "no number"),
    ):
        found = CliRunner().invoke(analyze, ["a.png", "--out", "o", "--diameter-px", text])
        assert found.exit_code == 2 and says in found.output, found.output
