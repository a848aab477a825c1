"""Counts by keys: what a bench counter does, what is kept, and how it stands beside the program's count."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_leukocls.errors import ReviewError
from napari_leukocls.measurement.tally import Press, Tally
from napari_leukocls.review import open_store
from napari_leukocls.review.audit import verify
from napari_leukocls.review.bench_count import BenchCounts, beside_program
from tests.results import make_result


def test_a_count_ends_at_its_goal_and_cells_outside_the_differential_do_not_add_to_it() -> None:
    tally = Tally(3)
    for name in ("neutrophil", "erythroblast", "artefact", "lymphocyte", "neutrophil"):
        assert tally.add(Press(name))
    assert tally.reached and tally.leukocytes == 3
    # At the goal the counter takes no further leukocyte, but still an erythroblast.
    assert not tally.add(Press("monocyte")) and tally.add(Press("erythroblast"))
    assert tally.counts == {"neutrophil": 2, "lymphocyte": 1, "erythroblast": 2, "artefact": 1}
    assert tally.share("neutrophil") == pytest.approx(200 / 3)
    assert tally.share("erythroblast") == pytest.approx(200 / 3) and tally.share("artefact") is None
    tally.undo()
    assert tally.undo() == Press("neutrophil") and not tally.reached


def test_a_cell_that_is_pointed_at_twice_counts_once() -> None:
    tally = Tally(2)
    for name in ("neutrophil", "monocyte"):
        assert tally.add(Press(name, "field", 7))
    assert tally.counts == {"monocyte": 1}
    tally.add(Press("lymphocyte", "field", 8))
    # The class of a counted cell can be changed at the goal, too.
    assert tally.reached and tally.add(Press("eosinophil", "field", 7))
    assert tally.counts == {"eosinophil": 1, "lymphocyte": 1}


def test_presses_are_on_the_disk_and_a_count_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    with open_store(path) as store:
        count = BenchCounts(store).begin("A. Reader", "slide 7", goal=100)
        for name in ("neutrophil", "neutrophil", "monocyte"):
            count.press(name)
        count.undo()
    with open_store(path) as store:
        counts = BenchCounts(store)
        again = counts.begin("A. Reader", "slide 7")
        assert again.record.id == count.record.id
        assert (again.tally.counts, again.tally.goal) == ({"neutrophil": 2}, 100)
        # Another person has a count of one's own.
        assert counts.begin("B. Second", "slide 7").tally.presses == []
        again.finish()
        with pytest.raises(ReviewError, match="finished"):
            again.press("monocyte")
        assert counts.begin("A. Reader", "slide 7").record.id != count.record.id
        assert [one.finished_at != "" for one in counts.records()] == [True, False, False]
        assert verify(store).whole


def test_a_count_stands_beside_that_of_the_program() -> None:
    result = make_result(shape=(480, 720), pitch=40)
    cells = result.cells
    names = {
        ("field", int(cell)): str(name) for cell, name in zip(cells["cell_id"], cells["class"], strict=True)
    }
    tally = Tally()
    waits = cells["needs_review"].to_numpy(bool)
    for cell, name in zip(cells["cell_id"][~waits], cells["class"][~waits], strict=True):
        if name not in ("red_cell", "platelet"):
            # A band is a neutrophil for a program that does not tell them apart.
            given = {"neutrophil": "band_neutrophil", "basophil": "lymphocyte"}.get(name, name)
            tally.add(Press(given, "field", int(cell)))
    found = beside_program(tally, result.counts, names, tally.scheme, "A. Reader")
    rows = {row.class_name: row for row in found.rows}
    assert found.n == found.n_program == tally.leukocytes
    assert rows["neutrophil"].counted == rows["neutrophil"].program and not rows["neutrophil"].outside
    assert rows["basophil"].counted == 0 and rows["basophil"].outside and rows["lymphocyte"].outside
    assert found.agreement is not None and 0.7 < found.agreement.kappa < 0.95
    assert set(found.agreement.disagreements["first"]) == {"basophil"}
    with pytest.raises(ReviewError, match="nothing to compare"):
        beside_program(Tally(), result.counts, names, tally.scheme)
    # At the microscope no cell is pointed at: there is no kappa.
    plain = Tally(presses=[Press("neutrophil")] * 10)
    assert beside_program(plain, result.counts, names, plain.scheme).agreement is None
