"""`python -m benchmarks`: which ratios count as worse, and what is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as program
from benchmarks import cold_start, rivals
from benchmarks.catalogue import BENCHMARKS, Benchmark
from benchmarks.cyto_net import WIDTHS, CytoNet
from scripts import coverage_floors
from scripts.documentation import validation

HIGH = "classifier.ratio_to_efficientnet_b0"


def test_a_ratio_may_be_a_fifth_worse_and_no_more() -> None:
    kept = {"networks": {HIGH: 10.0}, "cold_start": {"ratio.median": 2.0}}
    fine = {"networks": {"ratios": {HIGH: 8.1}}, "cold_start": {"ratios": {"ratio.median": 2.4}}}
    worse = {"networks": {"ratios": {HIGH: 7.9}}, "cold_start": {"ratios": {"ratio.median": 2.6}}}
    assert not program.regressions(fine, kept)
    assert len(program.regressions(worse, kept)) == 2


def test_what_was_not_measured_is_not_compared() -> None:
    assert not program.regressions({"networks": {"left_out": "no memory"}}, {"networks": {HIGH: 10.0}})
    assert program.figure_at({"a": {"b": 2}}, "a.b") == 2.0
    assert program.figure_at({"a": {"left out": "no memory"}}, "a.b") is None


def test_a_run_writes_machine_date_commit_and_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prints = Benchmark("prints", "?", ("-c", 'print(\'{"a": {"b": 3}}\')'), ratios={"a.b": "higher"})
    fails = Benchmark("fails", "?", ("-c", "raise SystemExit('no camera')"))
    monkeypatch.setattr(program, "BENCHMARKS", (prints, fails))
    monkeypatch.setattr(program, "KEPT", tmp_path / "ratios.json")
    out = tmp_path / "new" / "found.json"
    assert program.main(["run", "prints", "--out", str(out), "--keep"]) == 0
    found = json.loads(out.read_text())
    assert found["results"]["prints"]["ratios"] == {"a.b": 3.0}
    assert {"date", "commit", "cores", "python", "system"} <= set(found)
    kept = json.loads((tmp_path / "ratios.json").read_text())
    assert kept["ratios"] == {"prints": {"a.b": 3.0}} and kept["better"] == {"prints": {"a.b": "higher"}}
    (tmp_path / "ratios.json").write_text(json.dumps({"ratios": {"prints": {"a.b": 4.0}}}))
    assert program.main(["run", "prints", "--out", str(out), "--check"]) == 1
    assert "a.b: 4 before, 3 now" in capsys.readouterr().err
    assert program.main(["run", "fails", "--out", str(out)]) == 1
    assert "no camera" in json.loads(out.read_text())["results"]["fails"]["failed"]


def test_each_benchmark_is_a_program_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(program.__file__).parent
    for benchmark in BENCHMARKS:
        module = benchmark.command[1]
        assert module == "napari_leukocls" or (root / f"{module.split('.')[1]}.py").is_file()
    assert program.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(benchmark.name in listed for benchmark in BENCHMARKS)


def test_the_kept_ratios_are_of_known_benchmarks() -> None:
    kept = json.loads(program.KEPT.read_text())["ratios"]
    known = {benchmark.name: set(benchmark.ratios) for benchmark in BENCHMARKS}
    assert kept and all(set(ratios) <= known[name] for name, ratios in kept.items())
    better = json.loads(program.KEPT.read_text())["better"]
    directions = {benchmark.name: benchmark.ratios for benchmark in BENCHMARKS}
    assert all(directions[name][figure] == better[name][figure] for name in kept for figure in kept[name])


def test_scripts_read_what_is_kept_and_not_the_benchmarks() -> None:
    """Benchmarks use scripts; the other way round there would be a circle."""
    files = (Path(program.__file__).parents[1] / "scripts").rglob("*.py")
    assert not [path for path in files if re.search(r"^\s*(from|import) benchmarks", path.read_text(), re.M)]


def test_figures_of_a_quick_run_are_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["run", "scale", "--quick", "--keep"])
    assert "leave out --quick or --keep" in capsys.readouterr().err


def test_a_ratio_of_rivals_belongs_to_one_turn() -> None:
    mine = [
        {"seconds": 1.0, "memory_mb": 10, "accuracy": 0.9},
        {"seconds": 4.0, "memory_mb": 30, "accuracy": 0.9},
    ]
    theirs = [
        {"seconds": 3.0, "memory_mb": 20, "accuracy": 0.6},
        {"seconds": 8.0, "memory_mb": 20, "accuracy": 0.6},
    ]
    found = rivals.summary({"compact": mine, "watershed": theirs, "cpsam": [{"left_out": "no weights"}]})
    assert found["times_as_fast"] == {"watershed": pytest.approx(2.5)}
    assert found["times_as_accurate"] == {"watershed": pytest.approx(1.5)}
    assert found["ways"]["compact"]["seconds"] == 2.5 and found["ways"]["cpsam"] == {"left_out": "no weights"}
    (table,) = rivals.tables({"outlines": found}, 2, 0.5)
    assert len(table["rows"]) == 2 and "no weights" in table["note"]
    assert "0.9 (precision" in table["rows"][0][4]


def test_each_way_of_the_table_has_a_name_and_a_program() -> None:
    named = {f"{task}_{way}" for task, (ways, *_) in rivals.TASKS.items() for way in ways}
    program_text = Path(rivals.__file__).with_name("rival_ways.py").read_text()
    assert named == set(rivals.NAMES) and all(f'"{way}"' in program_text for way in named)


def test_the_network_of_the_older_cellpose_has_its_size_and_shapes() -> None:
    net = CytoNet().eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, WIDTHS[0], 32, 48)).shape == (1, 3, 32, 48)
    assert sum(one.numel() for one in net.parameters()) == pytest.approx(6.6e6, rel=0.01)


def test_starts_are_compared_within_a_turn(tmp_path: Path) -> None:
    assert cold_start.spread([2.0])["median"] == 2.0
    names = set(cold_start.commands(tmp_path / "field.png", "default", tmp_path / "out"))
    assert all({slow, base} <= names for slow, base in cold_start.RATIOS.values())
    one = {"median": 1.5}
    found = {"turns": 1, "cores": 2, "analyze_cpu_s": one, "cpu_analyze_to_cellpose": one}
    (table,) = cold_start.tables(found, ["analyze"])
    assert table["rows"] == [["analyze", "1.50", "1.50 times cellpose"]]


def test_tables_are_kept_as_the_page_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "TABLES", tmp_path)
    monkeypatch.setattr(validation, "FOLDER", tmp_path)
    tables = rivals.tables({}, 1, None)
    program.keep_tables({"figures": {"tables": tables}})
    totals = {"num_statements": 10}
    covered = coverage_floors.table(
        {"core": 91.0, "widgets": 80.0}, {"core": 90, "widgets": 75}, {"totals": totals}
    )
    (tmp_path / "coverage.json").write_text(json.dumps(covered))
    kept = validation.kept()
    assert len(kept) == 2 and all(set(validation.FIELDS) <= set(one) for one in kept)
    assert "| all but the docks | 91.0 % | 90 % |" in validation.page()
