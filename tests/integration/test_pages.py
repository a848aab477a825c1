"""The commands of the pages, run as they stand there: each block in a folder with the files that the pages name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_leukocls.cli import main
from napari_leukocls.paths import sample_smear
from tests.pages import NAMES, block_calls

ROOT = Path(__file__).resolve().parents[2]
#: A word of a command that is not run here, and the test that runs such a command.
ELSEWHERE = {
    "demo": "tests/integration/test_wheel.py",
    "slide.svs": "tests/integration/test_whole_slides.py",
    "--scheduler": "tests/integration/test_cluster.py",
    "--workers": "tests/integration/test_batch.py",
    "$slide": "tests/integration/test_batch.py",
    "audit": "tests/unit/test_review_audit.py",
    "adapt": "tests/unit/test_training_adapt.py",
    "mine/default-adapt": "tests/unit/test_training_adapt.py",
    "quick": "tests/unit/test_training.py",
    "mine/default-quick": "tests/unit/test_training.py",
    "paper-s1": "tests/unit/test_architectures_papers.py",
    "few.csv": "tests/unit/test_training.py",
    "made/*/*": "tests/unit/test_evaluation_report.py",
    "learn.csv": "tests/integration/test_promotion.py",
    "both_microscopes.csv": "tests/integration/test_promotion.py",
    "benchmark": "tests/unit/test_benchmark.py",
    "reproduce": "tests/unit/test_reproduction.py",
}
#: What stands in capitals in a page, as a reader would fill it in.
FILLED_IN = {"MODEL": "default", "IMAGE": "smear.png", "INPUT": "smear.png", "DIR": "out", "NAME": "gradcam"}
#: Classes of the drawn smears that the classifier knows by another name.
NEUTROPHILS = ("segmented_neutrophil", "band_neutrophil")


def run_here(calls: list[list[str]]) -> list[list[str]]:
    """The calls of a block that are run here, with what stands in capitals filled in."""
    return [
        [FILLED_IN.get(word, word) for word in words] for words in calls if not set(words) & set(ELSEWHERE)
    ]


def all_blocks() -> Iterator[tuple[str, list[list[str]]]]:
    """The blocks of all pages of which something is run here, each with its page and number."""
    for name in NAMES:
        for number, calls in enumerate(block_calls(name)):
            if found := run_here(calls):
                yield f"{name}-{number}", found


def cut_cells(smear: Path, folder: str, most: int) -> list[tuple[str, str]]:
    """Cut the leukocytes of a drawn smear as crops in class folders: their files and classes."""
    image = Image.open(smear)
    truth = pd.read_csv(smear.with_name(f"{smear.stem}_truth.csv"))
    rows = []
    for cell in truth[truth["kind"] == "leukocyte"].groupby("class").head(most).to_dict("records"):
        name = "neutrophil" if cell["class"] in NEUTROPHILS else cell["class"]
        x = int(np.clip(cell["centroid_x"], 100, image.width - 100))
        y = int(np.clip(cell["centroid_y"], 100, image.height - 100))
        path = Path(folder) / name / f"{smear.stem}_{cell['cell_id']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.crop((x - 100, y - 100, x + 100, y + 100)).save(path)
        rows.append((str(path), name))
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages name: fields, folders of fields, crops and tables; each as small as it may be."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        field = Image.open(sample_smear()).crop((0, 0, 420, 320))
        field.save("smear.png")
        for name in ("fields", "slides", "day", "folder", "images"):
            Path(name).mkdir()
            field.save(f"{name}/a.png")
        for name in ("crops", "labelled_crops", "held_out"):
            smear = "synthetic_teaching_normal" if name == "held_out" else "synthetic_teaching_left_shift"
            rows = cut_cells(sample_smear(smear), name, 4)
            pd.DataFrame(rows, columns=["file", "class"]).to_csv(f"{name}.csv", index=False)
        Path("lis.csv").write_text("slide_id,WBC (10^9/L)\na,7.5\n", encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("block", "calls"), list(all_blocks()), ids=[name for name, _ in all_blocks()])
def test_the_commands_of_a_block_run_one_after_the_other(
    block: str,
    calls: list[list[str]],
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    if "RESULTS" in calls[0]:
        assert main(["analyze", "smear.png", "--out", "RESULTS"]) == 0
    for words in calls:
        assert main(words) == 0, f"leukocls {' '.join(words)}: {capsys.readouterr().err}"


def test_a_command_that_is_not_run_here_is_run_by_a_test_that_is_there() -> None:
    assert all((ROOT / test).is_file() for test in ELSEWHERE.values())
    used = {word for name in NAMES for calls in block_calls(name) for words in calls for word in words}
    assert set(ELSEWHERE) <= used, "no page has it any more"
    assert sum(len(calls) for _, calls in all_blocks()) > 15
