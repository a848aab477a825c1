"""The state of a count in words."""

from __future__ import annotations

import pytest

from napari_leukocls.types import Signature

LEFT = {"monocyte": 5, "lymphocyte": 9}


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (Signature(), "provisional, not yet reviewed by a person: no cell is left out"),
        (
            Signature("provisional", left_out=LEFT),
            "provisional: 14 cells are left out (9 lymphocytes, 5 monocytes)",
        ),
        (
            Signature("provisional", left_out={"immature_granulocyte": 1}),
            "provisional: 1 cell is left out (1 immature granulocyte)",
        ),
        (
            Signature("signed", "A. Reader", "2026-11-30T12:00:00.000000+00:00", 100, "B. Second", 0.914),
            "signed by A. Reader on 2026-11-30; second read by B. Second, kappa 0.91",
        ),
    ],
)
def test_the_state_is_one_plain_line(signature: Signature, words: str) -> None:
    assert signature.words() == words
    assert signature.is_signed == words.startswith("signed")
