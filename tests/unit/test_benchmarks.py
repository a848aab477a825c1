"""`python -m benchmarks`: which ratios count as worse, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks.catalogue import BENCHMARKS, Benchmark

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
    assert json.loads((tmp_path / "ratios.json").read_text())["ratios"] == {"prints": {"a.b": 3.0}}
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
