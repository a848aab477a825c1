"""Whether a model's heatmaps can be trusted, from the checks that its card holds. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

State = Literal["trusted", "weak", "failed", "unchecked"]

#: Key of the card.
KEY = "explanation_checks"
#: Largest mean |r| between a model's maps and those of the same model with random weights.
RANDOMISATION_LIMIT = 0.5


def own_method(card: Mapping[str, Any]) -> str:
    """Return the heatmap method that a card names, else Grad-CAM."""
    return str((card.get("gradcam") or {}).get("method") or "gradcam")


def badge(card: Any, method: str | None = None) -> tuple[State, str]:
    """Say in one word, and in figures, whether a model's heatmaps can be trusted.

    ``failed``: the maps look alike with random weights, so that they do not show what the model learnt.
    ``weak``: they depend on the model, but hiding or showing what they point at changes its mind no more than
    something else does. ``trusted``: all checks are passed. ``unchecked``: the card holds no checks of this
    method, or they belong to other weights.

    Parameters
    ----------
    card : ModelCard or dict
    method : str, optional
        As in `napari_leukocls.explanation.cam.METHODS`; by default the card's own.

    Returns
    -------
    state : str
    figures : str
        One line for a tooltip.
    """
    data: Mapping[str, Any] = card if isinstance(card, Mapping) else card.model_dump()
    checks = data.get(KEY) or {}
    method = method or own_method(data)
    found = (checks.get("methods") or {}).get(method)
    if not found:
        return "unchecked", f"the heatmaps of this model have not been checked ({method})"
    weights = data.get("weights_sha256")
    if weights and checks.get("weights_sha256") != weights:
        return "unchecked", "the checks in the card belong to other weights"
    return state_of(found), figures_text(found)


def state_of(found: Mapping[str, Any]) -> State:
    """Return the word for the checks of one method."""
    if not found["randomisation"]["passed"]:
        return "failed"
    if "occlusion" not in found:
        return "weak"  # no cell had any evidence to hide
    faithful = [part["passed"] for part in found["occlusion"].values()]
    faithful += [found["deletion"]["passed"], found["insertion"]["passed"]]
    return "trusted" if all(faithful) else "weak"


def figures_text(found: Mapping[str, Any]) -> str:
    """Return the figures of one method's checks in one line."""
    whole = found["randomisation"]["whole"]
    parts = [f"random weights |r| {whole['pearson']:.2f} (passes below {found['randomisation']['limit']:g})"]
    for fill, part in found.get("occlusion", {}).items():
        if part["ratio"] is not None:
            parts.append(f"hidden ({fill.replace('_', ' ')}) {part['ratio']:.1f}x a random region")
        else:
            low, high = part["difference_ci95"]
            parts.append(f"hidden ({fill.replace('_', ' ')}) {low:+.2f} to {high:+.2f} more than random")
    parts += [
        f"{name} AUC {found[name]['auc']:.2f} (random order {found[name]['random_auc']:.2f})"
        for name in ("deletion", "insertion")
        if name in found
    ]
    if found.get("energy_in_cell"):
        parts.append(f"{100 * found['energy_in_cell']['mean']:.0f} % of the map in the cell")
    return "; ".join(parts) + f"; n = {found['n']}"
