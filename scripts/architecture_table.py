"""Make the table of architectures in ``docs/architectures.md``: their size and cost, and what the papers say.

    python -m scripts.architecture_table [--only PATTERN] [--device cpu] [--json FILE]

All networks are timed in one run, one after the other; the median of the repeats is given. ``ms/image`` is at batch 1
and at the best of a few batch sizes.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_leukocls import architectures
from napari_leukocls.architectures import introspection
from napari_leukocls.io.atomic import atomic_text

log = logging.getLogger("architecture_table")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "architectures.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
CLASSES = {"S1": 5, "S2": 8, "S3": 2, "S4": 4, "S5": 4}
#: Registered names stand for their default variant; these are shown with the variant that the paper counts.
VARIANTS = {"customcnn_vit", "resnet50_vit", "efficientnetb3_vit", "inceptionv3_vit"}
BATCHES = (2, 8)
HEAD = (
    "| name | paper | parameters here | paper's | multiply-accumulates here | paper's | MB | ms/image, one by one "
    "| ms/image, best batch | difference |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---|\n"
)


def rows(pattern: str) -> list[tuple[str, dict[str, Any]]]:
    """The networks of the table: name and arguments."""
    out = []
    for name in architectures.list(pattern):
        if name in VARIANTS:
            out += [(name, {"variant": "text"}), (name, {"variant": "table"})]
        else:
            out.append((name, {}))
    return out


def counts(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Count a network's parameters and multiply-accumulates, and those of the paper."""
    entry = architectures.entry(name)
    net = architectures.create(name, CLASSES.get(entry.paper, 8), **arguments).eval()
    side = entry.input.side
    wanted = not entry.paper_variant or arguments.get("variant") == entry.paper_variant
    return {
        "name": name,
        "variant": arguments.get("variant", ""),
        "paper": entry.paper,
        "side": side,
        "parameters": introspection.count_parameters(net),
        "paper_parameters": entry.paper_parameters if wanted else None,
        "macs": introspection.count_macs(net, side),
        "paper_macs": entry.paper_macs if wanted else None,
        "megabytes": sum(t.numel() * t.element_size() for t in net.state_dict().values()) / 1e6,
        "note": entry.note,
    }


@torch.inference_mode()
def seconds(net: torch.nn.Module, images: torch.Tensor, repeats: int) -> float:
    """Median time of a batch, after one that warms up."""
    net(images)
    times = []
    for _ in range(repeats):
        if images.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        net(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def speed(name: str, arguments: dict[str, Any], device: str, repeats: int) -> dict[str, float]:
    """Milliseconds an image, one by one and at the best batch."""
    entry = architectures.entry(name)
    net = architectures.create(name, CLASSES.get(entry.paper, 8), **arguments).eval().to(device)
    net = net.to(memory_format=torch.channels_last)
    side = entry.input.side
    times = {}
    for batch in (1, *BATCHES):
        images = torch.randn(batch, 3, side, side, device=device).contiguous(
            memory_format=torch.channels_last
        )
        times[batch] = 1000 * seconds(net, images, repeats if batch == 1 else max(1, repeats // 2)) / batch
    del net
    gc.collect()
    best = min(times, key=lambda batch: times[batch])
    return {"ms_one": times[1], "ms_best": times[best], "best_batch": best}


def difference(row: dict[str, Any]) -> str:
    """Say by how much the counts differ from the paper's, and why."""
    said = []
    for kind, what in (("parameters", "parameters"), ("macs", "multiply-accumulates")):
        if row[f"paper_{kind}"]:
            said.append(f"{100 * (row[kind] / row[f'paper_{kind}'] - 1):+.1f} % {what}")
    return "; ".join([*said, *([row["note"]] if row["note"] else [])])


def line(row: dict[str, Any]) -> str:
    """One row of the table."""

    def number(value: float | None, scale: float, unit: str) -> str:
        return "" if value is None else f"{value / scale:.2f} {unit}"

    name = f"`{row['name']}`" + (f" ({row['variant']})" if row["variant"] else "")
    cells = [
        name,
        row["paper"],
        number(row["parameters"], 1e6, "M"),
        number(row["paper_parameters"], 1e6, "M"),
        number(row["macs"], 1e9, "G"),
        number(row["paper_macs"], 1e9, "G"),
        f"{row['megabytes']:.1f}",
        f"{row['ms_one']:.1f}" if "ms_one" in row else "",
        f"{row['ms_best']:.1f} ({row['best_batch']})" if "ms_best" in row else "",
        difference(row),
    ]
    return "| " + " | ".join(cells) + " |\n"


def machine(device: str) -> str:
    """What the times were taken on, in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.machine()} processor, {torch.get_num_threads()} threads"


def main() -> None:
    """Parse the command line, count, time, and put the table into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="0 leaves times out")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    table = []
    for name, arguments in rows(args.only):
        row = counts(name, arguments)
        if args.repeats:
            row |= speed(name, arguments, args.device, args.repeats)
        log.info("%s", {k: v for k, v in row.items() if k != "note"})
        table.append(row)
    if args.json:
        atomic_text(args.json, json.dumps({"machine": machine(args.device), "rows": table}, indent=1) + "\n")
    if args.only != "*":
        return
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    where = f"Times: {machine(args.device)}, torch {torch.__version__}, float32, one run.\n\n"
    body = HEAD + "".join(line(row) for row in table)
    atomic_text(PAGE, f"{before}{BEGIN}\n{where}{body}{END}{after}")


if __name__ == "__main__":
    main()
