"""The commands of the pages, run as they stand there: each block in a folder with the files that the pages name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_leukocls.cli import main
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smear
from napari_leukocls.training.adapt import RECORD
from tests.integration.test_whole_slides import write_svs
from tests.pages import NAMES, block_calls

ROOT = Path(__file__).resolve().parents[2]
#: Commands that are not run here (a pattern of the whole line), the test that runs such a one, and what stands there.
ELSEWHERE = {
    r"demo": ("tests/integration/test_wheel.py", '"demo", "--out"'),
    r"analyze .* --scheduler .*": ("tests/integration/test_cluster.py", '"--scheduler"'),
    r"audit .*": ("tests/unit/test_review_audit.py", 'main(["audit", "export"'),
    r"promote default-adapt .*": ("tests/integration/test_promotion.py", 'main(["promote"'),
    r"benchmark( --json)?": ("tests/integration/test_pages.py", "benchmark"),
    r"reproduce .*": ("tests/unit/test_reproduction.py", "invoke(reproduce"),
}
#: What stands in capitals, or for a shell, in a page, as a reader would fill it in.
FILLED_IN = {
    "MODEL": "default",
    "IMAGE": "smear.png",
    "INPUT": "smear.png",
    "DIR": "out",
    "NAME": "gradcam",
    "$slide": "fields",
    "$(basename $slide)": "a",
    "results/$(basename $slide)": "results/a",
}
#: Trainings take one epoch, and start from random weights where the page takes those of the internet.
SHORTER = {
    "quick": ["--epochs", "1"],
    "paper-s1": ["--epochs", "1", "--no-pretrained"],
    "few.csv": ["--epochs", "1"],
}
#: Classes of the drawn smears that the classifier knows by another name.
NEUTROPHILS = ("segmented_neutrophil", "band_neutrophil")


def elsewhere(words: list[str]) -> list[str]:
    """The patterns of `ELSEWHERE` that a command fits."""
    return [pattern for pattern in ELSEWHERE if re.fullmatch(pattern, " ".join(words))]


def run_here(calls: list[list[str]]) -> list[list[str]]:
    """The calls of a block that are run here, with what a reader puts in, and trainings of one epoch."""
    return [
        [FILLED_IN.get(word, word) for word in words]
        + [more for word in words for more in SHORTER.get(word, [])]
        for words in calls
        if not elsewhere(words)
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
        for name in ("fields", "slides", "day", "folder"):
            Path(name).mkdir()
            field.save(f"{name}/a.png")
        tinted = np.clip(read_image(sample_smear()).pixels[:420, :560] * np.array([0.95, 0.85, 1.0]), 0, 255)
        Path("images").mkdir()
        for number, view in enumerate((tinted, tinted[::-1], tinted[:, ::-1], tinted[::-1, ::-1])):
            Image.fromarray(np.ascontiguousarray(view, dtype=np.uint8)).save(f"images/{number}.png")
        # A reference of the stain needs five slides.
        Path("five").mkdir()
        plain = read_image(sample_smear()).pixels[:420, :560]
        for number, view in enumerate(
            (plain, plain[::-1], plain[:, ::-1], plain[::-1, ::-1], np.rot90(plain))
        ):
            Image.fromarray(np.ascontiguousarray(view)).save(f"five/{number}.png")
        write_svs(Path("slide.svs"), read_image(sample_smear()).pixels[:1100, :1300])
        for name in ("crops", "labelled_crops", "held_out"):
            smear = "synthetic_teaching_normal" if name == "held_out" else "synthetic_teaching_left_shift"
            rows = cut_cells(sample_smear(smear), name, 4)
            pd.DataFrame(rows, columns=["file", "class"]).to_csv(f"{name}.csv", index=False)
        shutil.copy("crops.csv", "few.csv")
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
    # What a model's time is depends on the machine; a few rounds are enough to see that it is measured.
    monkeypatch.setattr("napari_leukocls.evaluation.speed.BATCHES", (1, 8))
    monkeypatch.setattr("napari_leukocls.evaluation.speed.REPEATS", 3)
    if "RESULTS" in calls[0]:
        assert main(["analyze", "five", "--out", "RESULTS"]) == 0
    for words in calls:
        status = main([found for word in words for found in (sorted(glob(word)) if "*" in word else [word])])
        said = capsys.readouterr().err
        if status == 1 and (kept := list(Path("mine").glob(RECORD))):
            # So few crops may show no gain: then the model is kept, and no other is written.
            kept[0].unlink()
            shutil.copytree(ROOT / "models" / "default", "mine/default-adapt", dirs_exist_ok=True)
        else:
            assert status == 0, f"leukocls {' '.join(words)}: {said}"


def test_a_command_that_is_not_run_here_is_run_by_a_test_that_is_there() -> None:
    for path, text in ELSEWHERE.values():
        assert text in (ROOT / path).read_text(encoding="utf-8"), (path, text)
    calls = [words for name in NAMES for block in block_calls(name) for words in block]
    used = {pattern for words in calls for pattern in elsewhere(words)}
    assert set(ELSEWHERE) == used, "no page has it any more"
    assert sum(1 for words in calls if elsewhere(words)) < len(calls) / 3
    assert set(SHORTER) <= {word for words in calls for word in words}
