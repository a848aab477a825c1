"""The report: every number on its first page against a count worked out by hand, and the files that repeat it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from math import nan
from pathlib import Path

import pandas as pd
import pytest

from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.delta import EarlierCount
from napari_leukocls.measurement.findings import Finding, with_findings
from napari_leukocls.measurement.fine import count_cells
from napari_leukocls.measurement.judgement import judge, with_earlier
from napari_leukocls.measurement.rules import load_rules
from napari_leukocls.measurement.samples import make_sample, with_sample
from napari_leukocls.results.exports import write_exports
from napari_leukocls.results.overlay import draw_overlay
from napari_leukocls.results.pictures import limits_bar
from napari_leukocls.results.report import render_joint_report, render_report
from napari_leukocls.results.summary import summary_row, write_summary
from napari_leukocls.results.writer import write_result
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import FieldResult, Signature, SlideResult
from tests.results import CLASSES, counted, make_result

SCHEME = default_scheme()
SIGNED = Signature("signed", "A. Reader", "2026-11-30T12:00:00+00:00", 100, "B. Second", 0.914)
#: 100 leukocytes, 12 erythroblasts: of a WBC of 12.4 x 10^9/L, 12.4 x 100 / 112 = 11.07 are leukocytes.
HAND = {
    "neutrophil": 70,
    "lymphocyte": 20,
    "monocyte": 6,
    "eosinophil": 4,
    "erythroblast": 12,
    "red_cell": 900,
}


class _Text(HTMLParser):
    """The text of a page, cell by cell."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.skipped = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.skipped = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self.skipped and data.strip():
            self.parts.append(" ".join(data.split()))


def text_of(page: str) -> str:
    parser = _Text()
    parser.feed(page)
    return " ".join(parser.parts)


def first_page(page: str) -> str:
    return text_of(page.split('class="page"')[0])


def hand_case(**changes: object) -> SlideResult:
    result = with_sample(
        counted(HAND), make_sample("12.4", identifier="S-7", patient="P-1", age="54", sex="f")
    )
    return replace(result, **changes)


def joint_page(result: SlideResult) -> str:
    return render_joint_report(judge(result, load_rules()), SCHEME, [])


def test_every_number_of_a_count_worked_out_by_hand() -> None:
    page = first_page(joint_page(hand_case()))
    assert "S1 Sample S-7 Patient number P-1 female 54 years" in page
    assert "Differential: 100 leukocytes counted" in page
    # Class, count, percent, Clopper-Pearson of x of 100, and x of 112 x 12.4 with its limits.
    for row in (
        "Neutrophil 70 70.0 60.0 – 78.8 7.75 (6.55 – 8.86)",
        "Lymphocyte 20 20.0 12.7 – 29.2 2.21 (1.40 – 3.25)",
        "Monocyte 6 6.0 2.2 – 12.6 0.66 (0.25 – 1.40)",
        "Eosinophil 4 4.0 1.1 – 9.9 0.44 (0.12 – 1.10)",
        "Basophil 0 0.0 0.0 – 3.6 0.00 (0.00 – 0.40)",
        "Erythroblast (nRBC) 12 12.0 per 100 leukocytes (6.0 – 21.9), not part of the 100 %",
    ):
        assert row in page, row
    assert "Leukocytes, given: 12.4 × 10⁹/L" in page
    assert "Leukocytes corrected for 12 erythroblasts per 100 leukocytes: 11.1 × 10⁹/L (10.2 to 11.7)" in page
    assert "900 red cells in view" in page
    abnormal, rest = page.split("Abnormal")[1].split("Too few cells to exclude:")
    assert abnormal.strip().startswith("Erythroblasts : 12 per 100 leukocytes (6 to 21.9), limit ≥ 1")
    assert "Immature granulocytes (count 83 more)" in rest
    assert "Eosinophilia (count" in rest
    assert "Uncertain" not in page
    assert "Not judged: blasts, variant lymphocytes: the classifier does not tell these cells apart" in page


def test_the_first_page_says_whether_it_is_signed_and_what_is_left_out() -> None:
    page = first_page(joint_page(counted({"neutrophil": 60}, {"lymphocyte": 30, "monocyte": 2})))
    assert "PROVISIONAL" in page
    assert "Not yet reviewed by a person: 32 cells are left out (30 lymphocytes, 2 monocytes)." in page
    assert "60 leukocytes counted, 32 cells to review" in page
    signed = joint_page(hand_case(signature=SIGNED))
    assert "PROVISIONAL" not in signed
    assert "SIGNED By A. Reader on 2026-11-30; second read by B. Second, kappa 0.91." in first_page(signed)
    assert "Goal: 100 leukocytes; 100 counted." in first_page(signed)


def test_a_signed_report_has_no_cell_to_review() -> None:
    result = counted({"neutrophil": 100}, {"lymphocyte": 30}, signature=SIGNED)
    page = joint_page(result)
    assert "to review" not in page
    assert "100 leukocytes counted" in page


def test_smudge_cells_that_a_person_has_named_are_counted_again() -> None:
    made = make_result()
    before = Finding("leukocyte_smudges", 0.0, 0.0, 5.0, "%", "absent", "smudges", "0 smudge cells.")
    cells = made.cells.copy()
    cells.loc[1, ["class", "corrected_class", "reviewer"]] = ["smudge_cell", "smudge_cell", "Ada"]
    judged = judge(with_findings(replace(made, cells=cells), [before]), load_rules())
    (found,) = (one for one in judged.result.findings if one.name == "leukocyte_smudges")
    assert found.value > 0


def test_what_is_certain_what_is_possible_and_what_is_not_known_are_apart() -> None:
    result = with_findings(
        counted({"neutrophil": 90, "immature_granulocyte": 8, "basophil": 2}),
        [
            Finding("red_cell_schistocytes", 3.0, 1.5, 5.2, "%", "certain", "", "Schistocytes 3 %."),
            Finding("platelet_clumps", 2.0, nan, nan, "{clumps}", "certain", "any", "2 clumps."),
            Finding("quality_grade", nan, nan, nan, "", "possible", "worst", "amber: drying artefacts."),
            Finding("quality_focus", 0.4, nan, nan, "um", "absent", "x", "Edges are 0.4 um wide."),
            Finding(
                "red_cell_spread", 16.0, 15.2, 17.0, "%", "certain", "spread > 15 %", "Anisocytosis: 2+."
            ),
        ],
    )
    page = first_page(joint_page(result))
    abnormal, rest = page.split("Abnormal")[1].split("Uncertain", 1)
    uncertain, rest = rest.split("Too few cells to exclude:", 1)
    for line in ("Immature granulocytes : 8 %", "Schistocytes : 3 %", "Anisocytosis : 2+"):
        assert line in abnormal
        assert line not in uncertain
    for line in (
        "Platelet clumps : 2 clumps, limit ≥ 1 – the count",
        "Basophilia : ",
        "Quality : amber: drying",
    ):
        assert line in uncertain
        assert line not in abnormal
    assert "Erythroblasts (count" in rest
    assert "Edges are 0.4 um wide" not in page, "what is right stands with the details"
    assert "Edges are 0.4 um wide" in text_of(joint_page(result))


def test_a_dozen_possible_grades_are_one_line() -> None:
    shapes = ("teardrop_cells", "ovalocytes", "burr_cells", "target_cells", "spherocytes", "microcytes") * 2
    grades = [
        Finding(f"red_cell_{name}_{i}", 2.0, 0.5, 6.0, "%", "possible", "grade", f"Grade {i} of {name}.")
        for i, name in enumerate(shapes)
    ]
    grades.append(
        Finding("red_cell_macrocytes", 30.0, 22.0, 40.0, "%", "certain", "grade", "Macrocytes: 3+.")
    )
    page = first_page(joint_page(with_findings(counted({"neutrophil": 300}), grades)))
    assert "Red cells : perhaps teardrop cells 0, ovalocytes 1," in page
    assert "Macrocytes : 3+" in page.split("Abnormal")[1].split("Uncertain")[0]
    column = page.split("cells in view")[1]
    assert "Macrocytes: 3+" in column
    assert "5 more with the details" in column


def test_nothing_abnormal_is_said_so() -> None:
    page = first_page(joint_page(counted({"neutrophil": 300, "lymphocyte": 180, "monocyte": 20})))
    assert "No rule's limit is exceeded for certain." in page
    assert "Uncertain" not in page


def test_usual_values_stand_beside_the_percentages(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[ranges]]\nfigure = "percent"\nclass = "neutrophil"\nlow = 40\nhigh = 65\n')
    page = render_joint_report(judge(hand_case(), load_rules(path)), SCHEME, [])
    assert "Usual %" in page
    assert "78.8 7.75 (6.55 – 8.86) 40 to 65" in first_page(page)
    assert "Neutrophil : 70 % (60 to 78.8): perhaps high (usual 40 to 65)" in first_page(page)


def test_changes_since_the_last_count_are_on_the_page() -> None:
    before = counted({"neutrophil": 20, "lymphocyte": 80})
    page = first_page(joint_page(with_earlier(hand_case(), EarlierCount(before.counts, "2026-11-01", "S0"))))
    abnormal = page.split("Abnormal")[1].split("Uncertain")[0]
    assert "Neutrophil : 70 % after 20 % since S0 of 2026-11-01: changed (by chance" in abnormal


def field(**changes: object) -> FieldResult:
    """The field of the tests with more of its cells settled."""
    made = make_result()
    cells = made.cells.assign(needs_review=False, review_reason="")
    counts = count_cells(cells, SCHEME, CLASSES, slide_id=made.slide_id)
    run = {**made.run, "scale": asdict(made.segmentation.scale)}
    return replace(made, cells=cells, counts=counts, run=run, **changes)


def test_the_first_page_has_typical_and_flagged_cells() -> None:
    result = make_result()
    judged = judge(result, load_rules())
    page = render_report(judged, SCHEME, draw_overlay(judged.result, SCHEME))
    first = page.split('class="page"')[0]
    typical, flagged = first.split("Typical cells of each class")[1].split("Cells to look at")
    waiting = int(result.cells["needs_review"].sum())
    assert waiting
    mark = '<span class="review">?</span>'
    assert mark not in typical
    assert flagged.count(mark) == min(waiting, 4), "the other half is for flagged classes"
    assert flagged.count("<img") == 8
    assert typical.count("<img") == 8
    for name in ("NEU", "LYM", "EOS"):
        assert 1 <= typical.count(f"</span> {name} ") <= 2


def test_state_signature_and_counts_per_litre_stand_in_the_tables(tmp_path: Path) -> None:
    provisional = write_result(field(), tmp_path / "a")["folder"]
    table = pd.read_csv(provisional / "counts.csv")
    assert not {"signed_by", "absolute"} & set(table.columns)
    signed = with_sample(field(signature=SIGNED), make_sample("8", wbc_corrected=True))
    folder = write_result(signed, tmp_path / "b")["folder"]
    table = pd.read_csv(folder / "counts.csv").set_index("class")
    assert list(table.columns[-7:]) == [
        *("absolute", "absolute_low", "absolute_high"),
        *("signed_by", "signed_at", "second_reader", "kappa"),
    ]
    assert set(table["signed_by"]) == {"A. Reader"}
    assert set(table["kappa"]) == {0.914}
    assert table.loc["neutrophil", "absolute"] == pytest.approx(table.loc["neutrophil", "percent"] * 0.08)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (run["signature"]["state"], run["sample"]["wbc"]) == ("signed", 8)
    rows = [summary_row(judge(one, load_rules()).result) for one in (field(), signed)]
    summary = pd.read_csv(write_summary(rows, tmp_path / "summary.csv"))
    assert list(summary["state"]) == ["unreviewed", "signed"]
    assert summary["signed_by"].tolist()[1] == "A. Reader"
    assert summary["wbc"].tolist()[1] == 8
    assert summary["wbc_source"].tolist()[1] == "given"
    assert "few_cells" in summary["flags"][0].split()


def test_a_wrong_rule_file_is_one_line_and_leaves_earlier_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_result(field(), tmp_path)["folder"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nname = "a"\nany_of = ["a"]\n', encoding="utf-8")
    monkeypatch.setenv("LEUKOCLS_RULES", str(rules))
    with pytest.raises(ArgumentError, match="in a circle"):
        write_result(field(), tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_fhir_and_hl7_are_final_only_when_signed(tmp_path: Path) -> None:
    import hl7

    for state, signature, status, letter in (
        ("provisional", None, "preliminary", "P"),
        ("signed", SIGNED, "final", "F"),
    ):
        result = hand_case() if signature is None else hand_case(signature=signature)
        (tmp_path / state).mkdir()
        write_exports(result, tmp_path / state, ["fhir", "hl7", "xlsx"])
        bundle = json.loads((tmp_path / state / "report.fhir.json").read_text(encoding="utf-8"))
        resources = [entry["resource"] for entry in bundle["entry"]]
        report = resources[0]
        observations = [one for one in resources if one["resourceType"] == "Observation"]
        assert {report["status"], *(one["status"] for one in observations)} == {status}
        assert ("resultsInterpreter" in report) == (state == "signed")
        by_code = {one["code"]["coding"][-1]["code"]: one for one in observations}
        absolute = by_code["neutrophil-absolute"]
        assert absolute["valueQuantity"]["value"] == pytest.approx(7.75)
        assert absolute["valueQuantity"]["code"] == "10*9/L"
        assert absolute["code"]["coding"][0]["code"] == "26499-4"
        flag = by_code["flag_erythroblasts"]
        assert flag["interpretation"][0]["coding"][0]["code"] == "A"
        if state == "provisional":
            assert by_code["flag_blast"]["valueString"].startswith("Blasts: not judged")
        specimen = next(one for one in resources if one["resourceType"] == "Specimen")
        assert specimen["identifier"][0]["value"] == "S-7"
        message = hl7.parse((tmp_path / state / "report.hl7").read_bytes().decode("utf-8"))
        assert {str(line[11]) for line in message.segments("OBX")} == {letter}
        assert str(message.segment("OBR")[25]) == letter
        notes = " ".join(str(note[3]) for note in message.segments("NTE"))
        assert ("igned by A. Reader" in notes) == (state == "signed")
        assert ("rovisional, not yet reviewed by a person: no cell is left out" in notes) == (
            state == "provisional"
        )
        if state == "signed":
            assert report["issued"] == "2026-11-30T12:00:00Z"
            assert "kappa 0.91" in report["conclusion"]


def test_the_workbook_says_it_first(tmp_path: Path) -> None:
    from python_calamine import CalamineWorkbook

    write_exports(hand_case(signature=SIGNED), tmp_path, ["xlsx"])
    rows = CalamineWorkbook.from_path(tmp_path / "slide.xlsx").get_sheet_by_name("Report").to_python()
    told = {row[0]: row[1] for row in rows}
    assert told["state"] == "signed"
    assert told["kappa"] == 0.914
    assert told["leukocytes counted"] == 100
    assert told["certain"].startswith("Erythroblasts: 12 per 100")


def test_a_bar_has_its_limits_where_they_belong() -> None:
    import base64
    from io import BytesIO

    import numpy as np
    from PIL import Image

    uri = limits_bar(50, 40, 60, "#0072b2")
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)
    assert np.abs(picture[4, 100] - (0, 0x72, 0xB2)).max() < 12
    assert picture[4, 200].min() > 220
    dark = np.flatnonzero(picture[10].max(axis=1) < 30)
    assert (dark.min(), dark.max()) == pytest.approx((120, 180), abs=2)
    assert limits_bar(nan, nan, nan, "#000000").startswith("data:image/png")


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_the_first_page_fits_the_paper(tmp_path: Path, paper: str) -> None:
    """With finer classes, absolute counts, usual values, and cells of all classes, the details begin on page 2."""
    pdf = pytest.importorskip("PyQt6.QtPdf")
    from napari_leukocls.widgets.common.printing import print_html
    from napari_leukocls.widgets.common.report_pdf import MARGIN_MM

    rules = tmp_path / "rules.toml"
    ranges = "".join(
        f'[[ranges]]\nfigure = "percent"\nclass = "{name}"\nlow = 1\nhigh = 60\n' for name in CLASSES[:5]
    )
    rules.write_text(ranges, encoding="utf-8")
    made = make_result(depth="fine", shape=(400, 600))
    result = with_sample(replace(made, warnings=("One.", "Two.", "Three.", "Four.")), make_sample("9.1"))
    names = ("spherocytes", "schistocytes", "target_cells", "teardrop_cells", "ovalocytes", "burr_cells")
    text = (
        "{} 2+ (moderate): 17.2 % (12.6 to 28.4, corrected for the known errors of the model); 54 of 232 so."
    )
    result = with_findings(
        result,
        [
            *(
                Finding(
                    f"red_cell_{name}",
                    17.2,
                    12.6,
                    28.4,
                    "%",
                    "certain" if i < 3 else "possible",
                    "g",
                    text.format(name.capitalize()),
                )
                for i, name in enumerate(names)
            ),
            Finding("platelet_clumps", 1.0, nan, nan, "{clumps}", "certain", "any", "1 clump of platelets."),
            Finding("quality_grade", nan, nan, nan, "", "possible", "w", "amber: drying artefacts."),
        ],
    )
    judged = judge(result, load_rules(rules))
    page = render_report(judged, SCHEME, draw_overlay(judged.result, SCHEME))
    out = print_html(page, tmp_path / "report.pdf", paper_name=paper, margin_mm=MARGIN_MM)
    document = pdf.QPdfDocument(None)
    document.load(str(out))
    texts = [document.getAllText(number).text() for number in range(document.pageCount())]
    assert "Not for diagnosis." in texts[0]
    assert "Cells to look at" in texts[0]
    assert re.search(r"Details\s+Warnings", texts[1]), "the first page is one page"


def test_a_pdf_is_written_like_any_other_format(tmp_path: Path) -> None:
    def more(result: SlideResult, folder: Path) -> None:
        write_exports(result, folder, ["pdf"])

    folder = write_result(field(), tmp_path, extra=[more])["folder"]
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
