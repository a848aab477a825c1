"""How often the promotion gate is wrong: models that are alike, and models that are worse in one class.

    python -m scripts.simulate_gate [--runs 1000]

Cells of eight classes are right or wrong at random: each model has every cell right with a recall of 97 %, and a
share of its errors is on the same cells as the other's. Printed are the shares of runs that are refused.
"""

from __future__ import annotations

import argparse

import numpy as np

from napari_leukocls.evaluation.gate import judge_classes, judge_overall
from napari_leukocls.evaluation.shared_classes import SharedCrops

RECALL = 0.97
ALIKE = ([100] * 8, [30] * 8, [10] * 8, [300, 250, 200, 100, 60, 30, 20, 10])
RAREST = (10, 20, 30, 50, 100)
FALLS = (0.1, 0.2, 0.3, 0.5)


def refused(counts: list[int], shared: float, fall: float, runs: int) -> float:
    """Share of runs in which the gate says no; the recall of the last class falls by `fall`."""
    truth = np.repeat(np.arange(len(counts)), counts)
    shared = SharedCrops(
        tuple(f"class_{place}" for place in range(len(counts))), np.arange(len(truth)), truth
    )
    wrong = (truth + 1) % len(counts)
    lost = (1 - RECALL) * RECALL * (1 - shared)
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(runs):
        draw = rng.random(len(truth))
        loses = draw < lost + np.where(truth == len(counts) - 1, fall, 0)
        gains = draw > 1 - lost
        current, new = np.where(gains, wrong, truth), np.where(loses, wrong, truth)
        rows = judge_classes(shared, current, new)
        overall = judge_overall(shared, current, new)
        refusals += bool(overall["fell"]) or any(row.verdict == "fell" for row in rows)
    return refusals / runs


def main() -> None:
    """Parse the command line and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    print("| cells in each class | alike, errors apart | alike, half shared |\n|---|---|---|")
    for counts in ALIKE:
        shares = [refused(counts, shared, 0.0, runs) for shared in (0.0, 0.5)]
        print(f"| {counts} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")
    print(f"\n| cells of the worse class | {' | '.join(f'{100 * fall:.0f} points' for fall in FALLS)} |")
    print("|---" * (len(FALLS) + 1) + "|")
    for cells in RAREST:
        shares = [refused([100] * 7 + [cells], 0.5, fall, runs) for fall in FALLS]
        print(f"| {cells} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")


if __name__ == "__main__":
    main()
