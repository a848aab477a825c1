"""Which benchmarks there are, how each is called, and which of its figures are ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes
    ----------
    name, question : str
    command : tuple of str
        The words after ``python``.
    quick : tuple of str
        Words that are added for fewer turns.
    ratios : mapping
        Dotted name of each figure that can be compared between runs: whether higher or lower is better.
    minutes : int
        About how long it takes on two cores.
    json : bool
        Whether it prints JSON; otherwise its lines are kept.
    needs_fields : bool
        Whether it needs images of real smears.
    """

    name: str
    question: str
    command: tuple[str, ...]
    quick: tuple[str, ...] = ()
    ratios: Mapping[str, Literal["higher", "lower"]] = field(default_factory=dict)
    minutes: int = 1
    json: bool = True
    needs_fields: bool = False


BENCHMARKS = (
    Benchmark(
        "networks",
        "How fast are segmenter and classifier beside cellpose's network and EfficientNet-B0, and the whole analysis?",
        ("-m", "napari_leukocls", "benchmark", "--json"),
        ("--quick",),
        {
            "segmenter.ratio_cpsam_to_compact": "higher",
            "classifier.ratio_to_efficientnet_b0": "higher",
            "segmenter.compact_share_of_matmul": "higher",
            "classifier.share_of_matmul": "higher",
        },
        minutes=5,
    ),
    Benchmark(
        "cold_start",
        "How long do a command and the first dock take from nothing, beside torch, cellpose and napari?",
        ("-m", "benchmarks.cold_start", "--json"),
        ("--turns", "2"),
        {
            "ratio.median": "lower",
            "cpu_ratio.median": "lower",
            "cpu_analyze_to_cellpose.median": "lower",
            "cpu_dock_to_napari.median": "lower",
        },
        minutes=3,
    ),
    Benchmark(
        "rivals",
        "Speed, memory and accuracy beside cellpose, a watershed, timm and pytorch-grad-cam?",
        ("-m", "benchmarks.rivals", "--json"),
        ("--small",),
        {
            "outlines.times_as_accurate.watershed": "higher",
            "outlines.times_as_fast.watershed": "higher",
            "network.times_as_fast.cyto": "higher",
            "network.times_as_fast.cpsam": "higher",
            "classes.times_as_accurate.timm": "higher",
            "classes.times_as_fast.timm": "higher",
            "heatmaps.times_as_fast.gradcam": "higher",
        },
        minutes=8,
    ),
    Benchmark(
        "scale",
        "Which share of a field's time does finding the scale take?",
        ("-m", "benchmarks.scale", "--json"),
        ("--turns", "1"),
        {"unknown_ruler_share": "lower"},
        minutes=2,
        needs_fields=True,
    ),
    Benchmark(
        "heatmaps",
        "How fast are heatmaps beside pytorch-grad-cam, one image at a time, and are they the same?",
        ("-m", "benchmarks.heatmaps", "--json"),
        ("--cells", "16", "--turns", "1"),
        {"times_as_fast": "higher"},
        minutes=2,
    ),
    Benchmark(
        "training",
        "How fast is an epoch beside a plain loop of torch?",
        ("-m", "benchmarks.training", "throughput"),
        ("--crops", "64", "--turns", "1"),
        {"times_as_fast_as_plain_no_workers": "higher", "times_as_fast_as_plain_two_workers": "higher"},
        minutes=4,
    ),
    Benchmark(
        "busy",
        "How much longer does a field take beside two busy processes?",
        ("-m", "benchmarks.busy_machine"),
        ("--turns", "1"),
        minutes=2,
        json=False,
    ),
    Benchmark(
        "docks",
        "How quick are the docks? Needs a display: xvfb-run -a.",
        ("-m", "benchmarks.docks"),
        ("--only", "opening"),
        minutes=10,
        json=False,
    ),
)
