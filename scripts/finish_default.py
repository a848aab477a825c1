"""Make the bundled classifiers of trained weights: temperature, thresholds, the unknown score, the test of slides.

    python -m scripts.finish_default --pack FOLDER --run A B --name default \\
        --trained pbc pbc_full raabin bcisc krd bccd \\
        --left-out pbc=LOLO/pbc raabin=LOLO/raabin bcisc=LOLO/bcisc krd=LOLO/krd bccd=LOLO/bccd --check tecom \\
        --classes raabin=scripts/raabin_classes.csv bccd=../shared/data/bccd/subtypes.csv \\
        bcisc=../shared/data/bcisc/labels.csv

``--trained`` names the sets of the pack that the runs were trained on; the score of unknown cells and the reference of
the test of slides are fitted on their training cells. ``--left-out SET=RUN`` is a run that never saw the set:
temperature and thresholds are fitted on its predictions of the set, beside the validation cells of the largest
trained set. Each left-out set is measured with values fitted without it; the table is printed and is in the card.
``--check`` names sets that are measured only. ``--classes SET=CSV`` gives the classes (and slides) of sets whose pack
has none. A finished model's folder can stand for a run. ``--metrics`` puts the figures of ``leukocls evaluate`` on the
hold-out into the card.
"""

from __future__ import annotations

import argparse
import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_leukocls.architectures._ensemble import join_members
from napari_leukocls.classification import ood
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.card import make_card, read_card
from napari_leukocls.models.install import write_model
from napari_leukocls.models.registry import CARD_NAME
from napari_leukocls.models.weights import OOD_PREFIX
from napari_leukocls.scheme import default_scheme
from scripts import left_out
from scripts.known_sets import KnownSet, Network, spread_over
from scripts.left_out import HOME, Cells, Honesty
from scripts.pack_crops import VIEW_UM
from scripts.slide_draws import SlideDraws

log = logging.getLogger("finish_default")
#: Layer whose statistics are the reference of the test of slides: early enough to hold colour and sharpness.
LAYER = "blocks.1"
#: Cells of a left-out set that are predicted at most; held-out parts smaller than this are not measured.
LEFT_OUT_CELLS, FEW = 800, 20
#: Cells less certain than this are looked at again.
SECOND_LOOK = {"mean": 0.0, "ensemble": 0.99}
#: How much more or less often a class is met in peripheral blood than the training set would have it, as a root
#: of what would be true: classes that are rare in blood are not called on weak evidence. It is in the bias of the
#: last layer, so that whoever trains on does away with it.
PRIOR = {
    "basophil": 0.4,
    "eosinophil": 0.4,
    "erythroblast": 0.2,
    "immature_granulocyte": 0.4,
    "lymphocyte": 1.0,
    "monocyte": 0.85,
    "neutrophil": 1.2,
    "platelet": 0.4,
}
#: What of the card is printed at the end.
FITTED = ("temperature", "softening", "review_threshold", "ood", "familiarity", "validation", "laboratories")
#: Median optical density of the red cells in 120 training images of PBC, and how far other stains are drawn there.
RED_CELL = (0.205, 0.292, 0.184)
RED_CELL_SHARE = 0.5


def gradcam(members: int) -> dict[str, Any]:
    """Where heatmaps are read: 8 x 8 places of the last stage but two, by the method that checked best there.

    The last map has 4 x 4 places, so that what it points at is as large as a cell.
    """
    layers = [f"members.{place}.blocks.4" for place in range(members)]
    return {"layer": layers or "blocks.4", "reshape": None, "method": "hirescam"}


#: Names and licences of the sets, for the card.
SOURCES = {
    "pbc": "PBC: Acevedo et al., Data in Brief 2020, Hospital Clinic Barcelona; CC BY 4.0 (classes)",
    "pbc_full": "PBC in its original resolution; CC BY 4.0 (classes)",
    "raabin": "TXL-PBC / Raabin-WBC crops; MIT (classes told by eye by this project's authors)",
    "bccd": "BCCD; MIT (classes by non-experts)",
    "bcisc": "BCISC: Fan et al., J. Biophotonics 2019; Apache-2.0 (classes)",
    "krd": "KRD-WBC fragment, two laboratories in Erbil; CC BY 4.0 (classes)",
    "start": "ImageNet weights of MobileNetV2: google-coral/test_data, Apache-2.0 (start)",
}


def record_of(run: Path) -> dict[str, Any]:
    """How a run went; of a finished model, what its card says."""
    if (run / "training.json").is_file():
        record: dict[str, Any] = json.loads((run / "training.json").read_text())
        return record
    card = read_card(run)
    return {"classes": card.classes, "settings": {"side": card.input_size[0]}, "steps": 0, "epochs": 0}


def card_of(
    args: argparse.Namespace, sets: dict[str, KnownSet], records: list[dict[str, Any]], classes: list[str]
) -> dict[str, Any]:
    """Everything of the card that is known before anything is fitted."""
    side = int(records[0]["settings"].get("side", 128))
    layer, member = LAYER, member_of(classes)
    if args.join == "ensemble":
        count = len(args.run) + args.mean
        arguments = {"member": "mobilenetv2_100", "count": count, "member_arguments": {"pad_type": "same"}}
        layer, member = f"members.0.{LAYER}", {"architecture": "ensemble", "arguments": arguments}
    names = [f"{name}/{file}" for name in args.trained for file in sets[name].pack.names[sets[name].training]]
    counts = {name: counts_of(sets[name], classes) for name in args.trained}
    return {
        "name": args.name,
        **member,
        "classes": classes,
        "input_size": [side, side],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop": {
            "side_um": VIEW_UM,
            "side_px": side,
            "margin_um": 1.0,
            "white": 235.0,
            "red_cell": RED_CELL,
            "red_cell_share": RED_CELL_SHARE,
        },
        "familiarity": {"layers": [layer]},
        "second_look": SECOND_LOOK[args.join],
        "prior": PRIOR,
        "gradcam": gradcam(member["arguments"].get("count", 0)),
        "training_data": {
            "sources": [SOURCES.get(name, name) for name in (*args.trained, "start")],
            "files_sha256": sha256_of("\n".join(sorted(names)).encode()),
            "counts": counts[args.trained[0]],
            **{f"counts_{name}": counts[name] for name in args.trained[1:]},
        },
        "split": "by file name: SHA-256 mod 5 = 0 is the test, mod 10 = 6 validation; PBC names no patients",
        "training": training(args, records),
        "licence": "weights: CC BY 4.0, after the training data",
        "intended_use": "Sorting leukocytes of stained smears for research and training; not for diagnosis.",
        "known_limits": [
            "No blasts, plasma cells or variant lymphocytes were trained on: they should go to review.",
            "Laboratories that are not among the training data are met with less certainty: see laboratories.",
            "PBC names no patients: cells of one patient may be on both sides of the split.",
        ],
        "versions": {name: version(name) for name in ("torch", "timm", "numpy")},
    }


def member_of(classes: list[str]) -> dict[str, Any]:
    """The network of one run."""
    return {"architecture": "mobilenetv2_100", "arguments": {"pad_type": "same"}, "classes": classes}


def counts_of(one: KnownSet, classes: list[str]) -> dict[str, int]:
    """Training cells of each class that there is."""
    numbers = np.bincount(one.truth[one.training], minlength=len(classes))
    return {name: int(n) for name, n in zip(classes, numbers, strict=True) if n}


def training(args: argparse.Namespace, records: list[dict[str, Any]]) -> dict[str, Any]:
    """How the weights were made."""
    runs = []
    for record in records:
        kept = {k: v for k, v in record["settings"].items() if k not in ("pack", "start", "out", "check")}
        run = {"settings": kept, "steps": record["steps"], "epochs": round(record["epochs"], 1)}
        runs.append({**run, "device": record.get("device", args.device)})
    how = "of the run" if len(runs) == 1 else "mean of the runs"
    if args.join == "ensemble":
        how = "the runs side by side" + (", and their mean as a further member" if args.mean else "")
    return {"runs": runs, "weights": how, "started_from": records[0].get("started_from", "ImageNet weights")}


def mean_of(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Average the weights of runs from one start, which lie in one basin."""
    return {
        key: torch.stack([state[key].float() for state in states]).mean(0).half()
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def joined_weights(runs: list[Path], join: str, mean: bool, classes: list[str]) -> dict[str, torch.Tensor]:
    """Join the runs' weights and put the prior into the last layer's bias.

    A run may be a finished model's folder: its bias holds the prior already.
    """
    from safetensors.torch import load_file

    states = [
        {k: v for k, v in load_file(run / "weights.safetensors").items() if not k.startswith(OOD_PREFIX)}
        for run in runs
    ]
    if join == "ensemble":
        weights = join_members([*states, *([mean_of(states)] if mean else [])])
    else:
        weights = mean_of(states)
    if all((run / CARD_NAME).is_file() for run in runs):
        return weights
    prior = torch.tensor([PRIOR[name] for name in classes]).log()
    bias = weights["classifier.bias"]
    return {**weights, "classifier.bias": (bias.float() + prior).to(bias.dtype)}


def sets_of(args: argparse.Namespace, classes: list[str]) -> dict[str, KnownSet]:
    """Read all sets that are named."""
    tables = dict(pair.split("=", 1) for pair in args.classes)
    left_out = [pair.split("=", 1)[0] for pair in args.left_out]
    names = dict.fromkeys([*args.trained, *left_out, *args.check])
    return {
        name: KnownSet.read(args.pack, name, classes, Path(tables[name]) if name in tables else None)
        for name in names
    }


def fit(
    card: dict[str, Any],
    weights: dict[str, torch.Tensor],
    sets: dict[str, KnownSet],
    args: argparse.Namespace,
    opinion: Classifier | None,
) -> dict[str, np.ndarray]:
    """Fit all that keeps the model honest into the card; return the tensors of the unknown score and of slides."""
    trained = [sets[name] for name in args.trained]
    network = Network(card, weights, trained, opinion)
    largest = max(trained, key=lambda one: len(one.validation))
    cells = {HOME: network.cells(largest, largest.validation)}
    draws = SlideDraws()
    for one in trained:
        draws.add_home(network, one)
    for pair in args.left_out:
        name, run = pair.split("=", 1)
        alone = card | member_of(card["classes"]) | {"familiarity": {"layers": [LAYER]}, "second_look": 0.0}
        other = Network(
            alone, joined_weights([Path(run)], "mean", False, card["classes"]), without(trained, name)
        )
        rows = spread_over(sets[name].labelled, LEFT_OUT_CELLS)
        cells[name] = other.cells(sets[name], rows)
        draws.add_left_out(other, sets[name], rows)
        log.info("%s left out: %d cells", name, len(rows))
    found = left_out.fit(cells)
    card |= {
        "temperature": found.temperature,
        "softening": None if found.softening is None else found.softening.model_dump(),
        "review_threshold": found.review_threshold,
        "ood": {"method": ood.METHOD, "threshold": found.unknown_threshold},
        "familiarity": card["familiarity"] | {"limit": draws.limit(), "known": [one.name for one in trained]},
        "validation": {"role": "validation", "set": largest.name, **found.figures(cells[HOME])},
    }
    card["laboratories"] = laboratories(found, cells, network, sets, args) | draws.figures()
    rows = left_out.nested(cells)
    if rows:
        log.info("Each left-out laboratory, with values fitted without it:\n%s", left_out.as_table(rows))
    return network.tensors


def without(trained: list[KnownSet], name: str) -> list[KnownSet]:
    """The sets that a network was trained on that has not seen a laboratory; its originals are of the same one."""
    return [one for one in trained if one.name.removesuffix("_full") != name.removesuffix("_full")]


def laboratories(
    found: Honesty,
    cells: dict[str, Cells],
    network: Network,
    sets: dict[str, KnownSet],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Figures by laboratory, each with the role that it had, for the card."""
    rows: dict[str, Any] = {}
    for name in args.trained:
        held = sets[name].heldout
        if len(held) >= FEW:
            # The networks were chosen without them; a fifth of each set, by file name.
            figures = found.figures(network.cells(sets[name], spread_over(held, LEFT_OUT_CELLS)))
            rows[name] = {"role": "trained; these cells were held out", **figures}
    for name, figures in left_out.nested(cells).items():
        role = "left out of training, and of the choice of temperature and thresholds for this row"
        rows[f"{name} left out"] = {"role": role, "set": name, **figures}
    for name in args.check:
        one = sets[name]
        figures = found.figures(network.cells(one, one.labelled))
        rows[name] = {"role": "check: never trained on and nothing was fitted to it", **figures}
    return rows


def main() -> None:
    """Parse the command line, fit, and write the model folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders that train_default wrote")
    parser.add_argument(
        "--trained", nargs="+", default=["pbc"], metavar="SET", help="sets that it was trained on"
    )
    parser.add_argument(
        "--left-out", nargs="*", default=[], metavar="SET=RUN", help="runs that never saw a set"
    )
    parser.add_argument("--check", nargs="*", default=[], metavar="SET", help="sets that are measured only")
    parser.add_argument(
        "--classes", nargs="*", default=[], metavar="SET=CSV", help="tables of file and class"
    )
    parser.add_argument("--join", choices=["mean", "ensemble"], default="mean")
    parser.add_argument("--mean", action="store_true", help="the mean of the runs is a further member")
    parser.add_argument(
        "--second-opinion", metavar="NAME", help="a model in --out that unsure cells are shown to"
    )
    parser.add_argument("--name", default="default")
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--device", default="one NVIDIA H200", help="on which it was trained, for the card")
    parser.add_argument("--metrics", type=Path, help="metrics.json of the test part, for the card")
    parser.add_argument("--extra", type=Path, help="JSON of further figures for the card")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    records = [record_of(run) for run in args.run]
    classes = [default_scheme().resolve(name) or name for name in records[0]["classes"]]
    sets = sets_of(args, classes)
    card = card_of(args, sets, records, classes)
    opinion = None
    if args.second_opinion:
        opinion = load_classifier(args.out / args.second_opinion, "cpu")
        card["second_opinion"] = {"model": args.second_opinion, "sha256": opinion.digest}
    weights = joined_weights(args.run, args.join, args.mean, classes)
    tensors = fit(card, weights, sets, args, opinion)
    if args.metrics:
        figures = json.loads(args.metrics.read_text())
        card["test"] = {"touched": "once, after everything above was fixed", **figures}
    if args.extra:
        card |= json.loads(args.extra.read_text())
    everything = {**weights, **{f"{OOD_PREFIX}{k}": torch.from_numpy(v).half() for k, v in tensors.items()}}
    write_model(args.out / args.name, make_card(card, f"of {args.name}"), everything)
    log.info("%s", {key: card[key] for key in FITTED})


if __name__ == "__main__":
    main()
