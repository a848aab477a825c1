"""Architectures by name: what is registered, what timm has, and what other packages add."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from napari_leukocls import architectures
from napari_leukocls.architectures import registry
from napari_leukocls.errors import ModelError

PAPERS = {
    "S1": {"s1_efficientnet_b0", "s1_convnext_tiny"},
    "S2": {"customcnn_vit", "resnet50_vit", "efficientnetb3_vit", "inceptionv3_vit", "shared_vit"},
    "S3": {"efficientnetv2_b3_se", "efficientnetv2_b3_no_se"},
    "S5": {"cadbcnn", "cadbcnn_dual", "resnet18", "resnet34"},
}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_is_there(paper: str) -> None:
    names = architectures.list()
    assert {name for name in names if architectures.entry(name).paper == paper} == PAPERS[paper]


@pytest.mark.parametrize("name", architectures.list())
def test_an_entry_says_what_a_person_needs(name: str) -> None:
    entry = architectures.entry(name)
    assert entry.name == name and entry.summary and entry.reference and entry.licence
    assert entry.cam_target and entry.stages and len(entry.mean) == len(entry.std) == 3
    assert not entry.input.problem(entry.input.side, entry.input.side)


@pytest.mark.parametrize("name", architectures.list())
def test_pretrained_weights_fit_and_get_the_pixels_they_know(name: str) -> None:
    import timm
    import torch

    entry = architectures.entry(name)
    with torch.device("meta"):
        state = architectures.create(name, 3).state_dict() if entry.pretrained else {}
    for prefix, model in entry.pretrained.items():
        if not model:  # its weights are no timm's
            continue
        cfg = timm.get_pretrained_cfg(model)
        assert cfg is not None and (cfg.mean, cfg.std) == (entry.mean, entry.std)
        with torch.device("meta"):
            weights = timm.create_model(model).state_dict()
        fitting = [
            key
            for key, value in weights.items()
            if key.startswith(cfg.classifier) or value.shape == state[prefix + key].shape
        ]
        assert len(fitting) == len(weights)


def test_a_pattern_selects() -> None:
    assert architectures.list("s1_*") == ("s1_convnext_tiny", "s1_efficientnet_b0")
    assert architectures.list("no such thing") == ()
    with_timm = architectures.list("resnet*", timm=True)
    assert with_timm[:3] == ("resnet18", "resnet34", "resnet50_vit")
    assert "resnet50" in with_timm and len(with_timm) == len(set(with_timm))


def test_names_and_facts_need_no_torch() -> None:
    code = """
        import sys
        from napari_leukocls import architectures
        for name in architectures.list():
            architectures.entry(name)
        print(sorted({"torch", "timm", "torchvision"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_timm_model_describes_itself() -> None:
    entry = architectures.entry("vit_tiny_patch16_224")
    assert entry.input.fixed and entry.input.side == 224 and entry.mean == (0.5, 0.5, 0.5)
    assert "Apache-2.0" in entry.licence and entry.pretrained == {"": "vit_tiny_patch16_224"}
    tagged = architectures.entry("efficientnet_b3.ra2_in1k")
    assert tagged.input.side == 288 and not tagged.input.fixed


@pytest.mark.parametrize(
    ("wrong", "hint"), [("s1_convnext_tny", "s1_convnext_tiny"), ("resnet5", "resnet50"), ("???", "cadbcnn")]
)
def test_an_unknown_name_is_met_with_a_hint(wrong: str, hint: str) -> None:
    with pytest.raises(ModelError, match=hint):
        architectures.create(wrong, 3)


def test_an_unknown_argument_or_variant_is_named() -> None:
    with pytest.raises(ModelError, match="colour"):
        architectures.create("cadbcnn", 3, colour="red")
    with pytest.raises(ModelError, match="text or table"):
        architectures.create("customcnn_vit", 3, variant="figure")
    with pytest.raises(ModelError, match="resnet50"):
        architectures.create("shared_vit", 3, backbones=("resnet51",))


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    @architectures.register(summary="mine")
    def my_net(num_classes: int, answer: int = 1) -> Any:
        return num_classes, answer

    assert architectures.create("my_net", 3, answer=42) == (3, 42)
    with pytest.raises(ModelError, match="my_net"):
        architectures.register()(my_net)
    with pytest.raises(ModelError, match="cadbcnn"):
        architectures.register("cadbcnn")(my_net)


def _contributed() -> str:
    """The example of CONTRIBUTING.md, as a reader would copy it."""
    text = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.split("```python\n")[1].split("```")[0]


def _lines_of_code(code: str) -> int:
    """Lines of a module without its docstrings."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return len(ast.unparse(tree).splitlines())


def test_the_example_for_contributors_works_as_another_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    code = _contributed()
    assert _lines_of_code(code) < 30
    (tmp_path / "their_networks.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    group = "napari_leukocls.architectures"
    points = [
        importlib.metadata.EntryPoint("broken", "there_is_no_such_module", group),
        importlib.metadata.EntryPoint("theirs", "their_networks", group),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    architectures.list()  # the project's own are there, whatever this test leaves
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    registry._discover.cache_clear()
    try:
        assert "shallow_cnn" in architectures.list()
    finally:
        registry._discover.cache_clear()
        sys.modules.pop("their_networks", None)
    assert "there_is_no_such_module" in caplog.text
    net = architectures.create("shallow_cnn", 5).eval()
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
