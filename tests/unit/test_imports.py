"""Imports stand at the top of a module, so that a reader sees what it needs; who may import late, and why."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "napari_leukocls"

#: Front doors: what is behind them is loaded when it is asked for.
DOORS = {"__init__.py", "__main__.py", "api.py"}
#: Ends of the names of the docks' models: a dock opens before torch is loaded.
DOCK_MODELS = ("model.py", "session.py", "analysed.py")
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
    "exchange/exporting.py": {"napari_leukocls.exchange.bioimage"},
    "exchange/compression.py": {"onnxruntime"},
    "exchange/onnx.py": {"onnx", "onnxruntime", "onnxscript"},
    "training/distributed.py": {"accelerate", "accelerate.utils"},
    "widgets/common/preferences.py": {"napari.settings"},
    "widgets/counter/sound.py": {"qtpy.QtMultimedia"},
}
#: Modules that a plain installation does not import: each needs a package of an extra, and is imported when it is used.
OF_EXTRAS = {
    "batch/cluster.py",
    "exchange/bioimage.py",
    "io/formats/czi.py",
    "io/formats/dicom.py",
    "io/formats/heif.py",
    "io/formats/lif.py",
    "io/formats/nd2.py",
    "io/formats/vsi.py",
    "io/slides/openslide.py",
    "io/slides/zarr.py",
    "results/exports/anndata.py",
    "results/exports/coco.py",
    "results/exports/fhir.py",
    "results/exports/geojson.py",
    "results/exports/hl7.py",
    "results/exports/xlsx.py",
}
#: napari and timm, which are dependencies, always have them.
WITH_OTHERS = {"dask", "huggingface-hub", "npe2", "psygnal", "vispy"}


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
    docks = name.startswith("widgets/") and name.endswith(DOCK_MODELS)
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


def _at_import(node: ast.AST) -> Iterator[str]:
    """The modules that are imported when a module is; not those within functions, `try`, or for type checking."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (one.name for one in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.module or ""
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Try):
            yield from _at_import(child)


def _distribution(requirement: str) -> str:
    """The normalised name of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\\[<>=! ]", requirement)[0]).lower()


def test_a_plain_installation_has_what_modules_import() -> None:
    """Without extras every command works that does not ask for one."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {_distribution(one) for one in project["dependencies"]} | WITH_OTHERS
    homes = packages_distributions()
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        for module in (
            _at_import(ast.parse(file.read_text(encoding="utf-8"))) if name not in OF_EXTRAS else ()
        ):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top == PACKAGE.name or not top:
                continue
            if not {_distribution(one) for one in homes.get(top, [top])} & declared:
                wrong.append(f"{name}: {module}")
    assert not wrong, "not in the dependencies: " + ", ".join(wrong)


def test_modules_of_extras_are_imported_late_alone() -> None:
    extras = {"napari_leukocls." + name.removesuffix(".py").replace("/", ".") for name in OF_EXTRAS}
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if name not in OF_EXTRAS:
            wrong += [
                f"{name}: {one}"
                for one in _at_import(ast.parse(file.read_text(encoding="utf-8")))
                if one in extras
            ]
    assert not wrong, "imported although they may be missing: " + ", ".join(wrong)
