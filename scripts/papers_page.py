"""Write the tables of docs/papers.md: what each paper states and reports, and what was measured here.

    python -m scripts.papers_page

Settings and numbers are those of napari_leukocls/data/papers; sizes of networks are counted; what trainings have
reached is read from docs/papers_measured.csv (columns network, data, class, metric, value, how).
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import torch

from napari_leukocls.architectures import registry
from napari_leukocls.architectures.introspection import count_macs, count_parameters, frozen_parameters
from napari_leukocls.reproduction.papers import NAMES, Paper, paper
from napari_leukocls.training.config import guesses, preset_settings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "papers.md"
MEASURED = ROOT / "docs" / "papers_measured.csv"
#: Numbers of a network that need no training.
SIZES = ("parameters", "mib", "gmacs", "share_of_vgg16")
CLASSES = {"s1": 5, "s2": 8, "s3": 2, "s4": 4, "s5": 4}


def counted(of: Paper) -> dict[tuple[str, str, str, str], float]:
    """Parameters of a paper's networks, and those that it freezes; for QLViT also multiply-accumulates."""
    found: dict[tuple[str, str, str, str], float] = {}
    wanted = {one.network for one in of.published if one.metric in SIZES}
    for name in sorted(wanted):
        more = {"variant": "table"} if of.name == "s2" else {}
        with torch.device("meta"):
            net = registry.create(name, CLASSES[of.name], **more)
        parameters = count_parameters(net)
        sizes = {key: value.numel() for key, value in net.named_parameters()}
        frozen = sum(sizes[key] for key in frozen_parameters(registry.entry(name), net))
        values = {"parameters": parameters, "mib": parameters * 4 / 2**20, "parameters_frozen": frozen}
        if of.name == "s4":
            values["gmacs"] = count_macs(registry.create(name, CLASSES[of.name]), 224) / 1e9
        if of.name == "s3":
            with torch.device("meta"):
                vgg16 = registry.create("vgg16", CLASSES[of.name])
            values["share_of_vgg16"] = parameters / count_parameters(vgg16)
        found |= {(name, "", "", key): value for key, value in values.items()}
    return found


def read_measured() -> tuple[dict[tuple[str, str, str, str], float], dict[str, str]]:
    """Our numbers, and by network how they came about."""
    if not MEASURED.is_file():
        return {}, {}
    with open(MEASURED, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = {(row["network"], row["data"], row["class"], row["metric"]): float(row["value"]) for row in rows}
    return values, {row["network"]: row["how"] for row in rows}


def shown(value: float) -> str:
    if value >= 1e5:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def settings_table(of: Paper) -> list[str]:
    lines = ["| setting | value | where |", "|---|---|---|"]
    by_where: dict[str, list[str]] = {}
    for one in of.stated:
        by_where.setdefault(one.where, []).append(f"`{one.setting} = {one.value}`".replace("'", ""))
    lines = ["| where | settings of the preset |", "|---|---|"]
    lines += [f"| {where} | {', '.join(values)} |" for where, values in by_where.items()]
    preset = preset_settings(of.preset)
    names = [f"`{name} = {preset.get(name, 'default')}`" for name in guesses(of.preset)]
    lines += ["", "Guesses, as the text at hand does not state them: " + (", ".join(names) or "none") + "."]
    return lines


def result_tables(of: Paper, ours: dict[tuple[str, str, str, str], float]) -> list[str]:
    lines: list[str] = []
    for item, title in of.items.items():
        rows = [one for one in of.published if one.item == item]
        if not rows:
            continue
        metrics = list(dict.fromkeys(one.metric for one in rows))
        keys = list(dict.fromkeys((one.network, one.data, one.class_name) for one in rows))
        of_classes, of_sets = any(key[2] for key in keys), any(key[1] for key in keys)
        head = ["network", *(["data"] if of_sets else []), *(["class"] if of_classes else [])]
        lines += ["", f"**{title}** ({rows[0].where})", ""]
        lines += ["| " + " | ".join([*head, *(name.replace("_", " ") for name in metrics)]) + " |"]
        lines += ["|" + "---|" * len(head) + "---:|" * len(metrics)]
        values = {(one.network, one.data, one.class_name, one.metric): one.value for one in rows}
        for key in keys:
            cells = [f"`{key[0]}`", *([key[1]] if of_sets else []), *([key[2]] if of_classes else [])]
            for metric in metrics:
                stated = values.get((*key, metric))
                mine = ours.get((*key, metric))
                cells.append(
                    "" if stated is None else f"{shown(stated)} / {'–' if mine is None else shown(mine)}"
                )
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    measured, how = read_measured()
    for name in NAMES:
        of = paper(name)
        results = result_tables(of, counted(of) | measured)
        notes = [f"Trained here: `{net}` ({how[net]})." for net in of.networks if net in how]
        for part, lines in (("settings", settings_table(of)), ("results", [*notes, *results])):
            mark = f"<!-- {name} {part}: begin -->", f"<!-- {name} {part}: end -->"
            block = "\n".join([mark[0], *lines, mark[1]])
            page, count = re.subn(
                re.escape(mark[0]) + ".*?" + re.escape(mark[1]), lambda _, b=block: b, page, flags=re.S
            )
            if count != 1:
                raise SystemExit(f"docs/papers.md has no place for the {part} of {name}")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
