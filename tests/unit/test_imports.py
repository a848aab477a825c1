"""Imports stand at the top of a module, so that a reader sees what it needs; who may import late, and why."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "napari_leukocls"

#: Front doors: what is behind them is loaded when it is asked for.
DOORS = {"__init__.py", "__main__.py", "api.py"}
#: The docks' models: a dock opens before torch is loaded.
DOCK_MODELS = {"model.py", "session.py", "slide_model.py", "sample_model.py", "case_model.py", "analysed.py"}
#: Builders and registries: names are listed without the libraries behind them.
BUILDERS = {
    "architectures/ensemble.py",
    "architectures/mobilenet.py",
    "architectures/red_cell_net.py",
    "architectures/registry.py",
    "architectures/timm_networks.py",
    "architectures/papers/cadbcnn.py",
    "architectures/papers/hybrids.py",
    "architectures/papers/pooled.py",
    "architectures/papers/shufflenet.py",
    "segmentation/registry.py",
}
#: Packages that need not be installed, and what one system alone has.
OPTIONAL = {
    "batch/run.py": {"napari_leukocls.batch.cluster", "fcntl"},
    "exchange/bioimage.py": {"bioimageio.core", "bioimageio.spec"},
    "exchange/compression.py": {"onnxruntime"},
    "exchange/onnx.py": {"onnx", "onnxruntime", "onnxscript"},
    "training/distributed.py": {"accelerate"},
    "widgets/common/preferences.py": {"napari.settings"},
    "widgets/counter/sound.py": {"qtpy.QtMultimedia"},
}


def _late(tree: ast.AST, inside: bool = False) -> list[tuple[int, str]]:
    """Line and module of each import within a function."""
    found: list[tuple[int, str]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import) and inside:
            found += [(node.lineno, one.name) for one in node.names]
        elif isinstance(node, ast.ImportFrom) and inside:
            found.append((node.lineno, node.module or ""))
        else:
            found += _late(node, inside or isinstance(node, ast.FunctionDef | ast.Lambda))
    return found


def _may(file: Path) -> bool:
    name = file.relative_to(PACKAGE).as_posix()
    docks = name.startswith("widgets/") and file.name in DOCK_MODELS
    return file.name in DOORS or docks or name in BUILDERS or name.startswith("cli/")


def test_imports_stand_at_the_top() -> None:
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if not _may(file):
            late = _late(ast.parse(file.read_text(encoding="utf-8")))
            wrong += [f"{name}:{line} {one}" for line, one in late if one not in OPTIONAL.get(name, ())]
    assert not wrong, "imports within functions: " + ", ".join(wrong)


def test_what_may_import_late_is_there() -> None:
    assert all((PACKAGE / name).is_file() for name in (*BUILDERS, *OPTIONAL))
