"""What a machine may be like: its cores, its console, names of files, pictures that occur twice."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_leukocls import threads
from napari_leukocls.batch.doubles import Fields, doubles_among
from napari_leukocls.batch.run import renamed
from napari_leukocls.batch.worker import threads_for
from napari_leukocls.io.images import read_image
from napari_leukocls.io.inputs import expand_inputs, safe_id
from napari_leukocls.paths import sample_smear

OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def waiting(code: str, **environment: str) -> list[str]:
    """What a fresh process has set once some code has run."""
    plain = {name: value for name, value in os.environ.items() if name not in OPENMP}
    shown = f"{code}\nimport os, sys\nprint(*(os.environ.get(n, '-') for n in {OPENMP!r}), 'torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", shown], env=plain | environment, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_threads_that_wait_sleep_and_what_the_user_set_is_kept() -> None:
    assert waiting("import napari_leukocls.cli") == ["PASSIVE", "-", "0", "False"]
    assert waiting("import napari_leukocls.widgets") == ["PASSIVE", "-", "0", "False"]
    assert waiting("import napari_leukocls", OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "-", "-", "False"]
    assert waiting("import napari_leukocls", GOMP_SPINCOUNT="9") == ["-", "9", "-", "False"]


def test_cores_are_those_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = tmp_path / "cgroup"
    for lines, files, expected in (
        ("0::/box\n", {"box/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/box/inner\n", {"box/cpu.max": "max 100000\n", "cpu.max": "300000 100000\n"}, 3),
        (
            "4:cpu,cpuacct:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("4:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
    ):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        groups.write_text(lines)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        assert threads._quota(root, groups) == expected, lines
    monkeypatch.setattr(threads, "_quota", lambda: 0.3)
    assert threads.cores() == 1
    monkeypatch.setattr(threads, "_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert threads.cores() == 6
    for workers in range(1, 12):
        assert threads_for(workers) * min(workers, 6) <= 6 and threads_for(workers) >= 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_that_lacks_letters_ends_no_command(tmp_path: Path, encoding: str) -> None:
    name = "Bl\u0142azen \u03bcm \u2713 \u6f22.png"
    (tmp_path / name).write_text("no image")
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "napari_leukocls", "data", "inspect", str(tmp_path / f"{name}.gone")]
    run = subprocess.run(command, env=env, capture_output=True)
    # A terminal that claims to know ASCII alone gets UTF-8 from click.
    text = (run.stdout + run.stderr).decode("utf-8" if encoding == "ascii" else encoding)
    assert run.returncode == 1 and "there is no" in text and ("\\u6f22" in text or "\u6f22" in text), text
    assert "Error" not in text
    for words in (
        (["data", "inspect", "--help"], ["train", "--preset", "list"]) if encoding == "cp1252" else ()
    ):
        run = subprocess.run([sys.executable, "-m", "napari_leukocls", *words], env=env, capture_output=True)
        assert run.returncode == 0 and b"UnicodeEncodeError" not in run.stderr, run.stderr


def test_names_that_cannot_be_folders_are_changed_with_a_note_and_never_meet(tmp_path: Path) -> None:
    names = ["CON", "nul", "a:b?", "x.", "x", "X", "y" * 200, "y" * 190, "Größe", "COM1.old", "plain"]
    for i, name in enumerate(names):
        (tmp_path / str(i)).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / str(i) / f"{name}.png")
    slides = expand_inputs(sorted(tmp_path.glob("*/*.png")))
    ids = [slide.slide_id for slide in slides]
    assert len({one.casefold() for one in ids}) == len(names)
    assert all(safe_id(one)[:100] == one[:100] and len(one.encode()) < 130 for one in ids), ids
    notes = renamed(slides)
    assert not {"plain", "Größe"} & set(notes) and len(notes) == len(names) - 2
    assert all(len(lines) == 1 and "are named" in lines[0] for lines in notes.values())


def saved(pixels: np.ndarray, path: Path, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_fields_that_occur_twice(tmp_path: Path) -> None:
    pixels = read_image(sample_smear()).pixels[:420, :560].copy()
    other = read_image(sample_smear()).pixels[300:720, 300:860].copy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    anew = np.asarray(Image.open(buffer))
    met = Fields()
    assert met.meet("a", pixels) == ("", "") and met.meet("b", other) == ("", "")
    assert met.meet("again", pixels.copy()) == ("a", "")
    assert met.meet("anew", anew) == ("", "a")
    assert Fields().meet("alone", pixels) == ("", "")
    for turned in (np.rot90(pixels), pixels[:, ::-1], pixels[::2, ::2]):
        fresh = Fields()
        fresh.meet("a", pixels)
        assert fresh.meet("turned", np.ascontiguousarray(turned)) == ("", "a")
    empty = Fields()
    ramp = np.broadcast_to(np.linspace(200, 240, 400)[:, None, None], (400, 400, 3)).astype(np.uint8)
    assert empty.meet("1", ramp) == ("", "") and empty.meet("2", ramp + 1) == ("", ""), "glass without cells"


def test_slides_that_occur_twice_are_said_for_both(tmp_path: Path) -> None:
    pixels = read_image(sample_smear()).pixels[:420, :560].copy()
    saved(pixels, tmp_path / "a.png")
    (tmp_path / "a (1).png").write_bytes((tmp_path / "a.png").read_bytes())
    saved(pixels, tmp_path / "b.bmp")
    saved(pixels, tmp_path / "c.jpg", quality=70)
    saved(read_image(sample_smear()).pixels[300:720, 300:860].copy(), tmp_path / "other.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    found = doubles_among(expand_inputs([tmp_path]), tmp_path)
    assert set(found) == {"a", "a (1)", "b", "c"}
    text = " ".join(found["a"])
    assert "same file as 'a (1)'" in text and "same pixels as 'b'" in text and "same picture as 'c'" in text
    assert doubles_among(expand_inputs([tmp_path / "a.png"]), tmp_path) == {}
