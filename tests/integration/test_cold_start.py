"""What ``leukocls analyze`` imports for one field: each library here costs a user a good part of a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from napari_leukocls.paths import sample_smear

ROOT = Path(__file__).resolve().parents[2]
NOT_NEEDED = (
    "alembic",
    "cellpose",
    "dask",
    "distributed",
    "IPython",
    "matplotlib",
    "napari",
    "numba",
    "pytorch_grad_cam",
    "qtpy",
    "scipy.optimize",
    "scipy.stats",
    "sklearn",
    "sqlalchemy",
    "statsmodels",
    "sympy",
    "timm",
    "torch._dynamo",
    "torchvision",
)

RUN = """
import sys
from napari_leukocls.cli import main
status = main(sys.argv[1:])
print("imported:", *sys.modules)
sys.exit(status)
"""


@pytest.fixture(scope="module", params=["default", "accurate"])
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that a plain analysis has imported when it ends."""
    folder = tmp_path_factory.mktemp("cold")
    Image.open(sample_smear()).crop((0, 0, 320, 240)).save(folder / "field.png")
    words = [
        "analyze",
        str(folder / "field.png"),
        "--out",
        str(folder / "out"),
        "--classifier",
        request.param,
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "field" / "counts.csv").is_file()
    line = done.stdout.splitlines()[-1]
    assert line.startswith("imported:")
    return set(line.split()[1:])


@pytest.mark.parametrize("name", NOT_NEEDED)
def test_a_plain_analysis_does_not_import(imported: set[str], name: str) -> None:
    assert "torch" in imported and "napari_leukocls.analysis.field" in imported
    assert not sorted(module for module in imported if module == name or module.startswith(f"{name}."))


def test_the_window_imports_ahead_what_an_analysis_needs(imported: set[str]) -> None:
    """Nothing that is large is left for the first analysis in the window."""
    from napari_leukocls.widgets.analyse.model import _SLOW_IMPORTS

    code = f"import importlib, sys\nfor name in {_SLOW_IMPORTS!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ahead = {name.split(".")[0] for name in done.stdout.split()}
    large = {
        "PIL",
        "cv2",
        "fastremap",
        "fill_voids",
        "numpy",
        "pandas",
        "safetensors",
        "scipy",
        "skimage",
        "torch",
    }
    assert large <= {name.split(".")[0] for name in imported}
    assert large <= ahead
