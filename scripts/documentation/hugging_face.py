"""The cards of the bundled models with the fields of Hugging Face's model cards, one README.md for each.

    python -m scripts.documentation.hugging_face [--out build/cards]

The head is YAML as `huggingface_hub.ModelCardData` writes it; the text is that of the site's page of the model.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from scripts.documentation.links import ROOT
from scripts.documentation.model_cards import cards, page

#: What a licence of a card is called there.
LICENCES = {
    "CC BY 4.0": "cc-by-4.0",
    "BSD-3-Clause": "bsd-3-clause",
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
}
KINDS = {"classifier": "image-classification", "segmenter": "image-segmentation"}


def head(name: str, card: Mapping[str, Any]) -> ModelCardData:
    """The fields of a card.

    Parameters
    ----------
    name : str
    card : mapping
        What ``model.json`` holds.

    Returns
    -------
    huggingface_hub.ModelCardData
    """
    kind = KINDS[card["kind"]]
    results = [
        EvalResult(
            task_type=kind,
            dataset_type="image-folder",
            dataset_name=one.get("set") or part,
            metric_type="accuracy",
            metric_value=round(float(one["accuracy"]), 4),
        )
        for part, one in [("test", card.get("test", {})), *card.get("laboratories", {}).items()]
        if one.get("accuracy") is not None
    ]
    return ModelCardData(
        model_name=name,
        license=next(there for here, there in LICENCES.items() if here in card["licence"]),
        library_name="napari-leukocls",
        pipeline_tag=kind,
        tags=["blood smear", "leukocyte", "haematology", "napari", card["architecture"].replace("_", "-")],
        metrics=["accuracy"] if results else None,
        eval_results=results or None,
    )


def card_text(name: str, card: Mapping[str, Any]) -> str:
    """The whole card: its head, and the text of the model's page without links within the site."""
    text = re.sub(r"\[([^\]]+)\]\((?![a-z]+:)[^)]*\)", r"\1", page(name, card))
    return f"---\n{head(name, card).to_yaml()}\n---\n\n{text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "cards")
    args = parser.parse_args()
    for name, card in cards().items():
        path = args.out / name / "README.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(card_text(name, card), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
